"""Encoders of a survey: what is known of them, where their files lie, and how the configs of runs name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from anoframe.backbones.encoder import Encoder, check_architecture
from anoframe.backbones.exported import PREFIX, read_export, write_export
from anoframe.backbones.weights import load_state, resolve_source
from anoframe.config import ConfigDict, load_config
from anoframe.config.validation import check_pretraining_config
from anoframe.errors import AnoframeError
from anoframe.runs.pretraining_run import ENCODER_FILE
from anoframe.survey.settings import EncoderSpec
from anoframe.utils.files import safe_path
from anoframe.utils.paths import expand_path

_RANDOM_SIZE = 224  # pixels, in the metadata of a random encoder, which was trained at no size
_UNKNOWN = "n/a"


@dataclass(frozen=True)
class EncoderFile:
    """An encoder with one seed, as runs name it.

    Attributes:
        name: `exported:PATH`, or a timm name.
        weights: of a timm name; empty for an export.
    """

    name: str
    weights: str = ""

    def detector_keys(self) -> dict[str, str]:
        """Keys of the config of a detector that uses this encoder."""
        return {"model.backbone.name": self.name, "model.backbone.weights": self.weights or "default"}

    def probe_keys(self) -> dict[str, str]:
        """Keys of the config of an evaluation by classification."""
        return {"encoder.name": self.name, "encoder.weights": self.weights or "default"}


def encoder_file(spec: EncoderSpec, seed: int, output: Path, pretraining: Path | None = None) -> EncoderFile:
    """Name an encoder for the configs of runs.

    Args:
        spec: of the encoder.
        seed: of the survey.
        output: parent of run folders; a random encoder lies there.
        pretraining: run folder of the encoder, if the survey trains it.
    """
    if spec.source == "imagenet":
        return EncoderFile(spec.architecture, resolve_source(spec.architecture, spec.weights))
    if spec.source == "exported":
        return EncoderFile(f"{PREFIX}{exported_path(spec, seed)}")
    folder = pretraining or random_folder(spec, seed, output)
    return EncoderFile(f"{PREFIX}{folder}")


def exported_path(spec: EncoderSpec, seed: int) -> Path:
    """Return the file or run folder of an exported encoder; without `{seed}` all seeds share it."""
    return expand_path(spec.path.replace("{seed}", str(seed)), f"encoders.{spec.name}.path")


def random_folder(spec: EncoderSpec, seed: int, output: Path) -> Path:
    """Return the folder of a random encoder."""
    return safe_path(output, encoder=spec.name, kind="random", seed=str(seed))


def write_random(spec: EncoderSpec, seed: int, output: Path) -> None:
    """Write an encoder as it is before training, the one that a pretraining with this seed begins with.

    Raises:
        AnoframeError: unknown architecture or stem, or the file cannot be written.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(spec.architecture, "random", spec.stem)
    path = random_folder(spec, seed, output) / ENCODER_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_export(path, encoder, _RANDOM_SIZE, {"method": "random", "epochs": "0", "data": "", "images": "0"})


def missing_weights(spec: EncoderSpec) -> str:
    """Return why the ImageNet weights of an encoder cannot be had; empty if they can.

    Raises:
        AnoframeError: timm has no such architecture.
    """
    check_architecture(spec.architecture)
    try:
        state = load_state(spec.architecture, resolve_source(spec.architecture, spec.weights))
    except AnoframeError as error:
        return str(error).splitlines()[0].removesuffix(". Three ways out:")
    if state is None:
        raise AnoframeError(f"encoders.{spec.name}.weights is random: give it the source random, or leave weights out")
    return ""


def pretraining_config(spec: EncoderSpec, seed: int, device: str, exclude: tuple[str, ...]) -> ConfigDict:
    """Load the config of a pretraining; test images of `exclude` are left out, and the run is named after the encoder.

    Raises:
        AnoframeError: the config or one of its keys is wrong.
    """
    try:
        cfg = load_config(spec.config, {**spec.overrides, "seed": seed, "device": device})
        check_pretraining_config(cfg)
    except AnoframeError as error:
        raise AnoframeError(f"encoders.{spec.name}: {error}") from error
    cfg.config_name = spec.name
    cfg.data.exclude = tuple(dict.fromkeys((*cfg.data.exclude, *exclude)))
    return cfg


def describe_encoder(spec: EncoderSpec, file: EncoderFile | None) -> Mapping[str, str]:
    """Return what the tables say about an encoder.

    Args:
        spec: of the encoder.
        file: of one of its seeds; None if there is none.
    """
    facts = {"architecture": spec.architecture or _UNKNOWN, "method": _UNKNOWN, "epochs": _UNKNOWN, "images": _UNKNOWN}
    facts["size"] = _UNKNOWN
    if file is None:
        return facts
    if not file.name.startswith(PREFIX):
        kind, colon, _ = file.weights.partition(":")
        weights = file.weights if colon or kind == "hub" else Path(file.weights).name  # a file: no path of a machine
        return {**facts, "method": f"ImageNet weights, {weights}"}
    export = read_export(file.name)
    known = {key: export.facts.get(key, _UNKNOWN) for key in ("method", "epochs", "images")}
    size = _UNKNOWN if known["method"] == "random" else str(export.input_size)
    return {**facts, "architecture": export.architecture, **known, "size": size}
