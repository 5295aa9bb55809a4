"""Synthetic training samples: pure functions of settings, name and content; cached; made from normal images alone."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import pytest
import torch

from anoframe.data.cached_reader import Reader
from anoframe.data.dataset import open_dataset
from anoframe.data.loader import make_loader
from anoframe.data.preprocessing import Preprocessing
from anoframe.data.synthetic_samples import SyntheticImages, SyntheticSettings, add_synthetic
from anoframe.errors import AnoframeError
from anoframe.types import SYNTHETIC
from anoframe.utils.tensor_cache import TensorCache

SIZE = Preprocessing(64, 64)
BOXES = {"name": "cutpaste"}


@pytest.fixture
def root(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "data")
    return tmp_path / "data"


def normals(root, category="felt"):
    samples = open_dataset("folder", root).samples(category)
    return [sample for sample in samples if sample.split == "train"]


def reader_of(root, cache=None, **settings):
    made = SyntheticImages(SyntheticSettings(**settings), {name: normals(root, name) for name in ("felt", "mesh")})
    return Reader(SIZE, cache, synthetic=made)


def make(root, cache=None, category="felt", **settings):
    reader = reader_of(root, cache, **settings)
    return [reader.sample(sample) for sample in add_synthetic(normals(root, category)) if sample.synthetic]


def pixels(loaded):
    return torch.stack([image.pixels for image in loaded])


def test_there_is_one_defect_per_normal_image_behind_them(root):
    samples = add_synthetic(normals(root))
    assert [sample.synthetic for sample in samples] == [False] * 6 + [True] * 6
    assert {sample.defect for sample in samples[6:]} == {SYNTHETIC}
    assert [sample.image for sample in samples[:6]] == [sample.image for sample in samples[6:]]
    assert all(sample.is_defect and sample.mask is None for sample in samples[6:])


def test_every_image_is_changed_and_no_two_defects_are_equal(root):
    reader = reader_of(root)
    originals = torch.stack([reader.image(sample.image).pixels for sample in normals(root)])
    changed = (pixels(make(root)) != originals).any(1)
    assert changed.flatten(1).any(1).all()
    assert len({tuple(mask.flatten().tolist()) for mask in changed}) == 6


def test_a_defect_depends_on_its_name_and_not_on_its_place_in_a_list(root):
    samples = [sample for sample in add_synthetic(normals(root)) if sample.synthetic]
    reader, other = reader_of(root), reader_of(root)
    forwards = {sample: reader.sample(sample).pixels for sample in samples}
    assert all(other.sample(sample).pixels.equal(forwards[sample]) for sample in reversed(samples))


@pytest.mark.parametrize("other", [{"seed": 1}, {"generator": BOXES}])
def test_another_seed_or_generator_makes_other_pixels_and_keys(root, other):
    first, second = make(root), make(root, **other)
    assert not pixels(first).equal(pixels(second))
    assert not {image.key for image in first} & {image.key for image in second}


def test_the_cache_changes_nothing_and_is_used(root, tmp_path, monkeypatch):
    cache = TensorCache(tmp_path / "cache", 10**8)
    plain, written = make(root), make(root, cache)
    monkeypatch.setattr(SyntheticImages, "make", lambda *args: pytest.fail("made again"))
    read = make(root, cache)
    assert pixels(plain).equal(pixels(written))
    assert pixels(plain).equal(pixels(read))
    assert [image.key for image in plain] == [image.key for image in read]


def test_the_key_changes_with_any_image_that_parts_are_taken_from(root):
    before = {image.key for image in make(root)}
    shutil.copy(root / "mesh/train/good/000.png", root / "felt/train/good/005.png")
    assert not before & {image.key for image in make(root)}


def test_the_key_of_a_synthetic_image_is_not_that_of_its_file(root):
    reader = reader_of(root)
    sample = normals(root)[0]
    synthetic = add_synthetic([sample])[1]
    assert reader.sample_key(sample) == reader.key(sample.image) == reader.sample(sample).key
    assert reader.sample_key(synthetic) == reader.sample(synthetic).key != reader.key(sample.image)


def test_a_reader_with_synthetic_samples_can_be_pickled_for_a_worker(root):
    sample = add_synthetic(normals(root)[:1])[1]
    reader = reader_of(root)
    assert pickle.loads(pickle.dumps(reader)).sample(sample).pixels.equal(reader.sample(sample).pixels)


def test_a_missing_file_has_no_key_and_its_error_names_it(root):
    sample = replace(add_synthetic(normals(root)[:1])[1], image=root / "felt/train/good/none.png")
    assert reader_of(root).sample_key(sample) is None
    with pytest.raises(AnoframeError, match=r"none\.png"):
        reader_of(root).sample(sample)


def test_normal_samples_are_read_as_before(root):
    batch = next(iter(make_loader(normals(root), SIZE, 6, 0)))
    assert batch.images.equal(torch.stack([reader_of(root).image(s.image).pixels for s in normals(root)]))


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"seed": -1}, r"data\.synthetic\.seed"), ({"generator": {"name": "cutpast"}}, "did you mean 'cutpaste'")],
)
def test_wrong_settings_are_errors(settings, text):
    with pytest.raises(AnoframeError, match=text):
        SyntheticSettings(**settings).build()
