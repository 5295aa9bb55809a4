"""Predictions of whole images from tiles, and without pixels that do not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anoframe.data.tiling import Tiling, cut_samples
from anoframe.errors import AnoframeError
from anoframe.evaluation.detection import detect_images, join_tiles, predict_images, restrict
from anoframe.evaluation.predictions import collect
from anoframe.features.extraction import FeatureBatch
from anoframe.models.base import Detector
from anoframe.types import Prediction, Sample

SIZE = (20, 14)
TILING = Tiling((8, 6), 3)
IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8))
SAMPLES = [Sample(Path(f"{i}.png"), "felt", "test", defect, None) for i, defect in enumerate(("good", "good", "cut"))]


class Brightness(Detector):
    """Its map is the red channel, its score the largest green value."""

    def __init__(self, has_map=True):
        super().__init__(nn.Identity())
        self.register_buffer("device_of", torch.zeros(1))
        self.has_map = has_map

    def extract_features(self, images):
        return images.float()

    def compute_prediction(self, features, size):
        assert tuple(features.shape[-2:]) == tuple(size)
        maps = features[:, 0] if self.has_map else None
        extra = {"blue": features[:, 2]} if self.has_map else {}
        return Prediction(features[:, 1].flatten(1).amax(1), maps, extra, {"mean": features.mean((1, 2, 3))})


def tile_batches(batch_size, counted=None):
    """Features of all tiles of all images, in batches."""
    windows = TILING.windows(SIZE)
    tiles = torch.stack([image[(slice(None), *w.slices)] for image in IMAGES for w in windows]).float()
    samples = cut_samples(SAMPLES, len(windows))
    limits = None if counted is None else torch.stack([c[(slice(None), *w.slices)] for c in counted for w in windows])
    for start in range(0, len(tiles), batch_size):
        rows = slice(start, start + batch_size)
        masks = tiles[rows, :1] > 128
        yield FeatureBatch(tiles[rows], masks, tuple(samples[rows]), None if limits is None else limits[rows], TILING)


@pytest.mark.parametrize("batch_size", [1, 5, 16, 100])
def test_tiles_of_any_batches_are_put_together(batch_size):
    detected = list(detect_images(Brightness(), tile_batches(batch_size), SIZE))
    assert [each.samples for each in detected] == [(sample,) for sample in SAMPLES]
    for each, image in zip(detected, IMAGES.float(), strict=True):
        assert each.prediction.score.item() == image[1].max()
        assert torch.allclose(each.prediction.anomaly_map[0], image[0], atol=1e-3)
        assert torch.allclose(each.prediction.extra_maps["blue"][0], image[2], atol=1e-3)
        assert each.masks[0, 0].equal(image[0] > 128)


def test_collect_returns_whole_images_of_tiles():
    predictions = collect(Brightness(), tile_batches(5), 3, SIZE)
    assert predictions.samples == SAMPLES
    assert predictions.maps.shape == predictions.masks.shape == (3, *SIZE)
    assert predictions.counted is None


def test_new_images_are_predicted_like_those_of_a_dataset():
    detected = list(detect_images(Brightness(), tile_batches(4), SIZE))
    prediction = predict_images(Brightness(), IMAGES, None, TILING, None, batch_size=7)
    assert prediction.anomaly_map.equal(torch.cat([each.prediction.anomaly_map for each in detected]))
    assert prediction.score.equal(torch.cat([each.prediction.score for each in detected]))


@pytest.mark.parametrize("tiling", [None, Tiling(SIZE)])
def test_one_tile_is_the_image_to_the_bit(tiling):
    prediction, plain = predict_images(Brightness(), IMAGES, None, tiling, None, 2), Brightness().predict(IMAGES)
    assert prediction.anomaly_map.equal(plain.anomaly_map)
    assert prediction.score.equal(plain.score)


def test_pixels_that_do_not_count_have_no_part_in_score_and_map():
    counted = torch.zeros(3, 1, *SIZE, dtype=torch.bool)
    counted[:, :, 4:9, 2:7] = True
    plain = Brightness().predict(IMAGES)
    restricted = restrict(plain, counted)
    inside = plain.anomaly_map[:, 4:9, 2:7]
    assert restricted.score.equal(inside.flatten(1).amax(1))
    assert restricted.anomaly_map[:, 4:9, 2:7].equal(inside)
    outside = restricted.anomaly_map[~counted[:, 0]].view(3, -1)
    assert outside.equal(inside.flatten(1).amin(1)[:, None].expand_as(outside))
    assert restricted.extra_scores == {}


def test_the_score_is_that_of_the_patches_of_which_at_least_half_counts():
    patches = torch.tensor([[[9.0, 1.0], [8.0, 2.0]]])
    counted = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    counted[..., 2:] = True  # the right half
    prediction = Prediction(torch.tensor([9.0]), torch.rand(1, 4, 4), patch_scores=patches)
    assert restrict(prediction, counted).score.tolist() == [2.0]
    counted[..., :2, 1] = True  # half of the top left patch
    assert restrict(prediction, counted).score.tolist() == [9.0]


def test_where_less_than_a_patch_counts_the_score_is_the_maximum_of_the_map():
    counted = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    counted[..., 0, 0] = True
    prediction = Prediction(torch.tensor([9.0]), torch.full((1, 4, 4), 0.5), patch_scores=torch.ones(1, 2, 2))
    assert restrict(prediction, counted).score.tolist() == [0.5]


def test_tiles_without_the_pixels_that_do_not_count():
    counted = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(0)) < 0.7
    predictions = collect(Brightness(), tile_batches(5, counted), 3, SIZE)
    expected = predict_images(Brightness(), IMAGES, None, TILING, counted, 4)
    assert np.array_equal(predictions.scores, expected.score.numpy())
    assert np.array_equal(predictions.counted, counted[:, 0].numpy())
    assert not predictions.masks[~predictions.counted].any()


def test_a_method_without_maps_cannot_leave_pixels_out():
    with pytest.raises(AnoframeError, match="has no map"):
        restrict(Brightness(has_map=False).predict(IMAGES), torch.ones(3, 1, *SIZE, dtype=torch.bool))


def test_tiles_of_a_method_without_maps_have_the_largest_score():
    scores = [torch.tensor([value]) for value in (1.0, 3.0, 2.0)]
    joined = join_tiles([Prediction(score) for score in scores], Tiling((8, 14)), SIZE)
    assert (joined.score.item(), joined.anomaly_map) == (3.0, None)
