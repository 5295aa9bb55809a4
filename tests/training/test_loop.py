"""The gradient trainer: what it trains, in which order, what it tells, and how it goes on after a kill."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.base import Phase
from anoframe.tracking.tracker import Trackers

pytestmark = pytest.mark.usefixtures("one_thread")


class Kill(BaseException):
    """Stands for a kill: nothing of the run gets to handle it."""


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls(autoencoder, train):
    curves = train(autoencoder(), epochs=40).curves["phases"]
    first, last = (curves[0]["epochs"][i]["losses"]["squares"] for i in (0, -1))
    assert last < 0.5 * first


def test_each_phase_changes_its_own_parameters_alone(autoencoder, train):
    detector, before = autoencoder(), autoencoder()
    train(detector, **{"phases": {"scale": {"optimizer": {"lr": 1e-30}}}})
    assert torch.equal(detector.scale, before.scale)  # a learning rate that moves nothing
    assert not torch.equal(detector.network[0].weight, before.network[0].weight)
    assert detector.network[0].weight.requires_grad
    assert detector.scale.requires_grad


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(autoencoder, train):
    detector = autoencoder()
    train(detector)
    epochs = [[row for rows in detector.seen[i : i + 3] for row in rows] for i in range(0, 18, 3)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 6


def test_the_detector_is_left_in_eval_mode_without_gradients(autoencoder, train):
    detector = autoencoder()
    train(detector)
    assert not any(module.training for module in detector.modules())
    assert all(parameter.grad is None for parameter in detector.parameters())


@pytest.mark.parametrize(
    "draw",
    [torch.rand, np.random.rand, lambda count: [random.random() for _ in range(count)]],
    ids=["torch", "numpy", "python"],
)
def test_one_seed_gives_one_result_whatever_was_drawn_before(autoencoder, train, draw):
    """In observations and in losses, by any generator."""
    learned = []
    for before in (1, 7):
        detector = autoencoder()
        draw(before)
        detector._observe = lambda features, samples: None
        detector._conclude = lambda d=detector: d.mean.fill_(float(draw(1)[0]))
        detector._loss = lambda batch, d=detector: {
            "drawn": (d.scale * float(draw(1)[0])).sum() + d.network[0].weight.sum()
        }
        train(detector)
        learned.append(detector.learned_state())
    assert same(*learned)


def test_steps_can_be_said_instead_of_epochs(autoencoder, train):
    detector = autoencoder()
    train(detector, steps=4)
    assert len(detector.seen) == 2 * 4


def test_accumulating_gives_the_gradient_of_the_whole_batch(autoencoder, train):
    """Without batch norm and noise, whose statistics and draws are those of a part."""
    results = []
    for parts in (1, 3):
        detector = autoencoder()
        detector.network[1] = torch.nn.Identity()
        detector.training_stages = lambda d=detector: type(d).training_stages(d)[:2]
        detector._loss = lambda batch, d=detector: {
            "squares": (d.network(batch.features) - batch.features).square().mean()
        }
        train(detector, accumulate=parts, batch_size=10, **{"optimizer.name": "sgd", "optimizer.lr": 0.1})
        results.append(detector.network[0].weight)
    assert torch.allclose(*results, atol=1e-6)


def test_clipping_bounds_a_step(autoencoder, train):
    detector, before = autoencoder(), autoencoder()
    train(detector, steps=1, clip=1e-3, **{"optimizer.name": "sgd", "optimizer.lr": 1.0})
    moved = [a - b for a, b in zip(detector.network.parameters(), before.network.parameters(), strict=True)]
    # nesterov momentum, as timm's "sgd" has it, makes the first step 1.9 times the gradient
    assert float(torch.cat([one.detach().flatten() for one in moved]).norm()) == pytest.approx(1.9e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_files(autoencoder, train):
    detector = autoencoder()
    with torch.no_grad():
        detector.network[0].weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(AnoframeError, match=r"(?s)shape, step 1: the loss is not finite.*felt/train/good/\d{3}\.png"):
        train(detector)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_weights_that_are_not_finite_name_the_files_of_the_step_that_made_them_so(autoencoder, train, heard, steps):
    """The loss of the first step is finite, its gradient is not: the images of the second have no part in it."""
    detector = autoencoder()
    original = detector._loss
    detector._loss = lambda batch: original(batch) | {"root": (0 * detector.network[0].weight).sum().sqrt()}
    with pytest.raises(AnoframeError, match="shape, step 1: it left weights that are not finite") as told:
        train(detector, steps=steps, tracker=heard)
    assert re.findall(r"felt/train/good/(\d+)\.png", str(told.value)) == [f"{row:03d}" for row in detector.seen[0]]


@pytest.mark.parametrize(("epochs", "warned"), [(3, True), (4, False)])
def test_a_warm_up_that_training_does_not_outlast_is_told(autoencoder, train, heard, epochs, warned):
    train(autoencoder(), epochs=epochs, **{"schedule.warmup_epochs": 3.0}, tracker=heard)
    told = [event["text"] for event in heard.of("warning")]
    assert bool(told) == warned
    assert all("learning rate rises" in text for text in told)


def test_a_batch_of_one_value_a_channel_is_told(autoencoder, train, images):
    images[:] = [replace(one, features=one.features[:, :, :1, :1]) for one in images]
    with pytest.raises(AnoframeError, match=r"phase shape: batch normalisation.*batch of 1 .*--trainer\.batch_size"):
        train(autoencoder(), batch_size=3)


def test_settings_of_a_phase_are_its_own(autoencoder, train):
    curves = train(autoencoder(), phases={"scale": {"epochs": 1}}).curves
    assert [len(phase["epochs"]) for phase in curves["phases"]] == [3, 1]


def test_phases_of_one_name_are_told_apart(autoencoder, train, heard, monkeypatch):
    """By their labels, and by numbers where those are the same too; settings go by the name."""
    detector, labels = autoencoder(), ("", "layer 0", "", "layer 0")
    parameters = {"scale": detector.scale}
    phases = [Phase("scale", parameters, detector._loss, label=label) for label in labels]
    monkeypatch.setattr(detector, "training_stages", lambda: phases)
    training = train(detector, tracker=heard, phases={"scale": {"epochs": 2}}, evaluate_every=2, look=lambda _: {})
    kept = [(phase["name"], phase.get("label", "")) for phase in training.curves["phases"]]
    assert kept == [("scale", ""), ("scale", "layer 0"), ("scale", "(2)"), ("scale", "layer 0 (2)")]
    titles = ["scale", "scale layer 0", "scale (2)", "scale layer 0 (2)"]
    assert [fields["phase"] for fields in heard.of("epoch")[1::2]] == titles
    assert list(dict.fromkeys(fields["phase"] for fields in heard.of("step"))) == titles
    assert [look["phase"] for look in training.curves["looks"]] == titles


def test_steps_and_epochs_are_told(autoencoder, train, heard):
    train(autoencoder(), tracker=heard)
    steps, epochs = heard.of("step"), heard.of("epoch")
    assert [fields["step"] for fields in steps] == 2 * list(range(1, 10))
    assert [(fields["phase"], fields["epoch"]) for fields in epochs] == [
        (name, epoch) for name in ("shape", "scale") for epoch in (1, 2, 3)
    ]
    assert {"losses", "lr", "batch_seconds", "data_seconds", "optimisation_seconds"} < steps[0].keys()
    assert {"losses", "lr", "images_per_second", "data_seconds", "peak_bytes"} < epochs[0].keys()


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(autoencoder, train, heard):
    train(autoencoder(), tracker=heard, epochs=1)
    parts = [(fields["losses"]["squares"], size) for fields, size in zip(heard.of("step"), (4, 4, 2), strict=False)]
    mean = sum(value * size for value, size in parts) / 10
    assert heard.of("epoch")[0]["losses"]["squares"] == pytest.approx(mean, rel=1e-6)


# ------------------------------------------------------------------------------------------------ looks at the test set


def _look(detector):
    torch.rand(3)  # draws, as an evaluation should not, but may
    assert not detector.training
    return {"felt": {"image_auroc": float(detector.scale.detach().mean() + detector.mean.mean()), "aupro": None}}


def test_looking_changes_nothing_that_is_learned(autoencoder, train):
    plain, looked = autoencoder(), autoencoder()
    train(plain)
    how = train(looked, look=_look, evaluate_every=1)
    assert same(plain.learned_state(), looked.learned_state())
    assert [(look["phase"], look["epoch"]) for look in how.curves["looks"]] == [
        (name, epoch) for name in ("shape", "scale") for epoch in (1, 2, 3)
    ]


def test_a_look_is_told_in_means_of_what_is_available(autoencoder, train):
    told = []

    class Kept:
        def log(self, event, **fields):
            told.extend([fields["summary"]] if event == "look" else [])

    found = {"felt": {"image_auroc": 0.5, "aupro": None}, "mesh": {"image_auroc": 1.0, "aupro": 0.25}}
    train(autoencoder(), tracker=Trackers(Kept()), look=lambda one: found, evaluate_every=3)
    assert told == ["image_auroc 75.00, pixel_auroc n/a, aupro 25.00"] * 2


def test_the_best_on_test_is_kept_where_that_is_asked_for(autoencoder, train):
    detector, scores, kept = autoencoder(), iter([0.2, 0.9, 0.5]), []

    def look(one):
        kept.append(one.network[0].weight.detach().clone())
        return {"felt": {"image_auroc": next(scores), "pixel_auroc": None, "aupro": None}}

    options = {"evaluate_every": 1, "select": "best_on_test"}
    detector.training_stages = lambda: type(detector).training_stages(detector)[:2]
    train(detector, look=look, **options)
    assert torch.equal(detector.network[0].weight, kept[1])


# ------------------------------------------------------------------------------------------------ going on


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5, 9, 10, 14, 18])
@pytest.mark.parametrize("again", [0, 2])
def test_a_killed_training_goes_on_to_the_same_bits(autoencoder, train, tmp_path, killed_at, again):
    """A state each step; killed in both phases, and for the second time after `again` more steps."""
    undisturbed = autoencoder()
    how = train(undisturbed)
    for steps in [killed_at, again] if again else [killed_at]:
        _killed_after(autoencoder(), train, tmp_path, steps)
    resumed = autoencoder()
    gone_on = train(resumed, home=tmp_path)
    assert same(undisturbed.learned_state(), resumed.learned_state())
    assert _losses(how) == _losses(gone_on)


def _killed_after(detector, train, home, steps):
    original, taken = detector._loss, []

    def loss(batch):
        if len(taken) == steps:
            raise Kill
        taken.append(batch)
        return original(batch)

    detector._loss = loss
    with suppress(Kill):
        train(detector, home=home)


def _losses(how):
    return [[epoch["losses"] for epoch in phase["epochs"]] for phase in how.curves["phases"]]


def test_a_damaged_state_is_passed_over_for_the_one_before(autoencoder, train, tmp_path):
    undisturbed = autoencoder()
    train(undisturbed)
    _killed_after(autoencoder(), train, tmp_path, 5)
    newest = max(path for path in tmp_path.iterdir())
    (newest / "rest.pt").write_bytes(b"torn")
    resumed = autoencoder()
    train(resumed, home=tmp_path)
    assert same(undisturbed.learned_state(), resumed.learned_state())


def test_a_state_takes_no_more_room_than_two(autoencoder, train, tmp_path):
    _killed_after(autoencoder(), train, tmp_path, 7)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_half_written_goes_with_the_next_state(autoencoder, train, tmp_path):
    torn = tmp_path / ".001.000000099.part"
    torn.mkdir()
    _killed_after(autoencoder(), train, tmp_path, 3)
    assert not torn.exists()


def test_steps_that_are_done_are_not_taken_again(autoencoder, train, tmp_path):
    _killed_after(autoencoder(), train, tmp_path, 12)
    resumed = autoencoder()
    train(resumed, home=tmp_path)
    assert len(resumed.seen) == 18 - 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_on_a_gpu(autoencoder, train, precision):
    detector = autoencoder().cuda()
    curves = train(detector, epochs=40, precision=precision).curves["phases"]
    first, last = (curves[0]["epochs"][i]["losses"]["squares"] for i in (0, -1))
    assert last < 0.6 * first
