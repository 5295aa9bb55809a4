"""Evaluation of an encoder by classification: features once, then each probe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from anoframe.backbones.encoder import Encoder, check_architecture
from anoframe.backbones.exported import PREFIX, load_encoder, read_export
from anoframe.backbones.weights import pretrained_config, resolve_source
from anoframe.config import ConfigDict, to_plain
from anoframe.config.validation import check_probe_config, check_ranges
from anoframe.data.cached_reader import Reader
from anoframe.data.fingerprint import FINGERPRINT, FileHashes
from anoframe.data.labelled.base import LabelledImages, manifest_hash
from anoframe.data.labelled.sources import has_test_split, open_source
from anoframe.data.manifest import Manifest
from anoframe.data.preprocessing import Preprocessing
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError
from anoframe.evaluation.classification.features import LabelledFeatures, extract_features
from anoframe.evaluation.classification.kept_features import KeptFeatures
from anoframe.evaluation.provenance import git_commit, versions
from anoframe.registry import PROBES
from anoframe.report.write import write_report
from anoframe.runs.recording import Recorder
from anoframe.tracking.factory import check_tracking
from anoframe.utils.files import safe_path, write_json
from anoframe.utils.tensor_cache import TensorCache, cache_root
from anoframe.utils.tensor_files import fingerprint
from anoframe.utils.type_check import matches_type

PROTOCOL = "probe"  # in the path of the run folder
RESULT_FILE = "probes.json"
_DEFAULT_SIZE = 224  # pixels, for an encoder without a recorded image size


@dataclass(frozen=True)
class ProbeResults:
    """Result of an evaluation.

    Attributes:
        folder: of the run.
        metrics: probe -> `top1` and `top5`, shares of all test images.
    """

    folder: Path
    metrics: dict[str, dict[str, float]]


class ProbePlan:
    """What an evaluation will do; every check that needs no work.

    Raises:
        AnoframeError: a value, path, encoder or probe is wrong.
    """

    def __init__(self, cfg: ConfigDict):
        check_probe_config(cfg)
        check_ranges(cfg)
        check_tracking(cfg)
        self.cfg, self.group = cfg, join(cfg.device)
        self.probes = {name: PROBES.build(name, **to_plain(cfg.probes[name])) for name in cfg.probes}
        self.encoder, self.description, size = build_encoder(to_plain(cfg.encoder), cfg.seed)
        self.size: int = cfg.data.size or size
        self.train, self.test = (self._open(split) for split in ("train", "test"))
        self.warnings: Sequence[str] = ()
        self.manifest: Manifest | None = None  # the split is that of the data
        self.hashes = {split: getattr(self, split).hashes() for split in ("train", "test")}
        self.files: FileHashes = {
            PROTOCOL: {
                split: dict(zip(_names(getattr(self, split)), hashes, strict=True))
                for split, hashes in self.hashes.items()
            }
        }
        self.provenance = self._provenance(self.hashes)
        self.encoder.to(self.group.device).eval()

    def folder(self, output: str | Path) -> Path:
        """Return the run folder: `<output>/<config>/probe/<data>-<encoder>/<seed>`."""
        encoder = f"{self.description['architecture']}-{self.description['sha256'][:8]}"
        name = f"{self.cfg.data.name}-{encoder}"
        return safe_path(
            output, config_name=self.cfg.config_name, protocol=PROTOCOL, data=name, seed=str(self.cfg.seed)
        )

    def _open(self, split: str) -> LabelledImages:
        data, cache = self.cfg.data, self.cfg.cache
        if not data.root:
            raise AnoframeError("data.root is not set: --data.root DIR with the images")
        source = f"{data.name}:{data.root}"
        if not has_test_split(source):
            raise AnoframeError(
                f"{source} has no test split: use class folders below train/ and test/, or another kind"
            )
        preprocessing = Preprocessing(
            self.size, self.size, data.keep_aspect, data.jpeg_draft, interpolation=data.interpolation
        )
        stored = TensorCache(cache_root(cache.folder) / "images", int(cache.max_gb * 1e9)) if cache.images else None
        return open_source(source, split, Reader(preprocessing, stored))

    def _provenance(self, hashes: dict[str, list[str]]) -> dict[str, Any]:
        cfg = self.cfg
        manifests = {split: manifest_hash(getattr(self, split), hashes[split])[:32] for split in hashes}
        counts = {"train_images": len(self.train), "test_images": len(self.test), "masks": 0}
        return {
            **{"config": cfg.config_name, "protocol": PROTOCOL, "seed": cfg.seed},
            "data": {"name": cfg.data.name, "size": self.size, "classes": len(self.train.classes)},
            "backbone": self.description,
            "probes": to_plain(cfg.probes),
            **{"versions": versions(), "git": git_commit()},
            FINGERPRINT: {PROTOCOL: {**manifests, **counts}},
        }


def evaluate_encoder(cfg: ConfigDict, output: str | Path = "runs", start: str = "new") -> ProbeResults:
    """Evaluate an encoder on labelled images.

    Args:
        cfg: of `configs/__base__/probe.py`, or one that inherits it.
        output: parent of run folders.
        start: `"new"`, `"resume"` (features and probes that are done are not computed again) or `"overwrite"`.

    Raises:
        AnoframeError: as `ProbePlan` and `Recorder`, or several devices are requested.
    """
    if len(cfg.device.split()) > 1:
        raise AnoframeError(f"--device {cfg.device}: an encoder is evaluated on one device")
    plan = ProbePlan(cfg)
    with Recorder(plan, output, start) as recorder:
        metrics = _evaluate_probes(plan, recorder)
        write_json(recorder.folder.path / RESULT_FILE, {"metrics": metrics, "provenance": plan.provenance})
        recorder.folder.end_training(PROTOCOL)
        recorder.write_state("finished")
        with recorder.isolate_decoration("report.html"):
            write_report(recorder.folder.path)
        flat = {f"{name}/{key}": value for name, values in metrics.items() for key, value in values.items()}
        recorder.tracker.log("finished", metrics=flat)
        return ProbeResults(recorder.folder.path, metrics)


def _evaluate_probes(plan: ProbePlan, recorder: Recorder) -> dict[str, dict[str, float]]:
    """Return the metrics of each probe, and record each in `run.json` as soon as it is known."""
    done = _earlier_metrics(plan, recorder)
    for name in done:
        recorder.tracker.log("done", fit=name)
    if len(done) == len(plan.probes):
        return done
    train, test = _labelled_features(plan, recorder)
    for name, probe in plan.probes.items():
        if name in done:
            continue
        with recorder.clock.stage(name):
            done[name] = probe.evaluate(train, test, plan.cfg.seed)
        recorder.folder.write_state(probes=done)
        shown = ", ".join(f"{key} {100 * value:.2f} %" for key, value in done[name].items())
        recorder.tracker.log("evaluated", category=name, metrics=done[name], summary=shown)
    return {name: done[name] for name in plan.probes}


def _earlier_metrics(plan: ProbePlan, recorder: Recorder) -> dict[str, dict[str, float]]:
    """Return what an interrupted run has recorded, in the order of the probes; nothing if that is damaged."""
    earlier = recorder.folder.state.get("probes", {})
    if not matches_type(earlier, dict[str, dict[str, float]]):
        return {}
    return {name: earlier[name] for name in plan.probes if name in earlier}


def _labelled_features(plan: ProbePlan, recorder: Recorder) -> list[LabelledFeatures]:
    """Compute the features of the training and of the test images; they are kept until the run has finished."""
    device, data = str(plan.group.device), plan.cfg.data
    recipe = {"encoder": plan.description["sha256"], "size": plan.size, "batch": data.batch_size, "device": device}
    sets = []
    for split, hashes in plan.hashes.items():
        kept = KeptFeatures(
            recorder.folder.training(PROTOCOL), hashes, recipe, partial(recorder.tracker.log, "warning")
        )
        with recorder.clock.stage(f"encode {split}"):
            images, classes = getattr(plan, split), plan.train.classes
            sets.append(extract_features(plan.encoder, images, classes, data.batch_size, f"encode {split}", kept))
    return sets


def build_encoder(section: dict[str, Any], seed: int) -> tuple[Encoder, dict[str, Any], int]:
    """Build the encoder of a config section `name`, `weights` and `stem`.

    Returns:
        The encoder, its description for results, and the side of its images in pixels.

    Raises:
        AnoframeError: no name, an unknown model, or weights that are missing or do not fit.
    """
    name, weights = section.get("name"), section["weights"]
    if not name:
        raise AnoframeError("encoder.name is not set: --encoder.name exported:PATH, or a timm model")
    if name.startswith(PREFIX):
        export = read_export(name)
        encoder, facts, size = load_encoder(export), {"name": name, **export.describe()}, export.input_size
    else:
        architecture, _, tag = name.partition(".")
        check_architecture(architecture)
        source = resolve_source(architecture, f"hub:{tag}" if tag and weights == "default" else weights)
        config = pretrained_config(architecture, tag)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(architecture, source, section["stem"], config.mean, config.std)
        facts = {"name": name, "architecture": architecture, "stem": section["stem"], "weights": source}
        size = _DEFAULT_SIZE
    return encoder.requires_grad_(False), {**facts, "sha256": fingerprint(encoder.network.state_dict())}, size


def _names(images: LabelledImages) -> list[str]:
    return [str(sample.image) for sample in images.samples]
