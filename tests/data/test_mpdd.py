"""MPDD: the layout of MVTec AD with its own categories."""

from __future__ import annotations

from published_layouts import build_mpdd

from anoframe.data.dataset import open_dataset
from anoframe.data.mpdd import MPDD_COUNTS


def test_counts_add_up_to_the_published_totals():
    assert [sum(column) for column in zip(*MPDD_COUNTS.values(), strict=True)] == [888, 176, 282]


def test_its_categories_are_listed(tmp_path):
    dataset = open_dataset("mpdd", build_mpdd(tmp_path))
    assert dataset.categories == ("connector",)
    assert len(dataset.missing_categories) == 5
    assert [sample.defect for sample in dataset.samples("connector")] == ["good", "good", "good", "parts_mismatch"]
