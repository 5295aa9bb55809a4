"""Pictures for trackers: strips of `report/pictures.py`, cut into their parts."""

from __future__ import annotations

import json

import numpy as np

from anoframe.report.pictures import Scale, strip
from anoframe.tracking.pictures import cut_strip, open_pictures


def test_strip_is_cut_into_the_parts_it_was_joined_from():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[4:9, 3:12] = True
    parts = cut_strip(strip(image, mask, mask.astype(np.float32), Scale(0.0, 1.0, 2.0)))
    assert list(parts) == ["image", "mask", "map", "outlines"]
    assert {part.size for part in parts.values()} == {(16, 16)}
    assert np.array_equal(np.asarray(parts["image"]), image)
    assert np.array_equal(np.asarray(parts["mask"])[:, :, 0] == 255, mask)
    assert not np.asarray(parts["map"])[~mask].max(axis=0)[:2].any()  # the colour of the lowest value: 0, 0, 4
    assert np.array_equal(np.asarray(parts["outlines"])[~mask], image[~mask])


def test_pictures_of_a_run_have_their_rows(finished):
    folder = finished.folder / "pictures" / "felt"
    rows = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    opened = list(open_pictures(folder, rows))
    assert [row for row, _ in opened] == rows
    assert {picture.size for _, picture in opened} == {(4 * 64 + 3 * 4, 64)}
