import pytest
import torch

from anoframe.errors import AnoframeError
from anoframe.models.uniad.feature_alignment import FeatureJitter, aligned

# ------------------------------------------------------------------------------------------------ on one grid


def test_levels_lie_side_by_side_in_their_order():
    levels = [torch.full((2, channels, side, side), float(side)) for channels, side in ((3, 8), (5, 4), (2, 2))]
    found = aligned(levels, (4, 4))
    expected = [torch.full((2, channels, 4, 4), float(side)) for channels, side in ((3, 8), (5, 4), (2, 2))]
    torch.testing.assert_close(found, torch.cat(expected, 1))


def test_corners_lie_on_corners():
    level = torch.randn(1, 2, 14, 10)
    found = aligned([level], (7, 5))
    assert torch.equal(found[..., [0, 0, -1, -1], [0, -1, 0, -1]], level[..., [0, 0, -1, -1], [0, -1, 0, -1]])


def test_a_level_on_the_grid_stays_as_it_is():
    level = torch.randn(2, 3, 7, 5)
    assert torch.equal(aligned([level], (7, 5)), level)


def test_a_ramp_stays_a_ramp():
    ramp = torch.linspace(0, 1, 112).expand(1, 1, 56, 112)
    expected = torch.linspace(0, 1, 14).expand(1, 1, 7, 14)
    torch.testing.assert_close(aligned([ramp], (7, 14)), expected)


# ------------------------------------------------------------------------------------------------ noise


def noise_of(jitter, tokens, seed=0):
    torch.manual_seed(seed)
    return jitter(tokens) - tokens


def test_the_noise_is_as_long_as_published():
    tokens = torch.randn(10, 10_000, 272, generator=torch.Generator().manual_seed(1))
    noise = noise_of(FeatureJitter(), tokens)
    ratio = noise.square().sum(2) / tokens.square().sum(2)
    assert ratio.mean() == pytest.approx(400 / 272, rel=0.01)


def test_the_noise_grows_with_the_token_alone():
    tokens = torch.ones(1, 3, 500) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    noise = noise_of(FeatureJitter(), tokens)[0]
    assert noise.std(1).div(tokens[0, :, 0] * 20 / 500**0.5).tolist() == [pytest.approx(1, abs=0.1)] * 3


def test_a_token_of_zeros_gets_no_noise():
    assert not noise_of(FeatureJitter(), torch.zeros(2, 3, 8)).any()


def test_noise_differs_from_image_to_image_and_from_place_to_place():
    noise = noise_of(FeatureJitter(), torch.ones(4, 5, 8)).view(20, 8)
    assert len(noise.unique(dim=0)) == 20


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"p": 0.0}])
def test_no_noise_leaves_tokens_and_generator_as_they_are(options):
    tokens = torch.randn(2, 3, 8)
    before = torch.get_rng_state()
    assert torch.equal(FeatureJitter(**options)(tokens), tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_there_is_no_noise_in_eval_mode():
    tokens = torch.randn(2, 3, 8)
    before = torch.get_rng_state()
    assert torch.equal(FeatureJitter().eval()(tokens), tokens)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_share_of_the_batches_gets_noise():
    torch.manual_seed(0)
    jitter, tokens = FeatureJitter(p=0.3), torch.ones(1, 1, 2)
    noised = sum(not torch.equal(jitter(tokens), tokens) for _ in range(1000))
    assert noised == pytest.approx(300, abs=45)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"alpha": -1.0}, r"model\.jitter\.alpha is 0 or more, got -1\.0"),
    ({"p": 1.5}, r"model\.jitter\.p lies between 0 and 1, got 1\.5"),
])  # fmt: skip
def test_a_wrong_option_is_an_error_that_names_its_key(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        FeatureJitter(**arguments)
