"""Section of a classifier of images: confusion, calibration, novelty, and exemplars."""

from __future__ import annotations

from anoframe.report.class_record import ClassRecord, ReliabilityPoint, read_class_record
from anoframe.report.class_section import MOST_CLASSES, class_view
from anoframe.report.stream_record import Stream

NOVELTY = {"energy": {"auroc": 0.75, "aupr": 0.5, "fpr95": 1.0}}


def stream(tasks, rows):
    return Stream(
        tasks, "native", "accuracy", {}, [{} for _ in range(rows)], [], [1] * rows, [1] * rows, [0.0] * rows, []
    )


def record(**changes):
    values = {
        "top1": [1.0, 0.5],
        "ece": [0.0, 0.25],
        "novelty": [NOVELTY, None],
        "top1_mixed": [1.0, 0.75],
        "exemplar_images": [2, 3],
        "exemplar_bytes": [2000, 3000],
        "classes": ["cat", "dog"],
        "confusion": [[3, 1], [0, 4]],
        "reliability": [ReliabilityPoint(0.4, 0.6, 5, 0.4, 0.5)],
    }
    return ClassRecord(**{**values, **changes})


def test_a_run_without_a_classifier_has_no_section():
    assert class_view(None, stream([["a"]], 1)) is None
    assert read_class_record({"novelty": [None]}) is None


def test_rows_of_the_confusion_matrix_are_shares_of_a_true_class():
    view = class_view(record(), stream([["cat"], ["dog"]], 2))
    assert view.heads == ["cat", "dog"]
    assert [[cell.text for cell in cells] for _, cells in view.confusion] == [["75", "25"], ["0", "100"]]
    assert view.confusion[0][1][1].tooltip == "1 of 4 images"


def test_mixed_batches_stand_beside_the_headline_with_the_difference():
    facts = dict(class_view(record(), stream([["cat"], ["dog"]], 2)).facts)
    assert facts["top-1, each image by itself"] == "50.00"
    assert facts["top-1, shuffled batches of all seen classes"] == "75.00 (+25.00)"
    assert facts["exemplars"] == "3 images, 3,000 bytes"


def test_many_classes_are_added_up_by_task():
    names = [f"c{number}" for number in range(MOST_CLASSES + 2)]
    half = len(names) // 2
    confusion = [[int(i == j) for j in range(len(names))] for i in range(len(names))]
    confusion[0][half] = 1  # an image of the first task as a class of the second
    view = class_view(record(classes=names, confusion=confusion), stream([names[:half], names[half:]], 2))
    assert view.is_by_task
    assert view.heads == ["task 0", "task 1"]
    assert view.confusion[0][1][1].tooltip == f"1 of {half + 1} images"


def test_novelty_has_a_row_per_task_with_later_classes_and_confidence():
    view = class_view(record(), stream([["cat"], ["dog"]], 2))
    assert view.novelty == [["0", "energy", "75.00", "50.00", "100.00"]]
