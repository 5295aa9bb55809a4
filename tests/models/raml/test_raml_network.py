"""The trained network of RAML: published sizes, attention, pyramid, fusion, heads, linear probe."""

import pytest
import torch
from torch.nn import functional as F

from anoframe.models.raml.fusion import TextFusion
from anoframe.models.raml.network import LinearProbe, RAMLNetwork
from anoframe.models.raml.pyramid import CrossScaleAttention, Pyramid
from anoframe.models.raml.settings import PyramidSettings


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def published():
    """The network of the published size. Read only."""
    torch.manual_seed(0)
    return RAMLNetwork(512, PyramidSettings(), fusion=True).eval()


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    shapes = {"scale1": (8, 512), "scale2": (8, 4, 512), "scale3": (8, 16, 512), "text": (8, 2, 512)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_numbers_of_parameters_are_the_published_ones(published):
    parts = published.pyramid, published.fusion, published.feature_head, published.classifier, published
    assert [count(part) for part in parts] == [1_710_592, 395_009, 132_096, 16_513, 2_254_210]
    assert count(CrossScaleAttention(256)) == 263_680


@torch.no_grad()
def test_the_pyramid_gives_vectors_of_unit_length(published, inputs):
    p = published.pyramid([inputs["scale1"][:, None], inputs["scale2"], inputs["scale3"]])
    torch.testing.assert_close(p.norm(dim=1), torch.ones(8))


@torch.no_grad()
def test_features_have_norm_16_and_standard_deviation_1_at_the_start(published, inputs):
    z, logits = published(inputs)
    assert z.shape == (8, 256)
    assert logits.shape == (8,)
    torch.testing.assert_close(z.norm(dim=1), torch.full((8,), 16.0), rtol=0, atol=5e-3)  # LayerNorm adds 1e-5 to 0.03
    assert float(z.std()) == pytest.approx(1, abs=0.01)


# ------------------------------------------------------------------------------------------------- attention


def attend_by_hand(attention, query, others):
    """Attention of single vectors in loops over images and heads."""
    width = len(query[0])
    head = width // attention.heads
    result = torch.zeros(len(query), width)
    for i, (vector, keys) in enumerate(zip(query, others, strict=True)):
        q, k, v = attention.query(vector), attention.key(keys), attention.value(keys)
        for h in range(attention.heads):
            part = slice(h * head, (h + 1) * head)
            scores = torch.stack([torch.dot(q[part], key[part]) for key in k]) / head**0.5
            weights = scores.exp() / scores.exp().sum()
            result[i, part] = sum(weight * value[part] for weight, value in zip(weights, v, strict=True))
    return F.layer_norm(query + attention.output(result), (width,), attention.norm.weight, attention.norm.bias)


@torch.no_grad()
def test_attention_equals_loops_over_images_and_heads():
    torch.manual_seed(2)
    attention = CrossScaleAttention(12, 3).eval()
    attention.norm.weight.uniform_(0.5, 2)
    query, others = torch.randn(4, 12), torch.randn(4, 5, 12)
    torch.testing.assert_close(attention(query, others), attend_by_hand(attention, query, others))


def test_attention_to_a_single_key_ignores_the_query_projection():
    torch.manual_seed(3)
    attention = CrossScaleAttention(12, 3).eval()
    query, key = torch.randn(4, 12), torch.randn(4, 1, 12)
    output = attention(query, key)
    torch.testing.assert_close(output, attention.norm(query + attention.output(attention.value(key[:, 0]))))
    (output * torch.randn_like(output)).sum().backward()
    for layer in (attention.query, attention.key):
        assert torch.count_nonzero(layer.weight.grad) == torch.count_nonzero(layer.bias.grad) == 0
    assert torch.count_nonzero(attention.value.weight.grad) > 0


# ------------------------------------------------------------------------------------------------- pyramid


@torch.no_grad()
def test_each_scale_attends_to_the_next_and_the_last_to_the_whole_image():
    torch.manual_seed(4)
    pyramid = Pyramid(6, hidden=8, heads=2).eval()
    f1, f2, f3 = torch.randn(3, 1, 6), torch.randn(3, 4, 6), torch.randn(3, 16, 6)
    (p1, p2, p3), (a12, a23, a31) = pyramid.projections, pyramid.attentions
    rows = [
        a12(p1(f1[:, 0]), p2(f2)),
        a23(p2(f2.mean(1)), p3(f3)),
        a31(p3(f3.mean(1)), p1(f1)),
    ]
    expected = F.normalize(pyramid.norm(pyramid.mlp(torch.cat(rows, 1))), dim=1)
    torch.testing.assert_close(pyramid([f1, f2, f3]), expected)


@torch.no_grad()
def test_fewer_scales_form_a_smaller_ring():
    torch.manual_seed(5)
    f1, f2 = torch.randn(3, 1, 6), torch.randn(3, 4, 6)
    pair = Pyramid(6, (1, 4), hidden=8, heads=2).eval()
    (p1, p2), (a12, a21) = pair.projections, pair.attentions
    rows = torch.cat([a12(p1(f1[:, 0]), p2(f2)), a21(p2(f2.mean(1)), p1(f1))], 1)
    torch.testing.assert_close(pair([f1, f2]), F.normalize(pair.norm(pair.mlp(rows)), dim=1))
    single = Pyramid(6, (1,), hidden=8, heads=2).eval()
    row = single.attentions[0](single.projections[0](f1[:, 0]), single.projections[0](f1))
    torch.testing.assert_close(single([f1]), F.normalize(single.norm(single.mlp(row)), dim=1))


@pytest.mark.parametrize(("scales", "used"), [((1,), {"scale1"}), ((1, 4), {"scale1", "scale2"})])
def test_only_the_scales_in_use_change_the_logit(features, scales, used):
    network = RAMLNetwork(12, PyramidSettings(scales=scales, hidden=16, heads=2), fusion=False).eval()
    first, second = features(3, 0), features(3, 1)
    for name in first:
        changed = network({**first, name: second[name]})[1]
        assert torch.equal(changed, network(first)[1]) == (name not in used)


# ------------------------------------------------------------------------------------------------- fusion


@torch.no_grad()
def test_fusion_without_scale_is_the_normalised_visual_vector():
    torch.manual_seed(6)
    fusion, plain = TextFusion(12, 16, 2).eval(), TextFusion(None, 16, 2).eval()
    visual, text = torch.randn(3, 16), torch.randn(3, 2, 12)
    assert not torch.allclose(fusion(visual, text), plain(visual, None))
    fusion.scale.fill_(0)
    assert torch.equal(fusion(visual, text), plain(visual, None))
    assert count(plain) == 32


@torch.no_grad()
def test_fusion_weighs_the_text_of_each_image_by_its_visual_vector():
    torch.manual_seed(7)
    fusion = TextFusion(12, 16, heads=1).eval()
    visual, text = torch.randn(3, 16), torch.randn(3, 2, 12)
    t = fusion.projection(text)
    (wq, wk, wv), (bq, bk, bv) = fusion.attention.in_proj_weight.chunk(3), fusion.attention.in_proj_bias.chunk(3)
    weights = ((visual @ wq.T + bq)[:, None] @ (t @ wk.T + bk).transpose(1, 2) / 4).softmax(-1)
    attended = fusion.attention.out_proj((weights @ (t @ wv.T + bv))[:, 0])
    torch.testing.assert_close(fusion(visual, text), fusion.norm(visual + 0.1 * attended))


# ------------------------------------------------------------------------------------------------- linear probe


@torch.no_grad()
def test_the_linear_probe_standardises_the_features_of_the_whole_image(features):
    rows = {**features(50), "scale1": 3 + 2 * torch.randn(50, 12)}
    rows["scale1"][:, 4] = 7  # never varies
    probe = LinearProbe(12)
    probe.set_statistics(rows["scale1"].mean(0), rows["scale1"].std(0, correction=0))
    z, logits = probe(rows)
    torch.testing.assert_close(z.mean(0), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.var(0, correction=0), 1 - F.one_hot(torch.tensor(4), 12).float())
    torch.testing.assert_close(logits, z @ probe.linear.weight[0] + probe.linear.bias)
