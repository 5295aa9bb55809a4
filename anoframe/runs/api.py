"""A run: one execution and its folder, from Python as from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anoframe.config import ConfigDict, check_config, flatten, load_config, plain
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.config.discovery import config_of
from anoframe.continual.results import STREAM
from anoframe.data.loader import load_image
from anoframe.distributed.devices import choose_device
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.results import Metrics, Results
from anoframe.runs.protocols import Fit, with_categories
from anoframe.runs.session import Session
from anoframe.runs.stream_session import StreamSession
from anoframe.training.checkpoint import (
    Checkpoint,
    find_checkpoint,
    list_checkpoints,
    load_checkpoint,
    select_checkpoint,
)
from anoframe.types import Prediction
from anoframe.utils.files import read_json

ImageLike = str | Path | Image.Image | np.ndarray


# ------------------------------------------------------------------------------------------------ the doors


def train(
    cfg: ConfigDict,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    start: str = "new",
) -> Run:
    """Fit a detector for each category (or one for all, by the protocol), evaluate it, write the run folder.

    Args:
        cfg: from `load_config`.
        categories: names, or `["all"]`; by default those in the config.
        output: parent of run folders.
        start: where a run has begun in that folder, `"new"` refuses, `"resume"` goes on with what is not done yet, to
            the same result as if nothing had happened, and `"overwrite"` begins anew.

    Returns:
        The run; `failed` names categories that went wrong, which does not keep others from their results.

    Raises:
        AnoframeError: whatever can be known to be wrong, before any work starts; or nothing could be written.
    """
    check_config(cfg)
    chosen = with_categories(cfg, categories)
    if chosen.protocol.name == "continual":
        streamed = StreamSession(chosen, output, start)
        with streamed:
            streamed.run_stream()
            return _finished(streamed)
    with Session(chosen, output, start) as session:
        for fit in session.fits:
            session.run(fit)
        return _finished(session)


def test(
    checkpoint: str | Path,
    cfg: ConfigDict | None = None,
    categories: Sequence[str] | None = None,
    output: str | Path = "runs",
    start: str = "new",
) -> Run:
    """Evaluate fitted detectors again, into a run folder of its own (`<seed>-test`).

    Args:
        checkpoint: a run folder or its `checkpoint/`.
        cfg: says what data to test on; by default the config of the run that the checkpoint is in. Its `model` section
            must be the one that the checkpoint was fitted with.
        categories, output, start: as for `train`; by default all categories that the checkpoint learned.
    """
    folders = list_checkpoints(Path(checkpoint))
    cfg = load_config(config_of(checkpoint)) if cfg is None else cfg
    check_config(cfg)
    if cfg.protocol.name == "continual":  # what came last is one detector for all
        cfg = cfg.copy_and_resolve_references()
        cfg.protocol.name = "unified"
    device = join(cfg.device).device
    loaded = [load_checkpoint(folder, device) for folder in folders.values()]
    learned = [category for one in loaded for category in one.categories]
    _check_same_model(cfg, loaded[0], Path(checkpoint))
    if loaded[0].detector.phase_names():
        _check_same_training(cfg, Path(checkpoint))
    if list(categories or ["all"]) == ["all"]:
        categories = [category for category in cfg.categories if category in learned] or learned
    chosen = with_categories(cfg, categories)
    for category in chosen.categories:
        if category not in learned:
            raise AnoframeError(f"{checkpoint} has not learned category {category!r}: {suggest(category, learned)}")
    chosen.seed = loaded[0].seed  # what a number says is how its detector was learned
    if any(len(one.categories) > 1 for one in loaded):
        chosen.protocol.name = "unified"
    with Session(chosen, output, start, loaded[0]) as session:
        for category in session.categories:
            session.run(Fit(category, (category,)), select_checkpoint(loaded, category))
        return _finished(session)


def load_run(path: str | Path) -> Run:
    """A run that was finished, to look at and to predict with.

    Raises:
        AnoframeError: no such folder, or no results in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise AnoframeError(f"there is no run folder {folder}")
    return Run(folder, load_config(folder), Results.read(folder))


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: where everything is.
        config: what was run, resolved.
        results: metrics and provenance.
    """

    folder: Path
    config: ConfigDict
    results: Results
    _loaded: dict[Path, Checkpoint] = field(default_factory=dict, repr=False)

    @property
    def metrics(self) -> dict[str, Metrics]:
        """Category -> metric -> value in [0, 1], or None where it is not available."""
        return self.results.categories

    @property
    def mean(self) -> Metrics:
        return self.results.mean

    @property
    def failed(self) -> dict[str, str]:
        """Category -> why it has no metrics."""
        return self.results.failed

    @property
    def stream(self) -> dict[str, Any] | None:
        """What `results/continual.json` holds of a stream of tasks: matrices, ACC, forgetting (docs/continual.md)."""
        if self.config.protocol.name != "continual":
            return None
        found: dict[str, Any] = read_json(self.folder / "results" / STREAM)
        return found

    def timetable(self) -> str:
        """Seconds and peak memory a stage, as `run.json` has them."""
        stages = read_json(self.folder / "run.json")["stages"]
        width = max(map(len, ("stage", *stages)))
        lines = [f"{n:<{width}}  {s['seconds']:8.1f} s  {s['peak_bytes'] / 1e9:6.2f} GB" for n, s in stages.items()]
        return "\n".join([f"{'stage':<{width}}     seconds  peak memory so far", *lines])

    def predict(self, image: ImageLike, category: str | None = None) -> Prediction:
        """Score one image: a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]` or `[H, W, 4]`.

        Args:
            category: which detector to ask; needed where the run has several.

        Returns:
            Prediction with a score `[]` and an anomaly map `[H, W]` at the resolution the detector works at.
        """
        checkpoint = self._checkpoint(category)
        pixels = load_image(image, checkpoint.preprocessing)
        device = next(checkpoint.detector.buffers()).device
        prediction = checkpoint.detector.predict(pixels[None].to(device))
        extra = {name: maps[0].cpu() for name, maps in prediction.extra_maps.items()}
        return Prediction(prediction.score[0].cpu(), prediction.anomaly_map[0].cpu(), extra)

    def _checkpoint(self, category: str | None) -> Checkpoint:
        folder = find_checkpoint(self.folder, category)
        if folder not in self._loaded:
            self._loaded[folder] = load_checkpoint(folder, choose_device(self.config.device.split()[0]))
        return self._loaded[folder]


def _finished(session: Session) -> Run:
    return Run(session.folder.path, session.cfg, session.finish())


def _check_same_model(cfg: ConfigDict, fitted: Checkpoint, path: Path) -> None:
    wanted = plain(cfg.model)
    if wanted != fitted.model:
        keys = [key for key in {**wanted, **fitted.model} if wanted.get(key) != fitted.model.get(key)]
        raise AnoframeError(
            f"{path} was fitted with another model section than this config: {', '.join(sorted(keys))} differ. "
            "Leave out --config to test with the checkpoint's own"
        )
    for key, value in asdict(fitted.preprocessing).items():
        if cfg.data[key] != value:
            raise AnoframeError(f"{path} was fitted with data.{key} {value}, not {cfg.data[key]}: leave it as it was")


def _check_same_training(cfg: ConfigDict, path: Path) -> None:
    """Results say how their detector was trained, so a test must not say otherwise than the run that trained it."""
    try:
        own = load_config(config_of(path))
    except AnoframeError:  # a checkpoint without its run: nothing is known but what the config says
        return
    trained, said = _training_of(own), _training_of(cfg)
    for key in sorted(trained.keys() | said.keys()):
        if trained.get(key) != said.get(key):
            raise AnoframeError(
                f"{path} was trained with {key} {trained.get(key)}, not {said.get(key)}: leave it as it was"
            )


def _training_of(cfg: ConfigDict) -> dict[str, object]:
    keys = ((key, value) for key, value in flatten(cfg) if key.startswith("trainer."))
    return {key: value for key, value in keys if not key.startswith(RESULT_NEUTRAL_KEYS)}
