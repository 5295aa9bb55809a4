"""Attention compared with `nn.MultiheadAttention`, and the neighbour mask compared with its definition."""

import math

import pytest
import torch
from torch import nn

from anoframe.models.uniad.attention import Attention, neighbour_mask

# ------------------------------------------------------------------------------------------------ the mask


@pytest.mark.parametrize(("height", "width", "window"), [(14, 14, 7), (16, 16, 8), (5, 9, 3), (4, 6, 1), (7, 5, 4)])
def test_the_mask_matches_its_definition(height, width, window):
    mask = neighbour_mask(height, width, window)
    for query in range(height * width):
        for key in range(height * width):
            rows, columns = abs(query // width - key // width), abs(query % width - key % width)
            assert bool(mask[query, key]) == (rows <= window // 2 and columns <= window // 2)


@pytest.mark.parametrize(
    ("side", "window", "blocked", "fewest", "most"),
    [(14, 7, 7_396, 16, 49), (16, 7, 10_000, 16, 49), (16, 8, 15_376, 25, 81)],
)
def test_the_number_of_blocked_pairs_is_the_published_one(side, window, blocked, fewest, most):
    mask = neighbour_mask(side, side, window)
    assert (int(mask.sum()), int(mask.sum(1).min()), int(mask.sum(1).max())) == (blocked, fewest, most)


def test_the_mask_is_symmetric_and_hides_a_token_from_itself():
    mask = neighbour_mask(14, 14, 7)
    assert torch.equal(mask, mask.T)
    assert mask.diagonal().all()


# ------------------------------------------------------------------------------------------------ attention


def test_attention_equals_torchs_with_the_same_weights():
    torch.manual_seed(0)
    reference, attention = nn.MultiheadAttention(16, 2, batch_first=True).eval(), Attention(16, 2, 0.1).eval()
    nn.init.normal_(reference.in_proj_bias)
    nn.init.normal_(reference.out_proj.bias)
    attention.load_state_dict(reference.state_dict())
    query, key, value = torch.randn(3, 4, 30, 16)
    blocked = neighbour_mask(6, 5, 3)
    additive = torch.zeros(30, 30).masked_fill(blocked, -math.inf)
    expected = reference(query, key, value, attn_mask=blocked)[0]
    torch.testing.assert_close(attention(query, key, value, additive), expected)
    expected = reference(key, key, value, attn_mask=blocked)[0]
    torch.testing.assert_close(attention(key, key, value, additive), expected)
    torch.testing.assert_close(attention(query, key, value, None), reference(query, key, value)[0])


def test_common_queries_equal_the_same_queries_for_each_image():
    attention = Attention(16, 2, 0.0)
    query, key = torch.randn(1, 30, 16), torch.randn(4, 30, 16)
    expected = attention(query.expand_as(key), key, key, None)
    torch.testing.assert_close(attention(query, key, key, None), expected)


def test_the_initialisation_is_that_of_torch():
    torch.manual_seed(3)
    reference = nn.MultiheadAttention(16, 2)
    torch.manual_seed(3)
    attention = Attention(16, 2, 0.1)
    assert attention.in_proj_weight.std().item() == pytest.approx(reference.in_proj_weight.std().item(), rel=0.05)
    assert attention.in_proj_weight.abs().max() <= math.sqrt(6 / (16 + 48))
    assert not attention.in_proj_bias.any()


def test_attention_weights_have_dropout_in_train_mode_and_keep_their_mean():
    torch.manual_seed(0)
    attention = Attention(8, 2, 0.5)
    with torch.no_grad():
        attention.in_proj_weight[:16] = 0  # all keys get the same weight
        attention.in_proj_weight[16:] = torch.eye(8)
        attention.out_proj.weight.copy_(torch.eye(8))
        attention.out_proj.bias.zero_()
    ones = torch.ones(64, 50, 8)
    with torch.no_grad():
        sums = attention(ones, ones, ones, None)  # sums of the kept weights, doubled
        assert sums.mean().item() == pytest.approx(1, abs=0.01)
        assert sums.std().item() == pytest.approx(1 / math.sqrt(50), rel=0.05)
        torch.testing.assert_close(attention.eval()(ones, ones, ones, None), ones)
