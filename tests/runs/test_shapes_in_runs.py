"""Whole runs on images of any shape: rectangles, padding, tiles and ignored regions, for every kind of method."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import anoframe
from anoframe.errors import AnoframeError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LEFT = [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]  # the left half as a polygon
TALL = {"data__resize": (96, 64), "data__crop": (96, 64)}


def result_of(run, category="felt"):
    return json.loads((run.folder / f"results/{category}.json").read_text(encoding="utf-8"))


def provenance_of(run):
    return json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))["provenance"]


@pytest.fixture(scope="module")
def tall_root(tiny_root, tmp_path_factory):
    """The tiny data with images that are twice as high as wide."""
    root = tmp_path_factory.mktemp("tall") / "data"
    shutil.copytree(tiny_root, root)
    for path in root.rglob("*.png"):
        image = Image.open(path)
        Image.fromarray(np.repeat(np.asarray(image), 2, axis=0)).save(path)
    return root


def test_a_rectangle_goes_through_masks_maps_pictures_and_provenance(train_tiny, tall_root):
    run = train_tiny(["felt"], data__root=str(tall_root), **TALL)
    assert run.predict(tall_root / "felt/test/cut/000.png").anomaly_map.shape == (96, 64)
    assert provenance_of(run)["data"]["crop"] == [96, 64]
    assert run.metrics["felt"]["pixel_auroc"] is not None
    pictures = sorted((run.folder / "pictures/felt").glob("*.png"))
    assert {Image.open(picture).size for picture in pictures} == {(4 * 64 + 12, 96)}
    html = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "96 x 64 pixels" in html
    assert 'class="strip"' in html
    again = anoframe.test(run.folder, output=run.folder.parent / "again")
    assert again.metrics == run.metrics


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("rd4ad/rd4ad_lite0_256.py", {"trainer.epochs": 1}),
        ("cdo/cdo_lite0_256.py", {"trainer.epochs": 1}),
        ("padim/padim_lite0_224.py", {"model.num_channels": 8}),
        (
            "uniad/uniad_lite0.py",
            {"trainer.epochs": 1, "model.width": 32, "model.heads": 2, "model.hidden": 32, "model.window": 3},
        ),
        ("patchcore_noising/patchcore_noising_lite0_256.py", {}),
        (
            "sema_uniad/sema_uniad_lite0.py",
            {"trainer.epochs": 1, "model.width": 32, "model.heads": 2, "model.window": 3},
        ),
    ],
)
def test_every_kind_of_method_takes_a_rectangle(config, changes, tiny_root, tmp_path):
    common = {
        "data.name": "folder",
        "data.root": str(tiny_root),
        "data.resize": "96,64",
        "data.crop": "96,64",
        "data.workers": 0,
        "device": "cpu",
        "cache.images": False,
        "cache.features": False,
        "report.pictures": 0,
        "threshold.held_back": 0.0,
        "model.backbone.weights": "random",
        "protocol.name": "unified",
    }
    run = anoframe.train(anoframe.load_config(config, common | changes), ["felt"], tmp_path)
    assert run.metrics["felt"]["image_auroc"] is not None
    assert run.predict(tiny_root / "felt/test/cut/000.png").anomaly_map.shape == (96, 64)


def test_one_tile_gives_the_bytes_of_a_run_without_tiles(train_tiny):
    plain, tiled = train_tiny(["felt"]), train_tiny(["felt"], data__tile=64)
    assert result_of(plain)["metrics"] == result_of(tiled)["metrics"]
    assert result_of(plain)["images"] == result_of(tiled)["images"]
    files = [run.folder / "checkpoint/felt/learned.safetensors" for run in (plain, tiled)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_each_tile_is_a_training_image_and_the_score_is_the_largest(train_tiny, tiny_root):
    run = train_tiny(["felt"], data__tile=(48, 40), data__tile_overlap=8, cache__features=True)
    again = train_tiny(["felt"], data__tile=(48, 40), data__tile_overlap=8)
    assert result_of(run)["images"] == result_of(again)["images"]  # from the cache of features, and without it
    assert provenance_of(run)["data"]["tile"] == [48, 40]
    checkpoint = run._checkpoint("felt")
    detector, path = checkpoint.detector, tiny_root / "felt/test/cut/000.png"
    tiles_per_image, patches = 4, (48 // 8) * (40 // 8)
    assert len(detector.bank) == round(0.1 * 6 * tiles_per_image * patches)
    prediction = run.predict(path)
    image = np.asarray(Image.open(path))
    import torch

    windows = checkpoint.tiling.windows((64, 64))
    tiles = torch.stack([torch.from_numpy(image[w.slices].transpose(2, 0, 1).copy()) for w in windows])
    assert prediction.score.item() == detector.predict(tiles).score.max().item()
    recorded = {entry["name"]: entry["score"] for entry in result_of(run)["images"]}
    assert recorded["cut/000.png"] == prediction.score.item()
    assert "tiles of 48 x 40, overlap 8" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_methods_that_train_on_views_train_on_tiles(tiny_root, tmp_path):
    changes = {
        **{"data.name": "folder", "data.root": str(tiny_root), "data.resize": 64, "data.crop": 64, "device": "cpu"},
        **{"data.tile": 32, "data.workers": 0, "cache.images": False, "cache.features": False, "trainer.epochs": 1},
        **{"report.pictures": 0, "model.backbone.weights": "random"},
    }
    run = anoframe.train(anoframe.load_config("cdo/cdo_lite0_256.py", changes), ["felt"], tmp_path)
    assert run.predict(tiny_root / "felt/test/cut/000.png").anomaly_map.shape == (64, 64)


def test_padding_changes_nothing_for_square_images(train_tiny, tiny_root):
    prediction = train_tiny(["felt"], data__keep_aspect="pad").predict(tiny_root / "felt/test/cut/000.png")
    plain = train_tiny(["felt"]).predict(tiny_root / "felt/test/cut/000.png")
    assert prediction.score == plain.score
    assert prediction.anomaly_map.equal(plain.anomaly_map)


def test_ignored_pixels_count_nowhere(train_tiny, tiny_root, tmp_path):
    """A defect in the ignored half leaves the score; metrics are those of the other half."""
    region = tmp_path / "ignored.json"
    region.write_text(json.dumps({"felt": [LEFT]}), encoding="utf-8")
    run = train_tiny(["felt"], data__ignore=str(region))
    photo = np.asarray(Image.open(tiny_root / "felt/test/good/000.png")).copy()
    plain, scores = train_tiny(["felt"]), []
    for column in (4, 44):
        spoiled = photo.copy()
        spoiled[20:36, column : column + 14] = (255, 0, 0)
        scores.append((run.predict(spoiled).score.item(), plain.predict(spoiled).score.item()))
    assert scores[0][0] < scores[1][0]
    assert scores[0][1] >= scores[0][0]  # equal: patches of the right half see the defect, too
    assert list(provenance_of(run)["data"]["ignored_regions"]) == ["felt"]
    assert "ignored regions" in (run.folder / "report.html").read_text(encoding="utf-8")
    again = anoframe.test(run.folder, output=tmp_path / "again")
    assert again.metrics == run.metrics
    region.unlink()  # the checkpoint has the region
    assert run.predict(photo).score.item() <= plain.predict(photo).score.item()


def test_the_rectangle_is_chosen_from_the_training_images_and_written(train_tiny, tall_root, tiny_root):
    run = train_tiny(["felt"], data__root=str(tall_root), data__keep_aspect="rectangle")
    text = (run.folder / "config.yaml").read_text(encoding="utf-8")
    assert (run.config.data.resize, run.config.data.crop, run.config.data.keep_aspect) == ((96, 48), (96, 48), False)
    assert "keep_aspect: false" in text
    square = train_tiny(["felt"], data__keep_aspect="rectangle")
    assert (square.config.data.resize, square.config.data.crop) == (64, 64)
    assert square.metrics == train_tiny(["felt"]).metrics
    again = anoframe.load_config("patchcore/patchcore_lite0_224.py")
    assert again.data.keep_aspect in (False, "rectangle")


def test_categories_of_other_shapes_are_named(train_tiny, tall_root, tiny_root, tmp_path, capsys):
    root = tmp_path / "both"
    root.mkdir()
    for name, source in (("felt", tall_root), ("mesh", tiny_root)):
        shutil.copytree(source / name, root / name)
    run = train_tiny(["felt", "mesh"], data__root=str(root), data__keep_aspect="rectangle")
    height, width = run.config.data.crop
    text = f"all categories of this run are resized to {height} x {width}, which is not the shape of "
    assert text in capsys.readouterr().out


def test_a_given_pair_is_the_rectangle(train_tiny, tall_root):
    options = {"data__root": str(tall_root), "data__resize": (48, 32), "data__crop": (48, 32)}
    given, plain = train_tiny(["felt"], data__keep_aspect="rectangle", **options), train_tiny(["felt"], **options)
    assert given.metrics == plain.metrics
    assert (given.config.data.crop, given.config.data.keep_aspect) == ((48, 32), False)


def test_a_resumed_run_chooses_the_same_rectangle(tiny_config, tall_root, tmp_path):
    overrides = {"data.root": str(tall_root), "data.keep_aspect": "rectangle"}
    cfg = anoframe.load_config(tiny_config, overrides)
    first = anoframe.train(cfg, ["felt"], tmp_path)
    assert anoframe.train(cfg, ["felt"], tmp_path, start="resume").metrics == first.metrics


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"data__tile": 65}, "data.tile 65 x 65 is larger than the images, 64 x 64"),
        ({"data__tile_overlap": 3}, "data.tile_overlap 3 has no effect without tiles"),
        ({"data__tile": 8, "data__tile_overlap": 8}, "data.tile_overlap is from 0 to 7"),
        ({"data__ignore": "nowhere.png"}, "nowhere.png: no such file"),
        ({"data__crop": (65, 64)}, r"crop \(65, 64\) is larger than resize 64"),
    ],
)
def test_wrong_values_are_errors_before_the_run(train_tiny, overrides, text):
    with pytest.raises(AnoframeError, match=text):
        train_tiny(["felt"], **overrides)


def test_uniad_names_its_key_for_tiles(tiny_root, tmp_path):
    changes = {"data.name": "folder", "data.root": str(tiny_root), "data.tile": 112, "model.backbone.weights": "random"}
    with pytest.raises(AnoframeError, match=r"data\.crop or data\.tile gives 112 x 112: --model\.image_size 112"):
        anoframe.train(anoframe.load_config("uniad/uniad_lite0.py", changes), ["felt"], tmp_path)


def test_a_test_with_other_tiles_is_refused(train_tiny):
    run = train_tiny(["felt"], data__tile=32)
    cfg = anoframe.load_config(run.folder, {"data.tile": 48})
    with pytest.raises(AnoframeError, match=r"was trained with data\.tile 32, got 48"):
        anoframe.test(run.folder, cfg)


def test_a_test_takes_the_regions_of_every_checkpoint_and_no_others(train_tiny, tmp_path):
    region = tmp_path / "ignored.json"
    region.write_text(json.dumps({"felt": [LEFT], "mesh": [LEFT]}), encoding="utf-8")
    run = train_tiny(["felt", "mesh"], data__ignore=str(region))
    region.unlink()
    assert anoframe.test(run.folder, output=tmp_path).metrics == run.metrics
    cfg = anoframe.load_config(run.folder, {"data.ignore": "others.json"})
    with pytest.raises(AnoframeError, match=r"got others\.json: leave it unchanged"):
        anoframe.test(run.folder, cfg, output=tmp_path / "other")
    plain = train_tiny(["felt"])
    cfg = anoframe.load_config(plain.folder, {"data.ignore": "others.json"})
    with pytest.raises(AnoframeError, match="was trained without ignored regions"):
        anoframe.test(plain.folder, cfg)


def test_a_config_with_a_rectangle_tests_a_checkpoint_with_its_size(train_tiny, tiny_config, tall_root, tmp_path):
    overrides = {"data.root": str(tall_root), "data.keep_aspect": "rectangle"}
    cfg = anoframe.load_config(tiny_config, overrides)
    run = anoframe.train(cfg, ["felt"], tmp_path)
    assert anoframe.test(run.folder, cfg, output=tmp_path / "test").metrics == run.metrics
