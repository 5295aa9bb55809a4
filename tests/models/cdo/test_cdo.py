"""CDO: an apprentice that learns on images with synthetic defects."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from memory_images import MemoryImages
from torch.nn import functional as F
from torch.testing import assert_close

from anoframe.backbones import FeaturePyramid
from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.models.cdo.loss import cdo_loss, discrepancies
from anoframe.models.cdo.model import CDO
from anoframe.models.components.anomaly_map import gaussian_blur, upsample
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner

NOISE = {"name": "cdo"}
SIZE = 64


def photographs():
    """Six images of one category in memory."""
    return MemoryImages(6, SIZE, categories=("felt",))


@pytest.fixture(scope="module")
def expert():
    return FeaturePyramid("test_resnet", (1, 2), "random")


@pytest.fixture
def build(expert):
    def make(**options):
        torch.manual_seed(0)
        return CDO(expert, **({"synthesis": NOISE, "sigma": 1.0} | options)).eval()

    return make


@pytest.fixture
def fit():
    def run(detector, state_folder=None, **changes):
        keys = {"epochs": 4, "batch_size": 3, "optimizer.lr": 0.01, "save_minutes": 0.0} | changes
        cfg = load_config("cdo/cdo_256.py", {f"trainer.{name}": value for name, value in keys.items()})
        context = FitContext("felt", 0, to_plain(cfg.trainer), Trackers(), state_folder)
        fit_learner(detector, (), 6, StageTimer(Trackers()), context, images=photographs())
        return context

    return run


def batch_of(detector, seed=0):
    """Views of all photographs as a batch."""
    (phase,) = detector.training_stages()
    images = photographs()
    drawn = [phase.views(images, row, np.random.default_rng((seed, row))) for row in range(len(images))]
    return {name: torch.stack([view[name] for view in drawn]) for name in drawn[0]}


def equal_states(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_training_lowers_the_loss_and_leaves_the_expert_unchanged(build, fit):
    detector = build()
    before = copy.deepcopy(detector.backbone.network.state_dict())
    context = fit(detector, epochs=12)
    epochs = context.curves["phases"][0]["epochs"]
    first, last = (sum(epoch["losses"].values()) for epoch in (epochs[0], epochs[-1]))
    assert last < 0.8 * first
    assert equal_states(before, detector.backbone.network.state_dict())


def test_a_phase_has_the_loss_of_each_level_on_the_views(build):
    detector = build()
    (phase,) = detector.training_stages()
    views = batch_of(detector)
    losses = phase.loss(type("Batch", (), {"features": views})())
    expert = detector.backbone
    output = detector.apprentice(expert.normalise(views["image"]))
    expected = [cdo_loss(level, views["mask"], 2.0) for level in discrepancies(expert(views["image"]), output)]
    assert_close(list(losses.values()), expected)


def test_views_have_defects_in_the_mask_only(build):
    views = batch_of(build())
    originals = torch.stack([photographs().pixels(row) for row in range(6)])
    changed = (views["image"] != originals).any(1)
    assert views["mask"].any()
    assert not (changed & ~views["mask"]).any()


def test_without_margin_there_are_no_defects(build):
    views = batch_of(build(margin=False))
    assert not views["mask"].any()
    assert torch.equal(views["image"][2], photographs().pixels(2))


def test_the_map_is_the_mean_over_levels_of_one_minus_cosine(build, images_of):
    detector, images = build(), images_of(1, 2, (SIZE, SIZE))
    expert, output = detector.backbone(images), detector.apprentice(detector.backbone.normalise(images))
    levels = [
        upsample(1 - F.cosine_similarity(a, b, dim=1), (SIZE, SIZE), align_corners=True)
        for a, b in zip(expert, output, strict=True)
    ]
    expected = gaussian_blur(torch.stack(levels).mean(0), 1.0)
    assert_close(detector.predict(images).anomaly_map, expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("share", "count"), [(0.0, 1), (0.01, 40), (0.5, 2048)])
def test_the_score_is_the_mean_of_the_largest_values(build, images_of, share, count):
    prediction = build(top_share=share).predict(images_of(1, 2, (SIZE, SIZE)))
    largest = prediction.anomaly_map.flatten(1).sort(1, descending=True).values[:, :count]
    assert_close(prediction.score, largest.mean(1))


def test_a_killed_and_resumed_training_gives_the_same_bytes(build, fit, tmp_path):
    class Killed(CDO):
        steps = 0

        def _losses(self, batch):
            self.steps += 1
            if self.steps == 4:
                raise KeyboardInterrupt
            return super()._losses(batch)

    whole = build()
    fit(whole)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        fit(Killed(whole.backbone, NOISE, sigma=1.0), state_folder=tmp_path)
    resumed = build()
    fit(resumed, state_folder=tmp_path)
    assert equal_states(whole.learned_state(), resumed.learned_state())


def test_the_learned_state_is_the_apprentice(build):
    assert all(name.startswith("apprentice.") for name in build().learned_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"synthesis": {"name": "cdoo"}}, "cdoo"),
        ({"gamma": -1.0}, "gamma"),
        ({"top_share": 1.0}, "top_share"),
    ],
)
def test_wrong_settings_are_errors(build, options, message):
    with pytest.raises(AnoframeError, match=message):
        build(**options)


def test_a_backbone_that_cannot_be_built_again_is_an_error():
    with pytest.raises(AnoframeError, match="cdo needs a backbone whose network can be built again"):
        CDO(torch.nn.Identity(), NOISE)
