"""A network that was built before is not built again until it is needed, and is the same then."""

import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from anoframe.backbones import FeaturePyramid
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import NETWORK_CACHE

SMALL = "test_resnet"
LEVELS = (3, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOFRAME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / NETWORK_CACHE


@pytest.fixture
def weights(tmp_path):
    """The path of a file of weights, and a function that replaces its content by weights of another seed."""
    path = tmp_path / "weights.safetensors"

    def write(seed):
        torch.manual_seed(seed)
        save_file(timm.create_model(SMALL).state_dict(), path)
        return path

    write(0)
    return path, write


def built(pyramid):
    return "network" in pyramid._modules


def test_a_known_network_is_built_at_its_first_image(weights):
    first, second = (FeaturePyramid(SMALL, LEVELS, str(weights[0])) for _ in range(2))
    assert (built(first), built(second)) == (True, False)
    for name in ("levels", "channels", "strides", "sha256", "weights"):
        assert getattr(first, name) == getattr(second, name)
    assert first.describe() == second.describe()
    assert first.encoding() == second.encoding()
    assert not built(second)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert all(torch.equal(a, b) for a, b in zip(first(images), second(images), strict=True))
    assert not [name for name, value in second.named_parameters() if value.requires_grad]
    assert not second.network.training


def test_a_known_network_is_built_on_the_device_of_the_pyramid():
    FeaturePyramid(SMALL, LEVELS, "random")
    pyramid = FeaturePyramid(SMALL, LEVELS, "random").to("meta")
    assert {value.device.type for value in pyramid.network.parameters()} == {"meta"}


def test_a_network_that_is_built_later_draws_no_random_number():
    FeaturePyramid(SMALL, LEVELS, "random")
    pyramid = FeaturePyramid(SMALL, LEVELS, "random")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert built(pyramid) is False
    pyramid.network  # noqa: B018
    assert torch.rand(1) == expected


@pytest.mark.parametrize("other", [{"levels": (2,)}, {"weights": "random:1"}, {"name": "test_efficientnet"}])
def test_another_network_has_other_facts(other):
    section = {"name": SMALL, "levels": LEVELS, "weights": "random"}
    FeaturePyramid(**section)
    assert built(FeaturePyramid(**section | other))


def test_a_changed_file_of_weights_is_read_again(weights):
    path, write = weights
    before = FeaturePyramid(SMALL, LEVELS, str(path))
    write(1)
    after = FeaturePyramid(SMALL, LEVELS, str(path))
    assert built(after)
    assert after.sha256 != before.sha256


def test_a_file_that_changed_unseen_is_an_error(weights, monkeypatch):
    path, _ = weights
    FeaturePyramid(SMALL, LEVELS, str(path))
    known = FeaturePyramid(SMALL, LEVELS, str(path))
    weights[1](1)
    with pytest.raises(AnoframeError, match="--cache clear"):
        known.network  # noqa: B018


def test_damaged_facts_are_found_out_again(cache):
    expected = FeaturePyramid(SMALL, LEVELS, "random").sha256
    (file,) = cache.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    again = FeaturePyramid(SMALL, LEVELS, "random")
    assert built(again)
    assert again.sha256 == expected


def test_known_networks_need_no_timm():
    code = (
        "import sys; from anoframe.backbones import FeaturePyramid\n"
        f"pyramid = FeaturePyramid('{SMALL}', (3, 2), 'random'); pyramid.encoding()\n"
        "print([name for name in ('timm', 'torchvision', 'torch._dynamo') if name in sys.modules])"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "timm" in outputs[0]
    assert outputs[1].strip() == "[]"
