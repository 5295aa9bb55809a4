"""Settings of a survey: its encoders, its evaluations and its seeds, read from a config and checked. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anoframe.config import ConfigDict, flatten
from anoframe.config.validation import check_survey_config, check_text
from anoframe.errors import AnoframeError, suggest
from anoframe.utils.files import check_plain_name

Source = Literal["random", "imagenet", "pretrain", "exported"]
_REQUIRED: dict[Source, str] = {
    "random": "architecture",
    "imagenet": "architecture",
    "pretrain": "config",
    "exported": "path",
}  # source -> key that it cannot do without
_ORDER: tuple[Source, ...] = ("random", "pretrain", "exported", "imagenet")  # of the rows; then by name
_ENCODER_KEYS = ("source", "enable", "architecture", "stem", "weights", "config", "set", "path")
_EVALUATION_KEYS = ("config", "set", "enable")
_CONTROLS: tuple[Source, ...] = ("random", "imagenet")  # encoders without which no other can be judged


@dataclass(frozen=True)
class EncoderSpec:
    """How one encoder is obtained; see `configs/__base__/survey.py` for the keys."""

    name: str
    source: Source
    architecture: str = ""
    stem: str = "imagenet"
    weights: str = "default"
    config: str = ""
    path: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationSpec:
    """One evaluation: a labelled dataset, or a detector.

    Attributes:
        name: in the tables.
        config: of `tools/evaluate_encoder.py` or `tools/main.py`.
        overrides: dotted name -> value.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class SurveySettings:
    """A survey.

    Attributes:
        seeds: of encoders and evaluations.
        device: of every run.
        encoders: random ones, own ones, then those with ImageNet weights.
        classification: labelled datasets.
        methods: detectors.
        categories: of the dataset of the detectors.
    """

    seeds: tuple[int, ...]
    device: str
    encoders: tuple[EncoderSpec, ...]
    classification: tuple[EvaluationSpec, ...]
    methods: tuple[EvaluationSpec, ...]
    categories: tuple[str, ...]


def read_survey(cfg: ConfigDict) -> SurveySettings:
    """Read the settings of a survey.

    Raises:
        AnoframeError: a key is missing, unknown or of another type, a control encoder is missing, or there is no seed,
            encoder or evaluation.
    """
    check_survey_config(cfg)
    specs = [_encoder(name, section) for name, section in _enabled(cfg.encoders, "encoders")]
    encoders = tuple(sorted(specs, key=lambda spec: (_ORDER.index(spec.source), spec.name)))
    _check_controls(encoders)
    common = _overrides(cfg.detection.set)
    classification = _evaluations(cfg.classification, "classification", {})
    methods = _evaluations(cfg.detection.methods, "detection.methods", common)
    if not classification and not methods:
        raise AnoframeError("the survey has no evaluation: fill in classification or detection.methods")
    if repeated := {spec.name for spec in classification} & {spec.name for spec in methods}:
        raise AnoframeError(f"{sorted(repeated)[0]!r} is in classification and in detection.methods: rename one")
    check_text(cfg.detection.categories, "detection.categories", _where(cfg))
    seeds = _seeds(cfg.seeds)
    return SurveySettings(seeds, cfg.device, encoders, classification, methods, tuple(cfg.detection.categories))


def _where(cfg: ConfigDict) -> str:
    return f"config {cfg.config_name or 'without a name'}"


def _enabled(sections: ConfigDict, key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (name, section) of the sections that are not turned off."""
    enabled = []
    for name in sections:
        check_plain_name(name, f"{key} name")
        section = sections[name]
        if not isinstance(section, ConfigDict):
            raise AnoframeError(f"{key}.{name} is a section of keys, got {section!r}")
        if section.get("enable", True):
            enabled.append((name, section))
    return enabled


def _encoder(name: str, section: Mapping[str, Any]) -> EncoderSpec:
    key = f"encoders.{name}"
    _check_keys(section, _ENCODER_KEYS, key)
    source = section.get("source")
    if source not in _REQUIRED:
        raise AnoframeError(f"{key}.source is {source!r}: {suggest(str(source), _REQUIRED)}")
    needed = _REQUIRED[source]
    if not section.get(needed):
        raise AnoframeError(f"{key} has the source {source}, which needs {needed}: --{key}.{needed} VALUE")
    texts = {field: section[field] for field in _ENCODER_KEYS[2:] if field != "set" and section.get(field)}
    check_text(texts.values(), key, "survey")
    overrides = _overrides(section["set"]) if section.get("set") else {}
    return EncoderSpec(name, source, **texts, overrides=overrides)


def _evaluations(sections: ConfigDict, key: str, common: Mapping[str, Any]) -> tuple[EvaluationSpec, ...]:
    specs = []
    for name, section in _enabled(sections, key):
        _check_keys(section, _EVALUATION_KEYS, f"{key}.{name}")
        if not section.get("config"):
            raise AnoframeError(f"{key}.{name} needs config: the file that its runs are made of")
        overrides = _overrides(section["set"]) if section.get("set") else {}
        specs.append(EvaluationSpec(name, section["config"], {**common, **overrides}))
    return tuple(specs)


def _check_keys(section: Mapping[str, Any], allowed: Sequence[str], key: str) -> None:
    for name in section:
        if name not in allowed:
            raise AnoframeError(f"unknown key {key}.{name}: {suggest(name, allowed)}")


def _overrides(section: ConfigDict) -> dict[str, Any]:
    """Return dotted name -> value; a None sets nothing."""
    return {name: value for name, value in flatten(section) if value is not None}


def _check_controls(encoders: Sequence[EncoderSpec]) -> None:
    for source in _CONTROLS:
        if not any(spec.source == source for spec in encoders):
            raise AnoframeError(
                f"the survey has no encoder of the source {source!r}, and without it no other can be judged: add "
                f'cfg.encoders.{source} = ConfigDict({{"source": "{source}", "architecture": ...}})'
            )


def _seeds(seeds: Sequence[Any]) -> tuple[int, ...]:
    if not seeds or any(type(seed) is not int or not 0 <= seed < 2**32 for seed in seeds):
        raise AnoframeError(f"seeds must be whole numbers from 0 to 2**32 - 1, at least one; got {tuple(seeds)}")
    if len(set(seeds)) < len(seeds):
        raise AnoframeError(f"seeds has a seed twice, got {tuple(seeds)}: give each once")
    return tuple(seeds)
