"""Checks of config values: required keys, types, spelling, keys of earlier versions, and ranges."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from anoframe.config.config_file import (
    class_stream_config,
    default_config,
    gradient_config,
    method_config,
    pretraining_config,
    probe_config,
    survey_config,
)
from anoframe.config.display import flatten
from anoframe.config.key_names import TEXT_LISTS, find_moved_key
from anoframe.config.yaml_text import read_plain
from anoframe.errors import AnoframeError
from anoframe.utils.paths import expand_path
from anoframe.utils.type_check import matches_type, type_words

CLASS_INCREMENTAL = "class_incremental"  # protocol of a stream of classes of labelled images
_MOST_RENAMES = 3  # renamed keys in one message
_PATHS = ("data.root", "cache.folder")  # kept as written, and expanded where they are used

# ---------------------------------------------------------------------------------------------------- keys and types


def check_config(cfg: ConfigDict) -> None:
    """Check that a config is complete, has values of the right types, and has no keys of an earlier version.

    Raises:
        AnoframeError: names the key, and says what to do.
    """
    where = f"config {cfg.get('config_name') or 'without a name'}"
    if "learner" in cfg:
        raise AnoframeError(f"{where} pretrains an encoder: run it with tools/pretrain.py")
    if "probes" in cfg:
        raise AnoframeError(f"{where} evaluates an encoder: run it with tools/evaluate_encoder.py")
    if "encoders" in cfg:
        raise AnoframeError(f"{where} compares encoders: run it with tools/survey.py")
    if is_class_stream(cfg):
        raise AnoframeError(
            f"{where} trains a classifier of labelled images: run it with tools/main.py --mode train, or with "
            "anoframe.runs.class_incremental_run"
        )
    check_keys(cfg, default_config(), where)
    _check_paths(cfg)
    if not isinstance(cfg.get("model"), ConfigDict):
        raise AnoframeError(f"{where} has no model section: inherit from a method's config")
    _check_moved_keys(cfg.model, where)
    if isinstance(cfg.get("trainer"), ConfigDict):
        check_keys(cfg.trainer, gradient_config().trainer, where, "trainer.", complete=False)


def check_pretraining_config(cfg: ConfigDict) -> None:
    """Check that a config of pretraining is complete and has values of the right types.

    Raises:
        AnoframeError: names the key, and says what to do.
    """
    where = f"config {cfg.get('config_name') or 'without a name'}"
    if "learner" not in cfg:
        raise AnoframeError(
            f"{where} has no learner section: inherit from __base__/pretraining.py, or use tools/main.py"
        )
    check_keys(cfg, pretraining_config(), where)
    _check_paths(cfg)
    if "name" not in cfg.learner:
        raise AnoframeError(f"{where} has no learner.name: inherit from a config in configs/simclr")


def check_probe_config(cfg: ConfigDict) -> None:
    """Check that a config of the evaluation of an encoder is complete and has values of the right types.

    Raises:
        AnoframeError: names the key, and says what to do.
    """
    where = f"config {cfg.get('config_name') or 'without a name'}"
    if "probes" not in cfg:
        raise AnoframeError(f"{where} has no probes section: inherit from __base__/probe.py, or use tools/main.py")
    defaults = probe_config()
    del defaults.unlock().probes  # a user may leave probes out or add others
    check_keys(cfg, defaults, where)
    _check_paths(cfg)


def check_survey_config(cfg: ConfigDict) -> None:
    """Check that a config of a survey of encoders is complete and has values of the right types.

    Raises:
        AnoframeError: names the key, and says what to do.
    """
    where = f"config {cfg.get('config_name') or 'without a name'}"
    if "encoders" not in cfg:
        raise AnoframeError(f"{where} has no encoders section: inherit from __base__/survey.py, or use tools/main.py")
    defaults = survey_config()
    check_keys(cfg, defaults, where)
    check_spelling(cfg, defaults, where)


def check_class_stream_config(cfg: ConfigDict) -> None:
    """Check that a config of a stream of classes is complete and has values of the right types.

    Raises:
        AnoframeError: names the key, and says what to do.
    """
    where = f"config {cfg.get('config_name') or 'without a name'}"
    check_keys(cfg, class_stream_config(), where)
    _check_paths(cfg)
    for key in ("backbone", "classifier"):
        if "name" not in cfg.model[key]:
            raise AnoframeError(f"{where} has no model.{key}.name: inherit from a config in configs/clap4clip")


def is_class_stream(tree: Mapping[str, Any] | ConfigDict) -> bool:
    """Return whether a config is of classes of labelled images that arrive task by task."""
    protocol = tree.get("protocol")
    return isinstance(protocol, Mapping | ConfigDict) and protocol.get("name") == CLASS_INCREMENTAL


def _check_paths(cfg: ConfigDict) -> None:
    values = dict(flatten(cfg))
    for name in _PATHS:
        if values[name]:
            expand_path(values[name], name)


def check_keys(tree: Any, defaults: ConfigDict, where: str, prefix: str = "", complete: bool = True) -> None:
    """Check that a tree has every key of `defaults`, with a value of the same type.

    Args:
        tree: a config, or plain dicts.
        defaults: the required keys.
        where: file or config, for messages.
        prefix: dotted name of `tree` in the config, with a trailing dot.
        complete: whether a missing key is an error.
    """
    for key in defaults:
        name = prefix + key
        if key not in tree:
            if not complete:
                continue
            raise AnoframeError(f"{where} lacks the key {name}: inherit from a config that has it, or add it")
        value, kind = tree[key], defaults.get_type(key)
        if isinstance(defaults[key], ConfigDict):
            if not isinstance(value, dict | ConfigDict):
                raise AnoframeError(f"{where}: {name} is a section of keys, got {value!r}")
            check_keys(value, defaults[key], where, f"{name}.", complete)
        elif not matches_type(value, kind) and not (value is None and defaults[key] is None):
            raise AnoframeError(f"{where}: {name} takes {type_words(kind)}, got {value!r}{_quotes_remedy(value, kind)}")
        elif name in TEXT_LISTS:
            check_text(value, name, where)


def check_text(values: Iterable[Any], name: str, where: str) -> None:
    """Check that each value of a list, for example of category names, is text.

    Raises:
        AnoframeError: names the key and the value.
    """
    for value in values:
        if not isinstance(value, str):
            raise AnoframeError(f"{where}: each value of {name} is text, got {value!r}{_quotes_remedy(value, str)}")


def _quotes_remedy(value: Any, kind: type) -> str:
    """Return what to do about a value with quotes too few or too many; "" if quotes are not the reason."""
    if kind is str and value is not None and not isinstance(value, (list, tuple, Mapping, ConfigDict)):
        return ": put it in quotes, as in '01' or 'no', which are a number and False without them"
    is_quoted = isinstance(value, str) and kind in (int, float, bool) and matches_type(read_plain(value), kind)
    return ": remove its quotes" if is_quoted else ""


def check_spelling(tree: Mapping[str, Any], defaults: ConfigDict, where: str, prefix: str = "") -> None:
    """Check for a key that is probably a misspelt key of `defaults`.

    Such a key resembles a default key that the tree lacks. Without this check the default value would be used and the
    value of the user ignored. Other unknown keys are allowed: a user may add keys.
    """
    absent = [key for key in defaults if key not in tree]
    for key, value in tree.items():
        if key not in defaults and (near := difflib.get_close_matches(str(key), absent, n=1)):
            raise AnoframeError(f"{where}: unknown config key {prefix + str(key)!r}: did you mean {near[0]!r}?")
        if isinstance(value, dict) and isinstance(defaults.get(key), ConfigDict):
            check_spelling(value, defaults[key], where, f"{prefix}{key}.")


def _check_moved_keys(section: ConfigDict, where: str) -> None:
    """Check the model section for keys that an earlier version of anoframe had in another place.

    A key counts as moved if the shipped base config of the method lacks it and has a key of the same words that this
    section lacks: `memory_slots`, now `memory.slots`. Any other unknown key is reported by the argument check when
    the detector is built. So no version number is needed in `config.yaml`, and files without one are recognised.
    """
    base = method_config(section.get("name"))
    if base is None:  # a method outside of this package
        return
    keys, base_keys = dict(flatten(section)), dict(flatten(base.model))
    absent = [key for key in base_keys if key not in keys]
    unknown = [key for key in keys if key not in base_keys]
    moved = {key: new for key in unknown if (new := find_moved_key(key, absent))}
    if moved:
        renames = [f"model.{old} is now model.{new}" for old, new in moved.items()][:_MOST_RENAMES]
        others = len(moved) - len(renames)
        more = f", and {others} more key{'s' * (others > 1)}" if others else ""
        raise AnoframeError(
            f"{where} was written by an earlier version of anoframe: {', '.join(renames)}{more}. Start from a shipped "
            f"config of {section.name!r} and set these keys there, or use the version that wrote it"
        )


# ---------------------------------------------------------------------------------------------------- ranges


class _Range(NamedTuple):
    """Allowed values of one key."""

    key: str
    allowed: str
    contains: Callable[[Any], bool]
    remedy: str
    each: bool = False  # the value is a list, and the range is that of its items


_RANGES = (
    _Range("seed", "a whole number from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32, "choose another --seed"),
    _Range(
        "evaluation.aupro_limits",
        "false-positive rates in (0, 1]",
        lambda x: isinstance(x, float) and 0 < x <= 1,
        "for example 0.3",
        each=True,
    ),
    _Range(
        "evaluation.pixel_thresholds",
        "numbers",
        lambda x: type(x) in (int, float),
        "give values of the anomaly map, or () for none",
        each=True,
    ),
    _Range("data.batch_size", "1 or more", lambda x: x >= 1, "lower it only to save memory"),
    _Range("data.workers", "a number from -1 to 256", lambda x: -1 <= x <= 256, "-1 chooses a number for the machine"),
    _Range("evaluation.mixed_batch_size", "1 or more", lambda x: x >= 1, "for example 32"),
    _Range("evaluation.bins", "1 or more", lambda x: x >= 1, "for example 15"),
    _Range("report.exemplars", "0 or more", lambda x: x >= 0, "0 shows none"),
    _Range("data.shots", "0 or more", lambda x: x >= 0, "0 for every split but few_shot"),
    _Range("data.train_share", "a share in (0, 1)", lambda x: 0 < x < 1, "for example 0.8"),
    _Range("cache.max_gb", "a number above 0", lambda x: x > 0, "to cache nothing, use --cache off"),
    _Range("threshold.held_back", "a share in [0, 1)", lambda x: 0 <= x < 1, "0 estimates no threshold"),
    _Range("threshold.fits", "1 or more", lambda x: x >= 1, "1 is a single second fit"),
    _Range("threshold.false_positive_rate", "a share in (0, 1)", lambda x: 0 < x < 1, "for example 0.01"),
    _Range("report.thumbnails", "0 or more", lambda x: x >= 0, "0 shows none"),
    _Range("wandb.log_freq", "a number of steps, 1 or more", lambda x: x >= 1, "1 logs every step"),
)


def check_ranges(cfg: ConfigDict) -> None:
    """Check that each value lies in the range of its key.

    Raises:
        AnoframeError: names key, value, range and remedy.
    """
    values = dict(flatten(cfg))
    for allowed in _RANGES:
        if allowed.key not in values:  # of detectors, and the config pretrains an encoder
            continue
        value = values[allowed.key]
        for item in value if allowed.each else (value,):
            if not allowed.contains(item):
                subject = f"each value of {allowed.key}" if allowed.each else allowed.key
                raise AnoframeError(f"{subject} must be {allowed.allowed}, got {item!r}: {allowed.remedy}")
    _check_fits(values)


def _check_fits(values: Mapping[str, Any]) -> None:
    """Check that several second fits for the threshold have images of their own to hold back."""
    fits, share = values.get("threshold.fits", 1), values.get("threshold.held_back", 0.0)
    if fits > 1 and not 0 < fits * share < 1 + 1e-6:
        raise AnoframeError(
            f"threshold.fits {fits} times threshold.held_back {share:g} must be above 0 and at most 1, because each "
            f"fit holds back other images: --threshold.held_back {int(1000 / fits) / 1000:g}"
        )
