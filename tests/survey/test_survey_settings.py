"""Settings of a survey: the control encoders, the keys of each source, and the shipped config."""

from __future__ import annotations

import ast

import pytest

from anoframe.config import ConfigDict, check_config, load_config
from anoframe.config.discovery import configs_root
from anoframe.config.validation import check_pretraining_config, check_ranges, check_survey_config
from anoframe.errors import AnoframeError
from anoframe.survey.settings import read_survey


@pytest.fixture
def cfg():
    """The shipped survey, unlocked."""
    return load_config("survey/backbones.py").unlock()


def test_shipped_survey_has_the_controls_and_the_evaluations(cfg):
    survey = read_survey(cfg)
    assert [spec.source for spec in survey.encoders] == ["random", "pretrain", "pretrain", "imagenet", "imagenet"]
    assert [spec.name for spec in survey.classification] == ["cifar10", "cifar10_64"]
    assert [spec.name for spec in survey.methods] == ["padim", "patchcore"]
    cfg.detection.methods.rd4ad.enable = True
    assert [spec.name for spec in read_survey(cfg).methods] == ["padim", "patchcore", "rd4ad"]


@pytest.mark.parametrize("source", ["random", "imagenet"])
def test_a_survey_without_a_control_encoder_is_an_error(cfg, source):
    for name in [name for name in cfg.encoders if cfg.encoders[name].source == source]:
        cfg.encoders[name].enable = False
    with pytest.raises(AnoframeError, match=f"no encoder of the source '{source}'"):
        read_survey(cfg)


def test_roots_of_the_shipped_survey_are_independent():
    keys = {"encoders.simclr_own.set.data.root": "own", "detection.set.data.root": "products"}
    survey = read_survey(load_config("survey/backbones.py", keys))
    (own,) = (spec for spec in survey.encoders if spec.name == "simclr_own")
    assert own.overrides["data.root"] == "own"
    assert {spec.overrides["data.root"] for spec in survey.methods} == {"products"}
    assert "data.root" not in survey.classification[0].overrides  # None sets nothing


def test_keys_of_a_method_have_priority_over_the_common_ones(cfg):
    cfg.detection.methods.padim.set = ConfigDict({"data": {"crop": 96}})
    padim, patchcore = read_survey(cfg).methods
    assert (padim.overrides["data.crop"], patchcore.overrides["data.crop"]) == (96, 128)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "imagnet", "architecture": "resnet18"}, "did you mean 'imagenet'"),
        ({"source": "exported"}, r"encoders\.x has the source exported, which needs path"),
        ({"source": "random", "architecture": "resnet18", "epoch": 1}, r"unknown key encoders\.x\.epoch"),
        ({"source": "random", "architecture": 18}, "text"),
    ],
)
def test_wrong_encoders_are_errors(cfg, section, message):
    cfg.encoders.x = ConfigDict(section)
    with pytest.raises(AnoframeError, match=message):
        read_survey(cfg)


@pytest.mark.parametrize("seeds", [(), (0, 0), (-1,), (0.5,)])
def test_wrong_seeds_are_errors(cfg, seeds):
    cfg.seeds = seeds
    with pytest.raises(AnoframeError, match="seed"):
        read_survey(cfg)


def test_a_survey_without_evaluations_is_an_error(cfg):
    cfg.classification = ConfigDict()
    cfg.detection.methods = ConfigDict()
    with pytest.raises(AnoframeError, match="no evaluation"):
        read_survey(cfg)


def test_names_of_evaluations_are_unique(cfg):
    cfg.classification.padim = ConfigDict({"config": "probe/probe.py"})
    with pytest.raises(AnoframeError, match="'padim' is in classification and in detection"):
        read_survey(cfg)


def test_a_misspelt_section_is_an_error(cfg):
    with pytest.raises(AnoframeError, match="unknown config key"):
        load_config("survey/backbones.py", {"detection.categorys": "bottle"})
    cfg.encoders["a/b"] = ConfigDict({"source": "random", "architecture": "resnet18"})
    with pytest.raises(AnoframeError, match="plain name"):
        read_survey(cfg)


def test_each_command_refuses_the_configs_of_the_other(cfg):
    with pytest.raises(AnoframeError, match=r"tools/survey\.py"):
        check_config(cfg)
    with pytest.raises(AnoframeError, match="no encoders section"):
        check_survey_config(load_config("patchcore/patchcore_224.py"))


@pytest.mark.parametrize("name", ["simclr_cifar10", "simclr_own"])
def test_pretraining_configs_of_the_survey_are_complete(name):
    cfg = load_config(f"survey/{name}.py")
    check_pretraining_config(cfg)
    check_ranges(cfg)
    assert cfg.encoder.stem == "imagenet"  # detectors expect its strides
    docstring = ast.get_docstring(ast.parse((configs_root() / f"survey/{name}.py").read_text(encoding="utf-8")))
    assert f"python tools/pretrain.py --config configs/survey/{name}.py" in (docstring or "")
