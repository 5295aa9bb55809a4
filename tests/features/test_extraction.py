"""Feature loader: features are extracted once, then read to the same bits, and never from another image or network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor, nn

from anoframe.backbones import FeaturePyramid
from anoframe.data.cached_reader import Reader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.features.cache import FeatureCache, find_encoding
from anoframe.features.extraction import FeatureLoader
from anoframe.features.tree import flatten
from anoframe.models.base import Detector
from anoframe.tracking.tracker import Trackers
from anoframe.types import Sample
from anoframe.utils.tensor_cache import TensorCache

SMALL = Preprocessing(32, 32)


class Waves(nn.Module):
    """A backbone with two levels, the second in channels-last layout, that counts the images it encodes."""

    def __init__(self, name: str = "waves"):
        super().__init__()
        self.name = name
        self.images = 0

    def forward(self, images: Tensor) -> list[Tensor]:
        self.images += len(images)
        pixels = images / 255
        return [pixels.sin(), pixels[:, :2, ::2, ::2].cos().to(memory_format=torch.channels_last)]

    def encoding(self):
        return {"name": self.name}


class Plain(Detector):
    """Uses the features of its backbone."""

    def __init__(self, backbone: nn.Module | None = None):
        super().__init__(backbone or Waves())
        self.register_buffer("buffer", torch.empty(0))  # tells the device

    def compute_prediction(self, features, size):
        raise NotImplementedError


class Doubled(Plain):
    """Extracts other features without an encoding of its own."""

    def extract_features(self, images):
        return [2 * level for level in super().extract_features(images)]


class DoubledByEncode(Plain):
    """As `Doubled`, by overriding the wrapper."""

    def encode(self, images):
        return [2 * level for level in super().encode(images)]


class Described(Doubled):
    """Describes the features of its parent."""

    def encoding(self):
        return {"of": "Described", "backbone": self.backbone.encoding()}


class Tripled(Described):
    """Extracts other features than the parent whose encoding it inherits."""

    def extract_features(self, images):
        return [3 * level for level in super().extract_features(images)]


class SingleTensor(Plain):
    """Features are a tensor."""

    def extract_features(self, images):
        return super().extract_features(images)[0]

    def encoding(self):
        return {"of": "SingleTensor", "backbone": self.backbone.encoding()}


class Dictionary(Plain):
    """Features are a dict."""

    def encode(self, images):
        first, second = super().encode(images)
        return {"second": second, "first": first}

    def encoding(self):
        return {"of": "Dictionary", "backbone": self.backbone.encoding()}


class MessageRecorder:
    """A tracker that records the texts of all events."""

    def __init__(self):
        self.texts = []

    def log(self, event, **fields):
        self.texts.append(fields["text"])


@pytest.fixture
def messages():
    return MessageRecorder()


@pytest.fixture
def samples(tmp_path):
    """Seven images, the last three of them defects with a mask."""
    (tmp_path / "data").mkdir()
    samples = []
    for i in range(7):
        image, mask = tmp_path / "data" / f"{i}.png", tmp_path / "data" / f"{i}_mask.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(image)
        if i > 3:
            Image.fromarray(np.eye(40, dtype=np.uint8) * 255).resize((40, 40)).save(mask)
        samples.append(Sample(image, "part", "test", "cut" if i > 3 else "good", mask if i > 3 else None))
    return samples


@pytest.fixture
def feature_cache(tmp_path):
    return TensorCache(tmp_path / "features", 10**8)


@pytest.fixture
def load(samples, feature_cache, tmp_path, messages):
    """Function that loads the features of all samples, with caches of images and of features."""

    def run(detector=None, only=samples, cache=feature_cache, preprocessing=SMALL, batch_size=3):
        reader = Reader(preprocessing, TensorCache(tmp_path / "images", 10**8))
        return list(FeatureLoader(detector or Plain(), only, reader, batch_size, 0, messages, cache))

    return run


def join(batches):
    """All tensors and masks of several batches, each joined to one tensor."""
    flat = [flatten(batch.features) for batch in batches]
    tensors = {name: torch.cat([features[name] for features in flat]) for name in flat[0]}
    return [*tensors.values(), torch.cat([batch.masks for batch in batches])]


def are_equal(first, second):
    return all(one.equal(other) for one, other in zip(join(first), join(second), strict=True))


# ------------------------------------------------------------------------------------------------ equal features


@pytest.mark.parametrize("kind", [Plain, Described, SingleTensor, Dictionary])
def test_features_are_equal_without_cache_when_written_and_when_read(load, kind):
    plain, written, read = load(kind(), cache=None), load(kind()), load(kind())
    assert are_equal(plain, written)
    assert are_equal(plain, read)
    assert [type(batch.features) for batch in plain] == [type(batch.features) for batch in read]
    assert [list(flatten(batch.features)) for batch in plain] == [list(flatten(batch.features)) for batch in read]


def test_features_have_the_same_layout_when_written_and_when_read(load):
    for written, read in zip(load(), load(), strict=True):
        assert [level.stride() for level in written.features] == [level.stride() for level in read.features]


def test_samples_come_in_order_and_in_batches(load, samples):
    for batches in (load(cache=None), load(), load()):
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert [sample for batch in batches for sample in batch.samples] == samples


def test_masks_come_with_cached_features(load, samples):
    load()
    masks = torch.cat([batch.masks for batch in load()])
    assert masks.flatten(1).any(1).tolist() == [sample.is_defect for sample in samples]


def test_nothing_is_extracted_before_iteration(samples, messages, feature_cache):
    detector = Plain()
    assert len(FeatureLoader(detector, samples, Reader(SMALL), 3, 0, messages, feature_cache)) == 3
    assert (detector.backbone.images, messages.texts) == (0, [])


# ------------------------------------------------------------------------------------------------ extracted once


def test_second_pass_encodes_and_decodes_nothing(load, monkeypatch):
    load()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("an image was decoded"))
    detector = Plain()
    load(detector)
    assert detector.backbone.images == 0


def test_only_missing_images_are_encoded(load, samples):
    plain = load(cache=None)
    load(only=[samples[1], samples[5], samples[6]])
    detector = Plain()
    assert are_equal(load(detector), plain)
    assert detector.backbone.images == 4


def test_another_batch_size_reads_the_same_entries(load):
    load()
    detector = Plain()
    load(detector, batch_size=2)
    assert detector.backbone.images == 0


def test_every_pass_encodes_all_images_without_a_cache(load, messages):
    for _ in range(2):
        detector = Plain()
        load(detector, cache=None)
        assert detector.backbone.images == 7
    assert messages.texts == []


# ------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize(
    "change",
    [
        {"detector": lambda: Plain(Waves("other"))},
        {"detector": Described},
        {"preprocessing": Preprocessing(40, 32)},
    ],
    ids=["encoding", "method with its own extraction", "preprocessing"],
)
def test_features_of_another_encoding_are_not_read(load, change):
    load()
    detector = change.get("detector", Plain)()
    load(detector, preprocessing=change.get("preprocessing", SMALL))
    assert detector.backbone.images == 7


@pytest.mark.parametrize("package", ["torch", "anoframe"])
def test_features_of_another_version_are_not_read(load, monkeypatch, package):
    load()
    monkeypatch.setattr(f"{package}.__version__", "0.0.1")
    detector = Plain()
    load(detector)
    assert detector.backbone.images == 7


def test_image_with_other_content_is_encoded_again(load, samples):
    before = load()
    Image.new("RGB", (40, 40), (9, 9, 9)).save(samples[2].image)
    detector = Plain()
    after = load(detector)
    assert detector.backbone.images == 1
    assert not after[0].features[0][2].equal(before[0].features[0][2])


@pytest.mark.parametrize("kind", [Doubled, DoubledByEncode, Tripled])
def test_features_without_a_description_of_their_own_are_not_cached(load, kind):
    load(Plain())
    load(Described())
    plain = load(kind(), cache=None)
    for _ in range(2):
        detector = kind()
        assert are_equal(load(detector), plain)
        assert detector.backbone.images == 7


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [
        (Plain, "Detector"),
        (Described, "Doubled"),
        (SingleTensor, "SingleTensor"),
        (Dictionary, "Dictionary"),
        (Doubled, None),
        (DoubledByEncode, None),
        (Tripled, None),
    ],
)
def test_key_contains_the_class_that_defines_the_extraction(kind, encoder):
    encoding = find_encoding(kind())
    assert (encoding and encoding[1]) == encoder


def test_backbone_without_a_description_is_not_cached(load, feature_cache):
    load(Plain(nn.Upsample(scale_factor=1)))
    assert not feature_cache.folder.exists()


@pytest.mark.parametrize(
    "other",
    [("test_resnet", (1, 2), "random:1"), ("test_resnet", (2, 1), "random:0"), ("test_resnet", (1,), "random:0")],
)
def test_encodings_of_pyramids_differ_by_weights_and_levels(other):
    assert FeaturePyramid(*other).encoding() != FeaturePyramid("test_resnet", (1, 2), "random:0").encoding()


def test_encodings_of_pyramids_do_not_depend_on_the_location_of_the_weights(tmp_path):
    pyramid = FeaturePyramid("test_resnet", (1, 2), "random:0")
    from safetensors.torch import save_file

    weights = FeaturePyramid("test_resnet", (0, 1, 2, 3, 4), "random:0").network.model.state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "w.safetensors")
    from_file = FeaturePyramid("test_resnet", (1, 2), str(tmp_path / "w.safetensors"))
    assert from_file.encoding() == {**pyramid.encoding(), "sha256": from_file.sha256}


# ------------------------------------------------------------------------------------------------ damage, full cache


@pytest.mark.parametrize("batch_size", [3, 7])
def test_damaged_entries_are_extracted_again(load, feature_cache, batch_size):
    plain = load(batch_size=batch_size)
    entries = sorted(feature_cache.folder.rglob("*.safetensors"))
    for entry in entries[:3]:
        entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    detector = Plain()
    assert are_equal(load(detector, batch_size=batch_size), plain)
    assert detector.backbone.images == 3
    again = Plain()
    load(again, batch_size=batch_size)
    assert again.backbone.images == 0


def test_entries_removed_during_a_pass_are_extracted_again(load, feature_cache, samples, messages):
    plain = load()
    detector = Plain()
    batches = iter(FeatureLoader(detector, samples, Reader(SMALL), 3, 0, messages, feature_cache))
    first = next(batches)
    feature_cache.clear()
    assert are_equal([first, *batches], plain)
    assert detector.backbone.images == 4


def test_features_that_exceed_the_cache_are_not_written(load, tmp_path, messages):
    small = TensorCache(tmp_path / "small", 60_000)
    load(cache=small)
    assert not small.folder.exists()
    assert messages.texts == [
        "7 of 7 images have no cached features: 0.1 MB are more than cache.max_gb, so none is cached"
    ]


# ------------------------------------------------------------------------------------------------ other devices


class GpuLoader(FeatureLoader):
    """Behaves as on a GPU, where features may depend on the batch size."""

    def __init__(self, *args):
        super().__init__(*args)
        self._encodes_alone = False


@pytest.fixture
def count_encoded_on_gpu(samples, feature_cache, messages):
    """Function that loads all features as on a GPU; returns the number of encoded images."""

    def run(batch_size=3):
        detector = Plain()
        batches = list(GpuLoader(detector, samples, Reader(SMALL), batch_size, 0, messages, feature_cache))
        assert [sample for batch in batches for sample in batch.samples] == samples
        return detector.backbone.images

    return run


def test_second_pass_encodes_nothing_on_a_gpu(count_encoded_on_gpu):
    assert [count_encoded_on_gpu(), count_encoded_on_gpu()] == [7, 0]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"damaged")], ids=["gone", "damaged"])
def test_whole_batch_of_a_missing_image_is_encoded_on_a_gpu(count_encoded_on_gpu, feature_cache, damage):
    count_encoded_on_gpu(batch_size=7)
    damage(next(feature_cache.folder.rglob("*.safetensors")))
    assert count_encoded_on_gpu(batch_size=7) == 7


def test_features_of_another_batch_size_are_not_read_on_a_gpu(count_encoded_on_gpu):
    count_encoded_on_gpu()
    assert count_encoded_on_gpu(batch_size=2) == 6  # the last image is alone in its batch in both cases


# ------------------------------------------------------------------------------------------------ messages


def test_size_is_logged_before_the_first_entry_is_written(load, feature_cache, messages, monkeypatch):
    order = []
    monkeypatch.setattr(messages, "log", lambda event, text: order.append(text))
    write = TensorCache.write

    def recording_write(self, key, tensors):
        if self is feature_cache:
            order.append(sum(tensor.nbytes for tensor in tensors.values()))
        write(self, key, tensors)

    monkeypatch.setattr(TensorCache, "write", recording_write)
    load()
    assert order[0] == f"7 of 7 images have no cached features: 0.1 MB will be written to {feature_cache.folder}"
    assert order[1:] == [14336] * 7  # 3 x 32 x 32 and 2 x 16 x 16 numbers of four bytes


def test_complete_cache_is_logged(load, messages):
    load()
    load()
    assert messages.texts[1:] == ["features of all 7 images are cached: no encoder pass"]


# ------------------------------------------------------------------------------------------------ errors


def test_damaged_image_raises_an_error_with_its_name(load, samples):
    samples[4].image.write_bytes(b"no image")
    with pytest.raises(AnoframeError, match=r"4\.png: not an image"):
        load()


class NotFinite(Plain):
    """One image has features that are not finite."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def encode(self, images):
        features = images.float()
        features[1] = torch.nan
        return {"tensor": features, "list": [images, features], "dict": {"a": images, "b": features}}[self.kind]


@pytest.mark.parametrize("kind", ["tensor", "list", "dict"])
def test_features_that_are_not_finite_raise_an_error_with_the_image(load, kind):
    with pytest.raises(AnoframeError, match=r"1\.png: its features are not finite"):
        load(NotFinite(kind), cache=None)


@pytest.mark.parametrize(("batch_size", "workers", "message"), [(0, 0, "batch size 0"), (2, -2, "workers -2")])
def test_wrong_sizes_raise_an_error(samples, messages, batch_size, workers, message):
    with pytest.raises(AnoframeError, match=message):
        FeatureLoader(Plain(), samples, Reader(SMALL), batch_size, workers, messages)


def test_no_samples_raise_an_error(messages):
    with pytest.raises(AnoframeError, match="no samples"):
        FeatureLoader(Plain(), [], Reader(SMALL), 2, 0, messages)


def test_another_kind_of_processor_has_other_entries(tmp_path):
    def key(device):
        cache = FeatureCache(TensorCache(tmp_path, 10**6), Plain().to(device), ["waves"], Trackers())
        return cache.key("image", 1)

    assert key("cpu") == key("cpu") != key("meta")
