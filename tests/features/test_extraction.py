"""Features of samples: encoded once, the same to the bit ever after, and never those of another image or network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor, nn

from anoframe.backbones import FeaturePyramid
from anoframe.data.reader import Reader
from anoframe.data.transforms import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.features.extraction import EncodedSamples
from anoframe.models.base import Detector
from anoframe.types import Prediction, Sample
from anoframe.utils.tensor_cache import Cache

SMALL = Preprocessing(32, 32)


class Waves(nn.Module):
    """Two levels, counted; the second is laid out with channels last."""

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


class Looks(Detector):
    """Learns nothing."""

    def __init__(self, backbone: nn.Module | None = None):
        super().__init__(backbone or Waves())
        self.register_buffer("place", torch.empty(0))

    def detect(self, features, size):
        return Prediction(features[0].flatten(1).amax(1), features[0][:, 0])


class Doubles(Looks):
    """Has an encoding of its own kind, and does not say so."""

    def encode(self, images):
        return [2 * level for level in super().encode(images)]


class Says(Doubles):
    """Says so."""

    def encoding(self):
        return {"of": "Says", "backbone": self.backbone.encoding()}


class Triples(Says):
    """Says what its parent does."""

    def encode(self, images):
        return [3 * level for level in super().encode(images)]


class Single(Looks):
    """A tensor for features."""

    def encode(self, images):
        return super().encode(images)[0]

    def encoding(self):
        return {"of": "Single", "backbone": self.backbone.encoding()}


class Told:
    def __init__(self):
        self.texts = []

    def log(self, event, **fields):
        self.texts.append(fields["text"])


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def samples(tmp_path):
    """Seven images, the last three of them defects with a mask."""
    (tmp_path / "data").mkdir()
    found = []
    for i in range(7):
        image, mask = tmp_path / "data" / f"{i}.png", tmp_path / "data" / f"{i}_mask.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)).save(image)
        if i > 3:
            Image.fromarray(np.eye(40, dtype=np.uint8) * 255).resize((40, 40)).save(mask)
        found.append(Sample(image, "part", "test", "cut" if i > 3 else "good", mask if i > 3 else None))
    return found


@pytest.fixture
def features(tmp_path):
    return Cache(tmp_path / "features", 10**8)


@pytest.fixture
def encoded(samples, features, tmp_path, told):
    """Goes through the samples with both caches; the features cache can be changed, or None."""

    def run(detector=None, only=samples, cache=features, preprocessing=SMALL, batch_size=3):
        reader = Reader(preprocessing, Cache(tmp_path / "images", 10**8))
        return list(EncodedSamples(detector or Looks(), only, reader, batch_size, 0, told, cache))

    return run


def together(batches):
    """Features and masks of all batches, as one tensor each."""
    levels = [[b.features] if isinstance(b.features, Tensor) else b.features for b in batches]
    return [*(torch.cat(level) for level in zip(*levels, strict=True)), torch.cat([b.masks for b in batches])]


def same(first, second):
    return all(one.equal(other) for one, other in zip(together(first), together(second), strict=True))


# ------------------------------------------------------------------------------------------------ the same


@pytest.mark.parametrize("kind", [Looks, Says, Single])
def test_features_are_the_same_without_cache_first_and_second_time(encoded, kind):
    plain, first, second = encoded(kind(), cache=None), encoded(kind()), encoded(kind())
    assert same(plain, first)
    assert same(plain, second)
    assert [type(b.features) for b in plain] == [type(b.features) for b in second]


def test_features_have_the_same_layout_first_and_second_time(encoded):
    for first, second in zip(encoded(), encoded(), strict=True):
        assert [level.stride() for level in first.features] == [level.stride() for level in second.features]


def test_samples_come_in_order_and_in_batches(encoded, samples):
    for batches in (encoded(cache=None), encoded(), encoded()):
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert [sample for batch in batches for sample in batch.samples] == samples


def test_masks_are_there_when_features_are_cached(encoded, samples):
    encoded()
    masks = torch.cat([batch.masks for batch in encoded()])
    assert masks.flatten(1).any(1).tolist() == [sample.is_defect for sample in samples]


def test_nothing_is_made_before_it_is_asked_for(samples, told, features):
    detector = Looks()
    assert len(EncodedSamples(detector, samples, Reader(SMALL), 3, 0, told, features)) == 3
    assert (detector.backbone.images, told.texts) == (0, [])


# ------------------------------------------------------------------------------------------------ only once


def test_the_second_time_nothing_is_encoded_and_nothing_decoded(encoded, monkeypatch):
    encoded()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("an image was decoded"))
    detector = Looks()
    encoded(detector)
    assert detector.backbone.images == 0


def test_only_what_is_missing_is_encoded(encoded, samples):
    plain = encoded(cache=None)
    encoded(only=[samples[1], samples[5], samples[6]])
    detector = Looks()
    assert same(encoded(detector), plain)
    assert detector.backbone.images == 4


def test_another_batch_size_reads_the_same(encoded):
    encoded()
    detector = Looks()
    encoded(detector, batch_size=2)
    assert detector.backbone.images == 0


def test_without_a_cache_everything_is_encoded_again(encoded, told):
    for _ in range(2):
        detector = Looks()
        encoded(detector, cache=None)
        assert detector.backbone.images == 7
    assert told.texts == []


# ------------------------------------------------------------------------------------------------ what makes a key


@pytest.mark.parametrize(
    "change",
    [
        {"detector": lambda: Looks(Waves("other"))},
        {"detector": Says},
        {"preprocessing": Preprocessing(40, 32)},
    ],
    ids=["encoding", "method that encodes in its own way", "preprocessing"],
)
def test_features_of_something_else_are_not_taken(encoded, change):
    encoded()
    detector = change.get("detector", Looks)()
    encoded(detector, preprocessing=change.get("preprocessing", SMALL))
    assert detector.backbone.images == 7


@pytest.mark.parametrize("thing", ["torch", "anoframe"])
def test_features_of_another_version_are_not_taken(encoded, monkeypatch, thing):
    encoded()
    monkeypatch.setattr(f"{thing}.__version__", "0.0.1")
    detector = Looks()
    encoded(detector)
    assert detector.backbone.images == 7


def test_an_image_replaced_in_place_is_encoded_again(encoded, samples):
    before = encoded()
    Image.new("RGB", (40, 40), (9, 9, 9)).save(samples[2].image)
    detector = Looks()
    after = encoded(detector)
    assert detector.backbone.images == 1
    assert not after[0].features[0][2].equal(before[0].features[0][2])


@pytest.mark.parametrize("kind", [Doubles, Triples])
def test_a_method_that_encodes_its_own_way_and_does_not_say_so_is_not_cached(encoded, kind):
    encoded(Looks())
    encoded(Says())
    plain = encoded(kind(), cache=None)
    for _ in range(2):
        detector = kind()
        assert same(encoded(detector), plain)
        assert detector.backbone.images == 7


def test_a_backbone_that_says_nothing_is_not_cached(encoded, features):
    encoded(Looks(nn.Upsample(scale_factor=1)))
    assert not features.folder.exists()


@pytest.mark.parametrize(
    "other",
    [("test_resnet", (1, 2), "random:1"), ("test_resnet", (2, 1), "random:0"), ("test_resnet", (1,), "random:0")],
)
def test_encodings_of_pyramids_differ_by_weights_and_levels(other):
    assert FeaturePyramid(*other).encoding() != FeaturePyramid("test_resnet", (1, 2), "random:0").encoding()


def test_encodings_of_pyramids_do_not_depend_on_where_the_weights_were(tmp_path):
    pyramid = FeaturePyramid("test_resnet", (1, 2), "random:0")
    from safetensors.torch import save_file

    whole = FeaturePyramid("test_resnet", (0, 1, 2, 3, 4), "random:0").network.model.state_dict()
    save_file({name: value.contiguous() for name, value in whole.items()}, tmp_path / "w.safetensors")
    from_file = FeaturePyramid("test_resnet", (1, 2), str(tmp_path / "w.safetensors"))
    assert from_file.encoding() == {**pyramid.encoding(), "sha256": from_file.sha256}


# ------------------------------------------------------------------------------------------------ damage, and no room


@pytest.mark.parametrize("batch_size", [3, 7])
def test_damaged_entries_are_made_again(encoded, features, batch_size):
    plain = encoded(batch_size=batch_size)
    entries = sorted(features.folder.rglob("*.safetensors"))
    for entry in entries[:3]:
        entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    detector = Looks()
    assert same(encoded(detector, batch_size=batch_size), plain)
    assert detector.backbone.images == 3
    again = Looks()
    encoded(again, batch_size=batch_size)
    assert again.backbone.images == 0


def test_entries_that_vanish_after_the_look_are_made_again(encoded, features, samples, told, tmp_path):
    plain = encoded()
    detector = Looks()
    passing = iter(EncodedSamples(detector, samples, Reader(SMALL), 3, 0, told, features))
    first = next(passing)
    features.clear()
    assert same([first, *passing], plain)
    assert detector.backbone.images == 4


def test_what_the_bound_cannot_hold_is_not_kept(encoded, tmp_path, told):
    small = Cache(tmp_path / "small", 60_000)
    encoded(cache=small)
    assert not small.folder.exists()
    assert told.texts == ["7 of 7 images have no cached features: 0.1 MB are more than cache.max_gb, nothing is kept"]


# ------------------------------------------------------------------------------------------------ not on a CPU


class Together(EncodedSamples):
    """As it is on a GPU, where features may depend on how many images are encoded at once."""

    def __init__(self, *words):
        super().__init__(*words)
        self._alone = False


@pytest.fixture
def gpu_images(samples, features, told):
    """Goes through the samples as on a GPU; returns how many images met the encoder."""

    def run(batch_size=3):
        detector = Looks()
        batches = list(Together(detector, samples, Reader(SMALL), batch_size, 0, told, features))
        assert [sample for batch in batches for sample in batch.samples] == samples
        return detector.backbone.images

    return run


def test_the_second_time_a_gpu_encodes_nothing(gpu_images):
    assert [gpu_images(), gpu_images()] == [7, 0]


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"damaged")], ids=["gone", "damaged"])
def test_on_a_gpu_the_whole_batch_of_a_missing_image_is_encoded(gpu_images, features, spoil):
    gpu_images(batch_size=7)
    spoil(next(features.folder.rglob("*.safetensors")))
    assert gpu_images(batch_size=7) == 7


def test_on_a_gpu_features_of_another_batch_size_are_not_taken(gpu_images):
    gpu_images()
    assert gpu_images(batch_size=2) == 6  # the last image was alone before, and is again


# ------------------------------------------------------------------------------------------------ what is told


def test_the_size_is_told_before_anything_is_written(encoded, features, told, monkeypatch):
    order = []
    monkeypatch.setattr(told, "log", lambda event, text: order.append(text))
    write = Cache.write

    def noted(self, key, tensors):
        if self is features:
            order.append(sum(tensor.nbytes for tensor in tensors.values()))
        write(self, key, tensors)

    monkeypatch.setattr(Cache, "write", noted)
    encoded()
    assert order[0] == f"7 of 7 images have no cached features: 0.1 MB will be written to {features.folder}"
    assert order[1:] == [14336] * 7  # 3 x 32 x 32 and 2 x 16 x 16 numbers of four bytes


def test_that_no_encoder_pass_is_needed_is_told(encoded, told):
    encoded()
    encoded()
    assert told.texts[1:] == ["features of all 7 images are cached: no encoder pass"]


# ------------------------------------------------------------------------------------------------ what it refuses


def test_a_damaged_image_is_named(encoded, samples):
    samples[4].image.write_bytes(b"no image")
    with pytest.raises(AnoframeError, match=r"4\.png: not an image"):
        encoded()


@pytest.mark.parametrize(("batch_size", "workers", "words"), [(0, 0, "batch size 0"), (2, -2, "workers -2")])
def test_sizes_that_make_no_sense(samples, told, batch_size, workers, words):
    with pytest.raises(AnoframeError, match=words):
        EncodedSamples(Looks(), samples, Reader(SMALL), batch_size, workers, told)


def test_nothing_to_encode(told):
    with pytest.raises(AnoframeError, match="no samples"):
        EncodedSamples(Looks(), [], Reader(SMALL), 2, 0, told)
