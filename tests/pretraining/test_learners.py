"""The learners: their losses in closed form, their parameters, and that a few steps learn something."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from anoframe.backbones.encoder import Encoder
from anoframe.config import load_config, to_plain
from anoframe.errors import AnoframeError
from anoframe.pretraining.heads import ProjectionHead
from anoframe.pretraining.relative_position import NEIGHBOURS, PatchPairs, RelativePosition
from anoframe.pretraining.simclr import SimCLR
from anoframe.pretraining.simsiam import SimSiam
from anoframe.pretraining.spd import SPD, spd_loss
from anoframe.pretraining.supervised import Supervised
from anoframe.pretraining.triplet import Triplet, distances
from anoframe.pretraining.views import view_settings
from anoframe.registry import PRETRAINING
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.distributed_loss import distributed_loss
from anoframe.training.stages import fit_learner

VIEWS = view_settings({"preset": "industrial", "size": 32})
NEGATIVES = {"name": "smooth_blend"}
ARGUMENTS = {
    "simclr": {},
    "simsiam": {"dim": 32},
    "spd": {"synthesis": NEGATIVES},
    "supervised": {"classes": ["class0", "class1"]},
    "triplet": {"synthesis": NEGATIVES},
    "relative_position": {"cell": 8, "gap": 1, "jitter": 1, "hidden": 16, "rotation": True},
}
each_method = pytest.mark.parametrize("name", ARGUMENTS)


def make(name, seed=0, **changes):
    torch.manual_seed(seed)
    encoder = Encoder("test_resnet", stem="small")
    return PRETRAINING.build(name, **{"encoder": encoder, "views": VIEWS, **ARGUMENTS[name], **changes})


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("architecture", "expected"), [("resnet18", 11_176_512), ("resnet34", 21_284_672)])
def test_parameters_of_the_encoder(architecture, expected):
    """S5."""
    assert count(Encoder(architecture)) == expected


@pytest.mark.parametrize(("head_bn", "expected"), [(False, 11_504_832), (True, 11_505_856)])
def test_parameters_of_simclr(head_bn, expected):
    """S5."""
    assert count(SimCLR(Encoder("resnet18"), VIEWS, head_bn=head_bn)) == expected


def test_parameters_of_the_supervised_variant():
    """S5."""
    classes = [f"class{i}" for i in range(18)]
    assert count(Supervised(Encoder("resnet18"), VIEWS, classes)) == 11_185_746


def test_projection_head_is_that_of_the_paper():
    head = ProjectionHead(8, 8, 4, True)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert ProjectionHead(8, 8, 4, False)[0].bias is not None


@each_method
def test_views_are_pure_and_batches_have_finite_losses(name, batch_of):
    learner = make(name).train()
    (stage,) = learner.training_stages()
    first, again = (batch_of(stage.views) for _ in range(2))
    assert all(torch.equal(first.features[view], again.features[view]) for view in first.features)
    losses = stage.loss(first)
    assert all(bool(value.isfinite()) for value in losses.values())
    assert set(stage.measurements) < set(losses)
    assert not any(losses[measured].requires_grad for measured in stage.measurements)
    assert 0 <= float(losses["spread"]) < 1.5


@each_method
def test_every_parameter_gets_a_gradient(name, batch_of):
    learner = make(name).train()
    (stage,) = learner.training_stages()
    losses = stage.loss(batch_of(stage.views))
    sum(value for key, value in losses.items() if key not in stage.measurements).backward()
    assert set(stage.parameters) == set(dict(learner.named_parameters()))
    assert [key for key, parameter in stage.parameters.items() if parameter.grad is None] == []


@each_method
def test_steps_on_one_batch_lower_its_loss(name, batch_of):
    learner = make(name).train()
    (stage,) = learner.training_stages()
    batch, optimizer = batch_of(stage.views), torch.optim.Adam(stage.parameters.values(), 0.003)
    totals = []
    for _ in range(10):
        losses = stage.loss(batch)
        total = sum(value for key, value in losses.items() if key not in stage.measurements)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert np.mean(totals[-3:]) < totals[0]


def test_curves_keep_losses_and_measurements_apart(images):
    learner = make("simclr")
    fit(learner, images)
    for epoch in learner.curve["epochs"]:
        assert set(epoch["losses"]) == {"nt_xent"}
        assert set(epoch["measurements"]) == {"top1", "top5", "spread"}


def fit(learner, images, state_folder=None, **changes):
    """Train a learner on images in memory; its curve is an attribute afterwards."""
    images.workers = 0
    keys = {"epochs": 2, "batch_size": 4, "optimizer.lr": 0.003, "save_minutes": 0.0} | changes
    cfg = load_config("__base__/gradient.py", {f"trainer.{name}": value for name, value in keys.items()})
    context = FitContext("encoder", 5, to_plain(cfg.trainer), Trackers(), state_folder)
    fit_learner(learner, (), len(images), StageTimer(Trackers()), context, images=images)
    learner.curve = context.curves["phases"][-1]
    return {name: value.clone() for name, value in learner.learned_state().items()}


def test_a_killed_and_resumed_pretraining_gives_the_same_bytes(images, tmp_path):
    class Killed(SimCLR):
        calls = 0

        def losses(self, batch):
            self.calls += 1
            if self.calls == 4:
                raise KeyboardInterrupt
            return super().losses(batch)

    torch.manual_seed(0)
    killed = Killed(Encoder("test_resnet", stem="small"), VIEWS, micro_batches=2)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, images, tmp_path)
    resumed = fit(make("simclr", seed=1, micro_batches=2), images, tmp_path)
    whole = fit(make("simclr", micro_batches=2), images)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


# ------------------------------------------------------------------------------------------------ SimCLR


def test_micro_batches_keep_all_negatives(batch_of):
    """With frozen BatchNorm, the loss and its gradient are those of one part."""
    results = []
    for parts in (1, 3):
        learner = make("simclr", micro_batches=parts).eval()
        losses = learner.losses(batch_of(learner.views()))
        losses["nt_xent"].backward()
        results.append((losses["nt_xent"].detach(), learner.encoder.network.conv1[0].weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def _step_in_processes(group, features, rows):
    """Gradients of a SimCLR step whose images are divided over the processes."""
    from anoframe.models.learner import TrainingBatch

    torch.use_deterministic_algorithms(False)
    learner = make("simclr").double().train()
    (stage,) = learner.training_stages()
    with distributed_loss(learner, stage, stage.loss, group, True) as loss:
        shard = loss.shard(rows)
        own = {name: view[[rows.index(row) for row in shard.rows]] for name, view in features.items()}
        with loss.accumulate(shard, True):
            losses = loss(TrainingBatch(own, (), torch.tensor(list(shard.rows))))
            loss.scale(losses["nt_xent"], shard).backward()
    return {name: parameter.grad for name, parameter in stage.parameters.items()}, dict(learner.named_buffers())


@pytest.mark.parametrize("rows", [[5, 2, 7, 0, 3], [4, 1], [6]], ids=["uneven", "one each", "a process has no image"])
def test_two_processes_have_the_gradient_of_one(rows, process_pool, batch_of):
    """In float64, where rounding hides nothing."""
    from anoframe.distributed.process_group import single_process

    features = dict(batch_of(make("simclr").views(), rows).features)
    expected = _step_in_processes(single_process(), features, rows)
    for step in process_pool.run(_step_in_processes, features, rows):
        for values, reference in zip(step, expected, strict=True):
            for name, value in values.items():
                scale = float(reference[name].abs().max())
                assert float((value - reference[name]).abs().max()) <= 1e-9 * scale + 1e-12, name


# ------------------------------------------------------------------------------------------------ collapse


def test_the_spread_shows_a_collapse(batch_of):
    """Sheet 4.3. BatchNorm at the end of the projector delays the collapse, so it is left out here."""
    learner = make("simsiam", predictor=False, stop_gradient=False)
    learner.projector = nn.Linear(learner.encoder.num_features, 32)
    batch, optimizer = batch_of(learner.views()), torch.optim.Adam(learner.parameters(), 0.01)
    spreads = []
    for _ in range(25):
        losses = learner.losses(batch)
        optimizer.zero_grad()
        losses["similarity"].backward()
        optimizer.step()
        spreads.append(float(losses["spread"]))
    assert spreads[-1] < 0.25 * spreads[0]


def test_simsiam_stop_gradient_detaches_the_targets(batch_of):
    learner = make("simsiam", predictor=False)
    batch = batch_of(learner.views())
    with_stop = gradient_of(learner.train(), batch)
    learner.stop_gradient = False
    torch.testing.assert_close(gradient_of(learner, batch), 2 * with_stop, rtol=1e-3, atol=1e-6)


def gradient_of(learner, batch):
    learner.zero_grad()
    learner.losses(batch)["similarity"].backward()
    return learner.projector[0].weight.grad.clone()


# ------------------------------------------------------------------------------------------------ triplet and SPD


class Fixed(nn.Module):
    """An encoder that returns its input, flattened."""

    num_features = 3

    def forward(self, images):
        return images.flatten(1)


def triplet_loss(anchor, positive, negative, **changes):
    learner = Triplet(Fixed(), VIEWS, NEGATIVES, **changes)
    features = {"anchor": anchor, "positive": positive, "negative": negative}

    class Batch:
        pass

    Batch.features = features
    return learner.losses(Batch)


def test_triplet_of_equal_features_is_the_margin():
    """S10."""
    same = torch.rand(4, 3)
    for margin in (0.2, 0.5, 1.0):
        assert float(triplet_loss(same, same, same, margin=margin)["triplet"]) == pytest.approx(margin, abs=1e-5)


def test_triplet_with_a_far_negative_is_0():
    """S10."""
    anchor = torch.tensor([[1.0, 0.0, 0.0]])
    assert float(triplet_loss(anchor, 2 * anchor, -anchor, margin=1.0)["triplet"]) == 0
    assert float(triplet_loss(anchor, 2 * anchor, -anchor, margin=1.0, unit=False)["triplet"]) == 0
    near = torch.tensor([[1.0, 1.0, 0.0]])
    loss = triplet_loss(anchor, anchor, near, margin=1.0)
    assert float(loss["triplet"]) == pytest.approx(1 - math.sqrt(2 - math.sqrt(2)), abs=1e-5)
    assert float(loss["accuracy"]) == 1


def test_gradient_at_equal_features_is_finite():
    anchor = torch.rand(4, 3, requires_grad=True)
    sum(value.sum() for value in distances(anchor, anchor.detach(), anchor.detach())).backward()
    assert bool(anchor.grad.isfinite().all())


@pytest.mark.parametrize(
    "synthesis", [NEGATIVES, {"name": "nsa"}, {"name": "other"}], ids=lambda section: section["name"]
)
def test_a_negative_differs_from_its_anchor(synthesis, images):
    views = Triplet(Fixed(), view_settings({"size": 40}), synthesis).views()
    for row in range(len(images)):
        drawn = views(images, row, np.random.default_rng(row))
        assert torch.equal(drawn["anchor"], images.pixels(row))
        assert not torch.equal(drawn["anchor"], drawn["negative"])


def test_spd_of_equal_changes_is_ln_2():
    """S11."""
    base, changed = torch.rand(5, 8), torch.rand(5, 8)
    assert float(spd_loss(base, changed, changed)) == pytest.approx(math.log(2), abs=1e-6)


def test_spd_equals_its_definition():
    base, weak, local = torch.randn(3, 6, 8)
    near, far = (torch.cosine_similarity(base, other) for other in (weak, local))
    expected = -(torch.exp(near / 0.1) / (torch.exp(near / 0.1) + torch.exp(far / 0.1))).log().mean()
    assert float(spd_loss(base, weak, local)) == pytest.approx(float(expected), rel=1e-4)
    assert float(spd_loss(base, weak, local, "cosine")) == pytest.approx(float((far - near).mean()), rel=1e-5)


def test_cosine_form_lies_between_minus_2_and_2():
    """S11."""
    base = torch.rand(3, 8)
    assert float(spd_loss(base, base, -base, "cosine")) == pytest.approx(-2)
    assert float(spd_loss(base, -base, base, "cosine")) == pytest.approx(2)


@pytest.mark.parametrize("form", ["contrastive", "cosine"])
def test_no_gradient_through_the_base(form):
    """S11."""
    base, weak, local = (torch.rand(3, 8, requires_grad=True) for _ in range(3))
    spd_loss(base, weak, local, form).backward()
    assert base.grad is None
    assert float(weak.grad.abs().max()) > 0 < float(local.grad.abs().max())


def test_eta_weighs_the_loss_of_spd(batch_of):
    learner = make("spd", eta=0.1)
    batch = batch_of(learner.views())
    first = learner.eval().losses(batch)
    learner.eta = 1.0
    second = learner.losses(batch)
    assert float(second["spd"].detach()) == pytest.approx(10 * float(first["spd"].detach()), rel=1e-4)
    assert float(second["nt_xent"].detach()) == pytest.approx(float(first["nt_xent"].detach()), rel=1e-4)


# ------------------------------------------------------------------------------------------------ relative position


class Coordinates:
    """A single image whose red and green values are the column and the row of a pixel."""

    def __init__(self, side):
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        self._pixels = torch.stack([columns, rows, 0 * rows]).to(torch.uint8)

    def __len__(self):
        return 1

    def pixels(self, row):
        return self._pixels


def test_neighbours_lie_where_their_number_says():
    settings = view_settings({"size": 224, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)})
    draw = PatchPairs(settings, 64, 8, 7, 0.0)
    seen = set()
    for seed in range(60):
        views = draw(Coordinates(224), 0, np.random.default_rng(seed))
        (left, top), (other_left, other_top) = (views[name][:2, 0, 0].tolist() for name in ("centre", "neighbour"))
        assert abs(left - 80) <= 7 >= abs(top - 80)
        row, column = NEIGHBOURS[int(views["position"])]
        assert abs(other_top - (80 + 72 * row)) <= 7
        assert abs(other_left - (80 + 72 * column)) <= 7
        seen.add(int(views["position"]))
        assert views["centre"].shape == (3, 64, 64)
    assert seen == set(range(8))


def test_dropped_channels_are_noise_and_one_is_kept(images):
    settings = view_settings({"size": 40, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)})
    dropped = PatchPairs(settings, 8, 2, 1, 1.0)(images, 0, np.random.default_rng(0))["centre"].float()
    kept = PatchPairs(settings, 8, 2, 1, 0.0)(images, 0, np.random.default_rng(0))["centre"].float()
    equal = [torch.equal(dropped[channel], kept[channel]) for channel in range(3)]
    assert sum(equal) == 1
    for channel in (channel for channel in range(3) if not equal[channel]):
        assert float(dropped[channel].std()) < 2 + 0.1 * float(kept.std())


def test_rotated_patches_are_turned_as_their_label_says():
    settings = view_settings({"size": 224, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)})
    for seed in range(8):
        views = PatchPairs(settings, 64, 8, 7, 0.0, True)(Coordinates(224), 0, np.random.default_rng(seed))
        assert torch.equal(views["centre"].rot90(int(views["turns"]), (1, 2)), views["rotated"])


def test_patches_that_do_not_fit_are_an_error():
    with pytest.raises(AnoframeError, match=r"need 222 pixels, and views\.size is 96"):
        RelativePosition(Fixed(), view_settings({"size": 96}))


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("simclr", {"temperature": 0.0}, r"learner\.temperature must be above 0"),
        ("simclr", {"micro_batches": 0}, r"learner\.micro_batches"),
        ("triplet", {"margin": 0.0}, r"learner\.margin"),
        ("spd", {"form": "cosin"}, "did you mean 'cosine'"),
        ("spd", {"eta": -1.0}, r"learner\.eta"),
        ("supervised", {"classes": ["one"]}, "two or more classes"),
        ("supervised", {"label_smoothing": 1.0}, r"label_smoothing"),
    ],
)
def test_wrong_settings_are_named(name, changes, message):
    with pytest.raises(AnoframeError, match=message):
        make(name, **changes)


def test_every_registered_method_is_tested_here():
    assert set(PRETRAINING.names()) == set(ARGUMENTS)
    assert issubclass(SPD, SimCLR)
    assert not issubclass(SimSiam, SimCLR)
