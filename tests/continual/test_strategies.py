"""Strategies: what each lets a task change."""

from __future__ import annotations

import pytest
import torch

from anoframe.continual.strategies import build_strategy
from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Phase, TrainingBatch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def taught(autoencoder, train_steps):
    """A detector and its strategy after one task."""

    def teach(name, weight=1.0):
        detector = autoencoder()
        strategy = build_strategy(name, detector, weight)
        strategy.start(0, 10)
        train_steps(detector, strategy)
        strategy.finish()
        return detector, strategy

    return teach


@pytest.fixture
def train_steps(images, section):
    from anoframe.tracking.timing import Clock
    from anoframe.tracking.tracker import Trackers
    from anoframe.training.loop import Training
    from anoframe.training.stages import learn

    def run(detector, strategy, shift=0.0):
        batches = [type(one)(one.features + shift, one.masks, one.samples) for one in images]
        how = Training("felt", 0, section(), Trackers())
        learn(detector, batches, 10, Clock(Trackers()), how, strategy.training_stages)

    return run


def weights(detector):
    return {name: value.clone() for name, value in detector.learned_state().items()}


def moved(detector, before):
    return sum(float((detector.learned_state()[n] - v).square().sum()) for n, v in before.items() if "weight" in n)


def test_frozen_learns_the_first_task_alone(taught, train_steps):
    detector, strategy = taught("frozen")
    before = weights(detector)
    strategy.start(1, 10)
    train_steps(detector, strategy, shift=0.5)
    assert all(torch.equal(detector.learned_state()[name], value) for name, value in before.items())


def test_fine_tuning_goes_on_from_what_there_is(taught, train_steps, autoencoder):
    detector, strategy = taught("finetune")
    before = weights(detector)
    strategy.start(1, 10)
    train_steps(detector, strategy, shift=0.5)
    assert moved(detector, before) > 0


def test_the_penalty_is_its_definition(taught):
    """`weight / 2 * sum F (p - p_k)^2`, summed over two tasks by hand."""
    detector, strategy = taught("ewc", weight=3.0)
    phase = next(step for step in detector.training_stages() if isinstance(step, Phase))
    state = strategy.state()
    fishers = {name: state[f"fisher.{name}"] for name in phase.parameters}
    anchors = {name: one.detach().clone() for name, one in phase.parameters.items()}
    second = {name: torch.rand_like(one) for name, one in anchors.items()}
    both = {f"fisher.{n}": 2 * f for n, f in fishers.items()}
    both |= {f"anchor.{n}": f * (anchors[n] + second[n]) for n, f in fishers.items()}
    both |= {f"constant.{n}": (f * (anchors[n].square() + second[n].square())).sum() for n, f in fishers.items()}
    strategy.load_state(both)
    with torch.no_grad():
        for one in phase.parameters.values():
            one += 0.3
    by_hand = sum(
        (fishers[n] * ((p - anchors[n]).square() + (p - second[n]).square())).sum() for n, p in phase.parameters.items()
    )
    assert strategy.penalty(phase.parameters).item() == pytest.approx(1.5 * by_hand.item(), rel=1e-4)


def test_fisher_information_is_the_mean_of_squared_gradients_of_single_images(autoencoder, images):
    detector = autoencoder()
    strategy = build_strategy("ewc", detector, 1.0)
    fisher = strategy.training_stages()[-1]
    phase = [step for step in detector.training_stages() if isinstance(step, Phase)][-1]
    singles = [(one.features[i : i + 1], one.samples[i : i + 1]) for one in images for i in range(len(one))]
    fisher.begin(len(singles))
    torch.manual_seed(0)  # of the noise in the loss
    for features, samples in singles:
        fisher.observe(features, samples)
    fisher.finish()
    assert detector.seen == [[row] for row in range(len(singles))]
    torch.manual_seed(0)
    total = {name: torch.zeros_like(one) for name, one in phase.parameters.items()}
    for row, (features, samples) in enumerate(singles):
        detector.zero_grad()
        sum(phase.loss(TrainingBatch(features, samples, torch.tensor([row]))).values()).backward()
        for name, one in phase.parameters.items():
            total[name] += one.grad.square()
    for name, value in total.items():
        assert torch.allclose(strategy.state()[f"fisher.{name}"], value / len(singles), rtol=1e-5)


def look(strategy, images, shift):
    """Estimate the Fisher information of the last phase by hand, on images that are so much brighter."""
    fisher = strategy.training_stages()[-1]
    assert fisher.batch_size == 1
    fisher.begin(10)
    torch.manual_seed(0)  # of the noise in the loss
    for one in images:
        for i in range(len(one)):
            fisher.observe(one.features[i : i + 1] + shift, one.samples[i : i + 1])
    fisher.finish()


def test_what_is_known_of_two_tasks_is_the_sum_of_both(autoencoder, images):
    detector, apart = autoencoder(), []
    phase = detector.training_stages()[-1]
    both = build_strategy("ewc", detector, 3.0)
    for shift in (0.0, 0.5):
        with torch.no_grad():
            for one in phase.parameters.values():
                one += shift  # each task leaves them elsewhere
        apart.append(build_strategy("ewc", detector, 3.0))
        for strategy in (both, apart[-1]):
            look(strategy, images, shift)
        assert apart[-1].penalty(phase.parameters).item() == pytest.approx(0, abs=1e-6)  # it is where it was learned
    assert both.penalty(phase.parameters).item() > 1e-4
    for one in phase.parameters.values():
        one.requires_grad_(False).add_(0.25)
    alone = [strategy.penalty(phase.parameters).item() for strategy in apart]
    assert both.penalty(phase.parameters).item() == pytest.approx(sum(alone), rel=1e-4)
    fisher = sum(float(apart[1].state()[f"fisher.{name}"].sum()) for name in phase.parameters)
    assert alone[1] == pytest.approx(1.5 * 0.25**2 * fisher, rel=1e-3)


def test_a_heavy_penalty_holds_weights_where_they_were(taught, train_steps):
    free, held = taught("finetune"), taught("ewc", weight=1e6)
    distances = []
    for detector, strategy in (free, held):
        before = weights(detector)
        strategy.start(1, 10)
        train_steps(detector, strategy, shift=0.5)
        distances.append(moved(detector, before))
    assert distances[1] < 0.5 * distances[0]


def test_the_first_task_of_ewc_is_that_of_fine_tuning(taught):
    (free, _), (held, _) = taught("finetune"), taught("ewc")
    assert all(torch.equal(free.learned_state()[n], v) for n, v in held.learned_state().items())


def test_what_ewc_knows_can_be_put_back(taught, autoencoder):
    _, strategy = taught("ewc")
    other = build_strategy("ewc", autoencoder(), 1.0)
    other.load_state(strategy.state())
    assert other.state().keys() == strategy.state().keys()


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("frozn", 1.0, "did you mean 'frozen'"),
        ("expand", 1.0, "no way of its own"),
        ("ewc", 0.0, "ewc_weight is above 0"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused(autoencoder, name, weight, message):
    with pytest.raises(AnoframeError, match=message):
        build_strategy(name, autoencoder(), weight)


def test_a_detector_that_cannot_expand_after_all_says_why(autoencoder):
    class Expanding(type(autoencoder()), ContinualDetector):
        cannot_expand = "it knows one task"

        def start_task(self, task, images):
            raise AssertionError

        finish_task = start_task

    with pytest.raises(AnoframeError, match=r"it knows one task; --protocol\.strategy finetune"):
        build_strategy("expand", Expanding(), 1.0)


def test_expanding_is_left_to_the_detector(autoencoder):
    class Expanding(type(autoencoder()), ContinualDetector):
        def start_task(self, task, images):
            self.told = [("start", task, images)]

        def finish_task(self):
            self.told.append("finish")

    detector = Expanding()
    strategy = build_strategy("expand", detector, 1.0)
    strategy.start(2, 10)
    strategy.finish()
    assert detector.told == [("start", 2, 10), "finish"]
