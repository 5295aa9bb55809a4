"""Strips as trackers show them: cut where `report/pictures.py` glued."""

from __future__ import annotations

import numpy as np

from anoframe.report.pictures import Scale, strip
from anoframe.tracking.pictures import cut, open_pictures


def test_a_strip_is_cut_where_it_was_glued():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[4:9, 3:12] = True
    parts = cut(strip(image, mask, mask.astype(np.float32), Scale(0.0, 1.0, 2.0)))
    assert list(parts) == ["image", "mask", "map", "outlines"]
    assert {part.size for part in parts.values()} == {(16, 16)}
    assert np.array_equal(np.asarray(parts["image"]), image)
    assert np.array_equal(np.asarray(parts["mask"])[:, :, 0] == 255, mask)
    assert not np.asarray(parts["map"])[~mask].max(axis=0)[:2].any()  # the colour of the lowest value: 0, 0, 4
    assert np.array_equal(np.asarray(parts["outlines"])[~mask], image[~mask])


def test_pictures_of_a_run_come_with_their_rows(finished):
    import json

    home = finished.folder / "pictures" / "felt"
    rows = json.loads((home / "pictures.json").read_text(encoding="utf-8"))
    shown = list(open_pictures(home, rows))
    assert [row for row, _ in shown] == rows
    assert {picture.size for _, picture in shown} == {(4 * 64 + 3 * 4, 64)}
