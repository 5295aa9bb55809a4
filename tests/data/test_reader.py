"""Files as tensors: the same whether they are decoded or come from the cache."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from anoframe.data.dataset import open_dataset
from anoframe.data.loader import make_loader
from anoframe.data.reader import Reader
from anoframe.data.transforms import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import Cache

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
    return Cache(tmp_path / "cache", 10**8)


@pytest.fixture
def decoded(monkeypatch):
    """How many files Pillow has decoded the pixels of."""
    files = []

    def count(self):
        if self.tile:
            files.append(self)
        return load(self)

    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", count)
    return files


def everything(samples, reader):
    return [(reader.image(s.image).pixels, reader.mask(s)) for s in samples]


# ------------------------------------------------------------------------------------------------ the same


def test_the_cache_changes_no_pixel(samples, cache):
    runs = [everything(samples, Reader(SMALL, where)) for where in (None, cache, cache)]
    for plain, first, second in zip(*runs, strict=True):
        assert plain[0].equal(first[0])
        assert plain[0].equal(second[0])
        assert plain[1].equal(first[1])
        assert plain[1].equal(second[1])


def test_what_was_read_before_is_not_decoded(samples, cache, decoded):
    everything(samples, Reader(SMALL, cache))
    assert len(decoded) == len(samples) + 1  # the masks are all alike
    decoded.clear()
    everything(samples, Reader(SMALL, cache))
    assert decoded == []


def test_a_photograph_knows_its_size_from_the_cache(defect, cache):
    sizes = {Reader(SMALL, where).image(defect.image).size for where in (None, cache, cache)}
    assert sizes == {(24, 16)}


def test_workers_share_the_cache(samples, cache, decoded):
    first = list(make_loader(samples, SMALL, 4, workers=2, cache=cache))
    second = list(make_loader(samples, SMALL, 4, workers=0, cache=cache))
    assert decoded == []
    assert all(one.images.equal(other.images) for one, other in zip(first, second, strict=True))


def test_a_reader_can_be_sent_to_a_worker(cache):
    again = pickle.loads(pickle.dumps(Reader(SMALL, cache)))
    assert (again.preprocessing, again.cache.folder) == (SMALL, cache.folder)


# ------------------------------------------------------------------------------------------------ the key


def test_a_copy_of_another_name_has_the_key(samples, tmp_path):
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(samples[0].image.read_bytes())
    assert Reader(SMALL).key(copy) == Reader(SMALL).key(samples[0].image)


@pytest.mark.parametrize(
    "other",
    [Preprocessing(17, 12), Preprocessing(16, 11), Preprocessing(16, 12, False), Preprocessing(16, 12, True, True)],
)
def test_another_preprocessing_has_another_key(samples, other):
    assert Reader(other).key(samples[0].image) != Reader(SMALL).key(samples[0].image)


def test_an_image_replaced_in_place_is_noticed(samples, cache):
    path, reader = samples[0].image, Reader(SMALL, cache)
    Image.new("RGB", (24, 16), (10, 20, 30)).save(path, "BMP")
    before, times = reader.image(path).pixels.clone(), path.stat()
    Image.new("RGB", (24, 16), (200, 20, 30)).save(path, "BMP")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert not reader.image(path).pixels.equal(before)


def test_a_mask_and_an_image_of_the_same_bytes_are_two_entries(defect, cache):
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
def test_a_bad_file_is_the_same_error_with_a_cache(samples, cache, content, words, times):
    path = samples[0].image
    path.unlink() if content is None else path.write_bytes(content)
    for _ in range(times):
        with pytest.raises(AnoframeError) as cached:
            Reader(SMALL, cache).image(path)
    with pytest.raises(AnoframeError, match=words) as plain:
        Reader(SMALL).image(path)
    assert str(cached.value) == str(plain.value)


def test_a_mask_of_another_size_is_told_from_the_cache_as_well(defect, cache):
    Image.new("L", (5, 5), 1).save(defect.mask)
    for reader in (Reader(SMALL), Reader(SMALL, cache), Reader(SMALL, cache)):
        with pytest.raises(AnoframeError, match=r"000_mask\.png: 5 x 5 pixels, its image .* 24 x 16; draw it"):
            reader.mask(defect)


def test_a_mask_is_compared_with_the_pixels_where_the_head_is_wrong(defect):
    # Pillow writes EXIF ahead of the pixels; behind them it counts as well, and the head of the file does not tell
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (16, 24)).save(defect.image, exif=turned)
    content = defect.image.read_bytes()
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    end = rest.index(b"IEND") - 4
    defect.image.write_bytes(rest[:end] + chunk + rest[end:])
    assert Reader(SMALL).image(defect.image).size == (24, 16)
    assert Reader(SMALL).mask(defect).shape == (1, 12, 12)


# ------------------------------------------------------------------------------------------------ draft of a JPEG


@pytest.fixture
def photograph(tmp_path):
    """A smooth JPEG of 640 x 480."""
    rows, columns = np.mgrid[:480, :640]
    pixels = np.stack([rows / 2, columns / 3, 128 + 100 * np.sin(columns / 40)], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    return tmp_path / "large.jpg"


def test_a_draft_is_decoded_smaller_and_never_below_the_resize(photograph, monkeypatch):
    seen = []
    image = Preprocessing.image
    monkeypatch.setattr(Preprocessing, "image", lambda self, one, size: seen.append(one.size) or image(self, one, size))
    Reader(DRAFT).image(photograph)
    assert seen == [(160, 120)]  # a quarter; an eighth would be 80 x 60


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_a_draft_is_nearly_the_same(photograph, keep_aspect):
    fine, rough = (Reader(Preprocessing(64, 64, keep_aspect, draft)).image(photograph) for draft in (False, True))
    difference = (fine.pixels.float() - rough.pixels.float()).abs()
    assert 0 < difference.mean() < 3
    assert fine.size == rough.size == (640, 480)


def test_other_formats_have_no_draft(samples):
    pixels = [Reader(Preprocessing(16, 12, True, draft)).image(samples[0].image).pixels for draft in (False, True)]
    assert pixels[0].equal(pixels[1])
