"""Every shipped config of a detector: loads, is locked and complete, describes a method, and survives YAML."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from anoframe.backbones import FeaturePyramid
from anoframe.backbones.clip.encoder import ClipEncoder
from anoframe.config import check_config, flatten, list_configs, load_config, save_config
from anoframe.config.discovery import configs_root
from anoframe.models.factory import build_detector
from anoframe.registry import DATASETS, MODELS, check_arguments

OTHERS = (
    "simclr/",
    "probe/",
    "survey/",
    "clap4clip/cifar",
    "clap4clip/clap4clip_cifar",
)  # of encoders, and of classifiers
SHIPPED = [name for name in list_configs() if not name.startswith(OTHERS)]
each_config = pytest.mark.parametrize("name", SHIPPED)
shipped = cache(load_config)  # read only


class BackboneStandIn(nn.Module):
    """Has the attributes of a backbone with a given number of levels, and no weights."""

    def __init__(self, levels: int):
        super().__init__()
        self.levels = self.level_names(range(levels))
        self.channels, self.strides, self.signed = (200,) * levels, (4,) * levels, (True,) * levels

    def level_names(self, levels):
        return tuple(str(level) for level in levels)

    def with_levels(self, levels):
        return BackboneStandIn(len(levels))

    def untrained_network(self):
        return nn.Identity()


class ClipStandIn(nn.Module):
    """Has the attributes of a CLIP backbone for WinCLIP, and for a RAML of any tile size, and no weights."""

    has_text, embed_dim, grid, text_width = True, 16, (15, 15), 8


def test_configs_of_the_published_methods_are_shipped():
    assert {
        "patchcore/patchcore_224.py",
        "patchcore/patchcore_256.py",
        "patchcore/patchcore_320.py",
        "patchcore/patchcore_lite0_224.py",
        "patchcore_noising/patchcore_noising_256_100e.py",
        "patchcore_noising/patchcore_noising_256_300e.py",
        "patchcore_noising/patchcore_noising_lite0_256.py",
    } <= set(SHIPPED)


@each_config
def test_config_has_the_name_of_its_file(name):
    assert shipped(name).config_name == Path(name).stem


@each_config
def test_config_is_locked(name):
    with pytest.raises(AttributeError, match="locked"):
        shipped(name).model.sigmma = 1.0


@each_config
def test_model_section_builds_its_method(name):
    section = shipped(name).model
    is_clip = section.backbone.name.startswith("open_clip:")
    check_arguments(ClipEncoder if is_clip else FeaturePyramid, section.backbone, name)
    arguments = {key: value for key, value in section.items() if key not in ("name", "backbone")}
    backbone = ClipStandIn() if is_clip else BackboneStandIn(len(section.backbone.levels))
    MODELS.build(section.name, backbone=backbone, **arguments)


@each_config
def test_dataset_is_registered(name):
    assert shipped(name).data.name in DATASETS.names()


@each_config
def test_docstring_states_the_command(name):
    docstring = ast.get_docstring(ast.parse((configs_root() / name).read_text(encoding="utf-8")))
    assert docstring is not None
    stream = shipped(name).protocol.tasks  # names the categories itself
    assert f"python tools/main.py --config configs/{name}{'' if stream else ' --cls_names'}" in docstring


@each_config
def test_yaml_keeps_names_values_and_types(name, tmp_path):
    cfg = shipped(name)
    save_config(cfg, tmp_path / "config.yaml")
    reloaded = load_config(tmp_path)
    assert list(flatten(reloaded)) == list(flatten(cfg))
    assert [type(value) for _, value in flatten(reloaded)] == [type(value) for _, value in flatten(cfg)]


@each_config
def test_config_is_complete(name):
    check_config(shipped(name))


def test_published_config_has_the_published_backbone():
    cfg = load_config("patchcore/patchcore_224.py", {"model.backbone.weights": "random"})
    detector = build_detector(cfg.model)
    assert detector.backbone.channels == (512, 1024)
