"""Images of any shape: sizes as pairs, padding, and the rectangle of the training images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from anoframe.data.cached_reader import Reader
from anoframe.data.masks import empty_mask, resize_mask
from anoframe.data.preprocessing import Preprocessing, size_text
from anoframe.data.rectangle import read_aspects, rectangle
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import cache_key

sides = st.integers(3, 90)


def noise(height, width):
    return np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, box=st.tuples(st.integers(4, 60), st.integers(4, 60)), cut=st.integers(0, 3))
def test_a_pair_without_aspect_is_torchvisions_resize_and_crop(height, width, box, cut):
    crop = (box[0] - cut, box[1] - cut)
    image = Image.fromarray(noise(height, width))
    expected = Compose([Resize(box, InterpolationMode.BILINEAR), CenterCrop(crop)])(image)
    assert np.array_equal(Preprocessing(box, crop, False).to_array(image), np.asarray(expected))


@settings(max_examples=40, deadline=None)
@given(height=sides, width=sides, box=st.tuples(st.integers(4, 60), st.integers(4, 60)))
def test_with_aspect_the_image_just_covers_the_pair(height, width, box):
    resized_width, resized_height = Preprocessing(box, box, True).resized_size(width, height)
    assert resized_height >= box[0]
    assert resized_width >= box[1]
    assert resized_height == box[0] or resized_width == box[1]
    assert Preprocessing(box, box, True).to_array(Image.fromarray(noise(height, width))).shape == (*box, 3)


@pytest.mark.parametrize("keep_aspect", [True, False, "pad"])
def test_two_equal_sides_are_one_number(keep_aspect):
    pair, number = Preprocessing((32, 32), [28, 28], keep_aspect), Preprocessing(32, 28, keep_aspect)
    assert pair == number
    assert pair.settings() == number.settings()


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, box=st.tuples(st.integers(4, 60), st.integers(4, 60)), cut=st.integers(0, 3))
def test_padding_repeats_the_border_and_loses_nothing(height, width, box, cut):
    crop = (box[0] - cut, box[1] - cut)
    preprocessing = Preprocessing(box, crop, "pad")
    image = Image.fromarray(noise(height, width))
    resized_width, resized_height = preprocessing.resized_size(width, height)
    scale = min(box[0] / height, box[1] / width)
    assert abs(resized_height - scale * height) <= 1
    assert abs(resized_width - scale * width) <= 1
    inside = np.asarray(image.resize((resized_width, resized_height), Image.Resampling.BILINEAR))
    top, left = round((box[0] - resized_height) / 2), round((box[1] - resized_width) / 2)
    bottom, right = box[0] - resized_height - top, box[1] - resized_width - left
    padded = np.pad(inside, ((top, bottom), (left, right), (0, 0)), mode="edge")
    shown = np.pad(np.ones(inside.shape[:2], bool), ((top, bottom), (left, right)))
    y, x = round((box[0] - crop[0]) / 2), round((box[1] - crop[1]) / 2)
    window = slice(y, y + crop[0]), slice(x, x + crop[1])
    assert np.array_equal(preprocessing.to_array(image), padded[window])
    assert np.array_equal(preprocessing.counted(width, height), shown[window])


def test_padding_is_no_defect():
    preprocessing = Preprocessing(32, 32, "pad")
    mask = resize_mask(np.ones((20, 60), bool), preprocessing)
    assert np.array_equal(mask, preprocessing.counted(60, 20))


def test_masks_have_the_shape_of_the_image():
    preprocessing = Preprocessing((40, 20), (36, 16), False)
    assert empty_mask(preprocessing).shape == resize_mask(np.ones((7, 9), bool), preprocessing).shape == (36, 16)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"resize": (0, 4)}, "resize must be a positive whole number of pixels, or a pair"),
        ({"resize": (4, 4, 4)}, "resize must be a positive whole number of pixels, or a pair"),
        ({"crop": ()}, "crop must be"),
        ({"crop": (8, "4")}, "crop must be"),
        ({"crop": (8, 5)}, r"crop \(8, 5\) is larger than resize \(8, 4\)"),
        ({"resize": (20000, 4)}, "larger than 16384"),
        ({"keep_aspect": "fit"}, "keep_aspect is True, False or 'pad', got 'fit'"),
        ({"keep_aspect": "rectangle"}, "only a run of a detector chooses a rectangle"),
    ],
)
def test_wrong_sizes_are_errors(values, text):
    with pytest.raises(AnoframeError, match=text):
        Preprocessing(**{"resize": (8, 4), "crop": (8, 4)} | values)


def test_keys_of_the_image_cache_are_those_of_earlier_versions(tmp_path):
    from anoframe.data import cached_reader

    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    earlier = {"resize": 32, "crop": 28, "keep_aspect": False, "jpeg_draft": False}
    recipe = cache_key(1, earlier, cached_reader._DECODERS)
    key = Reader(Preprocessing(32, 28, keep_aspect=False)).key(tmp_path / "a.png")
    assert key == cache_key("image", cached_reader.digest(data), recipe)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("keep_aspect", [True, False, "pad"])
def test_a_jpeg_decoded_at_a_reduced_size_is_nearly_the_same(tmp_path, orientation, keep_aspect):
    smooth = Image.fromarray(noise(6, 9)).resize((900, 600), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth.save(tmp_path / "a.jpg", exif=exif, quality=95)
    drafts = [
        Reader(Preprocessing((64, 48), (64, 48), keep_aspect, jpeg_draft=draft)).image(tmp_path / "a.jpg")
        for draft in (True, False)
    ]
    assert drafts[0].size == drafts[1].size == ((600, 900) if orientation == 6 else (900, 600))
    difference = drafts[0].pixels.int() - drafts[1].pixels.int()
    assert difference.abs().float().mean() < 3


@settings(max_examples=100, deadline=None)
@given(aspect=st.floats(0.2, 5), side=st.integers(64, 512))
def test_a_rectangle_has_the_aspect_and_the_number_of_pixels(aspect, side):
    height, width = rectangle([aspect], side)
    if height == width:
        assert (height, width) == (side, side)
        return
    assert height % 16 == width % 16 == 0
    for got, exact in ((height, side * math.sqrt(aspect)), (width, side / math.sqrt(aspect))):
        assert abs(got - exact) <= 8 or got == 32


@pytest.mark.parametrize("side", [32, 100, 224, 256])
def test_square_photographs_keep_their_square(side):
    assert rectangle([1.0], side) == (side, side)


def test_a_file_that_cannot_be_read_has_no_part_in_the_rectangle(tmp_path):
    Image.new("RGB", (20, 40)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert read_aspects([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]) == [2]


def test_the_rectangle_has_the_median_aspect_of_upright_photographs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size, options in (("a", (10, 20), {}), ("b", (40, 10), {"exif": exif}), ("c", (10, 10), {})):
        Image.new("RGB", size).save(tmp_path / f"{name}.jpg", **options)
    assert read_aspects(sorted(tmp_path.iterdir())) == [2, 4, 1]
    assert rectangle([2, 4, 1], 224) == rectangle([2], 224)


def test_sizes_in_words():
    assert [size_text(size) for size in (224, (320, 160), [320, 160])] == ["224 x 224", "320 x 160", "320 x 160"]
