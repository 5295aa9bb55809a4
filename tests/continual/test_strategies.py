"""Strategies on a stream: what each of them lets a later task change."""

from __future__ import annotations

import pytest
import torch

from anoframe.continual.names import ALIASES, STRATEGIES, strategy_name
from anoframe.continual.strategies import Native, build_strategy
from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Phase, TrainingBatch
from anoframe.tracking.timing import StageTimer
from anoframe.tracking.tracker import Trackers
from anoframe.training.context import FitContext
from anoframe.training.stages import fit_learner

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train_task(images, section):
    """Function that trains the current task of a strategy, on images that are brighter by `shift`."""

    def run(detector, strategy, shift=0.0):
        batches = [type(batch)(batch.features + shift, batch.masks, batch.samples) for batch in images]
        context = FitContext("felt", 0, section(), Trackers())
        fit_learner(detector, batches, 10, StageTimer(Trackers()), context, strategy.training_stages)

    return run


@pytest.fixture
def after_one_task(autoencoder, train_task):
    """Function that returns a detector and its strategy after one task."""

    def run(name, weight=1.0):
        detector = autoencoder()
        strategy = build_strategy(name, detector, weight)
        strategy.start(0, 10)
        train_task(detector, strategy)
        strategy.finish()
        return detector, strategy

    return run


def copy_state(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def weight_change(detector, before):
    """Squared distance of all weights from an earlier state."""
    state = detector.learned_state()
    return sum(float((state[name] - value).square().sum()) for name, value in before.items() if "weight" in name)


def test_frozen_trains_on_the_first_task_only(after_one_task, train_task):
    detector, strategy = after_one_task("frozen")
    before = copy_state(detector)
    strategy.start(1, 10)
    train_task(detector, strategy, shift=0.5)
    assert all(torch.equal(detector.learned_state()[name], value) for name, value in before.items())


def test_finetune_changes_the_weights_in_a_later_task(after_one_task, train_task):
    detector, strategy = after_one_task("finetune")
    before = copy_state(detector)
    strategy.start(1, 10)
    train_task(detector, strategy, shift=0.5)
    assert weight_change(detector, before) > 0


# ------------------------------------------------------------------------------------------------ ewc


def test_penalty_equals_its_definition(after_one_task):
    """`weight / 2 * sum F (p - p_k)^2`, summed over two tasks by hand."""
    detector, strategy = after_one_task("ewc", weight=3.0)
    phase = next(stage for stage in detector.training_stages() if isinstance(stage, Phase))
    state = strategy.state()
    fisher = {name: state[f"fisher.{name}"] for name in phase.parameters}
    first = {name: value.detach().clone() for name, value in phase.parameters.items()}
    second = {name: torch.rand_like(value) for name, value in first.items()}
    both = {f"fisher.{n}": 2 * f for n, f in fisher.items()}
    both |= {f"anchor.{n}": f * (first[n] + second[n]) for n, f in fisher.items()}
    both |= {f"constant.{n}": (f * (first[n].square() + second[n].square())).sum() for n, f in fisher.items()}
    strategy.load_state(both)
    with torch.no_grad():
        for value in phase.parameters.values():
            value += 0.3
    expected = sum(
        (fisher[n] * ((p - first[n]).square() + (p - second[n]).square())).sum() for n, p in phase.parameters.items()
    )
    assert strategy.penalty(phase.parameters).item() == pytest.approx(1.5 * expected.item(), rel=1e-4)


def test_fisher_information_is_the_mean_of_squared_gradients_of_single_images(autoencoder, images):
    detector = autoencoder()
    strategy = build_strategy("ewc", detector, 1.0)
    fisher = strategy.training_stages()[-1]
    phase = [stage for stage in detector.training_stages() if isinstance(stage, Phase)][-1]
    singles = [(batch.features[i : i + 1], batch.samples[i : i + 1]) for batch in images for i in range(len(batch))]
    fisher.begin(len(singles))
    torch.manual_seed(0)  # of the noise in the loss
    for features, samples in singles:
        fisher.observe(features, samples)
    fisher.finish()
    assert detector.batch_rows == [[row] for row in range(len(singles))]
    torch.manual_seed(0)
    total = {name: torch.zeros_like(value) for name, value in phase.parameters.items()}
    for row, (features, samples) in enumerate(singles):
        detector.zero_grad()
        sum(phase.loss(TrainingBatch(features, samples, torch.tensor([row]))).values()).backward()
        for name, value in phase.parameters.items():
            total[name] += value.grad.square()
    for name, value in total.items():
        assert torch.allclose(strategy.state()[f"fisher.{name}"], value / len(singles), rtol=1e-5)


def estimate_fisher(strategy, images, shift):
    """Estimate the Fisher information of the last phase by hand, on images that are brighter by `shift`."""
    fisher = strategy.training_stages()[-1]
    assert fisher.batch_size == 1
    fisher.begin(10)
    torch.manual_seed(0)  # of the noise in the loss
    for batch in images:
        for i in range(len(batch)):
            fisher.observe(batch.features[i : i + 1] + shift, batch.samples[i : i + 1])
    fisher.finish()


def test_penalty_of_two_tasks_is_the_sum_of_both(autoencoder, images):
    detector, single_tasks = autoencoder(), []
    phase = detector.training_stages()[-1]
    both_tasks = build_strategy("ewc", detector, 3.0)
    for shift in (0.0, 0.5):
        with torch.no_grad():
            for value in phase.parameters.values():
                value += shift  # each task ends with other weights
        single_tasks.append(build_strategy("ewc", detector, 3.0))
        for strategy in (both_tasks, single_tasks[-1]):
            estimate_fisher(strategy, images, shift)
        assert single_tasks[-1].penalty(phase.parameters).item() == pytest.approx(0, abs=1e-6)  # weights are unchanged
    assert both_tasks.penalty(phase.parameters).item() > 1e-4
    for value in phase.parameters.values():
        value.requires_grad_(False).add_(0.25)
    penalties = [strategy.penalty(phase.parameters).item() for strategy in single_tasks]
    assert both_tasks.penalty(phase.parameters).item() == pytest.approx(sum(penalties), rel=1e-4)
    fisher = sum(float(single_tasks[1].state()[f"fisher.{name}"].sum()) for name in phase.parameters)
    assert penalties[1] == pytest.approx(1.5 * 0.25**2 * fisher, rel=1e-3)


def test_large_penalty_reduces_the_change_of_weights(after_one_task, train_task):
    changes = []
    for detector, strategy in (after_one_task("finetune"), after_one_task("ewc", weight=1e6)):
        before = copy_state(detector)
        strategy.start(1, 10)
        train_task(detector, strategy, shift=0.5)
        changes.append(weight_change(detector, before))
    assert changes[1] < 0.5 * changes[0]


def test_first_task_of_ewc_equals_fine_tuning(after_one_task):
    (finetuned, _), (penalised, _) = after_one_task("finetune"), after_one_task("ewc")
    state = finetuned.learned_state()
    assert all(torch.equal(state[name], value) for name, value in penalised.learned_state().items())


def test_state_of_ewc_can_be_restored(after_one_task, autoencoder):
    _, strategy = after_one_task("ewc")
    other = build_strategy("ewc", autoencoder(), 1.0)
    other.load_state(strategy.state())
    assert other.state().keys() == strategy.state().keys()


# ------------------------------------------------------------------------------------------------ names and errors


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("frozn", 1.0, "did you mean 'frozen'"),
        ("native", 1.0, "protocol.strategy native: Autoencoder has no continual learning method of its own"),
        ("expand", 1.0, "protocol.strategy native: Autoencoder has no continual learning method of its own"),
        ("ewc", 0.0, "ewc_weight must be above 0"),
    ],
)
def test_wrong_strategy_raises_an_error(autoencoder, name, weight, message):
    with pytest.raises(AnoframeError, match=message):
        build_strategy(name, autoencoder(), weight)


@pytest.mark.parametrize("name", STRATEGIES)
def test_current_names_stay_as_they_are(name):
    assert strategy_name(name) == name


def test_former_names_are_replaced():
    assert strategy_name("expand") == "native"
    assert set(ALIASES.values()) <= set(STRATEGIES)


def test_continual_detector_that_cannot_expand_raises_an_error_with_its_reason(autoencoder):
    class SingleTask(type(autoencoder()), ContinualDetector):
        native_strategy_error = "it is trained on one task"

        def start_task(self, task, images):
            raise AssertionError

        finish_task = start_task

    with pytest.raises(AnoframeError, match=r"native: it is trained on one task; --protocol\.strategy finetune"):
        build_strategy("native", SingleTask(), 1.0)


@pytest.mark.parametrize("name", ["native", "expand"])
def test_native_strategy_calls_the_detector(autoencoder, name):
    class Continual(type(autoencoder()), ContinualDetector):
        min_images = 3

        def start_task(self, task, images):
            self.calls = [("start", task, images)]

        def finish_task(self):
            self.calls.append("finish")

    detector = Continual()
    strategy = build_strategy(name, detector, 1.0)
    strategy.start(2, 10)
    strategy.finish()
    assert detector.calls == [("start", 2, 10), "finish"]
    assert (type(strategy), strategy.min_images) == (Native, 3)
