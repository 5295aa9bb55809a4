"""Overrides: command-line words to dotted names, conversion of types, and errors."""

from __future__ import annotations

import argparse

import pytest

from anoframe.config import flatten, load_config, save_config
from anoframe.config.key_names import find_moved_key, nearest_key
from anoframe.config.overrides import dotted_options
from anoframe.errors import AnoframeError

CONFIG = "patchcore/patchcore_224.py"


# ------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed")
    return parser


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ([], {}),
        (["--a.b", "1"], {"a.b": "1"}),
        (["--a.b=1"], {"a.b": "1"}),
        (["--a.b", "1", "2", "--c.d", "x"], {"a.b": ["1", "2"], "c.d": "x"}),
        (["--a.b", "-1"], {"a.b": "-1"}),
    ],
)
def test_words_become_a_mapping(words, overrides, parser):
    assert dotted_options(words, parser) == overrides


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sed", "1"], "unknown option --sed: did you mean '--seed'"),
        (["--seeds", "1"], "unknown option --seeds: did you mean '--seed'"),
        (["stray"], "unexpected argument 'stray'"),
        (["--a.b"], "--a.b needs a value"),
    ],
)
def test_invalid_words_are_an_error(words, message, parser):
    with pytest.raises(AnoframeError, match=message):
        dotted_options(words, parser)


# ------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "42", 42),
        ("seed", 42, 42),
        ("data.workers", "-1", -1),
        ("model.sigma", "2.5", 2.5),
        ("model.sigma", "3", 3.0),
        ("model.sigma", 3, 3.0),
        ("model.coreset.ratio", "1e-2", 0.01),
        ("data.keep_aspect", "False", False),
        ("data.keep_aspect", "true", True),
        ("data.keep_aspect", "0", False),
        ("wandb.enable", True, True),
        ("data.name", "visa", "visa"),
        ("device", "0", "0"),
        ("data.root", "2024", "2024"),
        ("data.root", None, None),
        ("model.backbone.levels", "(1, 2)", (1, 2)),
        ("model.backbone.levels", "1,2", (1, 2)),
        ("model.backbone.levels", ["layer2", "3"], ("layer2", 3)),
        ("model.backbone.levels", "2", (2,)),
        ("evaluation.pixel_thresholds", (0.5, 0.75), (0.5, 0.75)),
    ],
)
def test_value_is_converted_to_the_type_of_the_value_it_replaces(name, value, expected):
    converted = dict(flatten(load_config(CONFIG, {name: value})))[name]
    assert (converted, type(converted)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("seed", "one", "a whole number"),
        ("seed", "1.5", "a whole number"),
        ("seed", True, "a whole number"),
        ("seed", "", "a whole number"),
        ("model.sigma", "wide", "a number"),
        ("model.sigma", "True", "a number"),
        ("data.keep_aspect", "2", "True or False or 'pad' or 'rectangle'"),
        ("data.keep_aspect", "maybe", "True or False or 'pad' or 'rectangle'"),
        ("data.crop", "wide", "a whole number or a list of values"),
        ("data.crop", "3.5", "a whole number or a list of values"),
        ("data.name", 3, "text"),
        ("data.root", 3, "text"),
        ("model.backbone.levels", 2, "a list of values"),
    ],
)
def test_value_of_another_type_is_an_error(name, value, kind):
    with pytest.raises(AnoframeError) as caught:
        load_config(CONFIG, {name: value})
    assert str(caught.value) == f"{name} takes {kind}, got {value!r}"


@pytest.mark.parametrize(("name", "value"), [("seed", "None"), ("seed", None), ("model.sigma", "None")])
def test_none_is_not_a_number(name, value):
    with pytest.raises(AnoframeError, match=f"{name} takes"):
        load_config(CONFIG, {name: value})


# ------------------------------------------------------------------------------------------------ unknown keys


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("model.coreset.ratoi", "model.coreset.ratio"),
        ("data.rooot", "data.root"),
        ("sede", "seed"),
        ("seed.x", "seed"),
        ("modle.sigma", "model.sigma"),
        ("model.coreset_ratio", "model.coreset.ratio"),
        ("model.ratio", "model.coreset.ratio"),
        ("ratoi", "model.coreset.ratio"),
        ("Data.Root", "data.root"),
        ("data.Root", "data.root"),
        ("model.coreset.Ratio", "model.coreset.ratio"),
    ],
)
def test_unknown_key_suggests_the_nearest(name, suggested):
    with pytest.raises(AnoframeError, match=f"unknown config key '{name}': did you mean '{suggested}'"):
        load_config(CONFIG, {name: 1})


def test_section_is_not_a_value():
    with pytest.raises(AnoframeError, match=r"'model\.coreset' is a section, .*model\.coreset\.ratio"):
        load_config(CONFIG, {"model.coreset": "exact"})


def test_key_of_the_same_words_is_preferred_to_a_key_with_similar_letters():
    keys = ["model.slots", "model.memory.slots", "model.memory.kind"]
    assert nearest_key("model.memory_slots", keys) == "model.memory.slots"


def test_last_part_is_compared_alone():
    assert nearest_key("model.slotss", ["model.width", "model.memory.slots"]) == "model.memory.slots"


def test_key_that_shares_a_word_is_preferred():
    assert nearest_key("model.hd_dim", ["model.hidden", "model.head.descriptor_dim"]) == "model.head.descriptor_dim"


def test_moved_key_with_the_same_last_part_in_several_sections_is_the_nearest():
    keys = ["trainer.phases.adapter.optimizer.lr", "trainer.optimizer.lr"]
    assert find_moved_key("trainer.lr", keys) == "trainer.optimizer.lr"


def test_nothing_similar_is_not_suggested():
    assert nearest_key("zzz.qqq", ["model.sigma", "seed"]) is None


@pytest.mark.parametrize("value", ["320,160", "(320, 160)", ["320", "160"], (320, 160), [320, 160]])
def test_a_size_is_one_number_or_a_pair(value, tmp_path):
    cfg = load_config(CONFIG, {"data.crop": value, "data.tile": "64"})
    assert (cfg.data.crop, cfg.data.tile) == ((320, 160), 64)
    save_config(cfg, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml", {"data.resize": value, "data.crop": "96", "data.tile": "64,32"})
    assert (again.data.resize, again.data.crop, again.data.tile) == ((320, 160), 96, (64, 32))


@pytest.mark.parametrize(
    ("value", "expected"), [("pad", "pad"), ("rectangle", "rectangle"), ("True", True), ("no", False)]
)
def test_keep_aspect_is_a_bool_or_a_word(value, expected, tmp_path):
    cfg = load_config(CONFIG, {"data.keep_aspect": value})
    assert cfg.data.keep_aspect == expected
    save_config(cfg, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").data.keep_aspect == expected


def test_the_image_size_of_uniad_follows_the_crop_until_it_is_set():
    cfg = load_config("uniad/uniad_lite0.py", {"data.crop": "320,160"})
    assert cfg.model.image_size == (320, 160)
    cfg = load_config("uniad/uniad_lite0.py", {"model.image_size": "112"})
    assert (cfg.model.image_size, cfg.data.crop) == (112, 224)
