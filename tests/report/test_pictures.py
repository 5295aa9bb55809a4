"""Selection of the images to show, and drawing of their pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anoframe.evaluation.predictions import CategoryPredictions
from anoframe.report.category_record import Category, Picture
from anoframe.report.gallery import gallery
from anoframe.report.pictures import Scale, category_scale, choose_images, contour, heatmap, strip
from anoframe.types import Sample

#                    0     1     2     3     4     5     6     7     8     9
SCORES = np.float32([0.10, 0.20, 0.30, 0.90, 0.52, 0.05, 0.15, 0.48, 0.80, 1.00])
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], bool)


def chosen(kind, count=12, labels=LABELS, scores=SCORES):
    return [index for name, index in choose_images(labels, scores, count) if name == kind]


def test_worst_images_alternate_low_defects_and_high_good_images():
    assert chosen("worst") == [5, 3, 6, 4]


def test_borderline_images_are_nearest_to_the_middle_of_the_medians():
    # medians 0.30 and 0.48, middle 0.39; images 4 and 6 are already among the worst
    assert chosen("borderline") == [2, 7, 1, 0]


def test_best_images_are_the_remaining_high_defects_and_low_good_images():
    assert chosen("best") == [9, 8]


def test_each_kind_has_a_third_of_the_images():
    assert [len(chosen(kind, 6)) for kind in ("worst", "borderline", "best")] == [2, 2, 2]


def test_best_of_six_images_are_the_clearest_of_each_label():
    assert chosen("best", 6) == [9, 0]


@pytest.mark.parametrize("count", [1, 3, 6, 9, 12, 30, 1000])
def test_no_image_is_shown_twice(count):
    indices = [index for _, index in choose_images(LABELS, SCORES, count)]
    assert len(indices) == len(set(indices))


def test_all_images_are_shown_if_there_are_few():
    assert sorted(index for _, index in choose_images(LABELS, SCORES, 30)) == list(range(10))


@pytest.mark.parametrize("count", [0, 1, 2, 4, 6, 8])
def test_number_of_images_is_limited(count):
    assert len(choose_images(LABELS, SCORES, count)) <= count


@pytest.mark.parametrize("label", [True, False])
def test_images_of_a_single_label_are_selected(label):
    assert len(choose_images(np.full(5, label), SCORES[:5], 6)) == 5


def test_selection_with_equal_scores_is_reproducible():
    equal = np.zeros(10, np.float32)
    assert choose_images(LABELS, equal, 6) == choose_images(LABELS, equal.copy(), 6)


# ------------------------------------------------------------------------------------------------ drawing

SCALE = Scale(low=0.0, high=1.0, contour=0.5)


def luminance(pixels):
    return pixels.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_higher_values_are_lighter():
    values = np.linspace(0, 1, 64, dtype=np.float32)[None]
    assert (np.diff(luminance(heatmap(values, SCALE)[0])) > 0).all()


def test_values_outside_the_scale_have_the_colours_of_its_ends():
    pixels = heatmap(np.float32([[-5, 0, 1, 7]]), SCALE)[0]
    assert np.array_equal(pixels[0], pixels[1])
    assert np.array_equal(pixels[2], pixels[3])


def test_constant_map_is_drawn():
    assert heatmap(np.ones((2, 2), np.float32), Scale(1.0, 1.0, 1.0)).shape == (2, 2, 3)


def predictions(labels):
    maps = np.arange(len(labels) * 100, dtype=np.float32).reshape(-1, 10, 10)
    samples = [Sample(Path("x.png"), "felt", "test", "cut" if label else "good") for label in labels]
    return CategoryPredictions(samples, np.array(labels), maps.max((1, 2)), maps, maps > 1e9, {})


def test_scale_covers_all_maps_of_a_category():
    scale = category_scale(predictions([False, True]))
    assert (scale.low, scale.high) == (pytest.approx(1.99), 199)


def test_contour_is_a_quantile_of_good_images():
    assert category_scale(predictions([False, True])).contour == pytest.approx(98.01)


def test_contour_without_good_images_is_a_quantile_of_all():
    assert category_scale(predictions([True, True])).contour == pytest.approx(197.01)


def test_contour_is_two_pixels_wide():
    region = np.zeros((12, 12), bool)
    region[2:10, 2:10] = True
    drawn = contour(np.zeros((12, 12, 3), np.uint8), region, (1, 2, 3))
    outline = region.copy()
    outline[4:8, 4:8] = False
    assert np.array_equal((drawn == (1, 2, 3)).all(2), outline)


def test_strip_has_four_square_panels_with_gaps():
    side = 20
    mask = np.zeros((side, side), bool)
    mask[5:9, 5:9] = True
    image = np.full((side, side, 3), 90, np.uint8)
    picture = np.asarray(strip(image, mask, mask.astype(np.float32), SCALE))
    assert picture.shape == (side, 4 * side + 3 * 4, 3)
    assert np.array_equal(picture[:, :side], image)
    assert np.array_equal(picture[:, side + 4 : 2 * side + 4, 0] == 255, mask)


def test_drawing_does_not_change_the_image():
    image = np.full((8, 8, 3), 90, np.uint8)
    strip(image, np.ones((8, 8), bool), np.ones((8, 8), np.float32), SCALE)
    assert (image == 90).all()


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        ({"image": 0.5}, ["good high", "cut low", "cut high", "good low"]),  # wrong decisions first
        (None, ["cut low", "good high", "cut high", "good low"]),  # worst, borderline, best
    ],
)
def test_wrong_decisions_come_first_in_the_gallery(tmp_path, threshold, expected):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [
        ("good low", 0.1, "best"),
        ("cut low", 0.4, "worst"),
        ("cut high", 0.6, "best"),
        ("good high", 0.9, "borderline"),
    ]
    pictures = [Picture(name, name.split()[0], score, tmp_path / "a.png", kind) for name, score, kind in rows]
    shown = gallery(Category("felt", threshold=threshold, pictures=pictures)).pictures
    assert [picture.file.partition("/")[2] for picture in shown] == expected
    assert [picture.is_wrong for picture in shown] == [threshold is not None] * 2 + [False] * 2
