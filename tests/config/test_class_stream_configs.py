"""Shipped configs of class streams: each loads, is locked and complete, builds its classifier, and survives YAML."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from anoframe.config import check_config, flatten, list_configs, load_config, save_config, to_plain
from anoframe.config.discovery import configs_root
from anoframe.config.validation import check_class_stream_config, check_ranges, is_class_stream
from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.registry import CLASSIFIERS, LABELLED
from anoframe.training.validation import check_training

SHIPPED = [name for name in list_configs() if name.startswith(("clap4clip/cifar", "clap4clip/clap4clip_cifar"))]
each_config = pytest.mark.parametrize("name", SHIPPED)
shipped = cache(load_config)  # read only
TEXT_TOWER = SimpleNamespace(has_text=True, encode_text=lambda texts: torch.ones(len(texts), 8))


def test_every_classifier_has_a_config():
    assert {shipped(name).model.classifier.name for name in SHIPPED} == set(CLASSIFIERS.names())


@each_config
def test_config_is_complete_and_locked(name):
    cfg = shipped(name)
    check_class_stream_config(cfg)
    check_ranges(cfg)
    assert cfg.config_name == Path(name).stem
    assert cfg.data.name in LABELLED.names()
    with pytest.raises(AttributeError, match="locked"):
        cfg.protocol.taks = "5x2"
    with pytest.raises(AnoframeError, match=r"tools/main\.py"):
        check_config(cfg)


@each_config
def test_sections_build_the_classifier(name):
    cfg = to_plain(shipped(name))
    section = {**cfg["model"]["classifier"], "text": cfg["model"]["text"]}
    learner = build_classifier(section, 8, TEXT_TOWER)
    check_training(learner.training_stages(), cfg["trainer"], torch.device("cpu"), learner.phase_names())


@each_config
def test_docstring_states_the_command(name):
    docstring = ast.get_docstring(ast.parse((configs_root() / name).read_text(encoding="utf-8")))
    assert f"python tools/main.py --config configs/{name} --data.root DIR" in (docstring or "")


@each_config
def test_config_survives_yaml(name, tmp_path):
    save_config(shipped(name), tmp_path / "config.yaml")
    again = load_config(tmp_path)
    assert is_class_stream(again)
    assert dict(flatten(again)) == dict(flatten(shipped(name)))


def test_a_config_without_a_classifier_is_an_error():
    cfg = load_config("__base__/class_stream.py")
    with pytest.raises(AnoframeError, match=r"no model\.backbone\.name"):
        check_class_stream_config(cfg)
