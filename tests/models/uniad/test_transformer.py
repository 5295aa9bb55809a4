"""The masked transformer: published sizes, equality with plain torch layers, and which tokens influence which."""

import math

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.uniad.attention import Attention, neighbour_mask
from anoframe.models.uniad.layers import DecoderLayer, EncoderLayer, feed_forward
from anoframe.models.uniad.position import LearnedPosition
from anoframe.models.uniad.transformer import MaskedTransformer

SMALL = {"width": 16, "heads": 2, "hidden": 32}


@pytest.fixture
def small():
    """Builds a small transformer for 6 x 5 tokens in eval mode, with 2 + 2 layers by default."""

    def build(**changes):
        torch.manual_seed(0)
        arguments = {**SMALL, "encoder_layers": 2, "decoder_layers": 2, "window": 3, **changes}
        return MaskedTransformer(arguments.pop("grid", (6, 5)), **arguments).eval()

    return build


def draw_tokens(model, batch=2, seed=1):
    height, width = len(model.position.rows), len(model.position.columns)
    return torch.randn(batch, height * width, SMALL["width"], generator=torch.Generator().manual_seed(seed))


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


# ------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (lambda: Attention(256, 8, 0.1), 263_168),
        (lambda: feed_forward(256, 1024, 0.1), 525_568),
        (lambda: EncoderLayer(256, 8, 1024, 0.1), 789_760),
        (lambda: DecoderLayer(256, 8, 1024, 0.1, 196), 1_103_616),
        (lambda: LearnedPosition((14, 14), 256), 3_584),
        (lambda: MaskedTransformer((14, 14)), 7_577_600),  # 7,717,392 without the two projections
    ],
    ids=["attention", "feed-forward", "encoder layer", "decoder layer", "positions", "all"],
)
def test_the_number_of_parameters_is_the_published_one(module, expected):
    assert num_parameters(module()) == expected


def test_the_mask_is_not_part_of_a_checkpoint(small):
    assert not [name for name in small().state_dict() if "mask" in name]


# ------------------------------------------------------------------------------------------------ plain torch layers


class Reference(nn.Module):
    """The definition written with plain torch layers, sequence first; the weights are those of a transformer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def attend(self, attention, query, key, value, mask):
        reference = nn.MultiheadAttention(attention.width, attention.heads, attention.dropout)
        reference.train(attention.training).load_state_dict(attention.state_dict())
        return reference(query, key, value, attn_mask=mask)[0]

    def forward(self, tokens):
        model, x = self.model, tokens.transpose(0, 1)
        p = model.position()[:, None]
        masks = [model.mask.isinf() if used else None for used in model.masks]
        for layer in model.encoder:
            x = layer.residuals["attn"].norm(x + self.attend(layer.attention, x + p, x + p, x, masks[0]))
            x = layer.residuals["ffn"].norm(x + layer.feed_forward(x))
        memory, out = x, x
        for layer in model.decoder:
            t = torch.stack([layer.query] * tokens.shape[0], 1)
            t = layer.residuals["self"].norm(t + self.attend(layer.first, t + p, memory + p, memory, masks[1]))
            t = layer.residuals["cross"].norm(t + self.attend(layer.second, t + p, out + p, out, masks[2]))
            out = layer.residuals["ffn"].norm(t + layer.feed_forward(t))
        return model.norm(out).transpose(0, 1)


@pytest.mark.parametrize("masks", [(True, True, True), (False, True, False), (True, False, False), (False,) * 3])
def test_the_output_matches_the_definition(small, masks):
    model = small(masks=masks)
    for parameter in model.parameters():  # biases and norms too, as after training
        nn.init.normal_(parameter, std=0.3)
    tokens = draw_tokens(model)
    torch.testing.assert_close(model(tokens), Reference(model)(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
def test_the_gradients_match_the_definition(small, dropout):
    """A dropout of 1e-9 drops nothing, but selects the attention code without the fused kernel."""
    model = small(dropout=dropout).train()
    tokens = draw_tokens(model)
    gradients = []
    for forward in (model, Reference(model)):
        model.zero_grad()
        forward(tokens).square().mean().backward()
        gradients.append({name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()})
    actual, expected = gradients
    names = [name for name, gradient in expected.items() if gradient is not None]  # the reference copies attentions
    assert "decoder.1.query" in names
    for name in names:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-3, atol=1e-7)


def test_without_queries_the_decoder_starts_from_its_start_argument(small):
    model = small(queries=False)
    memory, start = draw_tokens(model), draw_tokens(model, seed=2)
    p, mask = model.position(), model.mask
    out = start
    for layer in model.decoder:
        t = layer.residuals["self"](out, layer.first(out + p, out + p, out, mask))
        t = layer.residuals["cross"](t, layer.second(t + p, memory + p, memory, mask))
        out = layer.residuals["ffn"](t, layer.feed_forward(t))
    torch.testing.assert_close(model.decode(memory, p, start), model.norm(out))


# ------------------------------------------------------------------------------------------------ influence of tokens


def influence(model, position):
    """Size of the derivative of the output at a position with respect to each input token, `[L]`."""
    tokens = draw_tokens(model, 1).requires_grad_()
    (model(tokens)[0, position] * torch.arange(16)).sum().backward()  # the plain sum of a normalised token is constant
    return tokens.grad[0].abs().sum(1)


@pytest.mark.parametrize("position", [0, 13, 29])
def test_with_one_decoder_layer_the_window_has_no_influence(small, position):
    model = small(encoder_layers=0, decoder_layers=1)
    derivative, blocked = influence(model, position), neighbour_mask(6, 5, 3)[position]
    assert derivative[blocked].tolist() == [0.0] * int(blocked.sum())
    assert (derivative[~blocked] > 0).any()


def test_with_two_decoder_layers_the_window_has_influence_through_other_tokens(small):
    assert (influence(small(encoder_layers=0), 13)[neighbour_mask(6, 5, 3)[13]] > 0).any()


def test_without_masks_a_token_influences_its_own_output(small):
    assert influence(small(encoder_layers=0, decoder_layers=1, masks=(False,) * 3), 13)[13] > 0


def test_queries_change_the_output(small):
    model = small()
    tokens = draw_tokens(model)
    before = model(tokens)
    with torch.no_grad():
        model.decoder[1].query.zero_()
    assert not torch.allclose(model(tokens), before, atol=1e-3)


# ------------------------------------------------------------------------------------------------ initialisation


def test_layers_are_initialised_as_copies_except_for_linear_weights(small):
    model = small()
    for layers in (model.encoder, model.decoder):
        first, second = (dict(layer.named_parameters()) for layer in layers)
        drawn = {n for n in first if n.endswith("weight") and ("feed_forward" in n or "out_proj" in n)}
        assert {name for name in first if not torch.equal(first[name], second[name])} == drawn
    attentions = model.decoder[0].first, model.decoder[0].second
    assert not torch.equal(attentions[0].in_proj_weight, attentions[1].in_proj_weight)


def test_linear_layers_are_initialised_xavier_uniform_with_zero_biases(small):
    for layer in (module for module in small(width=64, hidden=256).modules() if isinstance(module, nn.Linear)):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()


def test_queries_are_initialised_standard_normal(small):
    query = small(width=64).decoder[0].query
    assert (query.mean().item(), query.std().item()) == (pytest.approx(0, abs=0.08), pytest.approx(1, abs=0.05))


def test_sine_positions_are_not_part_of_a_checkpoint(small):
    assert not [name for name in small(position="sine").state_dict() if name.startswith("position")]


# ------------------------------------------------------------------------------------------------ sites


def test_sites_are_in_the_order_of_execution(small):
    model, called = small(), []
    for site in model.sites():
        site.residual.register_forward_hook(lambda *_, key=(site.layer_id, site.kind): called.append(key))
    model(draw_tokens(model))
    encoder = [(i, kind) for i in (0, 1) for kind in ("attn", "ffn")]
    decoder = [(i, kind) for i in (2, 3) for kind in ("self", "cross", "ffn")]
    assert called == encoder + decoder == [(site.layer_id, site.kind) for site in model.sites()]


def test_every_site_receives_all_images(small):
    model, shapes = small(), []
    for site in model.sites():
        site.residual.register_forward_pre_hook(lambda _, inputs: shapes.extend(tensor.shape for tensor in inputs))
    model(draw_tokens(model, 3))
    assert set(shapes) == {(3, 30, 16)}


def test_every_site_receives_the_context_of_the_call(small):
    model, contexts, context = small(), [], object()
    for site in model.sites():
        site.residual.register_forward_pre_hook(lambda *words: contexts.append(words[2]["context"]), with_kwargs=True)
    model(draw_tokens(model), context)
    assert contexts == [context] * len(model.sites())


def test_the_published_size_has_8_12_and_20_sites():
    kinds = [site.kind for site in MaskedTransformer((14, 14), **SMALL).sites()]
    assert (kinds.count("ffn"), len(kinds) - kinds.count("ffn"), len(kinds)) == (8, 12, 20)


# ------------------------------------------------------------------------------------------------ determinism


def test_a_step_is_deterministic(small, device):
    torch.use_deterministic_algorithms(True)
    try:
        model, gradients = small().to(device).train(), []
        for _ in range(2):
            torch.manual_seed(5)
            model.zero_grad()
            model(draw_tokens(model).to(device)).square().mean().backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(("changes", "message"), [
    ({"width": 18, "heads": 4}, r"model\.width must be even and a multiple of model\.heads, got 18 and 4"),
    ({"width": 15, "heads": 3}, r"model\.width must be even"),
    ({"heads": 0}, r"model\.heads must be at least 1, got 0"),
    ({"hidden": 0}, r"model\.hidden must be at least 1"),
    ({"encoder_layers": -1}, r"model\.encoder_layers must be 0 or more, got -1"),
    ({"decoder_layers": 0}, r"model\.decoder_layers must be at least 1"),
    ({"dropout": 1.0}, r"model\.dropout must be at least 0 and below 1, got 1\.0"),
    ({"position": "rotary"}, r"model\.position must be one of learned, sine, got 'rotary'"),
    ({"window": 0}, r"model\.window must be at least 1, got 0"),
    ({"window": 7}, r"model\.window 7 masks all 6 x 5 tokens for a token in the middle"),
])  # fmt: skip
def test_an_invalid_option_raises_an_error_with_its_key(small, changes, message):
    with pytest.raises(AnoframeError, match=message):
        small(**changes)


def test_a_window_over_all_tokens_is_allowed_without_masks(small):
    assert small(window=7, masks=(False,) * 3)
