"""All cases of invalid input, and the words that each error message must contain. `docs/errors.md` lists them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from bench import Bench, Outcome
from PIL import Image
from safetensors.torch import load, save_file

import anoframe
from anoframe import deploy
from anoframe.backbones import build_backbone
from anoframe.data.demo import make_demo
from anoframe.data.task_streams import parse_tasks
from anoframe.data.visa import COLUMNS
from anoframe.models.base import Detector, Phase
from anoframe.training.validation import check_training

Act = Callable[[Bench], Outcome]


@dataclass(frozen=True)
class Case:
    """One kind of invalid input.

    Attributes:
        section: heading in the page.
        wrong: description in the page.
        says: words that the message must contain: the file or key, and the problem.
        way_out: words of the message that tell what to do; empty for accepted input.
        act: causes the error.
        status: exit status.
        varies: pattern of text that depends on the release of a library; the page shows three dots instead.
        before_work: whether no checkpoint may have been written.
    """

    section: str
    wrong: str
    says: tuple[str, ...]
    way_out: str
    act: Act
    status: int = 2
    varies: str = ""
    before_work: bool = True

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "_", self.wrong).strip("_")

    @property
    def accepted(self) -> bool:
        return self.status == 0


CASES: list[Case] = []


def refused(section: str, wrong: str, *says: str, way_out: str, **more: object) -> Callable[[Act], Act]:
    """Register a case that ends with status 2 and an error message."""

    def register(act: Act) -> Act:
        CASES.append(Case(section, wrong, says, way_out, act, **more))  # type: ignore[arg-type]
        return act

    return register


def accepted(section: str, wrong: str, *says: str) -> Callable[[Act], Act]:
    """Register a case that runs to its end; `says` are words of its warnings."""
    return refused(section, wrong, *says, way_out="", status=0, before_work=False)


# ------------------------------------------------------------------------------------------------ images

IMAGES = "Images"


@refused(IMAGES, "a missing file: a broken link", "train/good/000.png: no such file", way_out="check the path")
def _(bench):
    path = bench.felt / "train/good/000.png"
    path.unlink()
    path.symlink_to("gone.png")
    return bench.train()


def _visa(bench: Bench, *rows: str) -> Path:
    """Write a root in the layout of VisA, with the given rows of its split table."""
    (bench.data / "candle").mkdir()
    table = bench.data / "split_csv/1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return bench.data


@refused(
    IMAGES,
    "a missing file named in a split table",
    "candle/0.png: no such file",
    way_out="check the path",
)
def _(bench):
    root = _visa(bench, "candle,train,normal,candle/0.png,", "candle,test,normal,felt/test/good/000.png,")
    return bench.train("--data.name", "visa", "--data.root", root, categories=("candle",))


@refused(
    IMAGES,
    "a truncated PNG",
    "test/cut/000.png: damaged or truncated",
    way_out="copy or download it again",
    varies=r"(?<=truncated )\(.*\)(?=;)",
)
def _(bench):
    bench.cut(bench.felt / "test/cut/000.png", -100)
    return bench.train()


@refused(
    IMAGES,
    "a truncated JPEG",
    "train/good/000.jpg: damaged or truncated",
    way_out="copy or download it again",
    varies=r"(?<=truncated )\(.*\)(?=;)",
)
def _(bench):
    path = bench.felt / "train/good/000.jpg"
    bench.mode(path.with_suffix(".png"), "RGB")
    Image.open(path.with_suffix(".png")).save(path)
    path.with_suffix(".png").unlink()
    bench.cut(path, -300)
    return bench.train()


@refused(
    IMAGES,
    "damage in the middle of a file",
    "train/good/000.png: damaged",
    way_out="copy or download it again",
    varies=r"(?<=truncated )\(.*\)(?=;)",
    before_work=False,
)
def _(bench):
    path = bench.felt / "train/good/000.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    path.write_bytes(content)
    return bench.train()


@refused(IMAGES, "a zero-byte file", "test/good/001.png: zero bytes", way_out="copy or download it again")
def _(bench):
    bench.cut(bench.felt / "test/good/001.png", 0)
    return bench.train()


@refused(
    IMAGES, "text with the name of an image", "train/good/000.png: not an image", way_out="replace or remove the file"
)
def _(bench):
    (bench.felt / "train/good/000.png").write_text("hello")
    return bench.train()


@accepted(IMAGES, "an extension that does not match the content: a JPEG called .png")
def _(bench):
    path = bench.felt / "train/good/000.png"
    Image.open(path).convert("RGB").save(path, "JPEG")
    return bench.train()


@refused(
    IMAGES,
    "only files of other extensions",
    "no training image (found train/good/000.gif",
    way_out="normal images belong in train/good",
)
def _(bench):
    for path in sorted((bench.felt / "train/good").iterdir()):
        path.rename(path.with_suffix(".gif"))
    return bench.train()


@refused(IMAGES, "a 16-bit image", "train/good/001.png: 16-bit image", way_out="convert it to 8 bits")
def _(bench):
    bench.deep(bench.felt / "train/good/001.png")
    return bench.train()


@refused(IMAGES, "a floating-point image", "train/good/001.tiff: floating-point image", way_out="convert it to 8 bits")
def _(bench):
    Image.new("F", (64, 64)).save(bench.felt / "train/good/001.tiff")
    return bench.train()


@accepted(IMAGES, "a CMYK image", "1 images of mode CMYK are read as RGB")
def _(bench):
    bench.mode(bench.felt / "train/good/000.png", "CMYK", format="JPEG")
    return bench.train()


@accepted(IMAGES, "a palette image", "1 images of mode P are read as RGB")
def _(bench):
    bench.mode(bench.felt / "train/good/000.png", "P")
    return bench.train()


@refused(
    IMAGES,
    "several frames in one file",
    "train/good/009.tiff: 2 frames in one TIFF file",
    way_out="save each frame as a separate file",
)
def _(bench):
    frame = Image.new("RGB", (64, 64))
    frame.save(bench.felt / "train/good/009.tiff", save_all=True, append_images=[frame.rotate(90)])
    return bench.train()


def _png(side: int) -> bytes:
    """Build a small grey PNG whose header claims `side` x `side` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(side + 1))) + chunk(b"IEND", b"")


@refused(
    IMAGES,
    "a decompression bomb",
    "train/good/000.png: too many pixels",
    way_out="cut it into tiles, or shrink it",
    varies=r"(?<=safely )\(.*\)(?=;)",
)
def _(bench):
    (bench.felt / "train/good/000.png").write_bytes(_png(60_000))
    return bench.train()


@refused(
    IMAGES,
    "a link out of the root",
    "felt/train/good/000.png: lies outside of DATA",
    way_out="--data.follow_links True",
)
def _(bench):
    path = bench.felt / "train/good/000.png"
    path.rename(bench.folder / "elsewhere.png")
    path.symlink_to(bench.folder / "elsewhere.png")
    return bench.train()


@refused(
    IMAGES,
    "a folder that is a link out of the root",
    "felt/test/cut/000.png: lies outside of DATA",
    "2 such files",
    way_out="copy it into the root",
)
def _(bench):
    (bench.felt / "test/cut").rename(bench.folder / "elsewhere")
    (bench.felt / "test/cut").symlink_to(bench.folder / "elsewhere")
    return bench.train()


@accepted(IMAGES, "a link out of the root, with --data.follow_links True", "1 file outside the root")
def _(bench):
    path = bench.felt / "train/good/000.png"
    path.rename(bench.folder / "elsewhere.png")
    path.symlink_to(bench.folder / "elsewhere.png")
    return bench.train("--data.follow_links", True)


@refused(
    IMAGES, "a path with '..' in a split table", "../secret.png: lies outside of DATA", way_out="copy it into the root"
)
def _(bench):
    shutil.copy(bench.felt / "test/good/000.png", bench.folder / "secret.png")
    root = _visa(bench, "candle,train,normal,felt/train/good/000.png,", "candle,test,normal,../secret.png,")
    return bench.train("--data.name", "visa", "--data.root", root, categories=("candle",))


@accepted(IMAGES, "spaces and other scripts in names of files, defects and categories")
def _(bench):
    felt = bench.data / "Filz grün"
    bench.felt.rename(felt)
    (felt / "train/good/000.png").rename(felt / "train/good/Bild № 1 ☂.png")
    for kind in ("test", "ground_truth"):
        (felt / kind / "cut").rename(felt / kind / "切れ目 a")
    return bench.train(categories=("Filz grün",))


@refused(IMAGES, "a name that is not UTF-8", "caf\\xe9.png: its name is not UTF-8", way_out="rename it")
def _(bench):
    image = bench.felt / "train/good/000.png"
    image.rename(os.fsdecode(os.fsencode(image.with_name("caf")) + b"\xe9.png"))
    return bench.train()


@refused(
    IMAGES, "a folder with the name of an image", "train/good/009.png: a folder", way_out="remove it, or give a file"
)
def _(bench):
    (bench.felt / "train/good/009.png").mkdir()
    return bench.train()


@refused(
    IMAGES,
    "a pipe with the name of an image",
    "test/good/009.png: a pipe or device",
    way_out="remove it, or give a file",
)
def _(bench):
    os.mkfifo(bench.felt / "test/good/009.png")
    return bench.train()


@refused(
    IMAGES,
    "several bad files: the first ten are named",
    "2 problems",
    "000.png: zero bytes",
    "001.png: zero bytes",
    way_out="copy or download it again",
)
def _(bench):
    bench.cut(bench.felt / "test/good/000.png", 0)
    bench.cut(bench.felt / "test/good/001.png", 0)
    return bench.train()


# ------------------------------------------------------------------------------------------------ masks

MASKS = "Masks"


@refused(
    MASKS,
    "a mask of another size than its image",
    "cut/000_mask.png: 32 x 64 pixels",
    "test/cut/000.png 64 x 64",
    way_out="draw it on the image",
)
def _(bench):
    bench.blank(bench.felt / "ground_truth/cut/000_mask.png", (32, 64), 255)
    return bench.train()


@refused(
    MASKS,
    "a mask for a good image",
    "ground_truth/good/000_mask.png: a mask without a defect image",
    way_out="rename or remove it",
)
def _(bench):
    bench.blank(bench.felt / "ground_truth/good/000_mask.png", level=255)
    return bench.train()


@refused(
    MASKS,
    "a mask for a good image, in a split table",
    "cut/000_mask.png: a mask for the good image",
    way_out="remove it, or move the image to its defect",
)
def _(bench):
    mask = "felt/ground_truth/cut/000_mask.png"
    root = _visa(
        bench,
        "candle,train,normal,felt/train/good/000.png,",
        f"candle,test,normal,felt/test/good/000.png,{mask}",
    )
    return bench.train("--data.name", "visa", "--data.root", root, categories=("candle",))


@refused(
    MASKS,
    "a mask with another name than its image",
    "cut/000_gt.png: a mask without a defect image",
    "is 000_mask.png (its size is 64 x 64 pixels)",
    way_out="rename or remove it",
)
def _(bench):
    (bench.felt / "ground_truth/cut/000_mask.png").rename(bench.felt / "ground_truth/cut/000_gt.png")
    return bench.train()


@refused(
    MASKS, "an unknown rule for resized masks", "data.mask_rule: unknown value 'hlaf'", way_out="did you mean 'half'"
)
def _(bench):
    return bench.train("--data.mask_rule", "hlaf")


@refused(MASKS, "an unknown frame of masks", "data.mask_frame: unknown value 'exif'", way_out="Known: stored, upright")
def _(bench):
    return bench.train("--data.mask_frame", "exif")


@accepted(MASKS, "an all-zero mask for a good image", "1 all-zero masks of good images")
def _(bench):
    bench.blank(bench.felt / "ground_truth/good/000_mask.png")
    return bench.train()


@refused(
    MASKS,
    "no mask for one of the defects",
    "test/dent/001.png: no mask, although other defects have one",
    way_out="add it, or remove all masks",
)
def _(bench):
    (bench.felt / "ground_truth/dent/001_mask.png").unlink()
    return bench.train()


@accepted(MASKS, "no masks at all: pixel metrics are not available", "no masks: pixel metrics are not available")
def _(bench):
    shutil.rmtree(bench.felt / "ground_truth")
    return bench.train()


@refused(
    MASKS,
    "an all-zero mask of a defect",
    "dent/000_mask.png: marks no pixel",
    way_out="draw it, or move the image to good",
)
def _(bench):
    bench.blank(bench.felt / "ground_truth/dent/000_mask.png")
    return bench.train()


@refused(
    MASKS,
    "a damaged mask",
    "cut/001_mask.png: damaged",
    way_out="copy or download it again",
    varies=r"(?<=truncated )\(.*\)(?=;)",
)
def _(bench):
    bench.cut(bench.felt / "ground_truth/cut/001_mask.png", 60)
    return bench.train()


@refused(MASKS, "one mask for two images", "cut/000_mask.png: the mask of 2 images", way_out="rename the images")
def _(bench):
    Image.new("RGB", (64, 64)).save(bench.felt / "test/cut/000.jpg")
    return bench.train()


# ------------------------------------------------------------------------------------------------ datasets

DATASETS = "Datasets and categories"


def write_table(bench: Bench, name: str, row: str) -> Path:
    """Write a table with one image."""
    path = bench.folder / "tables" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"image,category,split,label\n{row}\n")
    return path


@refused(DATASETS, "a missing root", "dataset 'folder': no/such/folder does not exist", way_out="Expected")
def _(bench):
    return bench.train("--data.root", "no/such/folder")


@refused(DATASETS, "an empty root", "no category found in HERE/nothing", way_out="Expected")
def _(bench):
    (bench.folder / "nothing").mkdir()
    return bench.train("--data.root", bench.folder / "nothing")


@refused(
    DATASETS,
    "an empty folder of training images",
    "felt: no training image",
    way_out="normal images belong in train/good",
)
def _(bench):
    shutil.rmtree(bench.felt / "train/good")
    (bench.felt / "train/good").mkdir()
    return bench.train()


@accepted(DATASETS, "no test images: the metrics are not available", "no test image: metrics are not available")
def _(bench):
    shutil.rmtree(bench.felt / "test")
    shutil.rmtree(bench.felt / "ground_truth")
    return bench.train()


@refused(
    DATASETS,
    "test images outside of test/good and test/<defect>",
    "felt: no test image (found test/000.png)",
    way_out="they belong in test/good and test/<defect>",
)
def _(bench):
    (bench.felt / "test/good/000.png").rename(bench.felt / "test/000.png")
    for name in ("test/good", "test/cut", "test/dent", "ground_truth"):
        shutil.rmtree(bench.felt / name)
    return bench.train()


@refused(
    DATASETS,
    "a folder good in other capitals",
    "no training image",
    way_out="rename train/Good, which differs only in capitals",
)
def _(bench):
    (bench.felt / "train/good").rename(bench.felt / "train/Good")
    return bench.train()


@refused(
    DATASETS,
    "a folder test in other capitals",
    "felt/Test is not read",
    way_out="rename it to test, in lower case",
)
def _(bench):
    (bench.felt / "test").rename(bench.felt / "Test")
    return bench.train()


@accepted(DATASETS, "files of other types among the images", "1 file is not read, of type .heic")
def _(bench):
    (bench.felt / "train/good/004.png").rename(bench.felt / "train/good/004.heic")
    return bench.train()


@refused(
    DATASETS, "a share of training images of 0", "data.train_share must be a share in (0, 1)", way_out="for example"
)
def _(bench):
    return bench.train("--data.train_share", "0")


@accepted(
    DATASETS,
    "only good test images: the metrics are not available",
    "no defect test image: image and pixel metrics are not available",
)
def _(bench):
    for name in ("test/cut", "test/dent", "ground_truth"):
        shutil.rmtree(bench.felt / name)
    outcome = bench.train()
    metrics = json.loads((bench.output / "tiny/separate/felt/0/metrics.json").read_text())["categories"]["felt"]
    assert set(metrics.values()) == {None}, "a metric that is not available is none, and not 0"
    return outcome


@accepted(
    DATASETS,
    "only defective test images: image AUROC and AP are not available",
    "no good test image: image AUROC and AP are not available",
)
def _(bench):
    shutil.rmtree(bench.felt / "test/good")
    return bench.train()


@accepted(DATASETS, "one training image", "one training image")
def _(bench):
    for number in range(1, 6):
        (bench.felt / f"train/good/{number:03d}.png").unlink()
    return bench.train()


@refused(
    DATASETS,
    "a test image that is also a training image",
    "test/good/000.png: the same bytes as training image",
    way_out="remove one of the two",
)
def _(bench):
    shutil.copy(bench.felt / "train/good/000.png", bench.felt / "test/good/000.png")
    return bench.train()


@refused(
    DATASETS,
    "normal test images in a folder with another name",
    "test/ok counts as a defect",
    way_out="normal test images belong in test/good",
)
def _(bench):
    (bench.felt / "test/good").rename(bench.felt / "test/ok")
    return bench.train()


@refused(DATASETS, "a misspelt category", "unknown category 'flet'", way_out="did you mean 'felt'")
def _(bench):
    return bench.train(categories=("flet",))


@refused(DATASETS, "'all' in capitals", "unknown category 'ALL'", way_out="did you mean 'all'")
def _(bench):
    return bench.train(categories=("ALL",))


@refused(
    DATASETS, "commas between categories", "unknown category 'felt,mesh'", way_out="spaces between them, --cls_names"
)
def _(bench):
    return bench.train(categories=("felt,mesh",))


@refused(
    DATASETS,
    "a category that is a path out of the root",
    "unknown category '../data/felt'",
    way_out="Known: felt, mesh",
)
def _(bench):
    return bench.train(categories=("../data/felt",))


@refused(DATASETS, "a category given twice", "category given twice: felt", way_out="name it once")
def _(bench):
    return bench.train(categories=("felt", "felt"))


@refused(
    DATASETS,
    "an official category that is not on disk",
    "category 'bottle' of 'mvtec' is not on disk",
    way_out="put it in DATA",
)
def _(bench):
    bench.felt.rename(bench.data / "screw")
    return bench.train("--data.name", "mvtec", categories=("bottle",))


@refused(DATASETS, "a misspelt dataset", "unknown dataset 'mvtce'", way_out="did you mean 'mvtec'")
def _(bench):
    return bench.train("--data.name", "mvtce")


@refused(
    DATASETS,
    "a dataset name that is another class",
    "dataset 'subprocess:Popen' is not a Dataset",
    way_out="Known: btad, csv, demo",
)
def _(bench):
    return bench.train("--data.name", "subprocess:Popen")


@refused(
    DATASETS,
    "the name of another published dataset",
    "no category found in DATA; this looks like MVTec LOCO",
    way_out="--data.name loco",
)
def _(bench):
    shutil.rmtree(bench.data / "mesh")
    (bench.felt / "test/cut").rename(bench.felt / "test/logical_anomalies")
    return bench.train("--data.name", "mvtec")


@refused(
    DATASETS,
    "several tables of images",
    "HERE/tables holds several tables, a.csv, b.csv",
    way_out="choose one, for example --data.root",
)
def _(bench):
    write_table(bench, "a.csv", "1.png,felt,train,good")
    write_table(bench, "b.csv", "1.png,felt,train,good")
    return bench.train("--data.name", "csv", "--data.root", bench.folder / "tables")


@refused(
    DATASETS,
    "an unknown split in a table of images",
    "a.csv, line 2: split 'dev'",
    way_out="expected train, test or val",
)
def _(bench):
    table = write_table(bench, "a.csv", "1.png,felt,dev,good")
    return bench.train("--data.name", "csv", "--data.root", table)


@refused(
    DATASETS,
    "a defect among the training images of a table",
    "a.csv, line 2: label 'cut' in split train",
    way_out="move the row to split test, or write label good",
)
def _(bench):
    table = write_table(bench, "a.csv", "1.png,felt,train,cut")
    return bench.train("--data.name", "csv", "--data.root", table)


@refused(
    DATASETS,
    "an image of KolektorSDD2 without its mask",
    "test/2.png: no mask 2_GT.png, which decides whether the image is normal",
    way_out="take it from the download again",
)
def _(bench):
    root = bench.folder / "surface"
    for name in ("train/1.png", "train/1_GT.png", "test/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(root / name)
    return bench.train("--data.name", "ksdd2", "--data.root", root, categories=("ksdd2",))


@refused(
    DATASETS,
    "a damaged split of Real-IAD",
    "realiad_jsons/felt.json: not a readable split",
    way_out="take it from the download again",
)
def _(bench):
    (bench.data / "realiad_jsons").mkdir()
    (bench.data / "realiad_jsons/felt.json").write_text("{}")
    return bench.train("--data.name", "real_iad")


@refused(
    DATASETS,
    "other files in the folder of the demo data",
    "DATA holds files that are not the demo data",
    way_out="choose another --data.root",
)
def _(bench):
    root = bench.data
    return bench.python(lambda: make_demo(root))


# ------------------------------------------------------------------------------------------------ splits

SPLITS = "Splits"
LEARNS_FROM_DEFECTS = "anoframe.models.patchcore.model.PatchCore.is_supervised"


@refused(SPLITS, "an unknown split", "unknown data.split 'ramml'", way_out="did you mean 'raml'")
def _(bench):
    return bench.train("--data.split", "ramml")


@refused(
    SPLITS,
    "a few-shot split without the number of shots",
    "data.split few_shot needs data.shots",
    way_out="for example --data.shots 4",
)
def _(bench):
    return bench.train("--data.split", "few_shot")


@refused(
    SPLITS,
    "shots of another split",
    "data.shots 4 goes with --data.split few_shot, got data.split raml",
    way_out="--data.shots 0",
)
def _(bench):
    return bench.train("--data.split", "raml", "--data.shots", 4)


@refused(
    SPLITS,
    "more shots than training images",
    "data.shots 7 is more than the training images of category 'felt', 6",
    way_out="lower --data.shots",
)
def _(bench):
    return bench.train("--data.split", "few_shot", "--data.shots", 7)


@refused(
    SPLITS,
    "an image in two parts of a split, in one category",
    "the same bytes as training image",
    way_out="remove one of the two",
)
def _(bench):
    for number in (1, 2):
        shutil.copy(bench.felt / "test/good/000.png", bench.felt / f"test/good/{number:03d}.png")
    return bench.train("--data.split", "raml")


@refused(
    SPLITS,
    "an image in two parts of a split, in two categories",
    "felt/test/good/000.png, a test image, has the same content as mesh/train/good/000.png",
    way_out="remove one of the two files",
)
def _(bench):
    shutil.copy(bench.data / "mesh/train/good/000.png", bench.felt / "test/good/000.png")
    return bench.train("--data.split", "few_shot", "--data.shots", 6, categories=("mesh", "felt"))


@refused(
    SPLITS,
    "a supervised method on a split without training defects",
    "PatchCore learns from labelled defects, and the training images of felt have none with data.split official",
    way_out="--data.split raml",
)
def _(bench):
    bench.patch.setattr(LEARNS_FROM_DEFECTS, True)
    return bench.train()


@refused(
    SPLITS,
    "a test of a supervised method on its training images",
    "1 of 8 test images are images that this supervised detector was trained on, the first is felt/test/good/009.png",
    way_out="--data.split raml",
)
def _(bench):
    bench.patch.setattr(LEARNS_FROM_DEFECTS, True)
    shutil.move(bench.felt / "train/good/000.png", bench.felt / "test/good/009.png")
    return bench.test("--data.root", bench.data, checkpoint=bench.run / "checkpoint" / "felt")


@refused(
    SPLITS,
    "a prediction without the name of the product, by a method that uses it",
    "the detector in RUN/checkpoint/felt uses the name of the product",
    way_out="give it with --cls_names, of felt, mesh",
)
def _(bench):
    bench.describe(uses_category=True, train_images={"felt": 6, "mesh": 6})
    return bench.call("--mode", "predict", "--checkpoint", bench.fit, "--input", bench.felt)


# ------------------------------------------------------------------------------------------------ words, configs

CONFIGS = "Command lines and configs"


@refused(CONFIGS, "a misspelt option", "unknown option --sede", way_out="did you mean '--seed'")
def _(bench):
    return bench.train("--sede", 1)


@refused(
    CONFIGS, "a misspelt key on the command line", "unknown config key 'data.rooot'", way_out="did you mean 'data.root'"
)
def _(bench):
    return bench.train("--data.rooot", "x")


@refused(
    CONFIGS,
    "a value of another type",
    "data.crop takes a whole number or a list of values, got 'wide'",
    way_out="takes a whole number",
)
def _(bench):
    return bench.train("--data.crop", "wide")


@refused(
    CONFIGS,
    "a crop larger than the resized image",
    "crop 65 is larger than resize 64",
    way_out="lower crop or raise resize",
)
def _(bench):
    return bench.train("--data.crop", 65)


@refused(
    CONFIGS,
    "a size of three numbers",
    "resize must be a positive whole number of pixels, or a pair of them (height, width)",
    way_out="a pair of them (height, width)",
)
def _(bench):
    return bench.train("--data.resize", "64,64,3")


@refused(
    CONFIGS,
    "a misspelt way to keep the aspect ratio",
    "data.keep_aspect takes True or False or 'pad' or 'rectangle', got 'padd'",
    way_out="'pad' or 'rectangle'",
)
def _(bench):
    return bench.train("--data.keep_aspect", "padd")


@refused(
    CONFIGS,
    "a tile larger than the image",
    "data.tile 65 x 65 is larger than the images, 64 x 64",
    way_out="lower data.tile, or raise data.resize and data.crop",
)
def _(bench):
    return bench.train("--data.tile", 65)


@refused(
    CONFIGS,
    "an overlap without tiles",
    "data.tile_overlap 8 has no effect without tiles",
    way_out="set data.tile, or leave it 0",
)
def _(bench):
    return bench.train("--data.tile_overlap", 8)


@refused(CONFIGS, "a seed out of range", "seed must be a whole number from 0", "got -1", way_out="from 0 to 2**32 - 1")
def _(bench):
    return bench.train("--seed", -1)


@refused(
    CONFIGS,
    "a misspelt config",
    "no config 'patchcore/patchcore_242.py'",
    way_out="did you mean 'patchcore/patchcore_224.py'",
)
def _(bench):
    return bench.call("--config", "patchcore/patchcore_242.py", "--print_config")


@refused(CONFIGS, "a misspelt method", "unknown model 'patchcoer'", way_out="did you mean 'patchcore'")
def _(bench):
    return bench.train("--model.name", "patchcoer")


@refused(
    CONFIGS,
    "a method name that is another class",
    "model 'subprocess:Popen' is not a Detector",
    way_out="Known: cdo",
)
def _(bench):
    return bench.train("--model.name", "subprocess:Popen")


@refused(CONFIGS, "a misspelt argument of a method", "takes no argument 'sgima'", way_out="did you mean 'sigma'")
def _(bench):
    return bench.train(config=bench.config("with cfg.unlocked():", "    cfg.model.sgima = 4.0"))


@refused(
    CONFIGS,
    "an argument of a method that has another type",
    "neighbours takes a whole number, got 'three'",
    way_out="takes a whole number",
)
def _(bench):
    lines = ("with cfg.unlocked():", "    del cfg.model['neighbours']", "    cfg.model.neighbours = 'three'")
    return bench.train(config=bench.config(*lines))


@refused(
    CONFIGS,
    "a misspelt backbone",
    "timm has no model 'resnet_18'",
    way_out="did you mean 'resnet18'",
    varies=r"(?<=Known: ).*",
)
def _(bench):
    return bench.train("--model.backbone.name", "resnet_18")


@refused(CONFIGS, "a misspelt level name", "has no level 'blocks.9'", way_out="it has 0 or 'blocks.0'")
def _(bench):
    return bench.train("--model.backbone.levels", "blocks.9")


@refused(CONFIGS, "a level number that the backbone lacks", "has no level 9", way_out="it has 0 or 'blocks.0'")
def _(bench):
    return bench.train("--model.backbone.levels", 9)


@refused(
    CONFIGS,
    "a misspelt model of open_clip",
    "open_clip has no model 'ViT-B-16-plus240'",
    way_out="did you mean 'ViT-B-16-plus-240'?",
)
def _(bench):
    return _clip(bench, "random", "open_clip:ViT-B-16-plus240")


@refused(
    CONFIGS,
    "feature levels of a CLIP model",
    "an open_clip model takes no argument 'levels'",
    way_out="Known: ",
)
def _(bench):
    return bench.train("--model.backbone.name", CLIP)


@refused(CONFIGS, "a misspelt protocol", "unknown protocol 'unfied'", way_out="did you mean 'unified'")
def _(bench):
    return bench.train("--protocol", "unfied")


@refused(
    CONFIGS,
    "a config with a syntax error",
    "HERE/own.py:4: ",
    way_out="correct that line",
    varies=r"(?<=:4: ).*(?=; correct)",
)
def _(bench):
    return bench.train(config=bench.config("cfg.seed = = 1"))


@refused(CONFIGS, "a config that fails", "HERE/own.py:4: NameError", "name 'sede' is not defined", way_out="own.py:4")
def _(bench):
    return bench.train(config=bench.config("cfg.seed = sede"))


@refused(
    CONFIGS, "a misspelt key in a config", "HERE/own.py:4: unknown config key 'sede'", way_out="did you mean 'seed'"
)
def _(bench):
    return bench.train(config=bench.config("cfg.sede = 1"))


@refused(
    CONFIGS, "a config that inherits from itself", "HERE/own.py: inherits from itself", way_out="name another parent"
)
def _(bench):
    return bench.train(config=bench.config(parent="own.py"))


@refused(
    CONFIGS,
    "a config without cfg",
    "HERE/own.py: a config file must bind 'cfg' to a ConfigDict",
    way_out="bind 'cfg'",
)
def _(bench):
    return bench.train(config=bench.config("seed = 1", parent=""))


@refused(
    CONFIGS, "a config without a model", "config own has no model section", way_out="inherit from a method's config"
)
def _(bench):
    path = bench.config("from anoframe.config import inherit", "cfg = inherit('__base__/default.py')", parent="")
    return bench.train("--data.name", "folder", config=path)


@refused(
    CONFIGS,
    "a config that does not inherit",
    "config without a name lacks the key cache",
    way_out="inherit from a config that has it, or add it",
)
def _(bench):
    lines = ("from anoframe.config import ConfigDict", f"cfg = ConfigDict({{'data': {{'root': {str(bench.data)!r}}}}})")
    return bench.call("--config", bench.config(*lines, "cfg.categories = ('felt',)", parent=""))


@refused(
    CONFIGS,
    "a config.yaml with a syntax error",
    "RUN/config.yaml:6: not YAML",
    way_out="correct that line",
    varies=r"(?<=not YAML: ).*(?=; correct)",
)
def _(bench):
    path = bench.replace(bench.run / "config.yaml", "categories:", "categories: ]")
    return bench.train(config=path)


@refused(
    CONFIGS,
    "a value of another type in a config.yaml",
    "RUN/config.yaml: data.crop takes a whole number or a list of values, got 'wide'",
    way_out="takes a whole number",
)
def _(bench):
    return bench.train(config=bench.replace(bench.run / "config.yaml", "crop: 64", "crop: wide"))


@refused(
    CONFIGS,
    "a category in a config.yaml that YAML takes for a number",
    "RUN/config.yaml: each value of categories is text, got 1",
    way_out="put it in quotes",
)
def _(bench):
    return bench.train(config=bench.replace(bench.run / "config.yaml", "- felt", "- 01"))


@refused(
    CONFIGS,
    "a number in quotes in a config.yaml",
    "RUN/config.yaml: cache.max_gb takes a number, got '20'",
    way_out="remove its quotes",
)
def _(bench):
    return bench.train(config=bench.replace(bench.run / "config.yaml", "max_gb: 20.0", "max_gb: '20'"))


@refused(
    CONFIGS,
    "a path with an environment variable that is not set",
    "data.root $NO_SUCH_VARIABLE/data: the environment variable NO_SUCH_VARIABLE is not set",
    way_out="set it, or write the whole path",
)
def _(bench):
    return bench.train("--data.root", "$NO_SUCH_VARIABLE/data")


@refused(
    CONFIGS,
    "a misspelt key in a config.yaml",
    "RUN/config.yaml: unknown config key 'data.corp'",
    way_out="did you mean 'crop'",
)
def _(bench):
    return bench.train(config=bench.replace(bench.run / "config.yaml", "crop: 64", "corp: 64"))


@refused(
    CONFIGS, "a config.yaml whose name leads out of the output", "config name '../../x'", way_out="give it a plain name"
)
def _(bench):
    path = bench.replace(bench.run / "config.yaml", "config_name: tiny", "config_name: ../../x")
    return bench.train(config=path)


@refused(
    CONFIGS,
    "a config.yaml that builds objects",
    "RUN/config.yaml:9: not YAML",
    way_out="correct that line",
    varies=r"(?<=not YAML: ).*(?=; correct)",
)
def _(bench):
    tag = f"config_name: !!python/object/apply:builtins.open [{bench.witness}, w]"
    return bench.train(config=bench.replace(bench.run / "config.yaml", "config_name: tiny", tag))


# ------------------------------------------------------------------------------------------------ streams

STREAMS = "Streams of tasks"
RD4AD = "rd4ad/rd4ad_lite0_256.py"
RAML = "raml/raml_lite2.py"
WINCLIP = "winclip/winclip_zero_shot.py"
SMALL_CLIP = 'cfg.model.backbone.name = "open_clip:ViT-S-32-alt"'
UNIAD = "uniad/uniad_lite0.py"
SEMA = "sema_uniad/sema_uniad_lite0.py"
NOISING = "patchcore_noising/patchcore_noising_lite0_256.py"
ONE_TOKEN = "cfg.model.window = 1"  # the feature maps of the tiny images have few tokens
LIBRARY = r"(?<=Known: ).*"  # another release of the library may know more names


@refused(STREAMS, "a misspelt category in a task", "unknown category 'mehs'", way_out="did you mean 'mesh'")
def _(bench):
    return bench.stream("felt;mehs")


@refused(
    STREAMS,
    "an empty place in the tasks",
    "protocol.tasks has an empty place, got 'felt;;mesh'",
    way_out="'a,b;c;d' are three tasks",
)
def _(bench):
    return bench.stream("felt;;mesh")


@refused(STREAMS, "a misspelt stream", "protocol.tasks '10-1x55' is neither a list", way_out="did you mean '10-1x5'")
def _(bench):
    return bench.stream("10-1x55")


@refused(
    STREAMS,
    "a stream of another dataset",
    "protocol.tasks 15x1 is a stream of mvtec",
    "unknown category 'bottle' of 'folder'",
    way_out="set --data.name and --data.root to that dataset, or give tasks of this one",
)
def _(bench):
    return bench.stream("15x1")


@refused(
    STREAMS,
    "a category in two tasks",
    "protocol.tasks has felt more than once",
    way_out="a category belongs to one task",
)
def _(bench):
    return bench.stream("felt;mesh,felt")


@refused(
    STREAMS,
    "--cls_names that differ from the tasks",
    "--cls_names and protocol.tasks differ in mesh",
    way_out="leave out --cls_names",
)
def _(bench):
    return bench.stream("felt;mesh", "--cls_names", "felt")


@refused(STREAMS, "a negative order seed", "protocol.order_seed is 0 or more", "got -1", way_out="or None")
def _(bench):
    return bench.python(lambda: parse_tasks("felt;mesh", order_seed=-1))


@refused(STREAMS, "a misspelt strategy", "unknown protocol.strategy 'fintune'", way_out="did you mean 'finetune'")
def _(bench):
    return bench.stream("felt;mesh", "--protocol.strategy", "fintune")


@refused(
    STREAMS,
    "elastic weight consolidation of a method without gradients",
    "PatchCore is not trained by gradient descent",
    way_out="another --protocol.strategy",
)
def _(bench):
    return bench.stream("felt;mesh", "--protocol.strategy", "ewc")


@refused(
    STREAMS,
    "elastic weight consolidation with weight 0",
    "protocol.ewc_weight must be above 0, got 0.0",
    way_out="--protocol.strategy finetune",
)
def _(bench):
    words = ("--protocol.strategy", "ewc", "--protocol.ewc_weight", 0)
    return bench.stream("felt;mesh", *words, config=bench.method(RD4AD))


@refused(
    STREAMS,
    "a method without continual learning",
    "RD4AD has no continual learning method of its own",
    way_out="--protocol.strategy finetune",
)
def _(bench):
    return bench.stream("felt;mesh", "--protocol.strategy", "expand", config=bench.method(RD4AD))


@refused(
    STREAMS,
    "a method without continual learning, with a subclass that has it",
    "UniAD has no continual learning method of its own",
    way_out="--protocol.strategy finetune",
)
def _(bench):
    return bench.stream("felt;mesh", "--protocol.strategy", "expand", config=bench.method(UNIAD, ONE_TOKEN))


@refused(
    STREAMS,
    "a method that does not support the continual learning of its base class",
    "patchcore_noising stores the deviations of one task only",
    way_out="--protocol.strategy finetune",
)
def _(bench):
    return bench.stream("felt;mesh", "--protocol.strategy", "expand", config=bench.method(NOISING))


@refused(
    STREAMS,
    "a stream on several devices",
    "--device cpu cpu: a stream of tasks is trained by one process",
    way_out="name one device",
)
def _(bench):
    return bench.stream("felt;mesh", "--device", "cpu", "cpu", config=bench.method(RD4AD))


@refused(
    STREAMS,
    "damage in the middle of an image of a later task",
    "mesh/train/good/001.png: damaged or truncated",
    way_out="copy or download it again",
    varies=r"(?<=truncated )\(.*\)(?=;)",
)
def _(bench):
    path = bench.data / "mesh/train/good/001.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(content)
    return bench.stream("felt;mesh")


@refused(
    STREAMS,
    "a task with too few images for self-expansion",
    "task 1 (mesh) has 2 training images, and SemaUniAD needs 3 or more per task",
    way_out="add images, or merge two tasks",
)
def _(bench):
    for path in sorted((bench.data / "mesh/train/good").iterdir())[2:]:
        path.unlink()
    return bench.stream("felt;mesh", config=bench.method(SEMA, ONE_TOKEN))


# ------------------------------------------------------------------------------------------------ training

TRAINING = "Training by gradients"


def _train(bench: Bench, *words: object) -> Outcome:
    """Call the command line for a method that is trained by gradients."""
    return bench.train(*words, config=bench.method(RD4AD))


def _check_settings(bench: Bench, **changes: object) -> Outcome:
    """Check training settings directly, in the way that every training run does before any work.

    One case of this section, the first, goes through the command line instead.
    """
    phase = Phase("train", {"weight": torch.nn.Parameter(torch.zeros(2, 2))}, lambda batch: {})

    def check() -> None:
        overrides = {f"trainer.{name.replace('__', '.')}": value for name, value in changes.items()}
        section = anoframe.load_config(RD4AD, overrides).trainer.to_dict()
        check_training([phase], section, torch.device("cpu"), [phase.name])

    return bench.python(check)


@refused(
    TRAINING,
    "a misspelt optimiser",
    "unknown trainer.optimizer.name 'addam'",
    way_out="did you mean 'adam'",
    varies=LIBRARY,
)
def _(bench):
    return _train(bench, "--trainer.optimizer.name", "addam")


@refused(TRAINING, "a learning rate of 0", "got 0.0", way_out="lr must be a number above 0")
def _(bench):
    return _check_settings(bench, optimizer__lr=0)


@refused(
    TRAINING,
    "an argument that the optimiser does not take",
    "optimizer 'sgd' takes no argument 'betas'",
    way_out="Known: ",
    varies=LIBRARY,
)
def _(bench):
    return _check_settings(bench, optimizer__name="sgd", optimizer__betas=(0.9, 0.999))


@refused(TRAINING, "fewer betas than the optimiser has", "got (0.5,)", way_out="betas takes 2 numbers")
def _(bench):
    return _check_settings(bench, optimizer__betas=(0.5,))


@refused(
    TRAINING,
    "an optimiser that needs a GPU, on a machine without one",
    "optimizer 'fusedadam' is not available on this machine",
    way_out="another --trainer.optimizer.name",
    varies=r"(?<=this machine )\(.*\)(?=: choose another)",
)
def _(bench):
    bench.patch.setattr(torch.cuda, "is_available", lambda: False)
    return _check_settings(bench, optimizer__name="fusedadam")


@refused(
    TRAINING,
    "an optimiser that needs second derivatives",
    "'adahessian' needs second derivatives, which the gradient loop does not compute",
    way_out="choose another --trainer.optimizer.name",
)
def _(bench):
    return _check_settings(bench, optimizer__name="adahessian")


@refused(TRAINING, "a misspelt schedule", "unknown trainer.schedule.name 'cosin'", way_out="did you mean 'cosine'")
def _(bench):
    return _check_settings(bench, schedule__name="cosin")


@refused(
    TRAINING, "a final learning rate below 0", "trainer.schedule.final_lr", "got -1.0", way_out="must be 0 or more"
)
def _(bench):
    return _check_settings(bench, schedule__final_lr=-1)


@refused(
    TRAINING,
    "a cosine schedule that increases the learning rate",
    "trainer.schedule.final_lr",
    "got 1.0, which is above 0.005",
    way_out="must be at most trainer.optimizer.lr",
)
def _(bench):
    return _check_settings(bench, schedule__name="cosine", schedule__final_lr=1)


@refused(
    TRAINING,
    "selection by test metrics without evaluations during training",
    "trainer.select best_on_test requires trainer.evaluate_every above 0, got 0",
    way_out="--trainer.evaluate_every N",
)
def _(bench):
    return _check_settings(bench, select="best_on_test")


@refused(
    TRAINING,
    "half precision on a CPU",
    "trainer.precision float16 requires a GPU, this device is a cpu",
    way_out="--trainer.precision float32",
)
def _(bench):
    return _check_settings(bench, precision="float16")


@refused(
    TRAINING,
    "a loss of whole batches, computed in parts",
    "phase classifier: the loss of an image depends on its whole batch",
    "2 parts (trainer.accumulate)",
    way_out="--trainer.accumulate 1",
)
def _(bench):
    return bench.train("--model.tile_size", 16, "--trainer.accumulate", 2, config=bench.method(RAML))


@refused(
    TRAINING,
    "images of a size that the tiles of RAML do not fit",
    "model.tile_size 128 needs images of 512 pixels, got data.crop 64",
    way_out="--data.resize 512 --data.crop 512",
)
def _(bench):
    return bench.train(config=bench.method(RAML))


@refused(
    TRAINING,
    "text of an encoder without a text tower",
    "the backbone FeaturePyramid has no text tower, got model.text.weight 0.15 and model.text.fusion False",
    way_out="--model.text.weight 0.0 --model.text.fusion False",
)
def _(bench):
    return bench.train("--model.tile_size", 16, "--model.text.weight", 0.15, config=bench.method(RAML))


@refused(
    TRAINING,
    "more second fits for the threshold than there are images to hold back",
    "threshold.fits 6 times threshold.held_back 0.2 must be above 0 and at most 1",
    way_out="--threshold.held_back 0.166",
)
def _(bench):
    return bench.train("--threshold.fits", 6, "--threshold.held_back", 0.2)


@refused(TRAINING, "zero epochs", "trainer.epochs", "got 0", way_out="must be 1 or more")
def _(bench):
    return _check_settings(bench, epochs=0)


@refused(TRAINING, "a negative gradient clipping norm", "trainer.clip", "got -1.0", way_out="must be 0 or more")
def _(bench):
    return _check_settings(bench, clip=-1)


@refused(
    TRAINING,
    "selection by an unknown metric",
    "unknown trainer.select_metric 'pixel_aurok'",
    way_out="did you mean 'pixel_auroc'? Known: ",
)
def _(bench):
    return _check_settings(bench, select_metric="pixel_aurok")


@refused(
    TRAINING,
    "selection by test metrics that the test set does not have",
    "trainer.select best_on_test chooses the epoch by trainer.select_metric aupro",
    "no test set of felt has it",
    way_out="add good test images and defects with masks, or use --trainer.select last",
)
def _(bench):
    for folder in ("test/cut", "test/dent", "ground_truth"):
        shutil.rmtree(bench.felt / folder)
    chosen = ('cfg.trainer.select = "best_on_test"', 'cfg.trainer.select_metric = "aupro"')
    return bench.train(config=bench.method(RD4AD, "cfg.trainer.evaluate_every = 1", *chosen))


@refused(
    TRAINING,
    "a resumed run with other data",
    "cannot resume RUNS/tiny/separate/felt/0, its data have changed since it began",
    "felt, train: 1 removed (felt/train/good/000.png)",
    way_out="Restore the data, choose another --output, or replace the run with --overwrite",
    before_work=False,
)
def _(bench):
    assert bench.train().status == 0
    (bench.felt / "train/good/000.png").unlink()
    return bench.train("--resume")


@refused(
    TRAINING,
    "a resumed run with another number of epochs",
    "cannot resume RUNS/own/separate/felt/0, it began with other values",
    "trainer.epochs was 100 and is 200",
    way_out="Use the earlier values, choose another --output, or replace the run with --overwrite",
    before_work=False,
)
def _(bench):
    brief = bench.method(RD4AD, "cfg.model.width = 0.1", "cfg.model.depths = (1, 1, 1)", "cfg.trainer.steps = 1")
    assert bench.train(config=brief).status == 0
    return bench.train("--resume", "--trainer.epochs", 200, config=brief)


@refused(
    TRAINING, "a misspelt option of a method", "model.heads", "got 'liner'", way_out="is one of auto, relu, linear"
)
def _(bench):
    return _train(bench, "--model.heads", "liner")


@refused(
    TRAINING,
    "a misspelt position of adapters",
    "model.sema.position",
    "got 'fnn'",
    way_out="must be one of ffn, attn, both",
)
def _(bench):
    return bench.stream("felt;mesh", "--model.sema.position", "fnn", config=bench.method(SEMA, ONE_TOKEN))


# ------------------------------------------------------------------------------------------------ prompts

PROMPTS = "Prompts"


def _prompts(bench: Bench, text: str) -> Outcome:
    path = bench.folder / "prompts.yaml"
    path.write_text(text, encoding="utf-8")
    return bench.train("--model.prompts", path, config=bench.method(WINCLIP, SMALL_CLIP))


@refused(
    PROMPTS,
    "a misspelt key of a prompts file",
    "model.prompts HERE/prompts.yaml: unknown key 'templats'",
    way_out="did you mean 'templates'",
)
def _(bench):
    return _prompts(bench, "templats: ['a photo of a {}']\n")


@refused(
    PROMPTS,
    "a template without a place for the state",
    "model.prompts HERE/prompts.yaml: entry 1 of templates",
    "got 'a photo'",
    way_out="must contain {} once and no other brace",
)
def _(bench):
    return _prompts(bench, "templates: ['a photo']\nnormal: ['{}']\ndefect: ['damaged {}']\n")


@refused(
    PROMPTS,
    "a backbone that encodes no text",
    "winclip compares images with texts, and the backbone 'test_resnet' encodes no text",
    way_out="set model.backbone.name to a CLIP model",
)
def _(bench):
    lines = (
        "with cfg.unlocked():",
        "    cfg.model.backbone = ConfigDict(dict(name='test_resnet', weights='random', levels=(1,)))",
    )
    return bench.train(config=bench.method(WINCLIP, *lines))


@refused(
    PROMPTS,
    "images of another size than those of the CLIP model",
    "data.crop is 64, and open_clip:ViT-S-32-alt takes images of 224 pixels",
    way_out="--data.resize 224 --data.crop 224",
)
def _(bench):
    return bench.train(config=bench.method(WINCLIP, SMALL_CLIP))


# ------------------------------------------------------------------------------------------------ checkpoints

CHECKPOINTS = "Checkpoints and weights"


@refused(
    CHECKPOINTS,
    "a missing checkpoint",
    "there is no checkpoint no/such/run",
    way_out="give a run folder, or its checkpoint folder",
)
def _(bench):
    return bench.test(checkpoint=Path("no/such/run"))


@refused(
    CHECKPOINTS,
    "a run folder without a checkpoint",
    "no checkpoint in RUN",
    way_out="give a run folder, or its checkpoint folder",
)
def _(bench):
    shutil.rmtree(bench.run / "checkpoint")
    return bench.test()


@refused(
    CHECKPOINTS,
    "a checkpoint of another config: the model",
    "RUN was trained with another model section",
    "sigma",
    way_out="Leave out --config",
)
def _(bench):
    return bench.test("--model.sigma", 2.0)


@refused(
    CHECKPOINTS,
    "a checkpoint of another config: the resolution",
    "RUN was trained with data.crop 64, got 48",
    way_out="leave it unchanged",
)
def _(bench):
    return bench.test("--data.crop", 48)


@refused(
    CHECKPOINTS,
    "a checkpoint without ignored regions, tested with some",
    "RUN was trained without ignored regions, got data.ignore clamps.json",
    way_out="leave it out, or train again",
)
def _(bench):
    return bench.test("--data.ignore", "clamps.json")


@refused(
    CHECKPOINTS,
    "another false-positive rate, and a checkpoint without scores of held-back images",
    "the checkpoint of category 'felt' has no scores of held-back normal images",
    way_out="give the score itself with --threshold.value, or train again with --threshold.held_back 0.2",
)
def _(bench):
    return bench.test("--threshold.false_positive_rate", 0.001)


@refused(
    CHECKPOINTS,
    "two ways to set the threshold",
    "threshold.value and threshold.false_positive_rate both set the threshold of images",
    way_out="give one of them",
)
def _(bench):
    return bench.test("--threshold.false_positive_rate", 0.001, "--threshold.value", 3)


@refused(
    CHECKPOINTS,
    "a false-positive rate that is no share",
    "threshold.false_positive_rate must be a share in (0, 1), got 5.0",
    way_out="for example 0.01",
)
def _(bench):
    return bench.test("--threshold.false_positive_rate", 5)


@refused(
    CHECKPOINTS,
    "a pixel threshold for a checkpoint without thresholds",
    "has no threshold for images, which decides",
    way_out="add --threshold.value",
)
def _(bench):
    return bench.test("--threshold.pixel_value", 3, "--cls_names", "felt")


@refused(
    CHECKPOINTS,
    "an option that has no effect in a test",
    "--seed goes with --mode train, and has no effect with --mode test",
    way_out="a test has the seed that the checkpoint was trained with",
)
def _(bench):
    return bench.test("--seed", 3)


@refused(
    CHECKPOINTS,
    "a config value that has no effect in a test",
    "--threshold.held_back has no effect with --mode test: the checkpoint is trained already",
    way_out="leave it out",
)
def _(bench):
    return bench.test("--threshold.held_back", 0.3)


@refused(CHECKPOINTS, "a checkpoint of other categories", "was not trained on category 'mesh'", way_out="Known: felt")
def _(bench):
    return bench.test("--cls_names", "mesh", checkpoint=bench.fit)


@refused(
    CHECKPOINTS,
    "a checkpoint of other categories than the data has",
    "unknown category 'felt'",
    way_out="Known: mesh, wool",
)
def _(bench):
    bench.felt.rename(bench.data / "wool")
    return bench.test("--data.root", bench.data)


@refused(
    CHECKPOINTS,
    "a checkpoint of another backbone: other weights",
    "trained on other weights of tf_efficientnet_lite0",
    way_out="restore those weights, or fit the detector again",
)
def _(bench):
    bench.describe(backbone={"name": "tf_efficientnet_lite0", "weights": "random", "sha256": "0" * 64})
    return bench.test()


@refused(
    CHECKPOINTS,
    "a checkpoint of another version",
    "RUN/checkpoint/felt has checkpoint format 1, and this version of anoframe reads format 2",
    way_out="fit the detector again, or open the checkpoint with the version that wrote it",
)
def _(bench):
    bench.describe(format=1)
    return bench.test()


@refused(
    CHECKPOINTS,
    "a checkpoint of another method",
    "detector.json: the checkpoint is of another method or version",
    way_out="fit again",
)
def _(bench):
    model = json.loads((bench.fit / "detector.json").read_text())["model"]
    del model["squared"]
    bench.describe(model=model | {"name": "patchcore_noising"})
    return bench.test()


@refused(
    CHECKPOINTS,
    "a flipped byte in a checkpoint",
    "learned.safetensors is damaged or was replaced",
    way_out="fit the detector again",
)
def _(bench):
    path = bench.fit / "learned.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    return bench.test()


@refused(
    CHECKPOINTS,
    "a truncated checkpoint",
    "learned.safetensors is missing or damaged",
    way_out="fit the detector again",
    varies=r"(?<=damaged )\(.*?\)(?=: fit)",
)
def _(bench):
    bench.cut(bench.fit / "learned.safetensors", -100)
    return bench.test()


@refused(
    CHECKPOINTS,
    "a damaged detector.json",
    "detector.json is damaged",
    way_out="restore it from a copy, or make it again",
    varies=r"(?<=damaged: ).*(?=; restore)",
)
def _(bench):
    bench.cut(bench.fit / "detector.json", 100)
    return bench.test()


@refused(
    CHECKPOINTS,
    "a value of another type in a detector.json",
    "detector.json is damaged: seed takes a whole number, got 'zero'",
    way_out="fit the detector again",
)
def _(bench):
    bench.describe(seed="zero")
    return bench.test()


@refused(
    CHECKPOINTS,
    "a pickle with a payload in place of a checkpoint",
    "learned.safetensors: a pickle, not safetensors",
    way_out="or fit the detector again",
)
def _(bench):
    (bench.fit / "learned.safetensors").write_bytes(bench.payload())
    return bench.test()


@refused(
    CHECKPOINTS,
    "a file of torch.save in place of a checkpoint",
    "learned.safetensors: a pickle, not safetensors",
    way_out="or fit the detector again",
)
def _(bench):
    path = bench.fit / "learned.safetensors"
    torch.save(load(path.read_bytes()), path)  # read into memory first, because the file is overwritten
    return bench.test()


@refused(
    CHECKPOINTS,
    "a checkpoint whose method is another class",
    "detector.json: model 'subprocess:Popen' is not a Detector",
    way_out="Known: cdo",
)
def _(bench):
    bench.describe(model={"name": "subprocess:Popen", "backbone": {}, "args": ["touch", str(bench.witness)]})
    return bench.test()


@refused(
    CHECKPOINTS,
    "a checkpoint whose category leads out of the output",
    "detector.json: category '../../x'",
    way_out="give it a plain name",
)
def _(bench):
    bench.describe(train_images={"../../x": 6})
    return bench.test()


@refused(CHECKPOINTS, "a missing weights file", "there is no weights file no.pth", way_out="Three ways out")
def _(bench):
    return bench.train("--model.backbone.weights", "no.pth")


@refused(
    CHECKPOINTS,
    "weights that are a pickle with a payload",
    "weights.pth: holds more than tensors",
    way_out="Save the state_dict alone, best as safetensors",
)
def _(bench):
    (bench.folder / "weights.pth").write_bytes(bench.payload())
    return bench.train("--model.backbone.weights", bench.folder / "weights.pth")


@refused(
    CHECKPOINTS,
    "weights that are a pickle, called .safetensors",
    "weights.safetensors: a pickle, not safetensors",
    way_out="save its tensors with safetensors.torch.save_file",
)
def _(bench):
    (bench.folder / "weights.safetensors").write_bytes(bench.payload())
    return bench.train("--model.backbone.weights", bench.folder / "weights.safetensors")


@refused(
    CHECKPOINTS,
    "damaged weights",
    "weights.safetensors: damaged",
    way_out="copy or download it again",
    varies=r"(?<=file )\(.*\)(?=; copy)",
)
def _(bench):
    path = bench.folder / "weights.safetensors"
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    bench.cut(path, -10)
    return bench.train("--model.backbone.weights", path)


@refused(
    CHECKPOINTS,
    "weights of another network",
    "none of its 1 tensors has a name of tf_efficientnet_lite0",
    way_out="use weights of that backbone",
)
def _(bench):
    save_file({"layer1.0.conv1.weight": torch.zeros(2)}, bench.folder / "weights.safetensors")
    return bench.train("--model.backbone.weights", bench.folder / "weights.safetensors")


@refused(
    CHECKPOINTS,
    "NaN in weights",
    "weights.safetensors: its tensor conv_stem.weight holds values that are not finite",
    way_out="use other weights",
)
def _(bench):
    save_file({"conv_stem.weight": torch.full((32, 3, 3, 3), torch.nan)}, bench.folder / "weights.safetensors")
    return bench.train("--model.backbone.weights", bench.folder / "weights.safetensors")


CLIP = "open_clip:ViT-B-16-plus-240"


def _clip(bench: Bench, weights: object, name: str = CLIP, **more: object) -> Outcome:
    """Build a CLIP backbone without a hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anoframe.backbones.weights.is_hub_reachable", lambda: False)
        patch.setattr("anoframe.backbones.clip.weights.HF_HUB_CACHE", "~/.cache/huggingface/hub")
        patch.setattr("anoframe.backbones.clip.weights.try_to_load_from_cache", lambda repository, name: None)
        return bench.python(lambda: build_backbone({"name": name, "weights": str(weights), **more}))


@refused(
    CHECKPOINTS,
    "CLIP weights that are not here, and no connection",
    "no weights 'laion400m_e31' for backbone 'open_clip:ViT-B-16-plus-240'",
    way_out="open_clip_model.safetensors of https://huggingface.co/timm/vit_base_patch16_plus_clip_240.laion400m_e31",
)
def _(bench):
    return _clip(bench, "laion400m_e31")


@refused(
    CHECKPOINTS,
    "no CLIP weights named",
    "model.backbone.weights is required for open_clip model 'ViT-B-16-plus-240'",
    way_out="Tags: laion400m_e31, laion400m_e32",
)
def _(bench):
    return _clip(bench, "")


@refused(
    CHECKPOINTS,
    "a misspelt tag of CLIP weights",
    "'laion400m' is neither a file nor a tag",
    way_out="Known: laion400m_e31, laion400m_e32",
)
def _(bench):
    return _clip(bench, "laion400m")


@refused(
    CHECKPOINTS,
    "CLIP weights that need QuickGELU, in a model without it",
    "weights 'openai' were trained with QuickGELU, but open_clip model 'ViT-B-16' has GELU",
    way_out="--model.backbone.name open_clip:ViT-B-16-quickgelu",
)
def _(bench):
    return _clip(bench, "openai", "open_clip:ViT-B-16")


@refused(
    CHECKPOINTS,
    "a missing file of CLIP weights",
    "there is no weights file no.safetensors",
    way_out="connect once",
)
def _(bench):
    return _clip(bench, "no.safetensors")


@refused(
    CHECKPOINTS,
    "CLIP weights of another model",
    "weights.safetensors' do not fit open_clip model 'ViT-B-32'",
    "of the model's 302 tensors are missing",
    way_out="Use the file of that model",
)
def _(bench):
    save_file({"visual.conv1.weight": torch.zeros(768, 3, 16, 16)}, bench.folder / "weights.safetensors")
    return _clip(bench, bench.folder / "weights.safetensors", "open_clip:ViT-B-32")


@refused(
    CHECKPOINTS,
    "CLIP weights as a TorchScript archive, which can run code",
    "ViT-B-16.pt is a TorchScript archive",
    way_out="convert it once",
)
def _(bench):
    with zipfile.ZipFile(bench.folder / "ViT-B-16.pt", "w") as archive:
        archive.writestr("ViT-B-16/constants.pkl", b"")
    return _clip(bench, bench.folder / "ViT-B-16.pt")


@refused(
    CHECKPOINTS,
    "NaN in features",
    "train/good/001.png: its features are not finite",
    way_out="check the image, and --model.backbone.weights",
    before_work=False,
)
def _(bench):
    encode = Detector.encode

    def encode_with_nan(self, images):
        features = encode(self, images)
        features[0][1] = torch.nan
        return features

    bench.patch.setattr(Detector, "encode", encode_with_nan)
    return bench.train()


@refused(
    CHECKPOINTS,
    "a damaged metrics.json of a loaded run",
    "RUN/metrics.json is damaged, its categories cannot be read",
    way_out="test the checkpoint again",
)
def _(bench):
    (bench.run / "metrics.json").write_text("{}")
    return bench.python(lambda: anoframe.load_run(bench.run))


@refused(
    CHECKPOINTS,
    "an array of another type than an image",
    "uint8 of shape [H, W], [H, W, 3] or [H, W, 4]",
    "got float64 [8, 8]",
    way_out="scale it to 0..255",
)
def _(bench):
    return bench.python(lambda: anoframe.load_run(bench.run).predict(np.zeros((8, 8)), "felt"))


# ------------------------------------------------------------------------------------------------ export, deploy

EXPORT = "Export and deployment"


def _export(bench: Bench, *words: object, checkpoint: Path | None = None, category: str = "felt") -> Outcome:
    words = ("--output", bench.folder / "exported", "--cls_names", category, *words)
    return bench.call("--mode", "export", "--checkpoint", checkpoint or bench.run, *words)


@refused(EXPORT, "a format that does not exist", "unknown format 'onxx'", way_out="did you mean 'onnx'")
def _(bench):
    return bench.python(lambda: anoframe.export(bench.run, "onxx"))


@refused(
    EXPORT, "int8 for ONNX", "--format onnx has no precision 'int8'", way_out="--format openvino, or --precision fp32"
)
def _(bench):
    return _export(bench, "--precision", "int8")


@refused(EXPORT, "a category that was not trained", "velvet", way_out="felt, mesh")
def _(bench):
    return _export(bench, category="velvet")


@refused(
    EXPORT, "export over an earlier model", "has an exported model", way_out="choose another --output, or --overwrite"
)
def _(bench):
    folder = bench.folder / "exported"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    return _export(bench)


@refused(
    EXPORT,
    "a detector that was trained with padding",
    "was trained with padding, which an exported model does not have",
    way_out="use --mode predict",
    before_work=False,
)
def _(bench):
    assert bench.train("--data.keep_aspect", "pad").status == 0
    return _export(bench, checkpoint=bench.output / "tiny/separate/felt/0")


@refused(EXPORT, "ONNX without its packages", "needs the package onnx", way_out="pip install 'anoframe[onnx]'")
def _(bench):
    bench.patch.setitem(sys.modules, "onnx", None)
    return _export(bench)


def _deploy(bench: Bench, name: str, content: bytes) -> Outcome:
    path = bench.folder / name
    path.write_bytes(content)
    return bench.python(lambda: deploy.load(path))


@refused(EXPORT, "a model file of another type", "model.pt2: a model is a file", way_out="or a folder that has one")
def _(bench):
    return _deploy(bench, "model.pt2", b"")


@refused(EXPORT, "a damaged model file", "model.onnx cannot be loaded", way_out="export it again", varies=r"\(.*\)")
def _(bench):
    pytest.importorskip("onnxruntime")
    return _deploy(bench, "model.onnx", b"not a model")


@refused(EXPORT, "a folder without a model", "HERE/models", way_out="model.onnx")
def _(bench):
    folder = bench.folder / "models"
    folder.mkdir()
    return bench.python(lambda: deploy.load(folder))


# ------------------------------------------------------------------------------------------------ machine, output

MACHINE = "Machine and output"


@refused(
    MACHINE,
    "a GPU as device, on a machine without one",
    "--device 0: torch",
    "finds no GPU on this machine",
    way_out="use --device cpu",
)
def _(bench):
    bench.patch.setattr(torch.cuda, "is_available", lambda: False)
    return bench.train("--device", 0)


@refused(
    MACHINE,
    "two devices for a method that runs on one",
    "--device 0 1: this method trains on one device",
    way_out="name one of them",
)
def _(bench):
    return bench.train("--device", 0, 1)


@refused(
    MACHINE,
    "an unknown device",
    "--device takes auto, cpu, cuda",
    "got 'gpu'",
    way_out="takes auto, cpu, cuda or the number of a GPU",
)
def _(bench):
    return bench.train("--device", "gpu")


@refused(
    MACHINE,
    "new images in a folder that has none",
    "no image in HERE/parts",
    "1 file is not read, of type .heic",
    way_out="give an image, or a folder of",
)
def _(bench):
    parts = bench.folder / "parts"
    parts.mkdir()
    (parts / "a.heic").write_bytes(b"")
    return bench.call("--mode", "predict", "--checkpoint", bench.run, "--input", parts, "--cls_names", "felt")


@refused(
    MACHINE,
    "new images that do not exist",
    "there is no nowhere.png",
    way_out="--input is images, or folders of images",
)
def _(bench):
    return bench.call("--mode", "predict", "--checkpoint", bench.run, "--input", "nowhere.png", "nowhere_2.png")


@refused(
    MACHINE,
    "an output that is read-only",
    "cannot use RUNS",
    "Read-only file system",
    way_out="choose another --output",
)
def _(bench):
    def mkdir(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    bench.data  # noqa: B018 - copied before folders can no longer be created
    bench.patch.setattr(os, "mkdir", mkdir)
    return bench.train()


@refused(
    MACHINE,
    "an output that is full",
    "cannot write RUNS/tiny/separate/felt/0/",
    "No space left on device",
    way_out="Free space and start again (the same command with --resume continues this run)",
)
def _(bench):
    def fsync(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.patch.setattr(os, "fsync", fsync)
    return bench.train()


@refused(MACHINE, "an output that is a file", "cannot use RUNS", way_out="choose another --output")
def _(bench):
    bench.output.write_text("")
    return bench.train()


@refused(
    MACHINE,
    "an output that already contains a run",
    "has the results of an earlier run",
    way_out="replace it with --overwrite",
    before_work=False,
)
def _(bench):
    target = bench.output / "tiny/separate/felt/0"
    shutil.copytree(bench.run, target)
    return bench.train()
