"""The masked transformer: its published numbers, its layers against the plain ones of torch, and who sees whom."""

import math

import pytest
import torch
from torch import nn

from anoframe.errors import AnoframeError
from anoframe.models.uniad.transformer import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    LearnedPosition,
    MaskedTransformer,
    Residual,
    SinePosition,
    feed_forward,
    neighbour_mask,
)

SMALL = {"width": 16, "heads": 2, "hidden": 32}


@pytest.fixture
def small():
    """Builds a small transformer on 6 x 5 tokens, in eval mode; 2 + 2 layers unless told otherwise."""

    def build(**changes):
        torch.manual_seed(0)
        arguments = {**SMALL, "encoder_layers": 2, "decoder_layers": 2, "window": 3, **changes}
        return MaskedTransformer(arguments.pop("grid", (6, 5)), **arguments).eval()

    return build


def tokens_of(model, batch=2, seed=1):
    height, width = len(model.position.rows), len(model.position.columns)
    return torch.randn(batch, height * width, SMALL["width"], generator=torch.Generator().manual_seed(seed))


def count(module):
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
        (lambda: MaskedTransformer((14, 14)), 7_577_600),  # less the two projections of 7,717,392
    ],
    ids=["attention", "feed-forward", "encoder layer", "decoder layer", "positions", "all"],
)
def test_there_are_as_many_parameters_as_published(module, expected):
    assert count(module()) == expected


def test_a_mask_is_no_part_of_a_checkpoint(small):
    assert not [name for name in small().state_dict() if "mask" in name]


# ------------------------------------------------------------------------------------------------ the mask


@pytest.mark.parametrize(("height", "width", "window"), [(14, 14, 7), (16, 16, 8), (5, 9, 3), (4, 6, 1), (7, 5, 4)])
def test_the_mask_is_that_of_its_definition(height, width, window):
    mask = neighbour_mask(height, width, window)
    for looking in range(height * width):
        for seen in range(height * width):
            rows, columns = abs(looking // width - seen // width), abs(looking % width - seen % width)
            assert bool(mask[looking, seen]) == (rows <= window // 2 and columns <= window // 2)


@pytest.mark.parametrize(
    ("side", "window", "blocked", "fewest", "most"),
    [(14, 7, 7_396, 16, 49), (16, 7, 10_000, 16, 49), (16, 8, 15_376, 25, 81)],
)
def test_as_many_places_are_blocked_as_published(side, window, blocked, fewest, most):
    mask = neighbour_mask(side, side, window)
    assert (int(mask.sum()), int(mask.sum(1).min()), int(mask.sum(1).max())) == (blocked, fewest, most)


def test_the_mask_is_symmetric_and_hides_a_place_from_itself():
    mask = neighbour_mask(14, 14, 7)
    assert torch.equal(mask, mask.T)
    assert mask.diagonal().all()


# ------------------------------------------------------------------------------------------------ beside plain torch


def test_attention_is_that_of_torch_with_the_same_weights():
    torch.manual_seed(0)
    plain, ours = nn.MultiheadAttention(16, 2, batch_first=True).eval(), Attention(16, 2, 0.1).eval()
    nn.init.normal_(plain.in_proj_bias)
    nn.init.normal_(plain.out_proj.bias)
    ours.load_state_dict(plain.state_dict())
    query, key, value = torch.randn(3, 4, 30, 16)
    blocked = neighbour_mask(6, 5, 3)
    added = torch.zeros(30, 30).masked_fill(blocked, -math.inf)
    expected = plain(query, key, value, attn_mask=blocked)[0]
    torch.testing.assert_close(ours(query, key, value, added), expected)
    torch.testing.assert_close(ours(key, key, value, added), plain(key, key, value, attn_mask=blocked)[0])
    torch.testing.assert_close(ours(query, key, value, None), plain(query, key, value)[0])


def test_a_query_for_all_images_is_that_query_for_each():
    attention = Attention(16, 2, 0.0)
    query, key = torch.randn(1, 30, 16), torch.randn(4, 30, 16)
    expected = attention(query.expand_as(key), key, key, None)
    torch.testing.assert_close(attention(query, key, key, None), expected)


def test_attention_starts_as_that_of_torch_does():
    torch.manual_seed(3)
    plain = nn.MultiheadAttention(16, 2)
    torch.manual_seed(3)
    ours = Attention(16, 2, 0.1)
    assert ours.in_proj_weight.std().item() == pytest.approx(plain.in_proj_weight.std().item(), rel=0.05)
    assert ours.in_proj_weight.abs().max() <= math.sqrt(6 / (16 + 48))
    assert not ours.in_proj_bias.any()


def test_attention_weights_drop_out_in_train_mode_and_keep_their_mean():
    torch.manual_seed(0)
    attention = Attention(8, 2, 0.5)
    with torch.no_grad():
        attention.in_proj_weight[:16] = 0  # every key counts the same
        attention.in_proj_weight[16:] = torch.eye(8)
        attention.out_proj.weight.copy_(torch.eye(8))
        attention.out_proj.bias.zero_()
    ones = torch.ones(64, 50, 8)
    with torch.no_grad():
        shares = attention(ones, ones, ones, None)  # of the weights that were kept, doubled
        assert shares.mean().item() == pytest.approx(1, abs=0.01)
        assert shares.std().item() == pytest.approx(1 / math.sqrt(50), rel=0.05)
        torch.testing.assert_close(attention.eval()(ones, ones, ones, None), ones)


def test_the_hidden_part_of_a_feed_forward_drops_out_in_train_mode_and_keeps_its_mean():
    torch.manual_seed(0)
    part = feed_forward(4, 50, 0.5)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.zero_()
        part[0].bias.fill_(1 / 50)
        part[-1].weight.fill_(1)  # sums what is hidden
        found = part(torch.zeros(2000, 4))
        assert (found.mean().item(), found.std().item()) == (
            pytest.approx(1, abs=0.02),
            pytest.approx(1 / 50**0.5, rel=0.05),
        )
        torch.testing.assert_close(part.eval()(torch.zeros(3, 4)), torch.ones(3, 4))


class Reference(nn.Module):
    """The same written down plainly, sequence first, every layer told its mask; weights are those of a transformer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def attend(self, ours, query, key, value, mask):
        plain = nn.MultiheadAttention(ours.width, ours.heads, ours.dropout).train(ours.training)
        plain.load_state_dict(ours.state_dict())
        return plain(query, key, value, attn_mask=mask)[0]

    def forward(self, tokens):
        model, x = self.model, tokens.transpose(0, 1)
        place = model.position()[:, None]
        masks = [model.mask.isinf() if used else None for used in model.masks]
        for layer in model.encoder:
            x = layer.residuals["attn"].norm(x + self.attend(layer.attention, x + place, x + place, x, masks[0]))
            x = layer.residuals["ffn"].norm(x + layer.feed_forward(x))
        memory, out = x, x
        for layer in model.decoder:
            t = torch.stack([layer.query] * tokens.shape[0], 1)
            t = layer.residuals["self"].norm(t + self.attend(layer.first, t + place, memory + place, memory, masks[1]))
            t = layer.residuals["cross"].norm(t + self.attend(layer.second, t + place, out + place, out, masks[2]))
            out = layer.residuals["ffn"].norm(t + layer.feed_forward(t))
        return model.norm(out).transpose(0, 1)


@pytest.mark.parametrize("masks", [(True, True, True), (False, True, False), (True, False, False), (False,) * 3])
def test_it_is_what_its_definition_says(small, masks):
    model = small(masks=masks)
    for parameter in model.parameters():  # whatever was learned: biases and norms too
        nn.init.normal_(parameter, std=0.3)
    tokens = tokens_of(model)
    torch.testing.assert_close(model(tokens), Reference(model)(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 1e-9])
def test_its_gradients_are_those_of_its_definition(small, dropout):
    model = small(dropout=dropout).train()  # a coin that never falls, so that both ways to attend are taken
    tokens = tokens_of(model)
    found = []
    for forward in (model, Reference(model)):
        model.zero_grad()
        forward(tokens).square().mean().backward()
        found.append({name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()})
    ours, plain = found
    known = [name for name, gradient in plain.items() if gradient is not None]  # copies of attentions keep theirs
    assert "decoder.1.query" in known
    for name in known:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-3, atol=1e-7)


def test_without_queries_the_decoder_goes_on_from_what_it_is_given(small):
    model = small(queries=False)
    memory, start = tokens_of(model), tokens_of(model, seed=2)
    place, mask = model.position(), model.mask
    out = start
    for layer in model.decoder:
        t = layer.residuals["self"](out, layer.first(out + place, out + place, out, mask))
        t = layer.residuals["cross"](t, layer.second(t + place, memory + place, memory, mask))
        out = layer.residuals["ffn"](t, layer.feed_forward(t))
    torch.testing.assert_close(model.decode(memory, place, start), model.norm(out))


# ------------------------------------------------------------------------------------------------ who sees whom


def seen(model, place):
    """Of the output at a place, the derivative's size by each token of the input: `[L]`."""
    tokens = tokens_of(model, 1).requires_grad_()
    (model(tokens)[0, place] * torch.arange(16)).sum().backward()  # the plain sum of what was normalised is constant
    return tokens.grad[0].abs().sum(1)


@pytest.mark.parametrize("place", [0, 13, 29])
def test_with_one_decoder_layer_nothing_leaks_out_of_the_window(small, place):
    model = small(encoder_layers=0, decoder_layers=1)
    derivative, blocked = seen(model, place), neighbour_mask(6, 5, 3)[place]
    assert derivative[blocked].tolist() == [0.0] * int(blocked.sum())
    assert (derivative[~blocked] > 0).any()


def test_two_decoder_layers_see_the_window_by_way_of_others(small):
    assert (seen(small(encoder_layers=0), 13)[neighbour_mask(6, 5, 3)[13]] > 0).any()


def test_without_masks_a_place_sees_itself(small):
    assert seen(small(encoder_layers=0, decoder_layers=1, masks=(False,) * 3), 13)[13] > 0


def test_queries_matter(small):
    model = small()
    tokens = tokens_of(model)
    before = model(tokens)
    with torch.no_grad():
        model.decoder[1].query.zero_()
    assert not torch.allclose(model(tokens), before, atol=1e-3)


# ------------------------------------------------------------------------------------------------ the start


def test_layers_start_as_copies_but_for_their_linear_weights(small):
    model = small()
    for layers in (model.encoder, model.decoder):
        one, other = (dict(layer.named_parameters()) for layer in layers)
        drawn = {n for n in one if n.endswith("weight") and ("feed_forward" in n or "out_proj" in n)}
        assert {name for name in one if not torch.equal(one[name], other[name])} == drawn
    first, second = model.decoder[0].first, model.decoder[0].second
    assert not torch.equal(first.in_proj_weight, second.in_proj_weight)


def test_linear_layers_start_xavier_uniform_without_biases(small):
    for layer in (module for module in small(width=64, hidden=256).modules() if isinstance(module, nn.Linear)):
        bound = math.sqrt(6 / sum(layer.weight.shape))
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()


def test_queries_start_normal(small):
    query = small(width=64).decoder[0].query
    assert (query.mean().item(), query.std().item()) == (pytest.approx(0, abs=0.08), pytest.approx(1, abs=0.05))


# ------------------------------------------------------------------------------------------------ positions


def test_a_learned_position_has_its_column_first():
    position = LearnedPosition((3, 4), 8)
    code = position().view(3, 4, 8)
    for row in range(3):
        for column in range(4):
            assert torch.equal(code[row, column], torch.cat([position.columns[column], position.rows[row]]))


def test_learned_positions_start_between_0_and_1():
    code = LearnedPosition((14, 14), 256)()
    assert 0 <= code.min() < 0.01
    assert 0.99 < code.max() <= 1


def test_a_sine_position_is_that_of_its_formula():
    height, width, half = 3, 4, 6
    code = SinePosition((height, width), 2 * half)().view(height, width, 2 * half)
    for row in range(height):
        for column in range(width):
            for k in range(half):
                wave = math.sin if k % 2 == 0 else math.cos
                for place, length, offset in ((row, height, 0), (column, width, half)):
                    angle = (place + 1) / (length + 1e-6) * 2 * math.pi / 10000 ** (2 * (k // 2) / half)
                    assert code[row, column, offset + k].item() == pytest.approx(wave(angle), abs=1e-5)


def test_sine_positions_learn_nothing(small):
    assert not [name for name in small(position="sine").state_dict() if name.startswith("position")]


# ------------------------------------------------------------------------------------------------ sites


class Adds(nn.Module):
    def __init__(self, sequential):
        super().__init__()
        self.sequential = sequential

    def forward(self, tokens):
        return 0.5 * tokens.roll(1, 1)


@pytest.fixture
def residual():
    residual = Residual(16, 0.1).eval()
    nn.init.normal_(residual.norm.weight)
    return residual


def test_without_an_adapter_a_residual_is_post_norm_to_the_bit(residual):
    x, value = torch.randn(2, 3, 7, 16)
    assert torch.equal(residual(x, value), residual.norm(x + value))


def test_a_parallel_adapter_sees_the_input_and_is_added_before_the_norm(residual):
    x, value = torch.randn(2, 3, 7, 16)
    residual.adapter = Adds(sequential=False)
    torch.testing.assert_close(residual(x, value), residual.norm(x + value + 0.5 * x.roll(1, 1)))


def test_a_sequential_adapter_sees_the_output_and_is_added_to_it(residual):
    x, value = torch.randn(2, 3, 7, 16)
    out = residual(x, value)
    residual.adapter = Adds(sequential=True)
    torch.testing.assert_close(residual(x, value), out + 0.5 * out.roll(1, 1))


def test_an_adapter_leaves_dropout_to_the_value(residual):
    residual.adapter = Adds(sequential=False)
    x = torch.randn(3, 7, 16)
    assert torch.equal(residual.train()(x, torch.zeros_like(x)), residual.eval()(x, torch.zeros_like(x)))


def test_sites_are_in_the_order_of_execution(small):
    model, called = small(), []
    for site in model.sites():
        site.residual.register_forward_hook(lambda *_, which=(site.layer_id, site.kind): called.append(which))
    model(tokens_of(model))
    encoder = [(i, kind) for i in (0, 1) for kind in ("attn", "ffn")]
    decoder = [(i, kind) for i in (2, 3) for kind in ("self", "cross", "ffn")]
    assert called == encoder + decoder == [(site.layer_id, site.kind) for site in model.sites()]


def test_every_site_sees_all_images(small):
    model, shapes = small(), []
    for site in model.sites():
        site.residual.register_forward_pre_hook(lambda _, words: shapes.extend(word.shape for word in words))
    model(tokens_of(model, 3))
    assert set(shapes) == {(3, 30, 16)}


def test_the_published_size_has_8_12_and_20_sites():
    kinds = [site.kind for site in MaskedTransformer((14, 14), **SMALL).sites()]
    assert (kinds.count("ffn"), len(kinds) - kinds.count("ffn"), len(kinds)) == (8, 12, 20)


# ------------------------------------------------------------------------------------------------ repeated


def test_a_step_is_deterministic(small, device):
    torch.use_deterministic_algorithms(True)
    try:
        model, gradients = small().to(device).train(), []
        for _ in range(2):
            torch.manual_seed(5)
            model.zero_grad()
            model(tokens_of(model).to(device)).square().mean().backward()
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(("changes", "message"), [
    ({"width": 18, "heads": 4}, r"model\.width is even and a multiple of model\.heads, got 18 and 4"),
    ({"width": 15, "heads": 3}, r"model\.width is even"),
    ({"heads": 0}, r"model\.heads is at least 1, got 0"),
    ({"hidden": 0}, r"model\.hidden is at least 1"),
    ({"encoder_layers": -1}, r"model\.encoder_layers is 0 or more, got -1"),
    ({"decoder_layers": 0}, r"model\.decoder_layers is at least 1"),
    ({"dropout": 1.0}, r"model\.dropout lies between 0 and 1, got 1\.0"),
    ({"position": "rotary"}, r"model\.position is one of learned, sine, got 'rotary'"),
    ({"window": 0}, r"model\.window is at least 1, got 0"),
    ({"window": 7}, r"model\.window 7 leaves the middle of 6 x 5 tokens nothing to look at"),
])  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_its_key(small, changes, message):
    with pytest.raises(AnoframeError, match=message):
        small(**changes)


def test_a_window_that_hides_all_is_fine_where_nothing_is_masked(small):
    assert small(window=7, masks=(False,) * 3)
