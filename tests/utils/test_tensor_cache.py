"""Tensor cache: limited in size, shared by processes, and never the cause of a failed run or another result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from anoframe.utils.tensor_cache import CACHE_KINDS, TensorCache, cache_key, cache_root, clear_caches

Usage = namedtuple("Usage", "total used free")
KEYS = [cache_key(i) for i in range(20)]
ENTRY = {"a": torch.arange(1000.0).reshape(10, 100), "b": torch.tensor([True, False])}
WRITER = """
import sys, torch
from pathlib import Path
from anoframe.utils.tensor_cache import TensorCache, cache_key
cache = TensorCache(Path(sys.argv[1]), 100_000, lambda text: sys.exit(text))
for i in range(100):
    key = cache_key(i % 40)
    entry = cache.read(key)
    if entry is None:
        cache.write(key, {"a": torch.full((1000,), float(i % 40))})
    elif not bool((entry["a"] == i % 40).all()):
        sys.exit(f"entry {i % 40} belongs to another key")
"""


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def cache(tmp_path, warnings):
    return TensorCache(tmp_path / "cache", 10**6, lambda text: warnings.append(text))


def entry_path(cache: TensorCache, key: str = KEYS[0]) -> Path:
    return cache.folder / key[:2] / f"{key}.safetensors"


def total_size(cache: TensorCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def set_age(cache: TensorCache, key: str, seconds: int) -> None:
    os.utime(entry_path(cache, key), (10**9 - seconds, 10**9 - seconds))


# ------------------------------------------------------------------------------------------------ write and read


def test_written_tensors_are_read(cache):
    cache.write(KEYS[0], ENTRY)
    entry = cache.read(KEYS[0])
    assert entry.keys() == ENTRY.keys()
    assert all(entry[name].equal(ENTRY[name]) for name in ENTRY)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.int64])
def test_the_dtype_is_kept(cache, dtype):
    cache.write(KEYS[0], {"a": torch.ones(2, 3).to(dtype)})
    assert cache.read(KEYS[0])["a"].equal(torch.ones(2, 3).to(dtype))


def test_a_slice_is_written_without_its_base(cache):
    cache.write(KEYS[0], {"a": torch.zeros(1000, 1000)[0]})
    assert total_size(cache) < 10_000


def test_only_the_requested_tensors_are_verified(cache):
    cache.write(KEYS[0], ENTRY)
    content = bytearray(entry_path(cache).read_bytes())
    content[-1] ^= 1  # in the last tensor
    entry_path(cache).write_bytes(content)
    assert cache.read(KEYS[0], ["a"]).keys() == {"a"}
    assert cache.read(KEYS[0], ["b"]) is None


def test_an_unknown_key_is_missing(cache):
    cache.write(KEYS[0], ENTRY)
    assert KEYS[0] in cache
    assert KEYS[1] not in cache
    assert cache.read(KEYS[1]) is None


def test_a_tensor_stays_valid_if_its_file_is_removed(cache):
    cache.write(KEYS[0], ENTRY)
    entry = cache.read(KEYS[0])
    cache.clear()
    assert entry["a"].equal(ENTRY["a"])


@pytest.mark.parametrize("other", [("a", 1, None), ("a", 2, [1.0]), ({"b": 1}, 2, None), ("a2", None)])
def test_keys_differ_if_a_part_differs(other):
    assert cache_key("a", 2, None) != cache_key(*other)


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"no tensors here",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:4] + bytes([255]) + content[5:],
        lambda content: content.replace(b"[10,100]", b"[100,10]"),
        lambda content: content.replace(b'"F32"', b'"I32"'),
    ],
    ids=["truncated", "truncated header", "empty", "text", "one bit", "length of the header", "shape", "dtype"],
)
def test_a_damaged_entry_is_missing_and_can_be_written_again(cache, damage):
    cache.write(KEYS[0], ENTRY)
    entry_path(cache).write_bytes(damage(entry_path(cache).read_bytes()))
    assert cache.read(KEYS[0]) is None
    assert KEYS[0] not in cache
    cache.write(KEYS[0], ENTRY)
    assert cache.read(KEYS[0])["a"].equal(ENTRY["a"])


def test_the_entry_of_another_key_is_rejected(cache):
    cache.write(KEYS[0], ENTRY)
    entry_path(cache, KEYS[1]).parent.mkdir(exist_ok=True)
    shutil.copy(entry_path(cache), entry_path(cache, KEYS[1]))
    assert cache.read(KEYS[1]) is None


def test_a_file_of_another_program_is_rejected(cache):
    entry_path(cache).parent.mkdir(parents=True)
    save_file(ENTRY, entry_path(cache))
    assert cache.read(KEYS[0]) is None


def test_an_entry_without_the_requested_tensor_is_rejected(cache):
    cache.write(KEYS[0], ENTRY)
    assert cache.read(KEYS[0], ["c"]) is None


# ------------------------------------------------------------------------------------------------ size limit


def test_the_size_limit_is_kept(cache):
    for key in KEYS:
        cache.write(key, {"a": torch.zeros(50_000)})
        assert total_size(cache) <= 10**6


def test_the_least_recently_used_entry_is_removed_first(cache):
    for i, key in enumerate(KEYS[:4]):
        cache.write(key, {"a": torch.zeros(50_000)})
        set_age(cache, key, seconds=100 - i)
    cache.read(KEYS[0])
    cache.write(KEYS[4], {"a": torch.zeros(50_000)})
    assert [key in cache for key in KEYS[:5]] == [True, False, True, True, True]


def test_entries_are_removed_down_to_nine_tenths(cache):
    for key in KEYS[:10]:
        cache.write(key, {"a": torch.zeros(24_500)})
    cache.write(KEYS[10], {"a": torch.zeros(24_500)})
    assert total_size(cache) <= 0.9 * 10**6


def test_files_of_an_interrupted_writer_count_and_are_removed(cache):
    leftover = cache.folder / KEYS[0][:2] / f".{KEYS[0]}.safetensors.77.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(bytes(900_000))
    os.utime(leftover, (0, 0))
    cache.write(KEYS[1], {"a": torch.zeros(50_000)})
    assert not leftover.exists()


def test_an_entry_larger_than_the_limit_is_a_warning_and_removes_nothing(cache, warnings):
    cache.write(KEYS[0], ENTRY)
    cache.write(KEYS[1], {"a": torch.zeros(500_000)})
    assert warnings == [f"nothing more is cached in {cache.folder}: the entry exceeds the limit of the cache"]
    assert KEYS[0] in cache


def test_space_of_the_disk_is_kept_free(cache, warnings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 10**9, 10**9))
    cache.write(KEYS[0], ENTRY)
    assert warnings == [f"nothing more is cached in {cache.folder}: too little space is left on the disk"]
    assert total_size(cache) == 0


def test_entries_are_removed_if_other_files_fill_the_disk(cache, monkeypatch):
    for key in KEYS[:4]:
        cache.write(key, {"a": torch.zeros(50_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 2 * 10**9 - 300_000))
    TensorCache(cache.folder, 10**6).write(KEYS[4], {"a": torch.zeros(50_000)})
    assert total_size(cache) <= 500_000
    assert KEYS[4] in cache


# ------------------------------------------------------------------------------------------------ failures


def test_a_full_disk_is_one_warning(cache, warnings, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for key in KEYS[:3]:
        cache.write(key, ENTRY)
    assert warnings == [f"nothing more is cached in {cache.folder}: No space left on device"]
    assert total_size(cache) == 0


def test_a_folder_that_cannot_be_created_is_a_warning(tmp_path, warnings):
    (tmp_path / "taken").write_text("")
    cache = TensorCache(tmp_path / "taken" / "cache", 10**6, lambda text: warnings.append(text))
    cache.write(KEYS[0], ENTRY)
    assert len(warnings) == 1
    assert cache.read(KEYS[0]) is None


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_is_read(cache, warnings):
    cache.write(KEYS[0], ENTRY)
    for folder in (entry_path(cache).parent, cache.folder):
        folder.chmod(0o500)
    try:
        cache.write(KEYS[1], ENTRY)
        assert cache.read(KEYS[0])["a"].equal(ENTRY["a"])
        assert warnings == [f"nothing more is cached in {cache.folder}: Permission denied"]
    finally:
        for folder in (cache.folder, entry_path(cache).parent):
            folder.chmod(0o700)


def test_a_folder_removed_during_a_write_is_no_error(cache, warnings, monkeypatch):
    def fail(source, target):
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        cache.write(KEYS[0], ENTRY)
    cache.write(KEYS[1], ENTRY)
    assert (warnings, KEYS[1] in cache) == ([], True)


@pytest.mark.slow
def test_processes_share_a_folder_with_too_little_space(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert list(tmp_path.rglob("*.part")) == []


# ------------------------------------------------------------------------------------------------ clearing


def test_clear_removes_all_entries(cache):
    for key in KEYS[:3]:
        cache.write(key, ENTRY)
    size = total_size(cache)
    assert cache.clear() == size
    assert not cache.folder.exists()


def test_clear_keeps_other_files(cache):
    cache.write(KEYS[0], ENTRY)
    (cache.folder / "ab").mkdir(exist_ok=True)
    for name in ("holiday.jpg", "ab/model.safetensors"):
        (cache.folder / name).write_text("mine")
    cache.clear()
    assert {path.name for path in cache.folder.rglob("*") if path.is_file()} == {"holiday.jpg", "model.safetensors"}


def test_clearing_a_missing_folder_frees_nothing(tmp_path):
    assert clear_caches(tmp_path / "nothing") == 0


def test_clear_caches_clears_every_kind(tmp_path):
    for kind in CACHE_KINDS:
        TensorCache(tmp_path / kind, 10**6).write(KEYS[0], ENTRY)
    assert clear_caches(tmp_path) > 2 * 4000
    assert list(tmp_path.rglob("*.safetensors")) == []


# ------------------------------------------------------------------------------------------------ folder


@pytest.mark.parametrize(
    ("folder", "environment", "expected"),
    [
        ("/named", {"ANOFRAME_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/named"),
        (None, {"ANOFRAME_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        (None, {"XDG_CACHE_HOME": "/xdg"}, "/xdg/anoframe"),
        (None, {"HOME": "/users/a"}, "/users/a/.cache/anoframe"),
        ("~/fast", {"HOME": "/users/a"}, "/users/a/fast"),
    ],
)
def test_folder_of_the_caches(monkeypatch, folder, environment, expected):
    for name in ("ANOFRAME_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root(folder) == Path(expected)
