"""A small dataset without download: defects drawn on the photographs that are part of scikit-image.

Brick, grass and gravel (512 x 512 grey, CC0) are cut into tiles of 128 x 128. Test tiles come from a vertical band in
the middle of each photograph, training tiles from both sides of it: no training pixel is tested, and the training data
shows the surface on both sides of the band (bricks lean in different directions there). Because the photographs are
small, training tiles overlap and are also mirrored.

The dataset is written once, to a temporary folder that is renamed when it is complete, with the same bytes every time.
Metrics on it show that a method works; they cannot be compared with published ones.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anoframe.data.demo_defects import DEFECTS
from anoframe.data.folder import Folder
from anoframe.errors import AnoframeError

VERSION = 2  # increase it if the images change: data on disk is then written again
MARKER = "anoframe_demo.json"
TILE = 128
BAND = slice(160, 352)  # columns of the photograph that are used for testing
IMAGES_PER_DEFECT = 6

# category -> photograph whose texture appears in its defects
FOREIGN = {"brick": "gravel", "grass": "brick", "gravel": "brick"}

Grey = NDArray[np.uint8]  # [H, W]


class Demo(Folder):
    """The demo data, in the layout of MVTec AD; written to `root` on first use (about a second).

    Raises:
        AnoframeError: `root` contains other files, which are never changed, or cannot be written.
    """

    name = "demo"
    title = ""

    def __init__(self, root: str | Path = "data/demo") -> None:
        make_demo(Path(root))
        super().__init__(root)


def make_demo(root: Path) -> None:
    """Write the dataset to `root`, unless `root` contains the complete current version."""
    if _is_complete(root):
        return
    if root.exists() and not (root / MARKER).is_file() and (not root.is_dir() or any(root.iterdir())):
        raise AnoframeError(f"{root} holds files that are not the demo data: remove it, or choose another --data.root")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
            new = Path(temporary, "new")
            _write(new)
            _replace(root, new, Path(temporary, "old"))
    except OSError as error:
        raise AnoframeError(f"cannot write the demo data to {root} ({error}); choose another --data.root") from error


def _replace(root: Path, new: Path, old: Path) -> None:
    """Move an existing root to `old` and rename `new` to the root, unless another process has done it meanwhile."""
    try:
        if root.exists():
            root.rename(old)
        new.rename(root)
    except OSError:
        if not _is_complete(root):
            raise


def _is_complete(root: Path) -> bool:
    """Return whether the root contains this version of the data with all of its files."""
    try:
        marker = json.loads((root / MARKER).read_text())
        return marker["version"] == VERSION and marker["files"] == sum(1 for _ in root.rglob("*.png"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(folder: Path) -> None:
    photographs = _load_photographs()
    for seed, category in enumerate(FOREIGN):
        foreign = photographs[FOREIGN[category]]
        for name, tile in _make_tiles(photographs[category], foreign, np.random.default_rng(seed)):
            path = folder / category / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(tile).save(path)
    marker = {"version": VERSION, "files": sum(1 for _ in folder.rglob("*.png"))}
    (folder / MARKER).write_text(json.dumps(marker) + "\n")


def _load_photographs() -> dict[str, Grey]:
    from skimage import data  # imported here, because other datasets do not need it

    return {name: getattr(data, name)() for name in FOREIGN}


def _make_tiles(photograph: Grey, foreign: Grey, rng: np.random.Generator) -> Iterator[tuple[str, Grey]]:
    """Yield the path within the category folder and the pixels of every image and mask of a category."""
    test = photograph[:, BAND]
    sides = photograph[:, : BAND.start], photograph[:, BAND.stop :]
    upright = [tile for side in sides for tile in _cut_grid(side, rows=9, columns=2)]
    for number, tile in enumerate(upright + [tile[:, ::-1] for tile in upright]):
        yield f"train/good/{number:03d}.png", tile
    for number, tile in enumerate(_cut_grid(test, rows=5, columns=2)):
        yield f"test/good/{number:03d}.png", tile
    for defect, draw in DEFECTS.items():
        for number in range(IMAGES_PER_DEFECT):
            tile, mask = draw(_cut_random(test, rng), _cut_random(foreign, rng), rng)
            yield f"test/{defect}/{number:03d}.png", tile
            yield f"ground_truth/{defect}/{number:03d}_mask.png", mask.astype(np.uint8) * 255


def _cut_grid(area: Grey, rows: int, columns: int) -> Iterator[Grey]:
    """Cut tiles at equal distances over the whole area; neighbours overlap."""
    height, width = area.shape
    for top in np.linspace(0, height - TILE, rows).astype(int):
        for left in np.linspace(0, width - TILE, columns).astype(int):
            yield area[top : top + TILE, left : left + TILE]


def _cut_random(area: Grey, rng: np.random.Generator) -> Grey:
    """Cut a tile at a random position."""
    top, left = (int(rng.integers(0, side - TILE + 1)) for side in area.shape)
    return area[top : top + TILE, left : left + TILE]
