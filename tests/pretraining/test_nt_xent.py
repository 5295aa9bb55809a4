"""NT-Xent: closed forms, a loop over all pairs, invariances, accuracies, and several processes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anoframe.distributed.shared_batch import share_batch
from anoframe.pretraining.monitor import spread
from anoframe.pretraining.nt_xent import contrast, nt_xent


def naive_nt_xent(first, second, temperature):
    """Sum over all pairs, in the order of the definition."""
    z = [vector / vector.norm() for vector in (*first, *second)]
    n = len(first)
    total = 0.0
    for i in range(2 * n):
        positive = z[(i + n) % (2 * n)]
        denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(float(z[i] @ positive) / temperature) / denominator)
    return total / (2 * n)


def draw_pair(n, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, dim, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize(("n", "expected"), [(2, 1.0986), (32, 4.1431), (256, 6.2364), (512, 6.9305)])
def test_equal_embeddings_give_the_chance_level(n, expected):
    """S1."""
    loss = nt_xent(torch.ones(n, 8), torch.ones(n, 8), 0.07)
    assert float(loss) == pytest.approx(expected, abs=1e-4)
    assert float(loss) == pytest.approx(math.log(2 * n - 1), abs=1e-5)


@pytest.mark.parametrize(
    ("n", "temperature", "expected"),
    [(256, 0.5, 4.2488), (256, 0.1, 0.02294), (256, 0.07, 0.00032), (512, 0.5, 4.9367)],
)
def test_perfect_positives_among_orthogonal_others(n, temperature, expected):
    """S2."""
    units = torch.eye(n)
    assert float(nt_xent(units, 3 * units, temperature)) == pytest.approx(expected, abs=6e-5)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 9), dim=st.integers(2, 6), seed=st.integers(0, 999), temperature=st.sampled_from([0.07, 0.1, 0.5])
)
def test_loss_equals_a_loop_over_all_pairs(n, dim, seed, temperature):
    """S3."""
    first, second = draw_pair(n, dim, seed)
    loss = float(nt_xent(first, second, temperature))
    assert loss == pytest.approx(naive_nt_xent(first, second, temperature), rel=1e-4, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_loss_ignores_lengths_and_orders(n, seed):
    """S3."""
    first, second = draw_pair(n, 5, seed)
    loss = float(nt_xent(first, second, 0.2))
    scales = torch.rand(n, 1, dtype=torch.float64) + 0.1
    order = torch.randperm(n)
    assert float(nt_xent(scales * first, second / scales, 0.2)) == pytest.approx(loss, rel=1e-4)
    assert float(nt_xent(first[order], second[order], 0.2)) == pytest.approx(loss, rel=1e-4)
    assert float(nt_xent(second, first, 0.2)) == pytest.approx(loss, rel=1e-4)


def test_accuracy_counts_the_rank_of_the_positive():
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]])
    perfect = contrast(first, first, 0.1)
    assert float(perfect.accuracy(1)) == 1
    shifted = contrast(first, first[[1, 2, 0]], 0.1)
    ranks = []
    for i, logits in enumerate(shifted.logits):
        positive = float(logits[(i + 3) % 6])
        ranks.append(sum(float(value) >= positive for k, value in enumerate(logits) if k not in (i, (i + 3) % 6)))
    for k in (1, 2, 5):
        assert float(shifted.accuracy(k)) == pytest.approx(sum(rank < k for rank in ranks) / 6)


def test_collapsed_embeddings_are_never_accurate():
    collapsed = contrast(torch.ones(8, 4), torch.ones(8, 4), 0.1)
    assert float(collapsed.accuracy(1)) == 0
    assert float(collapsed.accuracy(5)) == 0


def test_spread_is_0_at_collapse_and_about_1_for_uniform_directions():
    assert float(spread(torch.randn(1, 16).expand(64, 16) * torch.rand(64, 1).add(0.1))) == pytest.approx(0, abs=1e-3)
    assert float(spread(torch.randn(4096, 64, generator=torch.Generator().manual_seed(0)))) == pytest.approx(
        1, abs=0.02
    )


def test_half_precision_inputs_are_computed_in_float32():
    first, second = (view.bfloat16() for view in draw_pair(16, 8, 0))
    assert float(nt_xent(first, second, 0.07)) == pytest.approx(float(nt_xent(first.float(), second.float(), 0.07)))


# ------------------------------------------------------------------------------------------------ several processes


def _gradient_of_shards(group, bounds):
    """Loss and gradient of this process's rows of a batch; the trainer weights losses by the share of the images."""
    first, second = (view.float().requires_grad_() for view in draw_pair(7, 5, 1))
    start, end = bounds[group.rank]
    rows = torch.arange(start, end) if end > start else torch.arange(1)  # without images: the first one again
    shared = share_batch(rows)
    result = contrast(first[rows], second[rows], 0.1, shared)
    weight = (end - start) / 7
    (result.loss * weight).backward()
    gradients = [group.all_reduce(view.grad.clone()) for view in (first, second)]
    accuracy = group.all_reduce(torch.tensor([float(result.loss.detach()), float(result.accuracy(1))]) * weight)
    return accuracy, gradients, shared.num_parts(4)


@pytest.mark.parametrize("bounds", [[(0, 4), (4, 7)], [(0, 7), (7, 7)]], ids=["uneven", "a process has no image"])
def test_processes_share_their_negatives(process_pool, bounds):
    first, second = (view.float().requires_grad_() for view in draw_pair(7, 5, 1))
    whole = contrast(first, second, 0.1)
    whole.loss.backward()
    for values, gradients, parts in process_pool.run(_gradient_of_shards, bounds):
        assert values.tolist() == pytest.approx([float(whole.loss.detach()), float(whole.accuracy(1))], rel=1e-5)
        torch.testing.assert_close(gradients, [first.grad, second.grad], rtol=0, atol=1e-6)
        assert parts == (3 if bounds[0] == (0, 4) else 1)
