"""Runs with caches give the same bytes as runs without, and do no work twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import anoframe
from anoframe.backbones import FeaturePyramid
from anoframe.data.masks import join_masks
from anoframe.errors import AnoframeError
from anoframe.utils.tensor_cache import NETWORK_CACHE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

FILES = ("metrics.json", "metrics.csv", "checkpoint/felt/learned.safetensors", "checkpoint/felt/detector.json")


@pytest.fixture(scope="module")
def cached(train_tiny, tmp_path_factory):
    """Trains the tiny config with both caches in one folder."""
    folder = tmp_path_factory.mktemp("cached")

    def train(**overrides):
        cache = {"cache__images": True, "cache__features": True, "cache__folder": str(folder)}
        run = train_tiny(["felt", "mesh"], **{**cache, **overrides})
        run.cache = folder
        return run

    return train


@pytest.fixture(scope="module")
def first(cached):
    """The first run with caches, which fills them."""
    return cached()


@pytest.fixture
def no_encoder(monkeypatch, first):
    """Makes every call of a backbone and every decoding fail."""

    def fail(*args):
        pytest.fail("encoded or decoded again")

    monkeypatch.setattr(FeaturePyramid, "forward", fail)
    monkeypatch.setattr("anoframe.data.cached_reader.to_rgb", fail)
    monkeypatch.setattr("anoframe.data.cached_reader.join_masks", fail)


def cache_messages(run) -> list[str]:
    """Return what the log says about cached features."""
    lines = (run.folder / "log.jsonl").read_text().splitlines()
    return [entry["text"] for entry in map(json.loads, lines) if entry["event"] == "features"]


@pytest.mark.parametrize("file", FILES)
def test_the_first_run_gives_the_bytes_of_a_run_without_caches(first, finished, file):
    assert (first.folder / file).read_bytes() == (finished.folder / file).read_bytes()


def test_the_second_run_gives_the_same_bytes_and_does_no_work_twice(first, cached, no_encoder):
    second = cached()
    for file in FILES:
        assert (second.folder / file).read_bytes() == (first.folder / file).read_bytes()


def test_another_model_section_needs_no_encoder(cached, no_encoder, train_tiny, monkeypatch):
    run = cached(model__coreset__ratio=0.2, model__neighbours=2)
    monkeypatch.undo()
    assert run.metrics == train_tiny(["felt", "mesh"], model__coreset__ratio=0.2, model__neighbours=2).metrics


def test_another_seed_needs_no_encoder(cached, no_encoder):
    assert cached(seed=1).metrics


def test_testing_again_needs_no_encoder(first, no_encoder, tmp_path):
    assert anoframe.test(first.folder, output=tmp_path).metrics == first.metrics


def test_another_resolution_is_encoded(cached, first, train_tiny):
    small = {"data__resize": 48, "data__crop": 48}
    assert cached(**small).metrics == train_tiny(["felt", "mesh"], **small).metrics


def test_images_can_be_cached_without_features(cached, first, monkeypatch):
    monkeypatch.setattr("anoframe.data.cached_reader.to_rgb", lambda *args: pytest.fail("decoded again"))
    run = cached(cache__features=False)
    assert (run.metrics, cache_messages(run)) == (first.metrics, [])


def test_features_can_be_cached_without_images(cached, first, no_encoder, monkeypatch):
    monkeypatch.setattr(
        "anoframe.data.cached_reader.join_masks", join_masks
    )  # metrics need masks, pictures need images
    monkeypatch.setattr("anoframe.runs.evaluating.write_category_pictures", lambda *args: None)
    monkeypatch.setattr("anoframe.runs.evaluating.write_thumbnails", lambda *args: None)
    monkeypatch.setattr("anoframe.runs.recording.write_report", lambda *args: None)
    assert cached(cache__images=False).metrics == first.metrics


def test_the_log_names_the_features_that_are_written_and_those_that_are_cached(first, cached):
    folder = first.cache / "features"
    assert cache_messages(first)[0] == f"6 of 6 images have no cached features: 0.1 MB will be written to {folder}"
    assert set(cache_messages(cached())) == {f"features of all {n} images are cached: no encoder pass" for n in (6, 7)}


def test_caches_are_not_part_of_a_result(first):
    texts = [(first.folder / file).read_text() for file in ("metrics.json", "checkpoint/felt/detector.json")]
    assert [text for text in texts if "cache" in text] == []


def test_a_size_limit_of_zero_is_refused(tiny_config, tmp_path):
    cfg = anoframe.load_config(tiny_config, {"cache.max_gb": 0})
    with pytest.raises(AnoframeError, match=r"cache\.max_gb must be a number above 0.*--cache off"):
        anoframe.train(cfg, ["felt"], tmp_path)


# ------------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def cache_root(tmp_path, monkeypatch) -> Path:
    """Folder of the caches of the command line."""
    monkeypatch.setenv("ANOFRAME_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def call(cli, tiny_config, tmp_path):
    """Calls the command line on one category of the tiny config."""

    def run(*words):
        return cli("--config", tiny_config, "--cls_names", "felt", "--output", tmp_path / "runs", "--overwrite", *words)

    return run


def entries(folder: Path) -> set[Path]:
    """Return the files of the caches that can be turned off."""
    return {path for path in folder.rglob("*.safetensors") if NETWORK_CACHE not in path.parts}


def test_on_fills_both_caches(call, cache_root):
    assert call("--cache", "on").status == 0
    assert {path.relative_to(cache_root).parts[0] for path in entries(cache_root)} == {"images", "features"}


def test_off_reads_and_writes_no_cache(call, cache_root):
    assert call("--cache", "off").status == 0
    assert entries(cache_root) == set()


def test_clear_alone_prints_the_freed_size_and_stops(call, cli, cache_root):
    call("--cache", "on")
    size = sum(path.stat().st_size for path in entries(cache_root))
    done = cli("--cache", "clear")
    assert (done.status, done.out) == (0, f"cache {cache_root}: {size / 1e6:.1f} MB freed\n")
    assert entries(cache_root) == set()


def test_clear_with_a_config_also_runs(call, cli, cache_root):
    call("--cache", "on")
    done = call("--cache", "clear", "--cache.features", "True")
    assert done.status == 0
    assert done.out.startswith(f"cache {cache_root}: ")
    assert "6 of 6 images have no cached features" in done.out


def test_clear_alone_accepts_another_folder(cli, call, tmp_path, cache_root):
    call("--cache", "on", "--cache.folder", tmp_path / "other")
    assert entries(cache_root) == set()
    cli("--cache", "clear", "--cache.folder", tmp_path / "other")
    assert entries(tmp_path / "other") == set()


# ------------------------------------------------------------------------------------------------ JPEG drafts


@pytest.fixture(scope="module")
def drafted(train_tiny):
    return train_tiny(["felt"], data__jpeg_draft=True)


def test_a_draft_is_part_of_the_provenance(drafted):
    assert drafted.results.provenance["data"]["jpeg_draft"] is True


def test_a_draft_is_part_of_the_checkpoint(drafted):
    description = json.loads((drafted.folder / "checkpoint/felt/detector.json").read_text())
    assert description["preprocessing"]["jpeg_draft"] is True


def test_a_run_of_an_earlier_version_is_tested(run_copy, finished, tmp_path, cache_root):
    """Its config and checkpoints have no keys for caches and drafts."""
    config = run_copy / "config.yaml"
    tree = yaml.safe_load(config.read_text())
    del tree["cache"], tree["data"]["jpeg_draft"]
    config.write_text(yaml.safe_dump(tree))
    for path in run_copy.glob("checkpoint/*/detector.json"):
        description = json.loads(path.read_text())
        del description["preprocessing"]["jpeg_draft"]
        path.write_text(json.dumps(description))
    assert anoframe.test(run_copy, output=tmp_path).metrics == finished.metrics
