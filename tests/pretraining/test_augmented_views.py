"""Views: functions of the image and the generator alone, with the distributions of their settings."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from anoframe.errors import AnoframeError
from anoframe.pretraining.views import (
    AugmentedViews,
    ViewSettings,
    blur,
    draw_crop,
    draw_view,
    jitter_colors,
    view_settings,
)
from anoframe.training.seeding import random_states

PAPER = view_settings({"preset": "paper", "size": 32})
INDUSTRIAL = view_settings({"preset": "industrial", "size": 32})
RAMP = torch.arange(64).mul(3).expand(3, 64, 64).to(torch.uint8)  # rises from left to right


@pytest.mark.parametrize("settings", [PAPER, INDUSTRIAL], ids=["paper", "industrial"])
def test_same_generator_same_view_and_another_one_another(settings, images):
    """S6."""
    draw = AugmentedViews(settings)
    first, again = (draw(images, 0, np.random.default_rng(5)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = draw(images, 0, np.random.default_rng(6))
    assert not torch.equal(first["first"], other["first"])
    assert not torch.equal(first["first"], first["second"])


def test_a_view_is_uint8_of_its_size_and_changes_nothing_else(images):
    before = images.pixels(0).clone()
    np.random.seed(1)  # noqa: NPY002
    states = str(random_states())
    for seed in range(20):
        view = draw_view(images.pixels(0), PAPER, np.random.default_rng(seed))
        assert view.dtype == torch.uint8
        assert view.shape == (3, 32, 32)
    assert str(random_states()) == states
    assert torch.equal(images.pixels(0), before)


def slopes(settings, axis):
    """Sign of the brightness difference of the two halves of views of a ramp."""
    ramp = RAMP if axis == 2 else RAMP.transpose(1, 2).contiguous()
    signs = []
    for seed in range(60):
        low, high = draw_view(ramp, settings, np.random.default_rng(seed)).float().mean(0).chunk(2, axis - 1)
        signs.append(float(high.mean() - low.mean()) > 0)
    return signs


def test_the_industrial_preset_never_flips():
    """S6."""
    no_hue = view_settings({"preset": "industrial", "size": 32, "jitter": (0.4, 0.4, 0.4, 0.0)})
    assert all(slopes(no_hue, 2))
    assert all(slopes(no_hue, 1))
    assert INDUSTRIAL.flip == INDUSTRIAL.vertical_flip == 0


def test_the_paper_preset_flips_half_of_the_views_horizontally():
    share = np.mean(slopes(PAPER, 2))
    assert 0.3 < share < 0.7
    assert all(slopes(view_settings({"size": 32, "flip": 0.0, "jitter_p": 0.0}), 1))


def test_crops_cover_the_shares_of_their_settings():
    rng = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(2000):
        top, left, height, width = draw_crop(rng, (200, 300), (0.08, 1.0), (3 / 4, 4 / 3))
        assert top >= 0 <= left
        assert top + height <= 200
        assert left + width <= 300
        shares.append(height * width / 60000)
        ratios.append(width / height)
    assert 0.075 < min(shares) < 0.1
    assert max(shares) > 0.85
    assert 0.7 < min(ratios) < 0.78
    assert 1.28 < max(ratios) < 1.51  # the whole image, cut to the largest ratio, after ten attempts


def test_an_elongated_image_falls_back_to_a_central_crop():
    top, left, height, width = draw_crop(np.random.default_rng(0), (20, 2000), (0.9, 1.0), (3 / 4, 4 / 3))
    assert (height, width) == (20, 27)
    assert (top, left) == (0, (2000 - 27) // 2)


def test_jitter_order_and_factors_follow_from_the_generator():
    view = RAMP.float() / 255
    rng = np.random.default_rng(3)
    factors = [float(rng.uniform(0.5, 1.5)) for _ in range(3)]
    shift, order = float(rng.uniform(-0.1, 0.1)), rng.permutation(4)
    expected = view
    operations = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for number in order:
        expected = operations[number](expected, [*factors, shift][number])
    assert torch.equal(jitter_colors(view, (0.5, 0.5, 0.5, 0.1), np.random.default_rng(3)), expected)


def test_separable_blur_equals_the_blur_of_torchvision():
    view = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blur(view, 1.3), tv.gaussian_blur(view, [7, 7], [1.3, 1.3]), rtol=0, atol=1e-5)


def test_without_augmentation_a_view_is_the_resized_image(images):
    plain = ViewSettings(40, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter_p=0.0, gray_p=0.0, blur_p=0.0)
    assert torch.equal(draw_view(images.pixels(1), plain, np.random.default_rng(0)), images.pixels(1))


def test_probabilities_of_greyscale():
    settings = ViewSettings(16, jitter_p=0.0, gray_p=0.2, blur_p=0.0)
    colour = torch.stack([RAMP[0], RAMP[0].flip(1), RAMP[0].T])
    grey = [
        torch.equal(view[0], view[1])
        for view in (draw_view(colour, settings, np.random.default_rng(seed)) for seed in range(400))
    ]
    assert 0.13 < np.mean(grey) < 0.27


def test_the_global_generator_of_python_is_not_used():
    random.seed(0)
    state = random.getstate()
    draw_view(RAMP, PAPER, np.random.default_rng(0))
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"preset": "papre"}, "did you mean 'paper'"),
        ({"flip": 1.5}, r"views\.flip is a probability"),
        ({"scale": (0.9, 0.1)}, r"views\.scale takes two rising numbers"),
        ({"jitter": (0.1, 0.1, 0.1, 0.7)}, "hue up to 0.5"),
        ({"size": 2}, "8 pixels or more"),
        ({"blurr_p": 0.1}, "blur_p"),
    ],
)
def test_wrong_settings_name_the_key(section, message):
    with pytest.raises(AnoframeError, match=message):
        view_settings({"size": 32, **section})


def test_keys_that_are_none_keep_the_preset():
    assert view_settings({"preset": "industrial", "size": 32, "flip": None}).flip == 0
    assert view_settings({"preset": "industrial", "size": 32, "flip": 0.25}).flip == 0.25
