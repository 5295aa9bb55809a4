"""Evaluation of one category: predictions, metrics and its result file, then its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from anoframe.data.masks import read_mask
from anoframe.data.splits import FEW_SHOT
from anoframe.errors import AnoframeError
from anoframe.evaluation.class_measures import ClassifyingDetector, ClassOutputs, classify
from anoframe.evaluation.dataset_metrics import image_metrics_by_kind, spro_metrics, spro_names
from anoframe.evaluation.defect_types import metrics_by_defect
from anoframe.evaluation.outcomes import Outcomes, count_outcomes
from anoframe.evaluation.predictions import CategoryPredictions, collect, collect_distributed
from anoframe.evaluation.results import Metrics, percent
from anoframe.metrics.catalogue import SUMMARY
from anoframe.models.base import Detector
from anoframe.models.summary import MethodSummary
from anoframe.registry import EVALUATORS
from anoframe.report.curves import category_curves
from anoframe.report.references import write_references
from anoframe.report.thumbnails import write_thumbnails
from anoframe.report.write import write_category_pictures
from anoframe.runs.plan import Plan
from anoframe.runs.recording import RunRecorder, is_empty
from anoframe.runs.samples import RunSamples
from anoframe.training.checkpoint import Checkpoint


class Evaluator:
    """Evaluates detectors on the test images of a run.

    Several processes share the test images; the main process alone measures and writes.
    """

    def __init__(self, plan: Plan, samples: RunSamples, recorder: RunRecorder):
        self._cfg, self._group, self._dataset = plan.cfg, plan.group, plan.dataset
        self._preprocessing, self._size, self._provenance = plan.preprocessing, plan.preprocessing.size, plan.provenance
        self._ignored = plan.ignored
        self._samples, self._recorder = samples, recorder

    def evaluate(self, checkpoint: Checkpoint, category: str, summary: MethodSummary | None = None) -> None:
        """Predict and measure a category, and write its result, then its pictures.

        A picture that cannot be drawn or written is left out with a warning: the result is on disk by then.

        Args:
            summary: what the detector reports about its learned state, for the result file.
        """
        clock, folder, tracker = self._recorder.clock, self._recorder.folder, self._recorder.tracker
        with clock.stage("predict"):
            predictions = self._predict(checkpoint.detector, category)
        if predictions is None:
            return
        with clock.stage("measure"):
            result = self._result(checkpoint, category, predictions)
        if summary and not is_empty(summary):
            result["method_summary"] = summary.to_json()
        folder.write_result(category, result)
        self._log_metrics(category, result, count_outcomes(result))
        tracker.log("curves", category=category, curves=result["curves"])
        self._draw_references(category)  # before the index of the pictures, whose absence tells of a kill
        with self._recorder.isolate_decoration(f"{category}: the pictures"):
            self._draw(checkpoint, category, predictions)

    def draw_again(self, checkpoint: Checkpoint, category: str) -> None:
        """Draw the pictures of a category with a result. The main process does it alone, and predicts all images."""
        self._draw_references(category)
        with self._recorder.isolate_decoration(f"{category}: the pictures"):
            samples = self._samples.test(category)
            with self._recorder.clock.stage("predict"):
                features = self._samples.encode(checkpoint.detector, samples) if samples else ()
                predictions = collect(checkpoint.detector, features, len(samples), self._size)
            self._draw(checkpoint, category, predictions)

    def _draw(self, checkpoint: Checkpoint, category: str, predictions: CategoryPredictions) -> None:
        folder, tracker = self._recorder.folder.path, self._recorder.tracker
        threshold, count = checkpoint.thresholds.get(category), self._cfg.report.pictures
        with self._recorder.clock.stage("draw"):
            reader, warn = self._samples.reader, partial(tracker.log, "warning")
            with self._recorder.isolate_decoration(f"{category}: the thumbnails"):  # before the index of the pictures
                write_thumbnails(folder, category, predictions, reader, threshold, self._cfg.report.thumbnails)
            rows = write_category_pictures(folder, category, predictions, reader, count, threshold, warn)
            tracker.log("pictures", category=category, folder=folder / "pictures" / category, rows=rows)

    def _draw_references(self, category: str) -> None:
        """Write pictures of the training images of a few-shot run; no result waits for them."""
        if self._dataset.split.name != FEW_SHOT:
            return
        recorder = self._recorder
        with recorder.isolate_decoration(f"{category}: the pictures of its references"), recorder.clock.stage("draw"):
            samples = self._samples.train([category])[category]
            rows = write_references(recorder.folder.path, category, samples, self._samples.reader)
            place = recorder.folder.path / "pictures" / category
            recorder.tracker.log("references", category=category, folder=place, rows=rows)

    def measure(self, detector: Detector, category: str) -> Metrics:
        """Return the metrics of a category without writing anything. For a run of one process."""
        with self._recorder.clock.stage("predict"):
            predictions = self._predict(detector, category)
        assert predictions is not None
        with self._recorder.clock.stage("measure"):
            return self._metrics(predictions)

    def classify(self, detector: ClassifyingDetector, category: str) -> ClassOutputs:
        """Return the class logits of the test images of a category. For a run of one process."""
        samples = self._samples.test(category)
        return classify(detector, self._samples.encode(detector, samples) if samples else ())  # type: ignore[arg-type]

    def evaluate_in_training(self, categories: Sequence[str], detector: Detector) -> dict[str, Metrics]:
        """Return category -> metrics, the same in every process, for `trainer.evaluate_every`."""
        predictions = {category: self._predict(detector, category) for category in categories}
        evaluator = EVALUATORS.build("anomaly")
        metrics = {name: evaluator.measure(values) for name, values in predictions.items() if values}
        return self._group.broadcast(metrics)

    def _predict(self, detector: Detector, category: str) -> CategoryPredictions | None:
        """Predict each test image in one of the processes; None except in the main process."""
        encode = partial(self._samples.encode, detector)
        batch_size = self._cfg.data.batch_size
        return collect_distributed(self._group, detector, encode, self._samples.test(category), batch_size, self._size)

    def _metrics(self, predictions: CategoryPredictions) -> Metrics:
        options, kinds = self._cfg.evaluation, self._dataset.defect_kinds
        evaluator = EVALUATORS.build(
            "anomaly", aupro_limits=options.aupro_limits, pixel_thresholds=options.pixel_thresholds
        )
        metrics: Metrics = evaluator.measure(predictions)
        metrics |= image_metrics_by_kind(predictions, kinds)
        if not self._dataset.has_saturation_areas:
            return metrics
        if predictions.samples and predictions.samples[0].category in self._ignored:
            text = f"{predictions.samples[0].category}: no sPRO, which has no ignored regions (data.ignore)"
            self._recorder.tracker.log("warning", text=text)
            return metrics | dict.fromkeys(spro_names(kinds, options.aupro_limits))
        try:
            return metrics | spro_metrics(predictions, self._dataset, self._preprocessing, options.aupro_limits)
        except AnoframeError as error:  # saturation areas of another version of the dataset: the rest is measured
            self._recorder.tracker.log("warning", text=f"{predictions.samples[0].category}: no sPRO: {error}")
            return metrics | dict.fromkeys(spro_names(kinds, options.aupro_limits))

    def _result(self, checkpoint: Checkpoint, category: str, predictions: CategoryPredictions) -> dict[str, Any]:
        """Return the content of `results/<category>.json`."""
        threshold, defects = checkpoint.thresholds.get(category), int(predictions.labels.sum())
        curves: dict[str, Any] = {}
        with self._recorder.isolate_decoration(f"{category}: the curves"):
            curves = category_curves(predictions.image_sweep, predictions.pixel_sweep)
        return {
            "category": category,
            "metrics": self._metrics(predictions),
            **{key: self._provenance[key] for key in ("protocol_tag",) if key in self._provenance},
            "counts": {
                "train": checkpoint.train_images.get(category, 0),
                **_train_defects(checkpoint, category),
                **_train_synthetic(checkpoint, category),
                "test_good": len(predictions.labels) - defects,
                "test_defect": defects,
                "defects_cropped_away": _count_lost_masks(predictions),
            },
            "backbone": checkpoint.detector.backbone.describe(),  # type: ignore[operator]
            "threshold": threshold.to_json() if threshold else None,
            "images": [_image_record(predictions, row) for row in range(len(predictions.samples))],
            "curves": curves,
            "defect_types": self._defect_types(category, predictions),
        }

    def _defect_types(self, category: str, predictions: CategoryPredictions) -> dict[str, Metrics]:
        """Return the metrics of each defect type, for the report; they are no part of the results of the run."""
        with self._recorder.isolate_decoration(f"{category}: the metrics of its defect types"):
            return metrics_by_defect(predictions)
        return {}

    def _log_metrics(self, category: str, result: dict[str, Any], outcomes: Outcomes | None) -> None:
        tracker, metrics = self._recorder.tracker, result["metrics"]
        summary = ", ".join(f"{name} {percent(metrics[name])}" for name in SUMMARY)
        if all(value is None for value in metrics.values()):
            summary = f"no metric is available: {_missing_images(result['counts'])}"
        decided = {}
        if outcomes:
            summary += f"; {outcomes.sentence()}"
            decided = {"decisions": outcomes.to_json()}
        tracker.log("evaluated", category=category, summary=summary, metrics=metrics, **decided)


def _train_defects(checkpoint: Checkpoint, category: str) -> dict[str, int]:
    """Return the number of defects among the training images of a category; empty if the method is not supervised."""
    defects = checkpoint.training.get("train_defects")
    return {} if defects is None else {"train_defect": defects.get(category, 0)}


def _train_synthetic(checkpoint: Checkpoint, category: str) -> dict[str, int]:
    """Return the number of synthetic training images of a category; empty if the method has none."""
    synthetic = checkpoint.training.get("train_synthetic")
    return {} if synthetic is None else {"train_synthetic": synthetic.get(category, 0)}


def _image_record(predictions: CategoryPredictions, row: int) -> dict[str, Any]:
    """Return what the result file holds about one test image."""
    sample = predictions.samples[row]
    record = {"name": sample.name, "defect": sample.defect, "score": float(predictions.scores[row])}
    extra = {name: float(scores[row]) for name, scores in predictions.extra_scores.items()}
    return record | ({"extra_scores": extra} if extra else {})


def _count_lost_masks(predictions: CategoryPredictions) -> int:
    """Count the masks whose defect pixels are lost in resizing and cropping; published empty masks have none to lose.

    `anoframe.data.validation` names them before the fit.
    """
    return sum(bool(read_mask(sample.mask).any()) for sample in predictions.samples_without_pixels if sample.mask)


def _missing_images(counts: Mapping[str, int]) -> str:
    """Describe what a test set lacks for any metric, by the counts of a result."""
    if not counts["test_defect"]:
        return f"the test set has {counts['test_good'] or 'no'} normal images and no defects"
    return "the test set has no normal images and no masks"
