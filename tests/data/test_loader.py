"""Batches and their order, errors raised in worker processes, and loading of single images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.image_decoding import read_image
from anoframe.data.loader import SampleDataset, load_image, make_loader
from anoframe.data.preprocessing import Preprocessing
from anoframe.errors import AnoframeError
from anoframe.types import Batch

SMALL = Preprocessing(16, 12)


@pytest.fixture
def samples(tmp_path, category):
    category(tmp_path / "part")
    return open_dataset("folder", tmp_path).samples("part")


def test_batches_contain_all_samples_in_order(samples):
    batches = list(make_loader(samples, SMALL, batch_size=4, workers=0))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert all(isinstance(batch, Batch) for batch in batches)
    assert [s for batch in batches for s in batch.samples] == samples
    first = batches[0]
    assert (first.images.shape, first.images.dtype) == ((4, 3, 12, 12), torch.uint8)
    assert (first.masks.shape, first.masks.dtype) == ((4, 1, 12, 12), torch.bool)
    assert first.labels.tolist() == [False, False, False, True]
    assert first.masks.any(dim=3).any(dim=2)[:, 0].tolist() == first.labels.tolist()


def test_pixels_are_those_of_the_preprocessing(samples):
    image, _, sample, _ = SampleDataset(samples, Reader(SMALL))[4]
    expected = SMALL.to_array(read_image(sample.image)).transpose(2, 0, 1)
    assert np.array_equal(image.numpy(), expected)
    assert image.is_contiguous()


@pytest.mark.parametrize("shuffle", [False, True])
def test_worker_processes_do_not_change_the_batches(samples, shuffle):
    def load(workers):
        return list(make_loader(samples, SMALL, 2, workers, shuffle=shuffle, seed=3))

    for without, with_workers in zip(load(0), load(2), strict=True):
        assert without.samples == with_workers.samples
        assert torch.equal(without.images, with_workers.images)
        assert torch.equal(without.masks, with_workers.masks)


def test_the_order_depends_on_the_seed_only(samples):
    def order(seed):
        torch.rand(seed + 5)
        return [s for batch in make_loader(samples, SMALL, 2, 0, shuffle=True, seed=seed) for s in batch.samples]

    assert order(1) == order(1) != order(2)
    assert sorted(order(1), key=str) == sorted(samples, key=str)


def test_loading_does_not_change_the_global_generator(samples):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_loader(samples, SMALL, 2, 0, shuffle=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_error_names_a_damaged_file(samples, workers):
    samples[4].image.write_bytes(b"no image")
    with pytest.raises(AnoframeError) as caught:
        list(make_loader(samples, SMALL, 2, workers))
    assert str(caught.value).startswith(f"{samples[4].image}: not an image")
    assert "Traceback" not in str(caught.value)


def test_error_names_a_mask_of_another_size(samples):
    Image.new("L", (5, 5), 1).save(samples[3].mask)
    with pytest.raises(AnoframeError, match=r"000_mask\.png: 5 x 5 pixels, its image .* 24 x 16"):
        SampleDataset(samples, Reader(SMALL))[3]


def test_no_samples_is_an_error():
    with pytest.raises(AnoframeError, match="no samples"):
        make_loader([], SMALL, 2, 0)


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 0), (-1, 0), (2, -2)])
def test_numbers_out_of_range_are_errors(samples, batch_size, workers):
    with pytest.raises(AnoframeError, match=f"{batch_size}.*{workers}"):
        make_loader(samples, SMALL, batch_size, workers)


def test_number_of_workers_is_chosen_for_the_machine(samples, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert make_loader(samples, SMALL, 2, -1).num_workers == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert make_loader(samples, SMALL, 2, -1).num_workers >= 1


def test_file_array_and_pillow_image_give_equal_pixels(samples):
    path = samples[0].image
    pixels = np.asarray(read_image(path))
    expected = load_image(path, SMALL)
    alpha = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
    assert (expected.shape, expected.dtype) == ((3, 12, 12), torch.uint8)
    for image in (str(path), pixels, alpha, pixels[:, ::-1][:, ::-1], Image.open(path), Image.fromarray(alpha)):
        assert torch.equal(load_image(image, SMALL), expected)
    grey = load_image(pixels[..., 0], SMALL)
    assert torch.equal(grey[0], grey[2])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint16),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_errors(array):
    with pytest.raises(AnoframeError, match=r"uint8 of shape \[H, W\].*got " + str(array.dtype)):
        load_image(array, SMALL)


def test_other_pillow_images_and_objects_are_errors(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(AnoframeError, match=r"deep\.png: 16-bit"):
        load_image(Image.open(tmp_path / "deep.png"), SMALL)
    with pytest.raises(AnoframeError, match="image: floating"):
        load_image(Image.new("F", (8, 8)), SMALL)
    with pytest.raises(AnoframeError, match="got Tensor"):
        load_image(torch.zeros(3, 8, 8), SMALL)
    with pytest.raises(AnoframeError, match=r"gone\.png: no such file"):
        load_image(Path("gone.png"), SMALL)
