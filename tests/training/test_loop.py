"""Gradient loop: what it trains, in which order, what it logs, and how it resumes after a kill."""

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

pytestmark = pytest.mark.usefixtures("one_thread", "no_fsync")


@pytest.fixture
def no_fsync(monkeypatch):
    """Do not wait for the disk; that only matters if the machine loses power."""
    monkeypatch.setattr("os.fsync", lambda file: None)


class Kill(BaseException):
    """Stands for a kill: the code under test cannot handle it."""


def equal_states(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_loss_decreases(autoencoder, train):
    curves = train(autoencoder(), epochs=25).curves["phases"]
    first, last = (curves[0]["epochs"][i]["losses"]["squares"] for i in (0, -1))
    assert last < 0.5 * first


def test_each_phase_changes_only_its_own_parameters(autoencoder, train):
    detector, before = autoencoder(), autoencoder()
    train(detector, **{"phases": {"scale": {"optimizer": {"lr": 1e-30}}}})
    assert torch.equal(detector.scale, before.scale)  # the learning rate is too small to change it
    assert not torch.equal(detector.network[0].weight, before.network[0].weight)
    assert detector.network[0].weight.requires_grad
    assert detector.scale.requires_grad


def test_every_epoch_has_every_image_once_in_a_new_order(autoencoder, train):
    detector = autoencoder()
    train(detector)
    epochs = [[row for rows in detector.batch_rows[i : i + 3] for row in rows] for i in range(0, 18, 3)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 6


def test_detector_is_in_eval_mode_without_gradients_afterwards(autoencoder, train):
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
    """In observations and in losses, with any generator."""
    learned = []
    for draws_before in (1, 7):
        detector = autoencoder()
        draw(draws_before)
        detector._observe = lambda features, samples: None
        detector._finish = lambda d=detector: d.mean.fill_(float(draw(1)[0]))
        detector._loss = lambda batch, d=detector: {
            "drawn": (d.scale * float(draw(1)[0])).sum() + d.network[0].weight.sum()
        }
        train(detector)
        learned.append(detector.learned_state())
    assert equal_states(*learned)


def test_length_can_be_given_in_steps(autoencoder, train):
    detector = autoencoder()
    train(detector, steps=4)
    assert len(detector.batch_rows) == 2 * 4


def test_accumulated_gradient_is_that_of_the_whole_batch(autoencoder, train):
    """Without batch norm and noise, which depend on how the batch is divided."""
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


@pytest.mark.parametrize("precision", ["float32", "float16"])  # the gradient of float16 is scaled until it is clipped
def test_clip_limits_the_gradient_norm(autoencoder, train, precision):
    detector, before = autoencoder(), autoencoder()
    train(detector, steps=1, clip=1e-3, precision=precision, **{"optimizer.name": "sgd", "optimizer.lr": 1.0})
    changes = [a - b for a, b in zip(detector.network.parameters(), before.network.parameters(), strict=True)]
    # timm's "sgd" has Nesterov momentum, so the first step is 1.9 times the gradient
    norm = float(torch.cat([change.detach().flatten() for change in changes]).norm())
    assert norm == pytest.approx(1.9e-3, rel=1e-3)


def test_infinite_loss_raises_an_error_with_the_files_of_the_batch(autoencoder, train):
    detector = autoencoder()
    with torch.no_grad():
        detector.network[0].weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(AnoframeError, match=r"(?s)shape, step 1: the loss is not finite.*felt/train/good/\d{3}\.png"):
        train(detector)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_infinite_weights_raise_an_error_with_the_files_of_the_step_that_caused_them(
    autoencoder, train, recorder, steps
):
    """The loss of the first step is finite and its gradient is not, so the images of the second step are not named."""
    detector = autoencoder()
    original = detector._loss
    detector._loss = lambda batch: original(batch) | {"root": (0 * detector.network[0].weight).sum().sqrt()}
    with pytest.raises(AnoframeError, match="shape, step 1: it left weights that are not finite") as error:
        train(detector, steps=steps, tracker=recorder)
    files = re.findall(r"felt/train/good/(\d+)\.png", str(error.value))
    assert files == [f"{row:03d}" for row in detector.batch_rows[0]]


@pytest.mark.parametrize(("epochs", "is_warned"), [(3, True), (4, False)])
def test_warning_if_the_warm_up_is_longer_than_training(autoencoder, train, recorder, epochs, is_warned):
    train(autoencoder(), epochs=epochs, **{"schedule.warmup_epochs": 3.0}, tracker=recorder)
    texts = [event["text"] for event in recorder.of("warning")]
    assert bool(texts) == is_warned
    assert all("learning rate rises" in text for text in texts)


def test_batch_with_one_value_per_channel_raises_an_error(autoencoder, train, images):
    images[:] = [replace(batch, features=batch.features[:, :, :1, :1]) for batch in images]
    with pytest.raises(AnoframeError, match=r"phase shape: batch normalisation.*batch of 1 .*--trainer\.batch_size"):
        train(autoencoder(), batch_size=3)


def test_a_phase_has_its_own_settings(autoencoder, train):
    curves = train(autoencoder(), phases={"scale": {"epochs": 1}}).curves
    assert [len(phase["epochs"]) for phase in curves["phases"]] == [3, 1]


def test_phases_of_one_name_have_different_titles(autoencoder, train, recorder, monkeypatch):
    """Labels tell them apart, and numbers where labels are equal too; settings belong to the name."""
    detector, labels = autoencoder(), ("", "layer 0", "", "layer 0")
    parameters = {"scale": detector.scale}
    phases = [Phase("scale", parameters, detector._loss, label=label) for label in labels]
    monkeypatch.setattr(detector, "training_stages", lambda: phases)
    settings = {"phases": {"scale": {"epochs": 2}}, "evaluate_every": 2}
    context = train(detector, tracker=recorder, evaluate=lambda _: {}, **settings)
    curves = [(phase["name"], phase.get("label", "")) for phase in context.curves["phases"]]
    assert curves == [("scale", ""), ("scale", "layer 0"), ("scale", "(2)"), ("scale", "layer 0 (2)")]
    titles = ["scale", "scale layer 0", "scale (2)", "scale layer 0 (2)"]
    assert [fields["phase"] for fields in recorder.of("epoch")[1::2]] == titles
    assert list(dict.fromkeys(fields["phase"] for fields in recorder.of("step"))) == titles
    assert [look["phase"] for look in context.curves["looks"]] == titles


def test_steps_and_epochs_are_logged(autoencoder, train, recorder):
    train(autoencoder(), tracker=recorder)
    steps, epochs = recorder.of("step"), recorder.of("epoch")
    assert [fields["step"] for fields in steps] == 2 * list(range(1, 10))
    assert [(fields["phase"], fields["epoch"]) for fields in epochs] == [
        (name, epoch) for name in ("shape", "scale") for epoch in (1, 2, 3)
    ]
    assert {"losses", "lr", "batch_seconds", "data_seconds", "optimisation_seconds"} < steps[0].keys()
    assert {"losses", "lr", "images_per_second", "data_seconds", "peak_bytes"} < epochs[0].keys()


def test_loss_of_an_epoch_is_the_mean_over_its_images(autoencoder, train, recorder):
    train(autoencoder(), tracker=recorder, epochs=1)
    steps = zip(recorder.of("step"), (4, 4, 2), strict=False)
    mean = sum(fields["losses"]["squares"] * size for fields, size in steps) / 10
    assert recorder.of("epoch")[0]["losses"]["squares"] == pytest.approx(mean, rel=1e-6)


# ------------------------------------------------------------------------------------------------ test evaluation


def _evaluate(detector):
    torch.rand(3)  # an evaluation should not draw random numbers, but may
    assert not detector.training
    return {"felt": {"image_auroc": float(detector.scale.detach().mean() + detector.mean.mean()), "aupro": None}}


def test_evaluation_does_not_change_training(autoencoder, train):
    plain, evaluated = autoencoder(), autoencoder()
    train(plain)
    context = train(evaluated, evaluate=_evaluate, evaluate_every=1)
    assert equal_states(plain.learned_state(), evaluated.learned_state())
    assert [(look["phase"], look["epoch"]) for look in context.curves["looks"]] == [
        (name, epoch) for name in ("shape", "scale") for epoch in (1, 2, 3)
    ]


def test_the_last_epoch_is_evaluated_even_if_it_is_not_due(autoencoder, train):
    context = train(autoencoder(), evaluate=_evaluate, evaluate_every=2)
    assert [look["epoch"] for look in context.curves["looks"]] == [2, 3] * 2


def test_evaluation_logs_the_means_of_available_metrics(autoencoder, train, recorder):
    results = {"felt": {"image_auroc": 0.5, "aupro": None}, "mesh": {"image_auroc": 1.0, "aupro": 0.25}}
    train(autoencoder(), tracker=Trackers(recorder), evaluate=lambda detector: results, evaluate_every=3)
    summaries = [fields["summary"] for fields in recorder.of("look")]
    assert summaries == ["image_auroc 75.00, pixel_auroc n/a, aupro 25.00"] * 2


@pytest.mark.parametrize("last", [0.5, 0.9])
def test_best_on_test_is_selected_on_request_and_of_equals_the_first(autoencoder, train, last):
    detector, scores, weights = autoencoder(), iter([0.2, 0.9, last]), []

    def evaluate(detector):
        weights.append(detector.network[0].weight.detach().clone())
        return {"felt": {"image_auroc": next(scores), "pixel_auroc": None, "aupro": None}}

    options = {"evaluate_every": 1, "select": "best_on_test"}
    train(_first_phase_only(detector), evaluate=evaluate, **options)
    assert torch.equal(detector.network[0].weight, weights[1])


@pytest.mark.parametrize(("metric", "best"), [("summary", 0), ("pixel_auroc", 1), ("aupro", 2)])
def test_the_metric_that_chooses_the_epoch_can_be_set_and_is_logged(autoencoder, train, recorder, metric, best):
    detector, weights = autoencoder(), []
    names = ("image_auroc", "pixel_auroc", "aupro")
    scores = iter([(1.0, 0.8, 0.3), (0.1, 0.9, 0.3), (0.1, 0.2, 0.5)])

    def evaluate(detector):
        weights.append(detector.network[0].weight.detach().clone())
        return {"felt": dict(zip(names, next(scores), strict=True))}

    detector.training_stages = lambda: type(detector).training_stages(detector)[:2]
    options = {"evaluate_every": 1, "select": "best_on_test", "select_metric": metric}
    train(detector, tracker=Trackers(recorder), evaluate=evaluate, **options)
    assert torch.equal(detector.network[0].weight, weights[best])
    means = {"summary": "70.00", "pixel_auroc": "80.00", "aupro": "30.00"}
    chosen_by = "image_auroc, pixel_auroc, aupro" if metric == "summary" else metric
    first = recorder.of("look")[0]["summary"]
    assert first.endswith(f"; selection by the mean of {chosen_by}: {means[metric]}, best so far")


def test_without_the_metric_the_last_epoch_is_reported(autoencoder, train, recorder):
    detector, weights = autoencoder(), []

    def evaluate(detector):
        weights.append(detector.network[0].weight.detach().clone())
        return {"felt": {"image_auroc": None, "pixel_auroc": None, "aupro": None}}

    detector.training_stages = lambda: type(detector).training_stages(detector)[:2]
    train(detector, tracker=Trackers(recorder), evaluate=evaluate, evaluate_every=1, select="best_on_test")
    assert torch.equal(detector.network[0].weight, weights[-1])
    assert recorder.of("look")[0]["summary"].endswith("pixel_auroc, aupro: n/a")


# ------------------------------------------------------------------------------------------------ resuming

_uninterrupted = {}


@pytest.fixture
def uninterrupted(autoencoder, train):
    """Learned state and losses of a training without interruption, computed once."""
    if not _uninterrupted:
        detector = autoencoder()
        losses = _losses(train(detector))
        _uninterrupted.update(learned=detector.learned_state(), losses=losses)
    return _uninterrupted


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5, 9, 10, 14, 18])
@pytest.mark.parametrize("again", [0, 2])
def test_killed_training_resumes_to_the_same_bits(uninterrupted, autoencoder, train, tmp_path, killed_at, again):
    """With a state after each step: killed in either phase, and a second time after `again` more steps."""
    for steps in [killed_at, again] if again else [killed_at]:
        _train_and_kill(autoencoder(), train, tmp_path, steps)
    resumed = autoencoder()
    context = train(resumed, state_folder=tmp_path)
    assert equal_states(uninterrupted["learned"], resumed.learned_state())
    assert uninterrupted["losses"] == _losses(context)


@pytest.mark.parametrize("killed_at", [4, 7])
def test_the_best_epoch_is_still_known_after_a_kill(autoencoder, train, tmp_path, killed_at):
    """The first of three epochs is the best; each has three steps."""

    def evaluate(detector):
        weights.append(detector.network[0].weight.detach().clone())
        return {"felt": {"image_auroc": 1 / len(weights), "pixel_auroc": None, "aupro": None}}

    weights = []
    options = {"evaluate": evaluate, "evaluate_every": 1, "select": "best_on_test"}
    _train_and_kill(_first_phase_only(autoencoder()), train, tmp_path, killed_at, **options)
    resumed = _first_phase_only(autoencoder())
    train(resumed, state_folder=tmp_path, **options)
    assert len(weights) == 3
    assert torch.equal(resumed.network[0].weight, weights[0])


def test_the_loss_scale_of_half_precision_is_still_known_after_a_kill(autoencoder, train, tmp_path):
    def build():
        detector = _first_phase_only(autoencoder())
        original = detector._loss
        # gradients so large that the first steps only lower the scale
        detector._loss = lambda batch: {name: 30 * value for name, value in original(batch).items()}
        return detector

    whole, resumed = build(), build()
    train(whole, precision="float16")
    _train_and_kill(build(), train, tmp_path, 5, precision="float16")
    train(resumed, state_folder=tmp_path, precision="float16")
    assert equal_states(whole.learned_state(), resumed.learned_state())


def _first_phase_only(detector):
    detector.training_stages = lambda: type(detector).training_stages(detector)[:2]
    return detector


def _train_and_kill(detector, train, folder, steps, **options):
    original, batches = detector._loss, []

    def loss(batch):
        if len(batches) == steps:
            raise Kill
        batches.append(batch)
        return original(batch)

    detector._loss = loss
    with suppress(Kill):
        train(detector, state_folder=folder, **options)


def _losses(context):
    return [[epoch["losses"] for epoch in phase["epochs"]] for phase in context.curves["phases"]]


def test_damaged_state_is_replaced_by_the_previous_one(uninterrupted, autoencoder, train, tmp_path):
    _train_and_kill(autoencoder(), train, tmp_path, 5)
    newest = max(path for path in tmp_path.iterdir())
    (newest / "rest.pt").write_bytes(b"damaged")
    resumed = autoencoder()
    train(resumed, state_folder=tmp_path)
    assert equal_states(uninterrupted["learned"], resumed.learned_state())


@pytest.mark.parametrize("name", ["learned.safetensors", "rest.pt"])
def test_a_state_with_a_flipped_bit_is_replaced_by_the_previous_one(uninterrupted, autoencoder, train, tmp_path, name):
    _train_and_kill(autoencoder(), train, tmp_path, 5)
    path = max(tmp_path.iterdir()) / name
    data = bytearray(path.read_bytes())
    data[-200 if name == "learned.safetensors" else len(data) // 2] ^= 1
    path.write_bytes(data)
    resumed = autoencoder()
    train(resumed, state_folder=tmp_path)
    assert equal_states(uninterrupted["learned"], resumed.learned_state())
    assert len(resumed.batch_rows) == 18 - 4


def test_two_states_are_kept(autoencoder, train, tmp_path):
    _train_and_kill(autoencoder(), train, tmp_path, 7)
    assert len(list(tmp_path.iterdir())) == 2


def test_incomplete_state_is_deleted_when_the_next_one_is_written(autoencoder, train, tmp_path):
    incomplete = tmp_path / ".001.000000099.part"
    incomplete.mkdir()
    _train_and_kill(autoencoder(), train, tmp_path, 3)
    assert not incomplete.exists()


def test_finished_steps_are_not_repeated(autoencoder, train, tmp_path):
    _train_and_kill(autoencoder(), train, tmp_path, 12)
    resumed = autoencoder()
    train(resumed, state_folder=tmp_path)
    assert len(resumed.batch_rows) == 18 - 12


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_on_a_gpu(autoencoder, train, precision):
    detector = autoencoder().cuda()
    curves = train(detector, epochs=40, precision=precision).curves["phases"]
    first, last = (curves[0]["epochs"][i]["losses"]["squares"] for i in (0, -1))
    assert last < 0.6 * first
