"""WinCLIP on the published network, ViT-B-16-plus-240, with random weights."""

import pytest
import torch

from anoframe.backbones.clip import ClipEncoder
from anoframe.features.tree import flatten
from anoframe.models.winclip.model import WinCLIP

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def detector():
    return WinCLIP(ClipEncoder("open_clip:ViT-B-16-plus-240", "random"))


@pytest.fixture(scope="module")
def features(detector):
    generator = torch.Generator().manual_seed(1)
    return detector.encode(torch.randint(0, 256, (1, 3, 240, 240), dtype=torch.uint8, generator=generator))


def test_features_have_the_published_sizes(features):  # W8
    shapes = {name: tuple(value.shape) for name, value in features.items()}
    assert shapes == {
        "image": (1, 640),
        "windows2": (1, 196, 640),
        "windows3": (1, 169, 640),
        "patches": (1, 225, 896),
    }


def test_the_features_of_an_image_take_as_many_bytes_as_documented(features):
    assert sum(value.nbytes for value in flatten(features).values()) == 1_743_360


def test_the_network_has_the_published_number_of_parameters(detector):  # W8
    assert sum(parameter.numel() for parameter in detector.backbone.network.parameters()) == 208_377_345


def test_a_window_of_all_patches_gives_the_embedding_of_the_image(detector):  # W9
    generator = torch.Generator().manual_seed(2)
    tokens = detector.backbone.image_tokens(torch.rand(1, 3, 240, 240, generator=generator))
    window = detector.backbone.encode_windows(tokens.sequence, torch.arange(225)[None])
    torch.testing.assert_close(window[:, 0], tokens.embedding, atol=1e-4, rtol=0)


def test_images_of_240_pixels_fit(detector):
    detector.check_image_size(240, 240)
