"""Configs of RAML: image sizes, the published settings, and what each ablation changes."""

import pytest
from torch import nn

from anoframe.config import flatten, list_configs, load_config
from anoframe.registry import MODELS

NAMES = [name for name in list_configs() if name.startswith("raml/")]
ABLATIONS = {
    "fixed_margin": {"model.loss.margin_sigma": 0.0, "model.loss.margin_resolution": 0.0},
    "strong_margin": {
        "model.loss.margin_base": 1.0,
        "model.loss.margin_sigma": 0.0,
        "model.loss.margin_resolution": 0.0,
    },
    "bce": {"model.loss.maccl": False},
    "scale1": {"model.pyramid.scales": (1,)},
    "scales1_4": {"model.pyramid.scales": (1, 4)},
    "no_tracker": {"model.loss.tracker": False},
    "per_term": {"model.loss.reduction": "per_term"},
}


class StandIn(nn.Module):
    """A backbone for any tile size, with text or without, and no weights."""

    embed_dim = 16

    def __init__(self, has_text):
        super().__init__()
        self.has_text = has_text


def build(cfg):
    arguments = {key: value for key, value in cfg.model.items() if key not in ("name", "backbone")}
    return MODELS.build("raml", backbone=StandIn(cfg.model.backbone.name.startswith("open_clip:")), **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_images_have_the_size_that_the_pyramid_needs(name):
    cfg = load_config(name)
    build(cfg).check_image_size(cfg.data.crop, cfg.data.crop)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_uses_the_split_that_trains_on_defects_and_resizes_as_clip(name):
    cfg = load_config(name)
    assert (cfg.data.split, cfg.data.split_seed, cfg.data.interpolation) == ("raml", 42, "bicubic")
    assert (cfg.protocol.name, cfg.trainer.accumulate, cfg.trainer.select) == ("unified", 1, "last")


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("base", ["raml_vitb16", "raml_lite2"])
def test_an_ablation_changes_what_its_name_says_and_nothing_else(base, ablation):
    before, after = (dict(flatten(load_config(f"raml/{name}.py"))) for name in (base, f"{base}_{ablation}"))
    changes = {key: value for key, value in after.items() if before[key] != value and key != "config_name"}
    assert changes == ABLATIONS[ablation]


def test_the_published_training():
    trainer = load_config("raml/raml_vitb16.py").trainer
    assert (trainer.epochs, trainer.batch_size, trainer.clip, trainer.schedule.name) == (25, 16, 1.0, "constant")
    optimizer = trainer.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.decay_vectors) == (
        "adamw",
        5e-5,
        0.02,
        True,
    )


def test_the_replication_has_the_settings_of_the_public_code():
    cfg = load_config("raml/raml_vitb16_replication.py")
    assert (cfg.model.pyramid.mode, cfg.data.resize, cfg.data.crop, cfg.data.keep_aspect) == (
        "reference",
        224,
        224,
        True,
    )
    assert (cfg.trainer.epochs, cfg.trainer.optimizer.weight_decay) == (20, 0.01)
