"""Small trees in the layouts of published datasets."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

SIZE = (24, 16)  # width, height


def photo(path: Path) -> Path:
    """Write a noise image that depends on its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = crc32(path.as_posix().encode())
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)).save(path)
    return path


def mask(path: Path, box: tuple[int, int, int, int] | None = (4, 4, 10, 10), value: int = 255) -> Path:
    """Write a mask with one rectangle (left, top, right, bottom), or an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", SIZE)
    if box:
        image.paste(value, box)
    image.save(path)
    return path


def build_loco(root: Path) -> Path:
    """MVTec LOCO with one category: 3 training, 2 validation, 1 good and 3 defective images, one with two regions."""
    folder = root / "juice_bottle"
    for number in range(3):
        photo(folder / f"train/good/{number:03d}.png")
    for number in range(2):
        photo(folder / f"validation/good/{number:03d}.png")
    photo(folder / "test/good/000.png")
    for name in ("logical_anomalies/000", "logical_anomalies/001", "structural_anomalies/000"):
        photo(folder / f"test/{name}.png")
        mask(folder / f"ground_truth/{name}/000.png")
    mask(folder / "ground_truth/logical_anomalies/001/001.png", (12, 0, 20, 10), value=254)
    config = [
        {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 20, "relative_saturation": False},
        {"defect_name": "swapped", "pixel_value": 254, "saturation_threshold": 0.5, "relative_saturation": True},
    ]
    (folder / "defects_config.json").write_text(json.dumps(config))
    return root


def build_mvtec_ad_2(root: Path) -> Path:
    """MVTec AD 2 with one category: 2 training, 1 validation, 1 good and 2 bad images, and private test images."""
    folder = root / "fruit_jelly"
    names = ("train/good/000", "train/good/001", "validation/good/000", "test_public/good/000")
    for name in (*names, "test_public/bad/000", "test_public/bad/001"):
        photo(folder / f"{name}_regular.png")
    for number in (0, 1):
        mask(folder / f"test_public/ground_truth/bad/{number:03d}_regular_mask.png")
    for name in ("test_private/000", "test_private/001", "test_private_mixed/000"):
        photo(folder / f"{name}_mixed.png")
    return root


def build_btad(root: Path) -> Path:
    """BTAD with category 03: 2 training, 1 good and 2 defective images, one of them with an empty mask."""
    for name in ("train/ok/0000", "train/ok/0001", "test/ok/0000", "test/ko/0000", "test/ko/0001"):
        photo(root / f"03/{name}.bmp")
    mask(root / "03/ground_truth/ko/0000.png", value=1)
    mask(root / "03/ground_truth/ko/0001.png", None)
    return root


def build_mpdd(root: Path) -> Path:
    """MPDD with one category: 2 training, 1 good and 1 defective image."""
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/parts_mismatch/000"):
        photo(root / f"connector/{name}.png")
    mask(root / "connector/ground_truth/parts_mismatch/000_mask.png")
    return root


def build_real_iad(root: Path, images: str = "realiad_256", jsons: str = "realiad_jsons") -> Path:
    """Real-IAD with one category: 2 views for training, 1 good and 2 defective views for testing."""
    good = [f"OK/S000{number}/mint_000{number}_OK_C{view}_2023.jpg" for number, view in ((1, 1), (1, 2), (2, 1))]
    bad = [f"NG/BX/S0001/mint_0001_NG_BX_C{view}_2023.jpg" for view in (1, 2)]
    entries = [{"category": "mint", "anomaly_class": "OK", "image_path": name, "mask_path": None} for name in good]
    for name in good + bad:
        photo(root / images / "mint" / name)
    for name in bad:
        path = name.replace(".jpg", "_mask.png")
        mask(root / images / "mint" / path)
        entries.append({"category": "mint", "anomaly_class": "BX", "image_path": name, "mask_path": path})
    (root / jsons).mkdir(parents=True, exist_ok=True)
    content = {"meta": {"prefix": "mint", "normal_class": "OK"}, "train": entries[:2], "test": entries[2:]}
    (root / jsons / "mint.json").write_text(json.dumps(content))
    return root


def build_ksdd2(root: Path) -> Path:
    """KolektorSDD2: 2 normal and 1 defective training images and a copy of it, 1 normal and 2 defective for testing."""
    content = {"train/10000": None, "train/10001": None, "train/10301": (1, 1, 5, 5)}
    content |= {"test/20000": None, "test/20001": (1, 1, 5, 5), "test/20002": (0, 0, 2, 2)}
    for name, box in content.items():
        photo(root / f"{name}.png")
        mask(root / f"{name}_GT.png", box)
    photo(root / "train/10301 (copy).png")
    mask(root / "train/10301_GT (copy).png")
    return root


def build_csv(root: Path, name: str = "parts.csv") -> Path:
    """Two categories in one table: `cap` has 2 training, 1 val, 1 good and 1 defective image; `nut` has 1, 0, 1, 1."""
    rows = ["image,category,split,label,mask"]
    entries = [("cap", "train", "good"), ("cap", "train", "OK"), ("cap", "val", "good"), ("cap", "test", "good")]
    entries += [
        ("cap", "test", "scratch"),
        ("nut", "train", "good"),
        ("nut", "test", "normal"),
        ("nut", "test", "dent"),
    ]
    for number, (category, split, label) in enumerate(entries):
        photo(root / f"photos/{number}.png")
        drawn = mask(root / f"masks/{number}.png") if label in ("scratch", "dent") else None
        rows.append(f"photos/{number}.png,{category},{split},{label},{drawn.relative_to(root) if drawn else ''}")
    (root / name).write_text("\n".join(rows) + "\n")
    return root


BUILDERS = {
    "loco": build_loco,
    "mvtec_ad_2": build_mvtec_ad_2,
    "btad": build_btad,
    "mpdd": build_mpdd,
    "real_iad": build_real_iad,
    "ksdd2": build_ksdd2,
    "csv": build_csv,
}
