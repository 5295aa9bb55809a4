"""The catalogue has every metric, and no other module has its titles."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import anoframe
from anoframe.data.loco import Loco
from anoframe.evaluation.dataset_metrics import spro_names
from anoframe.metrics import catalogue, image_metrics, pixel_metrics
from anoframe.metrics.catalogue import (
    CLASS_METRICS,
    DECISIONS,
    HEADLINE,
    METRICS,
    STREAM,
    SUMMARY,
    names_of,
    title_of,
)

PACKAGE = Path(anoframe.__file__).parent
TITLES = {title for metric in METRICS.values() for title in (metric.title, metric.short_title)}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != Path(catalogue.__file__))


def test_every_image_metric_is_in_the_catalogue_in_its_order():
    assert tuple(image_metrics([0, 1], [0.1, 0.2])) == names_of("image")


def test_every_pixel_metric_is_in_the_catalogue_in_its_order():
    assert tuple(pixel_metrics(np.eye(3, dtype=bool)[None], np.eye(3)[None])) == names_of("pixel")


def test_levels_partition_the_catalogue():
    common = tuple(name for name, metric in METRICS.items() if metric.every_dataset)
    levels = ("image", "pixel", "decision", "class", "stream")
    assert tuple(name for level in levels for name in names_of(level)) == common
    assert names_of("decision") == DECISIONS
    assert names_of("stream") == STREAM
    assert names_of("class") == CLASS_METRICS


def test_metrics_of_one_dataset_are_those_of_its_kinds_of_defects():
    own = [name for name, metric in METRICS.items() if not metric.every_dataset]
    kinds = Loco.defect_kinds
    assert own == [*(f"image_auroc_{kind}" for kind in kinds), *spro_names(kinds)]
    assert not set(own) & {*HEADLINE, *SUMMARY}, "tables of other datasets have no such column"


def test_headline_and_summary_metrics_are_image_and_pixel_metrics():
    assert (*names_of("image", headline=True), *names_of("pixel", headline=True)) == HEADLINE
    assert set(SUMMARY) <= set(HEADLINE)
    assert names_of("pixel", headline=False) == ("pro_per_image",)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_metric_is_described(metric):
    assert metric.title.endswith(metric.short_title) or metric.title.startswith(metric.short_title)
    assert metric.description
    assert METRICS[metric.name] is metric


def test_titles_are_unique():
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_constant_score_is_the_value_of_a_constant_score():
    labels, masks = np.arange(6) < 2, np.zeros((2, 4, 4), bool)
    masks[0, 1:3, 1:3] = True
    values = image_metrics(labels, np.zeros(6)) | pixel_metrics(masks, np.zeros((2, 4, 4)))
    baselines = {metric.name: metric.constant_score for metric in METRICS.values() if metric.constant_score is not None}
    assert {name: values[name] for name in baselines} == pytest.approx(baselines)


def test_title_of_a_name_with_a_number_is_the_name():
    assert title_of("aupro_0.05") == "aupro_0.05"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_other_module_has_a_literal_title(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert [value for value in literals if isinstance(value, str) and value in TITLES] == []
