"""Shipped pretraining configs: each loads, is locked and complete, builds its learner, and survives YAML."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from anoframe.config import check_config, flatten, list_configs, load_config, save_config, to_plain
from anoframe.config.discovery import configs_root
from anoframe.config.validation import check_pretraining_config, check_ranges
from anoframe.errors import AnoframeError
from anoframe.pretraining.factory import build_pretraining
from anoframe.registry import LABELLED, PRETRAINING
from anoframe.training.settings import phase_settings
from anoframe.training.validation import check_training

SHIPPED = [name for name in list_configs() if name.startswith("simclr/")]
each_config = pytest.mark.parametrize("name", SHIPPED)
shipped = cache(load_config)  # read only


def test_every_learner_has_a_config():
    assert {shipped(name).learner.name for name in SHIPPED} == set(PRETRAINING.names())


@each_config
def test_config_is_complete_and_locked(name):
    cfg = shipped(name)
    check_pretraining_config(cfg)
    check_ranges(cfg)
    assert cfg.config_name == Path(name).stem
    assert cfg.data.name in LABELLED.names()
    with pytest.raises(AttributeError, match="locked"):
        cfg.learner.temperatur = 1.0


@each_config
def test_config_has_no_keys_of_detectors(name):
    assert not {"model", "protocol", "evaluation", "threshold", "report", "categories"} & set(shipped(name))


@each_config
def test_sections_build_the_learner(name):
    cfg = to_plain(shipped(name)) | {"encoder": {**to_plain(shipped(name).encoder), "architecture": "test_resnet"}}
    learner = build_pretraining(cfg, ["cup", "plate"], 0)
    settings = phase_settings(cfg["trainer"], "pretraining")
    check_training(learner.training_stages(), cfg["trainer"], next(learner.buffers()).device, learner.phase_names())
    assert settings.epochs == 100


@each_config
def test_docstring_states_the_command(name):
    docstring = ast.get_docstring(ast.parse((configs_root() / name).read_text(encoding="utf-8")))
    assert f"python tools/pretrain.py --config configs/{name} --data.root DIR" in (docstring or "")


@each_config
def test_yaml_keeps_names_values_and_types(name, tmp_path):
    cfg = shipped(name)
    save_config(cfg, tmp_path / "config.yaml")
    reloaded = load_config(tmp_path)
    assert list(flatten(reloaded)) == list(flatten(cfg))
    assert [type(value) for _, value in flatten(reloaded)] == [type(value) for _, value in flatten(cfg)]


def test_each_command_refuses_the_configs_of_the_other():
    with pytest.raises(AnoframeError, match=r"tools/pretrain\.py"):
        check_config(shipped(SHIPPED[0]))
    with pytest.raises(AnoframeError, match=r"tools/main\.py"):
        check_pretraining_config(load_config("patchcore/patchcore_224.py"))
