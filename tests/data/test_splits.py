"""Splits: the published protocol of RAML to the file, purity, and what a wrong setting says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from anoframe.data.dataset import open_dataset
from anoframe.data.mvtec import MVTEC_COUNTS
from anoframe.data.splits import FEW_SHOT, RAML, RAML_GROUPED, RAML_POOLED, SUPERVISED, Split
from anoframe.data.validation import check_dataset
from anoframe.errors import AnoframeError
from anoframe.types import GOOD, Sample

ROOT = Path("mvtec")
# Defect types of MVTec AD with their numbers of test images; the files of each are 000.png, 001.png, ...
DEFECTS = {
    "bottle": {"broken_large": 20, "broken_small": 22, "contamination": 21},
    "cable": {
        "bent_wire": 13,
        "cable_swap": 12,
        "combined": 11,
        "cut_inner_insulation": 14,
        "cut_outer_insulation": 10,
        "missing_cable": 12,
        "missing_wire": 10,
        "poke_insulation": 10,
    },
    "capsule": {"crack": 23, "faulty_imprint": 22, "poke": 21, "scratch": 23, "squeeze": 20},
    "carpet": {"color": 19, "cut": 17, "hole": 17, "metal_contamination": 17, "thread": 19},
    "grid": {"bent": 12, "broken": 12, "glue": 11, "metal_contamination": 11, "thread": 11},
    "hazelnut": {"crack": 18, "cut": 17, "hole": 18, "print": 17},
    "leather": {"color": 19, "cut": 19, "fold": 17, "glue": 19, "poke": 18},
    "metal_nut": {"bent": 25, "color": 22, "flip": 23, "scratch": 23},
    "pill": {
        "color": 25,
        "combined": 17,
        "contamination": 21,
        "crack": 26,
        "faulty_imprint": 19,
        "pill_type": 9,
        "scratch": 24,
    },
    "screw": {
        "manipulated_front": 24,
        "scratch_head": 24,
        "scratch_neck": 25,
        "thread_side": 23,
        "thread_top": 23,
    },
    "tile": {"crack": 17, "glue_strip": 18, "gray_stroke": 16, "oil": 18, "rough": 15},
    "toothbrush": {"defective": 30},
    "transistor": {"bent_lead": 10, "cut_lead": 10, "damaged_case": 10, "misplaced": 10},
    "wood": {"color": 8, "combined": 11, "hole": 10, "liquid": 10, "scratch": 21},
    "zipper": {
        "broken_teeth": 19,
        "combined": 16,
        "fabric_border": 17,
        "fabric_interior": 16,
        "rough": 17,
        "split_teeth": 18,
        "squeezed_teeth": 16,
    },
}
HELD_OUT = {  # good and defective images that the published figures were measured on
    "bottle": (4, 13),
    "cable": (12, 19),
    "capsule": (5, 22),
    "carpet": (6, 18),
    "grid": (5, 12),
    "hazelnut": (8, 14),
    "leather": (7, 19),
    "metal_nut": (5, 19),
    "pill": (6, 29),
    "screw": (9, 24),
    "tile": (7, 17),
    "toothbrush": (3, 6),
    "transistor": (12, 8),
    "wood": (4, 12),
    "zipper": (7, 24),
}


def folder(category, split, defect, count):
    paths = [ROOT / category / split / defect / f"{number:03d}.png" for number in range(count)]
    return [Sample(path, category, split, defect) for path in paths]


def mvtec(category):
    """The samples of a category of MVTec AD by their published names."""
    counts = MVTEC_COUNTS[category]
    samples = folder(category, "train", GOOD, counts.train) + folder(category, "test", GOOD, counts.test_good)
    for defect, count in DEFECTS[category].items():
        samples += folder(category, "test", defect, count)
    return samples


def names(samples):
    return [sample.name for sample in samples]


def count(samples):
    return sum(not sample.is_defect for sample in samples), sum(sample.is_defect for sample in samples)


def divide(name, category, seed=42, samples=None):
    return Split(name, seed).divide(mvtec(category) if samples is None else samples, ROOT)


def test_name_lists_have_the_published_counts():
    for category, counts in MVTEC_COUNTS.items():
        assert sum(DEFECTS[category].values()) == counts.test_defect
    assert sum(counts.test_good for counts in MVTEC_COUNTS.values()) == 467
    assert sum(counts.test_defect for counts in MVTEC_COUNTS.values()) == 1258


# ------------------------------------------------------------------------------------------------ raml


@pytest.mark.parametrize("category", MVTEC_COUNTS)
def test_held_out_counts_are_the_published_ones(category):
    assert count(divide(RAML, category).test) == HELD_OUT[category]


def test_raml_totals_are_4998_and_356_images():
    train, test = zip(*(divide(RAML, category)[:2] for category in MVTEC_COUNTS), strict=True)
    totals = [[sum(column) for column in zip(*map(count, part), strict=True)] for part in (train, test)]
    assert totals == [[3996, 1002], [100, 256]]


def test_toothbrush_holds_out_the_files_of_the_reference():
    test = divide(RAML, "toothbrush").test
    assert {s.image.stem for s in test if not s.is_defect} == {"000", "001", "010"}
    assert {s.image.stem for s in test if s.is_defect} == {"016", "007", "006", "002", "000", "001"}


def test_bottle_holds_out_the_files_of_the_reference():
    test = divide(RAML, "bottle").test
    assert {s.image.stem for s in test if not s.is_defect} == {"007", "008", "000", "003"}
    defects = [name for name in names(test) if not name.startswith("good")]
    assert len(defects) == 13
    assert {"broken_large/000.png", "contamination/009.png", "broken_large/017.png"} <= set(defects)


@pytest.mark.parametrize("category", ["bottle", "pill"])
def test_raml_is_the_reference_generator_written_out(category):
    good = sorted(s.image for s in mvtec(category) if s.split == "test" and not s.is_defect)
    bad = sorted(s.image for s in mvtec(category) if s.is_defect)
    generator = Random(42)
    generator.shuffle(good)
    generator.shuffle(bad)
    held_out = {*good[int(0.8 * len(good)) :], *bad[int(0.8 * len(bad)) :]}
    assert {sample.image for sample in divide(RAML, category).test} == held_out
    if category == "bottle":  # the order in which the reference lists them
        first = [f"{path.parent.name}/{path.stem}" for path in bad[int(0.8 * len(bad)) :][:3]]
        assert first == ["broken_large/000", "contamination/009", "broken_large/017"]


def test_raml_pooled_holds_out_827_normal_images_and_256_defects():
    counts = {category: count(divide(RAML_POOLED, category).test) for category in MVTEC_COUNTS}
    assert counts["bottle"] == (46, 13)  # the pair count that proves the pooled split
    assert tuple(map(sum, zip(*counts.values(), strict=True))) == (827, 256)


def test_raml_pooled_holds_out_other_defects_than_raml():
    assert set(names(divide(RAML_POOLED, "bottle").test)) != set(names(divide(RAML, "bottle").test))


@pytest.mark.parametrize("category", MVTEC_COUNTS)
def test_grouped_split_trains_on_four_fifths_of_each_defect_type(category):
    train = divide(RAML_GROUPED, category).train
    for defect, number in DEFECTS[category].items():
        assert sum(sample.defect == defect for sample in train) == int(0.8 * number)


def test_grouped_split_of_one_defect_type_does_not_depend_on_the_others():
    whole = mvtec("bottle")
    fewer = [sample for sample in whole if sample.defect != "contamination"]
    kept = [sample for sample in divide(RAML_GROUPED, "bottle").test if sample.defect != "contamination"]
    assert divide(RAML_GROUPED, "bottle", samples=fewer).test == kept


# ------------------------------------------------------------------------------------------------ all splits


@pytest.mark.parametrize("name", SUPERVISED)
def test_parts_are_disjoint_and_lose_no_image(name):
    samples = mvtec("screw")
    train, test, unused = divide(name, "screw", samples=samples)
    assert not unused
    assert sorted([*names(train), *names(test)]) == sorted(names(samples))
    assert not {s.image for s in train} & {s.image for s in test}
    assert {s.split for s in train} == {"train"}
    assert {s.split for s in test} == {"test"}


@pytest.mark.parametrize("split", [Split(RAML, 42), Split(RAML_GROUPED, 42), Split(RAML_POOLED), Split(FEW_SHOT, 0, 4)])
def test_order_of_listing_does_not_matter(split):
    samples = mvtec("wood")
    shuffled = Random(0).sample(samples, len(samples))
    assert split.divide(shuffled, ROOT) == split.divide(samples, ROOT)


@pytest.mark.parametrize("split", [Split(RAML), Split(RAML_GROUPED), Split(RAML_POOLED), Split(FEW_SHOT, 0, 4)])
def test_seed_draws_other_images(split):
    samples = mvtec("wood")
    other = Split(split.name, split.seed + 1, split.shots)
    assert split.divide(samples, ROOT).train != other.divide(samples, ROOT).train


def test_place_of_the_dataset_does_not_matter():
    place = Path("/elsewhere")
    moved = [replace(sample, image=place / sample.image.relative_to(ROOT)) for sample in mvtec("tile")]
    assert names(Split(RAML, 42).divide(moved, place).test) == names(divide(RAML, "tile").test)


def test_every_process_draws_the_same_images():
    code = (
        "import json, sys; sys.path[:0] = ['tests/data']\n"
        "from test_splits import *\n"
        "splits = [Split(RAML, 42), Split(RAML_GROUPED, 42), Split(RAML_POOLED, 42), Split(FEW_SHOT, 3, 4)]\n"
        "print(json.dumps([names(split.divide(mvtec('pill'), ROOT).train) for split in splits]))"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment(seed)).stdout
        for seed in ("0", "1")
    }
    splits = [Split(RAML, 42), Split(RAML_GROUPED, 42), Split(RAML_POOLED, 42), Split(FEW_SHOT, 3, 4)]
    assert [json.loads(out) for out in outputs] == [[names(s.divide(mvtec("pill"), ROOT).train) for s in splits]]


def environment(hash_seed):
    return {**os.environ, "PYTHONHASHSEED": hash_seed}


def test_few_shot_keeps_the_official_test_images():
    train, test, unused = Split(FEW_SHOT, 0, 2).divide(mvtec("bottle"), ROOT)
    assert count(test) == (20, 63)
    assert count(train) == (2, 0)
    assert count(unused) == (207, 0)


def test_draw_of_fewer_shots_is_part_of_the_draw_of_more():
    draws = [set(names(Split(FEW_SHOT, 5, shots).divide(mvtec("bottle"), ROOT).train)) for shots in (1, 2, 4)]
    assert draws[0] < draws[1] < draws[2]


def test_official_split_is_what_the_dataset_says():
    samples = mvtec("bottle")
    train, test, unused = Split().divide(samples, ROOT)
    assert [*train, *test] == samples
    assert not unused


# ------------------------------------------------------------------------------------------------ wrong settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ramml",), "unknown data.split 'ramml': did you mean 'raml'"),
        ((FEW_SHOT,), "few_shot needs data.shots"),
        ((FEW_SHOT, 0, -1), "1 or more, got -1"),
        ((RAML, 42, 4), "data.shots 4 goes with --data.split few_shot"),
    ],
)
def test_wrong_settings_say_what_to_do(arguments, message):
    with pytest.raises(AnoframeError, match=message):
        Split(*arguments)


def test_more_shots_than_images_is_an_error_that_names_the_category():
    with pytest.raises(AnoframeError, match=r"data.shots 210 .* 'bottle', 209: lower --data.shots"):
        Split(FEW_SHOT, 0, 210).divide(mvtec("bottle"), ROOT)


# ------------------------------------------------------------------------------------------------ with a dataset


def test_dataset_lists_samples_by_its_split(tiny_root):
    dataset = open_dataset("folder", tiny_root, split=Split(RAML, 42))
    category = dataset.categories[0]
    official = open_dataset("folder", tiny_root).samples(category)
    samples = dataset.samples(category)
    assert sorted(s.image for s in samples) == sorted(s.image for s in official)
    assert any(s.is_defect and s.split == "train" for s in samples)


@pytest.mark.parametrize("split", [Split(RAML, 42), Split(FEW_SHOT, 0, 2)])
def test_checks_count_after_the_split_and_have_no_false_problem(tiny_root, split):
    dataset = open_dataset("folder", tiny_root, split=split)
    report = check_dataset(dataset, dataset.categories)
    assert not report.problems
    assert not [remark for remark in report.remarks if "not used" in remark]
    for category in report.categories:
        samples = dataset.samples(category.name)
        train = [sample for sample in samples if sample.split == "train"]
        assert (category.train, category.train_defects) == (len(train), sum(s.is_defect for s in train))
        assert sum(category.counts[1:]) == len(samples) - len(train)


def test_same_bytes_in_two_parts_is_a_problem_that_names_both(tmp_path, tiny_root):
    root = tmp_path / "data"
    shutil.copytree(tiny_root, root)
    dataset = open_dataset("folder", root, split=Split(RAML, 42))
    category = dataset.categories[0]
    train = next(s for s in dataset.samples(category) if s.split == "train" and s.is_defect)
    test = next(s for s in dataset.samples(category) if s.split == "test" and s.is_defect)
    shutil.copyfile(train.image, test.image)
    (problem,) = [p for p in check_dataset(dataset, [category]).problems if "same bytes" in p]
    assert str(train.image) in problem
    assert str(test.image) in problem
