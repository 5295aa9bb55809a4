"""Reader: equal tensors from decoding and from the cache, content keys, errors, and reduced decoding of JPEGs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.loader import make_loader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import TensorCache

SMALL = Preprocessing(16, 12)
DRAFT = Preprocessing(64, 64, jpeg_draft=True)


@pytest.fixture
def samples(tmp_path, category):
    category(tmp_path / "data" / "part")
    return open_dataset("folder", tmp_path / "data").samples("part")


@pytest.fixture
def defect(samples):
    return next(sample for sample in samples if sample.mask)


@pytest.fixture
def cache(tmp_path):
    return TensorCache(tmp_path / "cache", 10**8)


@pytest.fixture
def decoded(monkeypatch):
    """The files whose pixels Pillow has decoded."""
    files = []

    def count(self):
        if self.tile:
            files.append(self)
        return load(self)

    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", count)
    return files


def read_all(samples, reader):
    return [(reader.image(s.image).pixels, reader.mask(s)) for s in samples]


# ------------------------------------------------------------------------------------------------ cache


def test_the_cache_does_not_change_pixels(samples, cache):
    runs = [read_all(samples, Reader(SMALL, c)) for c in (None, cache, cache)]
    for plain, first, second in zip(*runs, strict=True):
        assert plain[0].equal(first[0])
        assert plain[0].equal(second[0])
        assert plain[1].equal(first[1])
        assert plain[1].equal(second[1])


def test_a_file_is_decoded_only_once(samples, cache, decoded):
    read_all(samples, Reader(SMALL, cache))
    assert len(decoded) == len(samples) + 1  # all masks have the same content
    decoded.clear()
    read_all(samples, Reader(SMALL, cache))
    assert decoded == []


def test_a_cached_image_has_its_original_size(defect, cache):
    sizes = {Reader(SMALL, c).image(defect.image).size for c in (None, cache, cache)}
    assert sizes == {(24, 16)}


def test_workers_share_the_cache(samples, cache, decoded):
    first = list(make_loader(samples, SMALL, 4, workers=2, cache=cache))
    second = list(make_loader(samples, SMALL, 4, workers=0, cache=cache))
    assert decoded == []
    assert all(a.images.equal(b.images) for a, b in zip(first, second, strict=True))


def test_a_reader_can_be_pickled_for_a_worker(cache):
    copy = pickle.loads(pickle.dumps(Reader(SMALL, cache)))
    assert (copy.preprocessing, copy.cache.folder) == (SMALL, cache.folder)


# ------------------------------------------------------------------------------------------------ the key


def test_a_copy_with_another_name_has_the_same_key(samples, tmp_path):
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(samples[0].image.read_bytes())
    assert Reader(SMALL).key(copy) == Reader(SMALL).key(samples[0].image)


@pytest.mark.parametrize(
    "other",
    [Preprocessing(17, 12), Preprocessing(16, 11), Preprocessing(16, 12, False), Preprocessing(16, 12, True, True)],
)
def test_another_preprocessing_has_another_key(samples, other):
    assert Reader(other).key(samples[0].image) != Reader(SMALL).key(samples[0].image)


def test_an_image_with_replaced_content_is_decoded_again(samples, cache):
    path, reader = samples[0].image, Reader(SMALL, cache)
    Image.new("RGB", (24, 16), (10, 20, 30)).save(path, "BMP")
    before, times = reader.image(path).pixels.clone(), path.stat()
    Image.new("RGB", (24, 16), (200, 20, 30)).save(path, "BMP")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert not reader.image(path).pixels.equal(before)


def test_a_mask_and_an_image_with_equal_bytes_are_two_entries(defect, cache):
    defect.image.write_bytes(defect.mask.read_bytes())
    reader = Reader(SMALL, cache)
    reader.image(defect.image)
    assert reader.mask(defect).shape == (1, 12, 12)


def test_a_file_that_cannot_be_read_has_no_key():
    assert Reader(SMALL).key(Path("gone.png")) is None


# ------------------------------------------------------------------------------------------------ bad files


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("content", "words"), [(b"no image", "not an image"), (b"", "zero bytes"), (None, "no such file")]
)
def test_errors_are_equal_with_and_without_a_cache(samples, cache, content, words, times):
    path = samples[0].image
    path.unlink() if content is None else path.write_bytes(content)
    for _ in range(times):
        with pytest.raises(AnoframeError) as cached:
            Reader(SMALL, cache).image(path)
    with pytest.raises(AnoframeError, match=words) as plain:
        Reader(SMALL).image(path)
    assert str(cached.value) == str(plain.value)


def test_a_mask_of_another_size_is_an_error_from_the_cache_as_well(defect, cache):
    Image.new("L", (5, 5), 1).save(defect.mask)
    for reader in (Reader(SMALL), Reader(SMALL, cache), Reader(SMALL, cache)):
        with pytest.raises(AnoframeError, match=r"000_mask\.png: 5 x 5 pixels, its image .* 24 x 16; draw it"):
            reader.mask(defect)


def test_the_mask_size_is_compared_with_decoded_pixels_if_the_header_differs(defect):
    # Pillow writes EXIF before the pixels; EXIF after them is valid as well, but the header does not contain it
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 24)).save(defect.image, exif=exif)
    content = defect.image.read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    end = rest.index(b"IEND") - 4
    defect.image.write_bytes(rest[:end] + chunk + rest[end:])
    assert Reader(SMALL).image(defect.image).size == (24, 16)
    assert Reader(SMALL).mask(defect).shape == (1, 12, 12)


# ------------------------------------------------------------------------------------------------ JPEG drafts


@pytest.fixture
def large_jpeg(tmp_path):
    """A smooth JPEG of 640 x 480."""
    rows, columns = np.mgrid[:480, :640]
    pixels = np.stack([rows / 2, columns / 3, 128 + 100 * np.sin(columns / 40)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    return tmp_path / "large.jpg"


def test_a_draft_is_decoded_smaller_but_not_below_the_resize(large_jpeg, monkeypatch):
    sizes = []
    to_array = Preprocessing.to_array
    monkeypatch.setattr(
        Preprocessing, "to_array", lambda self, image, size: sizes.append(image.size) or to_array(self, image, size)
    )
    Reader(DRAFT).image(large_jpeg)
    assert sizes == [(160, 120)]  # a quarter; an eighth would be 80 x 60


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_a_draft_has_nearly_the_same_pixels(large_jpeg, keep_aspect):
    full, reduced = (Reader(Preprocessing(64, 64, keep_aspect, draft)).image(large_jpeg) for draft in (False, True))
    difference = (full.pixels.float() - reduced.pixels.float()).abs()
    assert 0 < difference.mean() < 3
    assert full.size == reduced.size == (640, 480)


def test_other_formats_are_decoded_in_full(samples):
    pixels = [Reader(Preprocessing(16, 12, True, draft)).image(samples[0].image).pixels for draft in (False, True)]
    assert pixels[0].equal(pixels[1])
