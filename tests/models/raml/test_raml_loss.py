"""MACCL and the difficulty of categories, against formulas worked out by hand and naive loops."""

import math

import pytest
import torch

from anoframe.models.raml.difficulty import DifficultyTracker
from anoframe.models.raml.loss import MACCL, contrastive_terms
from anoframe.models.raml.settings import LossSettings

TEMPERATURE = 0.07
MIXED = torch.tensor([False, False, True, False, True, True, False])


def draw(count, width=6, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def maccl(width=6, **settings):
    return MACCL(width, LossSettings(**settings))


def total(losses):
    return torch.stack(list(losses.values())).sum()


# ------------------------------------------------------------------------------------------------- naive version


def naive_contrastive(z, labels, temperature=TEMPERATURE):
    """The contrastive terms by a double loop in float64."""
    z, count, terms = z.double(), len(z), []
    for i in range(count):
        cosine = [float(z[i] @ z[j] / z[i].norm() / z[j].norm()) for j in range(count)]
        positive = [math.exp(cosine[j] / temperature) for j in range(count) if j != i and labels[j] == labels[i]]
        negative = [math.exp(cosine[j] / temperature) for j in range(count) if labels[j] != labels[i]]
        terms.append(0.0)
        if positive and negative:
            terms[i] = -math.log(sum(positive) / (sum(positive) + sum(negative) + 1e-8))
    return terms


class NaiveMACCL:
    """MACCL written as loops in float64, step by step in the order of the source."""

    def __init__(self, width):
        self.centre, self.sigma, self.difficulty = torch.zeros(width, dtype=torch.float64), 1.0, {}

    def weight(self, category):
        mean = sum(self.difficulty.values()) / max(1, len(self.difficulty))
        if len(self.difficulty) < 2 or category not in self.difficulty or mean < 1e-6:
            return 1.0
        return min(2.0, max(0.5, 1 + 0.5 * (self.difficulty[category] - mean) / mean))

    def __call__(self, z, labels, categories):
        z, normal = z.double(), z.double()[~labels]
        centre = [float((row - self.centre).square().sum()) for row in z]
        if len(normal):
            self.centre = 0.8 * self.centre + 0.2 * normal.mean(0)
            self.sigma = 0.9 * self.sigma + 0.1 * float(normal.flatten().std())
        m = 0.5 + 0.3 * self.sigma + 0.3 * (1 - 224 / 900)
        margin = [max(0.0, m - float((row - self.centre).norm())) for row in z]
        contrastive = naive_contrastive(z, labels)
        raw = [(margin[i] if labels[i] else centre[i]) + 0.5 * contrastive[i] for i in range(len(z))]
        weights = [self.weight(category) for category in categories]
        for category, loss in zip(categories, raw, strict=True):
            known = self.difficulty.get(category)
            self.difficulty[category] = loss if known is None else 0.7 * known + 0.3 * loss
        return sum(weight * loss for weight, loss in zip(weights, raw, strict=True)) / len(z)


def test_three_updates_equal_a_naive_version():
    loss, naive = maccl(), NaiveMACCL(6)
    categories = ["a", "b", "a", "c", "b", "c", "c"]
    for step in range(3):
        z = draw(7, seed=step) / (1 + step)
        torch.testing.assert_close(
            float(total(loss(z, MIXED, categories))), float(naive(z, MIXED, categories)), rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(loss.centre.double(), naive.centre, rtol=0, atol=1e-6)
        assert float(loss.sigma) == pytest.approx(naive.sigma, abs=1e-6)
        assert loss.difficulty.state() == pytest.approx(naive.difficulty, rel=1e-5)
        categories = categories[::-1]


# ------------------------------------------------------------------------------------------------- margin


@pytest.mark.parametrize(
    ("settings", "sigma", "margin"),
    [
        ({}, 0.6, 0.905333),
        ({}, 1.0, 1.025333),
        ({"margin_base": 0.0, "margin_sigma": 0.0}, 1.0, 0.225333),
        ({"resolution": 900, "margin_base": 0.0, "margin_sigma": 0.0}, 1.0, 0.0),
        ({"margin_sigma": 0.0, "margin_resolution": 0.0}, 3.0, 0.5),
        ({"margin_base": 1.0, "margin_sigma": 0.0, "margin_resolution": 0.0}, 3.0, 1.0),
    ],
)
def test_adaptive_margin(settings, sigma, margin):
    loss = maccl(**settings)
    loss.sigma.fill_(sigma)
    assert float(loss.adaptive_margin()) == pytest.approx(margin, abs=1e-6)


def test_sigma_decays_by_a_tenth_for_features_without_spread():
    loss = maccl()
    for expected in (0.9, 0.81, 0.729):
        loss(torch.full((3, 6), 2.0), torch.tensor([False, False, True]), ["a"] * 3)
        assert float(loss.sigma) == pytest.approx(expected)


def test_a_batch_without_normal_images_changes_no_statistics():
    loss = maccl()
    loss.centre.fill_(0.3)
    losses = loss(draw(4), torch.ones(4, dtype=torch.bool), ["a"] * 4)
    assert torch.equal(loss.centre, torch.full((6,), 0.3))
    assert loss.sigma == 1
    assert losses["centre"] == losses["contrastive"] == 0


def test_a_batch_without_defects_has_no_margin_and_no_contrastive_loss():
    losses = maccl()(0.1 * draw(4), torch.zeros(4, dtype=torch.bool), ["a"] * 4)
    assert losses["margin"] == losses["contrastive"] == 0
    assert losses["centre"] > 0


def test_a_defect_at_the_centre_costs_the_margin_and_one_outside_nothing():
    loss = maccl(margin_sigma=0.0, margin_resolution=0.0, tracker=False)
    z = torch.zeros(2, 6)
    z[1, 0] = 0.5
    both = torch.ones(2, dtype=torch.bool)
    assert loss(z, both, ["a", "a"])["margin"] == pytest.approx(0.5 / 2)  # 0.5 and 0, averaged


def test_the_margin_pushes_defects_away_from_the_centre_and_its_gradient_is_finite_there():
    loss = maccl()
    z = torch.tensor([[0.0] * 6, [0.2, 0.1, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    loss(z, torch.ones(2, dtype=torch.bool), ["a", "a"])["margin"].backward()
    assert z.grad.isfinite().all()
    assert not z.grad[0].any()
    assert float((-z.grad[1] * z.detach()[1]).sum()) > 0  # a descent step goes along z - c


def test_the_centre_term_uses_the_centre_before_and_the_margin_the_one_after_the_update():
    loss = maccl(margin_sigma=0.0, margin_resolution=0.0, contrastive=0.0, tracker=False)
    z = torch.zeros(2, 6)
    z[0, 0], z[1, 0] = 1.0, 0.3  # a normal image, then a defect
    losses = loss(z, torch.tensor([False, True]), ["a", "a"])
    assert losses["centre"] == pytest.approx(1 / 2)
    assert losses["margin"] == pytest.approx((0.5 - abs(0.3 - 0.2)) / 2)


def test_no_gradient_flows_through_the_statistics():
    z = draw(3).requires_grad_()
    loss = maccl(contrastive=0.0, margin=0.0, tracker=False)
    loss.centre.fill_(0.1)
    loss(z, torch.zeros(3, dtype=torch.bool), ["a"] * 3)["centre"].backward()
    torch.testing.assert_close(z.grad, 2 * (z.detach() - 0.1) / 3)
    assert not loss.centre.requires_grad
    assert not loss.sigma.requires_grad


# ------------------------------------------------------------------------------------------------- contrastive


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labels", ["ggdd", "gggd", "gdgdgdgddd", "gg", "dd", "gd", "g"])
def test_the_contrastive_terms_equal_a_double_loop(labels, seed):
    defects = torch.tensor([label == "d" for label in labels])
    z = draw(len(labels), seed=seed)
    terms, has_pair = contrastive_terms(z, defects, TEMPERATURE)
    expected = naive_contrastive(z, defects)
    torch.testing.assert_close(terms, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)
    assert has_pair.tolist() == [1 < labels.count(label) < len(labels) for label in labels]


def test_identical_features_cost_ln_3_each():
    terms, _ = contrastive_terms(torch.ones(4, 6), torch.tensor([False, False, True, True]), TEMPERATURE)
    torch.testing.assert_close(terms, torch.full((4,), math.log(3)))


def test_opposite_labels_in_opposite_directions_cost_nothing():
    z = torch.eye(6)[:1] * torch.tensor([1.0, 1, -1, -1])[:, None]
    terms, _ = contrastive_terms(z, torch.tensor([False, False, True, True]), TEMPERATURE)
    assert float(terms.max()) < 1e-11


def test_same_labels_in_opposite_directions_cost_a_finite_amount():
    z = (torch.eye(6)[:1] * torch.tensor([1.0, -1, 1, -1])[:, None]).requires_grad_()
    terms, _ = contrastive_terms(z, torch.tensor([False, False, True, True]), 0.01)
    assert terms.tolist() == pytest.approx([200 + math.log1p(math.exp(-200))] * 4)
    terms.sum().backward()
    assert z.grad.isfinite().all()


def test_the_loss_is_computed_in_float32_under_autocast():
    z, categories = draw(7), ["a", "b", "a", "c", "b", "c", "c"]
    expected = total(maccl()(z, MIXED, categories))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(total(maccl()(z, MIXED, categories)), expected)


# ------------------------------------------------------------------------------------------------- reduction


def set_difficulty(loss):
    loss.difficulty.update(["a", "b"], [1.0, 3.0])  # weights 0.75 and 1.25


def test_the_loss_is_one_weighted_mean_over_the_batch():
    z, categories = draw(7), ["a", "b", "a", "b", "b", "b", "a"]
    unweighted = []
    for i in range(7):  # each image's share, from a loss in which all others have weight 0
        loss = maccl(tracker=False)
        loss._weigh = lambda values, _, i=i: torch.eye(7)[i]
        unweighted.append(7 * float(total(loss(z, MIXED, categories))))
    loss = maccl()
    set_difficulty(loss)
    expected = sum({"a": 0.75, "b": 1.25}[c] * value for c, value in zip(categories, unweighted, strict=True)) / 7
    assert float(total(loss(z, MIXED, categories))) == pytest.approx(expected, rel=1e-5)
    assert float(total(maccl(tracker=False)(z, MIXED, categories))) == pytest.approx(sum(unweighted) / 7, rel=1e-5)


def test_per_term_is_a_mean_over_the_images_of_each_term():
    z, categories = 0.3 * draw(7), ["a"] * 7
    whole = maccl(tracker=False)(z, MIXED, categories)
    per_term = maccl(tracker=False, reduction="per_term")(z, MIXED, categories)
    assert float(per_term["centre"]) == pytest.approx(7 / 4 * float(whole["centre"]))
    assert float(per_term["margin"]) == pytest.approx(7 / 3 * float(whole["margin"]))
    assert float(per_term["contrastive"]) == pytest.approx(float(whole["contrastive"]))  # every image has a pair
    one_defect = torch.tensor([False] * 6 + [True])
    whole = maccl(tracker=False)(z, one_defect, categories)
    per_term = maccl(tracker=False, reduction="per_term")(z, one_defect, categories)
    assert float(per_term["contrastive"]) == pytest.approx(7 / 6 * float(whole["contrastive"]))


# ------------------------------------------------------------------------------------------------- difficulty


@pytest.mark.parametrize(
    ("averages", "weights"),
    [
        ({"a": 1.0, "b": 3.0}, {"a": 0.75, "b": 1.25, "new": 1.0}),
        ({"a": 1.0, "b": 99.0}, {"a": 0.51, "b": 1.49}),
        ({"a": 0.0, "b": 4.0}, {"a": 0.5, "b": 1.5}),
        ({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 8.0}, {"a": 0.5, "e": 2.0}),
        ({"a": 5.0}, {"a": 1.0, "b": 1.0}),
        ({"a": 1e-7, "b": 5e-7}, {"a": 1.0, "b": 1.0}),
        ({}, {"a": 1.0}),
    ],
)
def test_weights_of_categories(averages, weights):
    tracker = DifficultyTracker()
    tracker.update(list(averages), list(averages.values()))
    assert tracker.weights(list(weights)) == pytest.approx(list(weights.values()))


def test_the_first_loss_is_the_average_and_later_ones_count_three_tenths_in_their_order():
    tracker = DifficultyTracker()
    tracker.update(["a", "b", "a"], [2.0, 7.0, 4.0])
    assert tracker.state() == pytest.approx({"a": 0.7 * 2 + 0.3 * 4, "b": 7.0})
    tracker.update(["a", "a"], [0.0, 10.0])
    assert tracker.state()["a"] == pytest.approx(0.7 * (0.7 * 2.6) + 3)


def test_weights_are_those_before_the_update_of_the_same_batch():
    loss = maccl(contrastive=0.0, margin=0.0)
    set_difficulty(loss)
    z = torch.zeros(2, 6)
    z[0, 0] = 2.0
    losses = loss(z, torch.zeros(2, dtype=torch.bool), ["a", "b"])
    assert float(losses["centre"]) == pytest.approx(0.75 * 4 / 2)
    assert loss.difficulty.state() == pytest.approx({"a": 0.7 + 1.2, "b": 2.1})


def test_the_tracker_gets_unweighted_losses_and_the_loss_does_not_use_it_if_it_is_off():
    loss = maccl(tracker=False)
    loss(draw(7), MIXED, ["a", "b"] * 3 + ["a"])
    assert loss.difficulty.state() == {}


def test_the_state_survives_a_state_dict_with_any_names_of_folders():
    tracker, fresh = DifficultyTracker(), DifficultyTracker()
    tracker.update(["vis à vis", "螺丝\n", "", "a"], [1.0, 2.0, 3.0, 1 / 3])
    for name, value in tracker.state_dict().items():
        setattr(fresh, name, value.clone())
    assert fresh.state() == tracker.state()
    assert fresh.weights(["螺丝\n"]) == tracker.weights(["螺丝\n"])
