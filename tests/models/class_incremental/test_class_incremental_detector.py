"""A class-incremental classifier as a detector: classes, scores, tasks (C19 of the method's checks)."""

from pathlib import Path

import pytest
import torch
from clap_stream import SMALL, TRAINER
from fake_clip import FakeCLIP

from anoframe.errors import AnoframeError
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import TaskData
from anoframe.models.class_incremental.model import ClassIncremental
from anoframe.models.class_incremental.scores import StateTable, energy, least_confidence, sample_variance
from anoframe.models.class_incremental.text import PROTOTYPE_NOTE
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner
from anoframe.types import Sample

COLOURS = {"brick": 0.2, "felt": 0.5, "mesh": 0.8}


def detector(backbone=None, **arguments):
    arguments = {"text": {"images": 3}, "classifier": SMALL, **arguments}
    return ClassIncremental(backbone or FakeCLIP(), **arguments)


def images_of(category, defect, count=6, seed=0):
    """Images of one colour per category; a defect is a bright square."""
    generator = torch.Generator().manual_seed(seed)
    images = 40 * torch.rand(count, 3, 32, 32, generator=generator) + 200 * COLOURS[category]
    if defect != "good":
        images[:, 0, 8:24, 8:24] = 255 - images[:, 0, 8:24, 8:24]
    samples = [Sample(Path(f"{category}/train/{defect}/{i}.png"), category, "train", defect) for i in range(count)]
    return samples, images.to(torch.uint8)


def train(model, tasks, defects=("good", "synthetic"), epochs=1):
    kept = []
    for task, categories in enumerate(tasks):
        parts = [images_of(category, defect) for defect in defects for category in categories]
        samples = [sample for part, _ in parts for sample in part]
        images = torch.cat([pixels for _, pixels in parts])
        data = TaskData((*samples, *(sample for sample, _ in kept)), len(samples))
        features = model.encode(images)
        if kept:
            features = torch.cat([features, torch.stack([vector for _, vector in kept])])
        model.prepare_task(data)
        model.start_task(task, len(samples))
        batch = FeatureBatch(features, torch.zeros(len(features), 1, 1, 1, dtype=torch.bool), data.samples)
        context = FitContext("task", task, {**TRAINER, "epochs": epochs}, Trackers())
        fit_learner(model, [batch], len(features), StageTimer(Trackers()), context)
        model.finish_task()
        kept = [(data.samples[row], features[row]) for row in model.learner.exemplar_rows.tolist()]
    return model


@pytest.fixture(scope="module")
def trained():
    """Two tasks, two categories and one. Read only."""
    return train(detector(), [("brick", "felt"), ("mesh",)])


# ------------------------------------------------------------------------------------------------- scores


@pytest.fixture
def logits():
    return 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(1))


CLASSES = ("a/normal", "a/defective", "b/normal", "b/defective")


def test_the_agnostic_score_sums_over_categories_and_the_conditional_one_knows_the_category(logits):
    table = StateTable(CLASSES)
    expected = logits[:, [1, 3]].exp().sum(1).log() - logits[:, [0, 2]].exp().sum(1).log()
    torch.testing.assert_close(table.agnostic(logits), expected)
    category = torch.tensor([0, 1, 0, 1, 0, 1, -1])
    score = table.conditional(logits, category)
    torch.testing.assert_close(score[:6:2], logits[:6:2, 1] - logits[:6:2, 0])
    torch.testing.assert_close(score[1:6:2], logits[1:6:2, 3] - logits[1:6:2, 2])
    torch.testing.assert_close(score[6], expected[6])  # a category that was not learned


def test_both_scores_are_equal_for_a_single_category(logits):
    table, single = StateTable(CLASSES[:2]), logits[:, :2]
    torch.testing.assert_close(table.agnostic(single), table.conditional(single, torch.zeros(7, dtype=torch.int64)))


def test_both_scores_change_their_sign_if_the_states_are_exchanged(logits):
    table, exchanged = StateTable(CLASSES), logits[:, [1, 0, 3, 2]]
    category = torch.tensor([0, 1, 0, 1, 0, 1, 0])
    torch.testing.assert_close(table.agnostic(exchanged), -table.agnostic(logits))
    torch.testing.assert_close(table.conditional(exchanged, category), -table.conditional(logits, category))


def test_a_category_with_one_state_is_an_error():
    with pytest.raises(AnoframeError, match="no training images of the class 'b/defective'"):
        StateTable(CLASSES[:3])
    with pytest.raises(AnoframeError, match="no training images of the class 'brick/defective'"):
        train(detector(), [("brick",)], defects=("good",))


def test_scores_without_states_are_higher_for_what_is_less_known():
    sure, unsure = torch.tensor([[9.0, 0.0], [1.0, 0.0]])
    logits = torch.stack([sure, unsure])
    assert energy(logits)[0] < energy(logits)[1]
    assert least_confidence(logits)[0] < least_confidence(logits)[1]
    samples = torch.stack([logits, torch.stack([sure, -unsure])])
    assert sample_variance(samples)[0] == 0
    assert sample_variance(samples)[1] > 0.01
    assert sample_variance(samples[:1]).tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------- detector


def test_a_category_has_two_consecutive_classes(trained):
    expected = [f"{category}/{state}" for category in COLOURS for state in ("normal", "defective")]
    assert list(trained.class_names) == expected
    assert trained.learner.counts == [4, 2]


def test_scores_are_those_of_the_mean_logits(trained):
    features = trained.encode(images_of("felt", "good", 3, seed=9)[1])
    prediction = trained.detect(features, (32, 32), ["felt", "mesh", "unknown"])
    logits, table = trained.class_logits(features), StateTable(trained.class_names)
    torch.testing.assert_close(prediction.score, table.agnostic(logits), rtol=1e-4, atol=1e-3)
    scores = prediction.extra_scores
    assert set(scores) == {"s_agn", "s_cond", "s_energy", "s_unc", "max_softmax"}
    assert torch.equal(scores["s_agn"], prediction.score)
    expected = table.conditional(logits, torch.tensor([1, 2, -1]))
    torch.testing.assert_close(scores["s_cond"], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores["s_energy"], energy(logits), rtol=1e-4, atol=1e-3)
    assert prediction.anomaly_map is None


def test_the_category_changes_the_conditional_score_alone(trained):
    images = images_of("felt", "synthetic", 3, seed=9)[1]
    known, unknown = trained.predict(images, ["felt"] * 3), trained.predict(images)
    assert torch.equal(known.score, unknown.score)
    assert [
        name for name, value in known.extra_scores.items() if not torch.equal(value, unknown.extra_scores[name])
    ] == ["s_cond"]
    assert trained.uses_category
    assert trained.category_is_optional


def test_an_image_scores_the_same_to_the_bit_in_any_batch(trained):
    images = images_of("mesh", "synthetic", 5, seed=4)[1]
    together = trained.predict(images, ["mesh"] * 5)
    for row, image in enumerate(images):
        alone = trained.predict(image[None], ["mesh"])
        assert torch.equal(alone.score[0], together.score[row])
        assert all(torch.equal(value[0], together.extra_scores[key][row]) for key, value in alone.extra_scores.items())


def test_defects_of_known_categories_score_higher():
    model = train(detector(text={"source": "prototypes", "images": 3}), [("brick", "felt"), ("mesh",)], epochs=8)
    for category in COLOURS:
        good, bad = (
            model.predict(images_of(category, defect, seed=3)[1], [category] * 6).extra_scores["s_cond"]
            for defect in ("good", "synthetic")
        )
        assert bad.median() > good.median()


def test_with_a_class_per_category_the_score_is_the_energy():
    model = train(detector(classes="category"), [("brick",), ("felt", "mesh")], defects=("good",))
    assert model.class_names == ("brick", "felt", "mesh")
    prediction = model.predict(images_of("felt", "good", 2)[1], ["felt"] * 2)
    assert torch.equal(prediction.score, prediction.extra_scores["s_energy"])
    assert set(prediction.extra_scores) == {"s_energy", "s_unc", "max_softmax"}
    assert not model.uses_category
    assert not model.wants_synthetic_defects


def test_a_pyramid_is_pooled_and_its_prototypes_are_named(backbone):
    model = train(detector(backbone), [("brick", "felt")])
    assert model.learner.features == 15
    assert list(model.notes()) == [PROTOTYPE_NOTE]
    assert model.predict(images_of("felt", "good", 2)[1]).score.isfinite().all()


def test_a_loaded_state_gives_the_same_scores(trained):
    fresh = detector()
    fresh.load_learned_state({name: value.clone() for name, value in trained.learned_state().items()})
    images = images_of("mesh", "synthetic", 3, seed=4)[1]
    assert torch.equal(fresh.predict(images).score, trained.predict(images).score)
    assert not any(name.startswith("backbone") for name in trained.learned_state())
    with pytest.raises(AnoframeError, match="checkpoint is of another method"):
        fresh.load_learned_state({"mean": torch.zeros(1)})


def test_real_defects_make_the_method_supervised():
    assert detector(defects="real").is_supervised
    assert not detector(defects="real").wants_synthetic_defects
    assert not detector().is_supervised
    assert detector().wants_synthetic_defects


def test_without_a_stream_all_images_are_one_task():
    model = detector()
    samples = [sample for defect in ("good", "synthetic") for sample in images_of("brick", defect)[0]]
    model.prepare_task(TaskData(tuple(samples), len(samples)))
    assert [stage.name for stage in model.training_stages()] == ["task", "exemplars"]
    assert model.class_names == ("brick/normal", "brick/defective")


def test_other_classifiers_and_wrong_settings():
    model = train(detector(classifier={"name": "zero_shot"}), [("brick", "felt")])
    assert model.predict(images_of("felt", "good", 2)[1]).extra_scores["s_unc"].tolist() == [0, 0]
    with pytest.raises(AnoframeError, match=r"unknown model\.classes 'states': did you mean 'state'"):
        detector(classes="states")
    with pytest.raises(AnoframeError, match=r"unknown model\.defects 'all'"):
        detector(defects="all")
    with pytest.raises(AnoframeError, match=r"data\.crop is 64, and fake_clip takes images of 32 pixels"):
        detector().check_image_size(64, 64)
    with pytest.raises(AnoframeError, match="needs the classes of a task"):
        detector().start_task(0, 5)
