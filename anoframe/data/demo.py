"""A small dataset that needs no download: defects drawn on the photographs that ship with scikit-image.

Brick, grass and gravel (512 x 512 grey, CC0) are cut into tiles of 128 x 128. Test tiles come from a band down the
middle of a photograph and training tiles from both sides of it, so that no training pixel is ever tested, and what lies
left and right of the band (bricks lean one way and the other) is known. Training tiles overlap and are mirrored too:
the photographs are small.

The dataset is made once, in a folder beside the root that is renamed when complete, with the same bytes every time.
Numbers on it show that a method works. They compare with nothing published.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.data.defects import DEFECTS
from anoframe.data.folder import Folder
from anoframe.errors import AnoframeError

VERSION = 2  # raise it when the pictures change: what is on disk is then made anew
MARKER = "anoframe_demo.json"
TILE = 128
BAND = slice(160, 352)  # columns of the photograph that belong to the test
DEFECTS_A_KIND = 6

# category -> photograph whose texture its foreign patches show
FOREIGN = {"brick": "gravel", "grass": "brick", "gravel": "brick"}

Grey = NDArray[np.uint8]  # [H, W]


class Demo(Folder):
    """The demo data, in the layout of MVTec AD; made at `root` on first use (about a second)."""

    name = "demo"

    def __init__(self, root: str | Path = "data/demo") -> None:
        """Raises AnoframeError when `root` holds something that is not the demo, which is never touched."""
        make_demo(Path(root))
        super().__init__(root)


def make_demo(root: Path) -> None:
    """Write the dataset to `root`, unless this version of it is there, whole."""
    if _is_whole(root):
        return
    if root.exists() and not (root / MARKER).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise AnoframeError(f"{root} holds something that is not the demo: remove it, or choose another --data.root")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as scratch:
            made = Path(scratch, "made")
            _write(made)
            _put(made, root, Path(scratch, "old"))
    except OSError as error:
        raise AnoframeError(f"cannot write the demo data to {root} ({error}); choose another --data.root") from error


def _put(made: Path, root: Path, old: Path) -> None:
    """Rename the new data to the root, what was there out of its way; another process may get there first."""
    try:
        if root.exists():
            root.rename(old)
        made.rename(root)
    except OSError:
        if not _is_whole(root):
            raise


def _is_whole(root: Path) -> bool:
    """Whether the root holds this version with no file missing."""
    try:
        marker = json.loads((root / MARKER).read_text())
        return marker["version"] == VERSION and marker["files"] == sum(1 for _ in root.rglob("*.png"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(folder: Path) -> None:
    photographs = _photographs()
    for seed, category in enumerate(FOREIGN):
        foreign = photographs[FOREIGN[category]]
        for name, tile in _tiles(photographs[category], foreign, np.random.default_rng(seed)):
            path = folder / category / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile).save(path)
    marker = {"version": VERSION, "files": sum(1 for _ in folder.rglob("*.png"))}
    (folder / MARKER).write_text(json.dumps(marker) + "\n")


def _photographs() -> dict[str, Grey]:
    from skimage import data  # here, since whoever brings photographs of his own does not need it

    return {name: getattr(data, name)() for name in FOREIGN}


def _tiles(photograph: Grey, foreign: Grey, rng: np.random.Generator) -> Iterator[tuple[str, Grey]]:
    """Every file of a category: its path in the category's folder, and its pixels."""
    test = photograph[:, BAND]
    sides = photograph[:, : BAND.start], photograph[:, BAND.stop :]
    upright = [tile for side in sides for tile in _grid(side, rows=9, columns=2)]
    for number, tile in enumerate(upright + [tile[:, ::-1] for tile in upright]):
        yield f"train/good/{number:03d}.png", tile
    for number, tile in enumerate(_grid(test, rows=5, columns=2)):
        yield f"test/good/{number:03d}.png", tile
    for kind, draw in DEFECTS.items():
        for number in range(DEFECTS_A_KIND):
            tile, mask = draw(_anywhere(test, rng), _anywhere(foreign, rng), rng)
            yield f"test/{kind}/{number:03d}.png", tile
            yield f"ground_truth/{kind}/{number:03d}_mask.png", mask.astype(np.uint8) * 255


def _grid(area: Grey, rows: int, columns: int) -> Iterator[Grey]:
    """Tiles at even steps from edge to edge; neighbours overlap."""
    height, width = area.shape
    for top in np.linspace(0, height - TILE, rows).astype(int):
        for left in np.linspace(0, width - TILE, columns).astype(int):
            yield area[top : top + TILE, left : left + TILE]


def _anywhere(area: Grey, rng: np.random.Generator) -> Grey:
    top, left = (int(rng.integers(0, side - TILE + 1)) for side in area.shape)
    return area[top : top + TILE, left : left + TILE]
