"""Checks of config values: missing keys, types, misspelt keys, keys of earlier versions, ranges."""

from __future__ import annotations

import pytest
import yaml

from anoframe.config import check_config, format_config, load_config, to_plain, validation
from anoframe.config.validation import check_ranges
from anoframe.errors import AnoframeError

CONFIG = "patchcore/patchcore_224.py"


# ------------------------------------------------------------------------------------------------ keys and types


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("crop: 64", "crop: wide", r"config\.yaml: data\.crop takes a whole number or a list of values, got 'wide'"),
        ("crop: 64", "crop: true", r"config\.yaml: data\.crop takes a whole number or a list of values, got True"),
        ("max_gb: 20.0", "max_gb: .nan", r"config\.yaml: cache\.max_gb takes a number, got nan"),
        ("pixel_thresholds: []", "pixel_thresholds: 3", r"config\.yaml: evaluation\.pixel_thresholds takes a list"),
        ("crop: 64", "corp: 64", r"config\.yaml: unknown config key 'data\.corp': did you mean 'crop'"),
        ("seed: 0", "seed: 2020-13-45", r"config\.yaml: not a config\.yaml: month must be in 1\.\.12"),
    ],
)
def test_damaged_config_of_a_run_is_an_error(edit_saved, old, new, message):
    with pytest.raises(AnoframeError, match=message):
        load_config(edit_saved(old, new))


def test_quoted_number_of_the_trainer_is_an_error(tmp_path):
    text = format_config(load_config("rd4ad/rd4ad_lite0_256.py"))
    assert " lr: 0.005" in text
    (tmp_path / "own.yaml").write_text(text.replace(" lr: 0.005", " lr: '5e-3'"))
    with pytest.raises(AnoframeError, match=r"trainer\.optimizer\.lr takes a number, got '5e-3': remove its quotes$"):
        check_config(load_config(tmp_path / "own.yaml"))


def test_category_that_is_no_text_is_an_error_in_a_python_config():
    cfg = load_config(CONFIG)
    cfg.categories = ("felt", 7)
    with pytest.raises(AnoframeError, match=r"config patchcore_224: each value of categories is text, got 7"):
        check_config(cfg)


def test_config_without_a_required_key_is_an_error():
    cfg = load_config(CONFIG)
    with cfg.unlocked():
        del cfg.data["crop"]
    with pytest.raises(AnoframeError, match=r"config patchcore_224 lacks the key data\.crop: inherit"):
        check_config(cfg)


# ------------------------------------------------------------------------------------------------ earlier versions


@pytest.fixture
def earlier(tmp_path):
    """The `config.yaml` of a version in which the coreset ratio of PatchCore was in the model section."""
    tree = to_plain(load_config(CONFIG))
    tree["model"]["coreset_ratio"] = tree["model"]["coreset"].pop("ratio")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_config_of_an_earlier_version_is_an_error_that_names_the_new_keys(earlier):
    with pytest.raises(AnoframeError) as caught:
        check_config(load_config(earlier))
    assert str(caught.value) == (
        "config patchcore_224 was written by an earlier version of anoframe: model.coreset_ratio is now "
        "model.coreset.ratio. Start from a shipped config of 'patchcore' and set these keys there, or use the version "
        "that wrote it"
    )


def test_many_keys_of_an_earlier_version_are_shortened(tmp_path):
    tree = to_plain(load_config("uniad/uniad_lite0.py"))
    tree["model"] |= {f"memory_{key}": value for key, value in tree["model"].pop("memory").items()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(
        AnoframeError, match=r"earlier version of anoframe: (model\.\S+ is now \S+, ){3}and 2 more keys\. "
    ):
        check_config(load_config(tmp_path))


def test_config_of_an_earlier_version_can_still_be_loaded_for_display(earlier):
    assert load_config(earlier).model.coreset_ratio == 0.1


def test_additional_model_key_is_left_to_the_argument_check(edit_saved):
    cfg = load_config(edit_saved("model:\n", "model:\n  coreset_ratio: 0.5\n"))
    check_config(cfg)


def test_method_outside_the_package_has_no_known_keys(edit_saved):
    cfg = load_config(edit_saved("  name: patchcore\n", "  name: my_package.method:Method\n"))
    check_config(cfg)


# ------------------------------------------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", -1, r"^seed must be a whole number from 0 to 2\*\*32 - 1, got -1: choose another --seed$"),
        ("seed", 2**32, r"^seed must be a whole number from 0 to .*, got 4294967296: "),
        ("evaluation.aupro_limits", (0.3, 0.0), r"each value of evaluation\.aupro_limits must be .*\(0, 1\], got 0\.0"),
        ("evaluation.aupro_limits", (1.5,), r"each value of evaluation\.aupro_limits must be .*, got 1\.5"),
        ("evaluation.aupro_limits", ("a",), r"each value of evaluation\.aupro_limits must be .*, got 'a'"),
        ("evaluation.pixel_thresholds", ("a",), r"evaluation\.pixel_thresholds must be numbers, got 'a'"),
        ("data.batch_size", 0, r"data\.batch_size must be 1 or more, got 0"),
        ("data.workers", -2, r"data\.workers must be a number from -1 to 256, got -2"),
        ("data.workers", 257, r"data\.workers must be a number from -1 to 256, got 257"),
        ("data.train_share", 0.0, r"data\.train_share must be a share in \(0, 1\), got 0\.0"),
        ("data.train_share", 1.0, r"data\.train_share must be a share in \(0, 1\), got 1\.0"),
        ("cache.max_gb", 0.0, r"cache\.max_gb must be a number above 0, got 0\.0: .*--cache off"),
        ("threshold.fits", 0, r"threshold\.fits must be 1 or more, got 0: 1 is a single second fit"),
        (
            "threshold.fits",
            6,
            r"threshold\.fits 6 times threshold\.held_back 0\.2 must .*: --threshold\.held_back 0\.166",
        ),
        ("threshold.held_back", 1.0, r"threshold\.held_back must be a share in \[0, 1\), got 1\.0: 0 estimates no"),
        ("threshold.false_positive_rate", 0.0, r"threshold\.false_positive_rate must be a share in \(0, 1\), got 0\.0"),
        ("wandb.log_freq", 0, r"wandb\.log_freq must be a number of steps, 1 or more, got 0"),
        ("wandb.log_freq", -5, r"wandb\.log_freq must be a number of steps, 1 or more, got -5"),
    ],
)
def test_value_out_of_range_is_an_error_with_key_value_range_and_remedy(name, value, message):
    with pytest.raises(AnoframeError, match=message):
        check_ranges(load_config(CONFIG, {name: value}))


def test_every_limit_of_a_range_is_accepted():
    limits = {
        "seed": 2**32 - 1,
        "evaluation.aupro_limits": (1.0, 0.05),
        "evaluation.pixel_thresholds": (-3, 0.5),
        "data.batch_size": 1,
        "data.workers": 256,
        "data.shots": 0,
        "data.train_share": 0.001,
        "cache.max_gb": 0.001,
        "threshold.held_back": 0.0,
        "threshold.fits": 1,
        "threshold.false_positive_rate": 0.999,
        "wandb.log_freq": 1,
        "report.thumbnails": 0,
    }
    of_classes = {"report.exemplars": 0, "evaluation.mixed_batch_size": 1, "evaluation.bins": 1}
    check_ranges(load_config(CONFIG, limits))
    check_ranges(load_config("clap4clip/clap4clip_cifar10_5x2.py", of_classes))
    assert {*limits, *of_classes} == {allowed.key for allowed in validation._RANGES}
