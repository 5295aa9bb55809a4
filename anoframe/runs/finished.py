"""A finished run: its results, its description, and predictions with its detectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from anoframe.config import ConfigDict, load_config
from anoframe.continual.results import STREAM
from anoframe.data.loader import load_photograph
from anoframe.distributed.devices import choose_device
from anoframe.errors import AnoframeError
from anoframe.evaluation.detection import predict_images
from anoframe.evaluation.results import Metrics, Results, percent
from anoframe.metrics.catalogue import HEADLINE, SUMMARY, title_of
from anoframe.runs.thresholds import Asked, threshold_options
from anoframe.training.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from anoframe.training.threshold import resolve_threshold
from anoframe.types import Prediction
from anoframe.utils.files import read_json
from anoframe.utils.paths import expand_path

_TILES_PER_BATCH = 16

ImageLike = str | Path | Image.Image | np.ndarray


@dataclass(repr=False)
class Run:
    """A finished run.

    Attributes:
        folder: the run folder.
        config: resolved config of the run.
        results: metrics and provenance.
    """

    folder: Path
    config: ConfigDict
    results: Results
    _loaded: dict[Path, Checkpoint] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, Metrics]:
        """Category -> metric -> value in [0, 1], or None if it is not available."""
        return self.results.categories

    @property
    def mean(self) -> Metrics:
        """Metric -> mean over the categories that have it."""
        return self.results.mean

    @property
    def failed(self) -> dict[str, str]:
        """Category -> why it has no metrics."""
        return self.results.failed

    @property
    def stream(self) -> dict[str, Any] | None:
        """Content of `results/continual.json` (docs/continual.md): matrices, ACC, forgetting; None without a stream."""
        if self.config.protocol.name != "continual":
            return None
        results: dict[str, Any] = read_json(self.folder / "results" / STREAM)
        return results

    def timetable(self) -> str:
        """Return a table of seconds and peak memory per stage, from `run.json`."""
        stages = read_json(self.folder / "run.json")["stages"]
        width = max(map(len, ("stage", *stages)))
        lines = [f"{n:<{width}}  {s['seconds']:8.1f} s  {s['peak_bytes'] / 1e9:6.2f} GB" for n, s in stages.items()]
        return "\n".join([f"{'stage':<{width}}     seconds  peak memory so far", *lines])

    @overload
    def predict(self, image: ImageLike, category: str | None = None, threshold: Asked = None) -> Prediction: ...

    @overload
    def predict(
        self, image: list[ImageLike] | tuple[ImageLike, ...], category: str | None = None, threshold: Asked = None
    ) -> list[Prediction]: ...

    def predict(
        self,
        image: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        category: str | None = None,
        threshold: Asked = None,
    ) -> Prediction | list[Prediction]:
        """Score one image, or each image of a list: a file, a Pillow image, or a uint8 array `[H, W(, 3 or 4)]`.

        Args:
            category: which detector to use; needed if the run has several, or if its only detector uses the name of
                the category and has learned several.
            threshold: decide with another threshold than the stored one, as for `test`.

        Returns:
            Prediction with a score `[]` and an anomaly map `[H, W]` at the resolution of the detector, None for a
            method that scores images only; a list of them for a list. `is_anomalous` is the decision, None if the
            detector has no threshold for this category.
        """
        images = image if isinstance(image, list | tuple) else [image]
        checkpoint = self._checkpoint(category)
        decided = category or (checkpoint.categories[0] if len(checkpoint.categories) == 1 else None)
        options = threshold_options(threshold)
        limit = resolve_threshold(checkpoint, decided, options) if decided else None
        if decided is None and checkpoint.ignored:
            raise AnoframeError(f"{self.folder} has an ignored region per category: name a category of this run")
        if decided is None and options.asked:
            raise AnoframeError(f"{self.folder} has one threshold per category: name a category of this run")
        score = partial(_predict_one, checkpoint, category, limit.image if limit else None)
        predictions = [score(each) for each in images]
        return predictions if isinstance(image, list | tuple) else predictions[0]

    def __repr__(self) -> str:
        """Describe the run in a few lines: folder, mean metrics, decisions and failures."""
        return "\n".join(f"{name}: {value}" if name else value for name, value in self._facts())

    def _repr_html_(self) -> str:
        """Describe the run in a notebook: the facts of `repr`, per-category metrics, and a link to the report."""
        facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self._facts())
        names = [name for name in HEADLINE if name in self.mean]
        head = "".join(f"<th>{escape(title_of(name))}</th>" for name in names)
        rows = "".join(
            f"<tr><th>{escape(category)}</th>{''.join(f'<td>{percent(values.get(name))}</td>' for name in names)}</tr>"
            for category, values in self.metrics.items()
        )
        report = (self.folder / "report.html").resolve()
        link = f'<p><a href="{escape(report.as_uri())}">report.html</a></p>' if report.is_file() else ""
        return f"<table>{facts}</table><table><tr><th></th>{head}</tr>{rows}</table>{link}"

    def _facts(self) -> list[tuple[str, str]]:
        """Name and value of what describes the run."""
        about = f"{self.config.config_name}, {self.config.protocol.name}, seed {self.config.seed}"
        metrics = ", ".join(f"{name} {percent(self.mean.get(name))}" for name in SUMMARY)
        facts = [("Run", about), ("folder", str(self.folder)), ("categories", ", ".join(self.metrics) or "none")]
        facts.append(("mean" if len(self.metrics) > 1 else "metrics", metrics))
        facts += [(category, outcomes.sentence()) for category, outcomes in self.results.decisions.items()]
        return facts + [(f"failed {category}", reason) for category, reason in self.failed.items()]

    def _checkpoint(self, category: str | None) -> Checkpoint:
        folder = find_checkpoint(self.folder, category)
        if folder not in self._loaded:
            self._loaded[folder] = load_checkpoint(folder, choose_device(self.config.device.split()[0]))
        return self._loaded[folder]


def load_run(path: str | Path) -> Run:
    """Load a finished run, to read its results and to predict with its detectors.

    Raises:
        AnoframeError: there is no such folder, or it has no results.
    """
    folder = expand_path(path, "run folder")
    if not folder.is_dir():
        raise AnoframeError(f"there is no run folder {folder}: give the folder that has metrics.json")
    return Run(folder, load_config(folder), Results.read(folder))


def _predict_one(checkpoint: Checkpoint, category: str | None, limit: float | None, image: ImageLike) -> Prediction:
    """Score one image, with the threshold that decides about it."""
    is_open = category is None and checkpoint.detector.category_is_optional
    category = category or checkpoint.categories[0]
    names = None if is_open else [category]
    image = expand_path(image, "image") if isinstance(image, str | Path) else image
    loaded = load_photograph(image, checkpoint.preprocessing, checkpoint.ignored.get(category))
    counted = None if loaded.counted is None else loaded.counted[None]
    prediction = predict_images(
        checkpoint.detector, loaded.pixels[None], names, checkpoint.tiling, counted, _TILES_PER_BATCH
    )
    return Prediction(
        prediction.score[0].cpu(),
        None if prediction.anomaly_map is None else prediction.anomaly_map[0].cpu(),
        {name: maps[0].cpu() for name, maps in prediction.extra_maps.items()},
        {name: scores[0].cpu() for name, scores in prediction.extra_scores.items()},
        limit,
    )
