"""Frozen networks in ONNX Runtime and OpenVINO, against torch."""

import importlib.metadata

import pytest
import torch

from anoframe.backbones import build_backbone, engines
from anoframe.backbones.timm_pyramid import FeaturePyramid
from anoframe.config.comparison import fill_later_keys
from anoframe.errors import AnoframeError
from anoframe.utils.parallel import map_images
from anoframe.utils.tensor_cache import ENGINE_CACHE, clear_caches

OTHERS = ("onnxruntime", "openvino")
SECTION = {"name": "test_efficientnet", "levels": (1, 2), "weights": "random"}
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANOFRAME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / ENGINE_CACHE


@pytest.fixture(params=OTHERS)
def engine(request):
    pytest.importorskip("onnx")
    pytest.importorskip(request.param)
    return request.param


def images(count=3, height=64, width=48):
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_features_are_those_of_torch(engine):
    expected = FeaturePyramid(**SECTION)(images())
    got = FeaturePyramid(**SECTION, engine=engine)(images())
    for ours, reference in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        assert ours.shape == reference.shape
        assert (ours - reference).abs().max() <= 1e-4 * reference.abs().max()


def test_the_batch_and_the_threads_change_no_byte(engine):
    pyramid = FeaturePyramid(**SECTION, engine=engine)
    together = pyramid(images(6))
    alone = [pyramid(image[None]) for image in images(6)]
    in_threads = map_images(pyramid, images(6))
    for level, whole in enumerate(together):
        assert torch.equal(whole, torch.cat([maps[level] for maps in alone]))
        assert torch.equal(whole, torch.cat([maps[level] for maps in in_threads]))


def test_features_stay_when_the_next_image_is_computed(engine):
    pyramid = FeaturePyramid(**SECTION, engine=engine)
    first = pyramid(images(1))
    copy = [maps.clone() for maps in first]
    pyramid(255 - images(1))
    assert all(torch.equal(maps, again) for maps, again in zip(first, copy, strict=True))


def test_a_graph_is_exported_once_and_read_again(engine, cache, monkeypatch):
    before = FeaturePyramid(**SECTION, engine=engine)(images())
    assert len(list(cache.rglob("*.safetensors"))) == 1
    monkeypatch.setattr(engines, "export_graph", None)  # calling it would raise TypeError
    after = FeaturePyramid(**SECTION, engine=engine)(images())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_damaged_graph_is_exported_again(engine, cache):
    before = FeaturePyramid(**SECTION, engine=engine)(images())
    (file,) = cache.rglob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    after = FeaturePyramid(**SECTION, engine=engine)(images())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_other_weights_and_image_sizes_have_other_graphs(engine, cache):
    FeaturePyramid(**SECTION, engine=engine)(images())
    pyramid = FeaturePyramid(**SECTION | {"weights": "random:1"}, engine=engine)
    pyramid(images())
    pyramid(images(1, 32, 32))
    assert len(list(cache.rglob("*.safetensors"))) == 3
    assert clear_caches(cache.parent) > 0
    assert not list(cache.rglob("*.safetensors"))


def test_results_name_the_engine_and_its_version(engine):
    pyramid = FeaturePyramid(**SECTION, engine=engine)
    version = {"engine": engine, "engine_version": importlib.metadata.version(engine)}
    assert version.items() <= pyramid.describe().items()
    assert version.items() <= pyramid.encoding().items()
    assert pyramid.with_levels((1,)).engine == engine


def test_another_device_computes_in_torch(engine):
    pyramid = FeaturePyramid(**SECTION, engine=engine).to("meta")
    assert [maps.device.type for maps in pyramid(images().to("meta"))] == ["meta", "meta"]
    assert not {"engine", "engine_version"} & {*pyramid.describe()}


def test_an_export_has_the_network_of_torch(engine):
    pyramid = FeaturePyramid(**SECTION, engine=engine)
    program = torch.export.export(pyramid, (images(1),))
    for ours, expected in zip(program.module()(images(1)), FeaturePyramid(**SECTION)(images(1)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_network_without_a_graph_is_an_error(engine):
    class Complex(torch.nn.Module):
        def forward(self, image):
            return [torch.linalg.eigvals(image.mean(1)).real]

    with pytest.raises(AnoframeError, match=r"--model\.backbone\.engine torch"):
        engines.EngineNetwork(engine, Complex, ())(torch.zeros(1, 3, 8, 8))


def test_torch_stands_in_no_description():
    pyramid = FeaturePyramid(**SECTION)
    assert not {"engine", "engine_version"} & {*pyramid.describe(), *pyramid.encoding()}


@pytest.mark.parametrize("package", ["onnx", *OTHERS])
def test_a_missing_package_is_an_error_that_names_the_extra(package, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == package:
            raise importlib.metadata.PackageNotFoundError
        return "1.0" if name in ("onnx", *OTHERS) else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    chosen, extra = ("openvino", "openvino") if package == "openvino" else ("onnxruntime", "onnx")
    with pytest.raises(AnoframeError, match=rf"needs the package {package}.*anoframe\[{extra}\]"):
        build_backbone({**SECTION, "engine": chosen})


def test_an_unknown_engine_is_an_error():
    with pytest.raises(AnoframeError, match="onnxruntime"):
        build_backbone({**SECTION, "engine": "onnx"})


@pytest.mark.parametrize("other", [{"precision": "bfloat16"}, {"compile": True}])
def test_an_engine_has_its_own_precision_and_compilation(other, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    with pytest.raises(AnoframeError, match="float32"):
        FeaturePyramid(**SECTION, engine="onnxruntime", **other)


def test_runs_without_the_key_used_torch():
    assert fill_later_keys({"model.backbone.levels": (1,)})["model.backbone.engine"] == "torch"
    assert "model.backbone.engine" not in fill_later_keys({"model.backbone.name": "open_clip:ViT-B-16"})
