"""Visual-guided attention: mask, independence of tasks, dependence on the batch (C1 to C4 of the method's checks)."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anoframe.errors import AnoframeError
from anoframe.models.class_incremental.vga import VGA, block_mask, default_heads


def unit(count, width=16, seed=0):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def vga():
    torch.manual_seed(0)
    return VGA(16, hidden=32).eval()


def test_the_number_of_parameters_is_that_of_the_reference():
    assert sum(parameter.numel() for parameter in VGA(512).parameters()) == 4_204_032


def test_the_mask_without_tokens_has_one_block_per_task():
    mask = block_mask([3, 3])
    assert mask.shape == (6, 6)
    expected = torch.ones(6, 6, dtype=torch.bool)
    expected[:3, :3] = expected[3:, 3:] = False
    assert torch.equal(mask, expected)


def test_a_token_sees_the_classes_of_its_task_and_itself():
    mask = block_mask([3, 3], tokens=True)
    assert mask.shape == (8, 8)
    assert torch.equal(~mask[6], torch.tensor([1, 1, 1, 0, 0, 0, 1, 0]).bool())
    assert torch.equal(~mask[7], torch.tensor([0, 0, 0, 1, 1, 1, 0, 1]).bool())
    assert torch.equal(~mask[0], torch.tensor([1, 1, 1, 0, 0, 0, 1, 0]).bool())


@torch.no_grad()
def test_queries_of_a_new_task_do_not_change_the_outputs_of_an_old_one(vga):
    queries, images, mask = unit(6), unit(5, seed=1), block_mask([3, 3])
    other = torch.cat([queries[:3], unit(3, seed=9)])
    before, after = vga(queries, images, mask), vga(other, images, mask)
    torch.testing.assert_close(after[:3], before[:3], rtol=0, atol=1e-6)
    assert (after[3:] - before[3:]).abs().max() > 0.01
    torch.testing.assert_close(vga(queries[:3], images, block_mask([3])), before[:3], rtol=0, atol=1e-6)


@torch.no_grad()
def test_outputs_depend_on_the_images_of_the_batch_but_not_on_their_order(vga):
    queries, images, mask = unit(6), unit(5, seed=1), block_mask([3, 3])
    expected = vga(queries, images, mask)
    torch.testing.assert_close(vga(queries, images[[3, 0, 4, 1, 2]], mask), expected, rtol=0, atol=1e-6)
    assert (vga(queries, images[:4], mask) - expected).abs().max() > 1e-3


@torch.no_grad()
def test_outputs_have_the_norm_of_a_layer_norm(vga):
    norms = vga(unit(6), unit(5, seed=1), block_mask([3, 3])).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((6,), 4.0), rtol=1e-3, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 4])
def test_each_image_alone_is_a_batch_of_one(heads):
    torch.manual_seed(1)
    vga = VGA(16, heads, hidden=32).eval()
    queries, images, mask = unit(5), unit(7, seed=1), block_mask([3, 2])
    expected = torch.stack([vga(queries, image[None], mask) for image in images])
    torch.testing.assert_close(vga.each_image(queries, images, mask), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_layer_is_that_of_torch_with_the_same_weights(vga):
    layer = nn.TransformerDecoderLayer(16, 1, 32, 0.1, "gelu", batch_first=True).eval()
    for mine, theirs in ((vga.self_attention, layer.self_attn), (vga.cross_attention, layer.multihead_attn)):
        theirs.in_proj_weight.copy_(torch.cat([mine.query.weight, mine.key.weight, mine.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([mine.query.bias, mine.key.bias, mine.value.bias]).normal_())
        for linear, bias in zip((mine.query, mine.key, mine.value), theirs.in_proj_bias.chunk(3), strict=True):
            linear.bias.copy_(bias)
        theirs.out_proj.load_state_dict(mine.out.state_dict())
    pairs = ((vga.expand, layer.linear1), (vga.reduce, layer.linear2))
    norms = ((vga.norm1, layer.norm1), (vga.norm2, layer.norm2), (vga.norm3, layer.norm3))
    for mine, theirs in (*pairs, *norms):
        theirs.load_state_dict(mine.state_dict())
    queries, images, mask = unit(6), unit(5, seed=1), block_mask([3, 3])
    expected = layer(queries[None], images[None], tgt_mask=mask)[0]
    torch.testing.assert_close(vga(queries, images, mask), expected, rtol=1e-5, atol=1e-6)


def test_initial_weights_have_the_range_of_torch():
    torch.manual_seed(0)
    ours, theirs = VGA(64).self_attention, nn.MultiheadAttention(64, 1)
    bound = theirs.in_proj_weight.abs().max()
    weights = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
    assert bound * 0.95 < weights.abs().max() < bound * 1.05
    torch.testing.assert_close(weights.std(), theirs.in_proj_weight.std(), rtol=0.05, atol=0)
    assert not ours.out.bias.any()


def test_dropout_acts_in_training_only(vga):
    queries, images, mask = unit(6), unit(5, seed=1), block_mask([3, 3])
    assert torch.equal(vga(queries, images, mask), vga(queries, images, mask))
    vga.train()
    assert not torch.equal(vga(queries, images, mask), vga(queries, images, mask))


def test_the_number_of_heads():
    assert (default_heads(512, "hand_crafted"), default_heads(512, "coop"), default_heads(20, "coop")) == (1, 8, 1)
    with pytest.raises(AnoframeError, match="heads 3 does not divide the 16 channels"):
        VGA(16, heads=3)
