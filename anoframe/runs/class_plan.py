"""Plan of a stream of classes of labelled images: every check that needs no training."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from anoframe.backbones import build_backbone
from anoframe.config import ConfigDict, to_plain
from anoframe.config.comparison import RESULT_NEUTRAL_KEYS
from anoframe.config.validation import CLASS_INCREMENTAL, check_class_stream_config, check_ranges
from anoframe.continual.names import JOINT
from anoframe.data.cached_reader import Reader
from anoframe.data.fingerprint import FINGERPRINT, FileHashes
from anoframe.data.labelled.base import LabelledImages, SelectedImages, manifest_hash
from anoframe.data.labelled.sources import has_test_split, open_source
from anoframe.data.manifest import Manifest
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.task_streams import Task, parse_class_tasks
from anoframe.distributed.process_group import join
from anoframe.errors import AnoframeError, suggest
from anoframe.evaluation.provenance import git_commit, versions
from anoframe.features.labelled import VectorCache, encode_labelled
from anoframe.models.class_incremental.base import ClassIncrementalLearner
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.components.image_embedding import embed, embedding_width
from anoframe.runs.disclosure import RANDOM_WEIGHTS
from anoframe.tracking.factory import check_tracking
from anoframe.training.validation import check_training
from anoframe.utils.files import safe_path
from anoframe.utils.paths import expand_path
from anoframe.utils.tensor_cache import TensorCache, cache_root

FROZEN, NATIVE = "frozen", "native"
STRATEGIES = (NATIVE, FROZEN, JOINT)
SPLITS = ("train", "test")
_PREPROCESSING = ("resize", "crop", "keep_aspect", "jpeg_draft", "interpolation")


class ClassPlan:
    """What a run will do.

    Args:
        cfg: of `configs/__base__/class_stream.py`.

    Attributes:
        train, test: the images of the classes of the stream.
        tasks: classes of each task.
        hashes: split -> hash of the content of each image.
        encoder: frozen, on its device.
        trainer: the `trainer` section of the config.

    Raises:
        AnoframeError: a value, path, image, class or part of the classifier is wrong.
    """

    def __init__(self, cfg: ConfigDict):
        check_class_stream_config(cfg)
        check_ranges(cfg)
        check_tracking(cfg)
        if cfg.protocol.strategy not in STRATEGIES:
            raise AnoframeError(
                f"unknown protocol.strategy {cfg.protocol.strategy!r} of {CLASS_INCREMENTAL}: "
                f"{suggest(cfg.protocol.strategy, STRATEGIES)}"
            )
        if len(cfg.device.split()) > 1:
            raise AnoframeError(f"--device {cfg.device}: a stream of classes is trained on one device")
        self.cfg, self.group = cfg, join(cfg.device)
        self.trainer = to_plain(cfg.trainer)
        self.preprocessing = Preprocessing(**{name: cfg.data[name] for name in _PREPROCESSING})
        self.tasks: list[Task] = []
        self.train, self.test = self._open_images()
        self.hashes = {"train": self.train.hashes(), "test": self.test.hashes()}
        self.encoder: Any = build_backbone(to_plain(cfg.model.backbone)).to(self.group.device)
        self._check_size()
        learner = self.new_learner()
        check_training(learner.training_stages(), self.trainer, self.group.device, learner.phase_names())
        self.notes = self._list_notes(learner)
        self.warnings = self._list_warnings()
        self.manifest: Manifest | None = None  # the split is that of the data
        self.files: FileHashes = {
            CLASS_INCREMENTAL: {
                split: dict(zip(map(self.image_name, images.samples), self.hashes[split], strict=True))
                for split, images in zip(SPLITS, (self.train, self.test), strict=True)
            }
        }
        self.provenance = self._provenance()

    def folder(self, output: str | Path) -> Path:
        """Return the run folder: `<output>/<config>/class_incremental-<strategy>/<data>-<tasks>/<seed>`."""
        cfg, sizes = self.cfg, {len(task) for task in self.tasks}
        order = "" if cfg.protocol.order_seed is None else f"-order{cfg.protocol.order_seed}"
        shape = f"{len(self.tasks)}x{sizes.pop()}" if len(sizes) == 1 else f"{len(self.tasks)}-tasks"
        return safe_path(
            output,
            config_name=cfg.config_name,
            protocol=f"{CLASS_INCREMENTAL}-{cfg.protocol.strategy}{order}",
            data=f"{cfg.data.name}-{shape}",
            seed=str(cfg.seed),
        )

    def image_name(self, sample: Any) -> str:
        """Return the name of an image below the root of the data."""
        root = expand_path(self.cfg.data.root, "data.root")
        return Path(os.path.relpath(sample.image, root)).as_posix()

    def new_learner(self) -> ClassIncrementalLearner:
        """Return an untrained classifier on the device of the run, the same each time."""
        model = to_plain(self.cfg.model)
        section = {**model["classifier"], "text": model["text"]}
        learner = build_classifier(section, embedding_width(self.encoder), self.encoder, self.cfg.seed)
        return learner.to(self.group.device).eval()

    def encode(self, split: str, warn: Callable[..., None]) -> Tensor:
        """Return the feature vectors of a split, `[N, D]`, from the cache or by the encoder."""
        cfg, device = self.cfg, self.group.device
        images = self.train if split == "train" else self.test
        cache = None
        describe = getattr(self.encoder, "encoding", None)
        if cfg.cache.features and describe:
            stored = TensorCache(cache_root(cfg.cache.folder) / "features", int(cfg.cache.max_gb * 1e9), warn)
            recipe = [asdict(self.preprocessing), describe()]
            cache = VectorCache(stored, recipe, device, cfg.data.batch_size)
        return encode_labelled(
            partial(embed, self.encoder), images, self.hashes[split], cfg.data.batch_size, device, cache, f"{split}"
        )

    def _open_images(self) -> tuple[SelectedImages, SelectedImages]:
        """Open both splits, plan the tasks, and keep the images of their classes."""
        cfg, data = self.cfg, self.cfg.data
        if not data.root:
            raise AnoframeError("data.root is not set: --data.root DIR with the images")
        source = f"{data.name}:{data.root}"
        if not has_test_split(source):
            raise AnoframeError(
                f"{source} has no test split: use class folders below train/ and test/, or another kind"
            )
        root = cache_root(cfg.cache.folder) / "images"
        stored = TensorCache(root, int(cfg.cache.max_gb * 1e9)) if cfg.cache.images else None
        opened = [open_source(source, split, Reader(self.preprocessing, stored)) for split in SPLITS]
        self.tasks = parse_class_tasks(cfg.protocol.tasks, opened[0].classes, cfg.protocol.order_seed)
        wanted = {name for task in self.tasks for name in task}
        if missing := sorted(wanted - set(opened[1].classes)):
            raise AnoframeError(f"{source} has no test images of {', '.join(missing[:5])}: add some, or leave it out")
        train, test = (_of_classes(images, wanted) for images in opened)
        return train, test

    def _check_size(self) -> None:
        side, crop = getattr(self.encoder, "image_size", self.cfg.data.crop), self.cfg.data.crop
        if side != crop:
            raise AnoframeError(
                f"data.crop is {crop}, and the backbone takes images of {side} pixels: use --data.resize {side} "
                f"--data.crop {side}"
            )

    def _list_notes(self, learner: ClassIncrementalLearner) -> list[str]:
        text = getattr(learner, "text", None)
        is_random = str(self.encoder.describe().get("weights", "")).startswith("random")
        return [*([RANDOM_WEIGHTS] if is_random else []), *(text.notes if text is not None else ())]

    def _list_warnings(self) -> Sequence[str]:
        both = len(set(self.hashes["train"]) & set(self.hashes["test"]))
        return [f"{both} images are in both splits, by their content: accuracies are too high"] if both else []

    def _provenance(self) -> dict[str, Any]:
        cfg, model = self.cfg, to_plain(self.cfg.model)
        manifests = {
            split: manifest_hash(images, self.hashes[split])[:32]
            for split, images in zip(SPLITS, (self.train, self.test), strict=True)
        }
        counts = {"train_images": len(self.train), "test_images": len(self.test), "masks": 0}
        trainer = {key: value for key, value in self.trainer.items() if f"trainer.{key}" not in RESULT_NEUTRAL_KEYS}
        facts = {
            **{"config": cfg.config_name, "protocol": CLASS_INCREMENTAL, "seed": cfg.seed},
            "data": {"name": cfg.data.name, **{key: cfg.data[key] for key in _PREPROCESSING}},
            "stream": {"tasks": [list(task) for task in self.tasks], "strategy": cfg.protocol.strategy},
            "backbone": self.encoder.describe(),
            "model": model,
            "trainer": trainer,
            **({"notes": self.notes} if self.notes else {}),
        }
        data = {CLASS_INCREMENTAL: {**manifests, **counts}}
        return {**facts, "versions": versions(), "git": git_commit(), FINGERPRINT: data}


def _of_classes(images: LabelledImages, classes: set[str]) -> SelectedImages:
    return SelectedImages(images, [row for row, sample in enumerate(images.samples) if sample.category in classes])
