import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.uniad.feature_alignment import FeatureJitter, align_levels

# ------------------------------------------------------------------------------------------------ alignment


def test_levels_are_concatenated_in_their_order():
    levels = [torch.full((2, channels, side, side), float(side)) for channels, side in ((3, 8), (5, 4), (2, 2))]
    expected = [torch.full((2, channels, 4, 4), float(side)) for channels, side in ((3, 8), (5, 4), (2, 2))]
    torch.testing.assert_close(align_levels(levels, (4, 4)), torch.cat(expected, 1))


def test_corners_are_aligned():
    level = torch.randn(1, 2, 14, 10)
    aligned = align_levels([level], (7, 5))
    assert torch.equal(aligned[..., [0, 0, -1, -1], [0, -1, 0, -1]], level[..., [0, 0, -1, -1], [0, -1, 0, -1]])


def test_a_level_with_the_size_of_the_grid_is_unchanged():
    level = torch.randn(2, 3, 7, 5)
    assert torch.equal(align_levels([level], (7, 5)), level)


def test_a_linear_ramp_stays_linear():
    ramp = torch.linspace(0, 1, 112).expand(1, 1, 56, 112)
    expected = torch.linspace(0, 1, 14).expand(1, 1, 7, 14)
    torch.testing.assert_close(align_levels([ramp], (7, 14)), expected)


# ------------------------------------------------------------------------------------------------ noise


def draw_noise(jitter, tokens, seed=0):
    torch.manual_seed(seed)
    return jitter(tokens) - tokens


def test_the_noise_has_the_published_norm():
    tokens = torch.randn(1, 10_000, 272, generator=torch.Generator().manual_seed(1))
    noise = draw_noise(FeatureJitter(), tokens)
    ratio = noise.square().sum(2) / tokens.square().sum(2)
    assert ratio.mean() == pytest.approx(400 / 272, rel=0.01)


def test_the_noise_is_proportional_to_the_norm_of_each_token():
    tokens = torch.ones(1, 3, 500) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    noise = draw_noise(FeatureJitter(), tokens)[0]
    assert noise.std(1).div(tokens[0, :, 0] * 20 / 500**0.5).tolist() == [pytest.approx(1, abs=0.1)] * 3


def test_a_zero_token_gets_no_noise():
    assert not draw_noise(FeatureJitter(), torch.zeros(2, 3, 8)).any()


def test_every_token_of_every_image_gets_other_noise():
    noise = draw_noise(FeatureJitter(), torch.ones(4, 5, 8)).view(20, 8)
    assert len(noise.unique(dim=0)) == 20


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"p": 0.0}])
def test_without_noise_tokens_and_generator_are_unchanged(options):
    tokens = torch.randn(2, 3, 8)
    before = torch.get_rng_state()
    assert torch.equal(FeatureJitter(**options)(tokens), tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_noise_in_eval_mode():
    tokens = torch.randn(2, 3, 8)
    before = torch.get_rng_state()
    assert torch.equal(FeatureJitter().eval()(tokens), tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_share_p_of_the_batches_gets_noise():
    torch.manual_seed(0)
    jitter, tokens = FeatureJitter(p=0.3), torch.ones(1, 1, 2)
    with_noise = sum(not torch.equal(jitter(tokens), tokens) for _ in range(1000))
    assert with_noise == pytest.approx(300, abs=45)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"alpha": -1.0}, r"model\.jitter\.alpha must be 0 or more, got -1\.0"),
    ({"p": 1.5}, r"model\.jitter\.p must be between 0 and 1, got 1\.5"),
])  # fmt: skip
def test_an_invalid_option_raises_an_error_with_its_key(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        FeatureJitter(**arguments)
