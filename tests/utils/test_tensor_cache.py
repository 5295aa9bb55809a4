"""A cache is a convenience: bounded, shared, and never the reason why a run fails or gives something else."""

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

from anoframe.utils.tensor_cache import KINDS, Cache, cache_root, clear, key_of

Usage = namedtuple("Usage", "total used free")
KEYS = [key_of(i) for i in range(20)]
ENTRY = {"a": torch.arange(1000.0).reshape(10, 100), "b": torch.tensor([True, False])}
BUSY = """
import sys, torch
from pathlib import Path
from anoframe.utils.tensor_cache import Cache, key_of
cache = Cache(Path(sys.argv[1]), 100_000, lambda text: sys.exit(text))
for i in range(100):
    key = key_of(i % 40)
    found = cache.read(key)
    if found is None:
        cache.write(key, {"a": torch.full((1000,), float(i % 40))})
    elif not bool((found["a"] == i % 40).all()):
        sys.exit(f"entry {i % 40} is that of another key")
"""


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def cache(tmp_path, warnings):
    return Cache(tmp_path / "cache", 10**6, lambda text: warnings.append(text))


def file_of(cache: Cache, key: str = KEYS[0]) -> Path:
    return cache.folder / key[:2] / f"{key}.safetensors"


def held(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def age(cache: Cache, key: str, seconds: int) -> None:
    os.utime(file_of(cache, key), (10**9 - seconds, 10**9 - seconds))


# ------------------------------------------------------------------------------------------------ there and back


def test_what_was_written_is_read(cache):
    cache.write(KEYS[0], ENTRY)
    found = cache.read(KEYS[0])
    assert found.keys() == ENTRY.keys()
    assert all(found[name].equal(ENTRY[name]) for name in ENTRY)


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool, torch.float16, torch.bfloat16, torch.int64])
def test_kinds_of_numbers_stay(cache, kind):
    cache.write(KEYS[0], {"a": torch.ones(2, 3).to(kind)})
    assert cache.read(KEYS[0])["a"].equal(torch.ones(2, 3).to(kind))


def test_a_slice_is_written_alone(cache):
    cache.write(KEYS[0], {"a": torch.zeros(1000, 1000)[0]})
    assert held(cache) < 10_000


def test_only_the_tensors_asked_for_are_looked_at(cache):
    cache.write(KEYS[0], ENTRY)
    content = bytearray(file_of(cache).read_bytes())
    content[-1] ^= 1  # in the last tensor
    file_of(cache).write_bytes(content)
    assert cache.read(KEYS[0], ["a"]).keys() == {"a"}
    assert cache.read(KEYS[0], ["b"]) is None


def test_a_key_that_was_not_written_is_missing(cache):
    cache.write(KEYS[0], ENTRY)
    assert KEYS[0] in cache
    assert KEYS[1] not in cache
    assert cache.read(KEYS[1]) is None


def test_a_tensor_stays_whole_when_its_file_is_removed(cache):
    cache.write(KEYS[0], ENTRY)
    found = cache.read(KEYS[0])
    cache.clear()
    assert found["a"].equal(ENTRY["a"])


@pytest.mark.parametrize("other", [("a", 1, None), ("a", 2, [1.0]), ({"b": 1}, 2, None), ("a2", None)])
def test_keys_differ_when_a_part_does(other):
    assert key_of("a", 2, None) != key_of(*other)


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
    ids=["cut", "cut in the head", "empty", "text", "a bit", "length of the head", "shape", "kind of number"],
)
def test_a_damaged_file_is_missing_and_made_again(cache, damage):
    cache.write(KEYS[0], ENTRY)
    file_of(cache).write_bytes(damage(file_of(cache).read_bytes()))
    assert cache.read(KEYS[0]) is None
    assert KEYS[0] not in cache
    cache.write(KEYS[0], ENTRY)
    assert cache.read(KEYS[0])["a"].equal(ENTRY["a"])


def test_the_entry_of_another_key_is_foreign(cache):
    cache.write(KEYS[0], ENTRY)
    file_of(cache, KEYS[1]).parent.mkdir(exist_ok=True)
    shutil.copy(file_of(cache), file_of(cache, KEYS[1]))
    assert cache.read(KEYS[1]) is None


def test_a_file_of_another_program_is_foreign(cache):
    file_of(cache).parent.mkdir(parents=True)
    save_file(ENTRY, file_of(cache))
    assert cache.read(KEYS[0]) is None


def test_an_entry_without_the_tensor_asked_for_is_foreign(cache):
    cache.write(KEYS[0], ENTRY)
    assert cache.read(KEYS[0], ["c"]) is None


# ------------------------------------------------------------------------------------------------ the bound


def test_the_bound_holds(cache):
    for key in KEYS:
        cache.write(key, {"a": torch.zeros(50_000)})
        assert held(cache) <= 10**6


def test_what_was_not_used_for_longest_goes_first(cache):
    for i, key in enumerate(KEYS[:4]):
        cache.write(key, {"a": torch.zeros(50_000)})
        age(cache, key, seconds=100 - i)
    cache.read(KEYS[0])
    cache.write(KEYS[4], {"a": torch.zeros(50_000)})
    assert [key in cache for key in KEYS[:5]] == [True, False, True, True, True]


def test_room_is_made_down_to_nine_tenths(cache):
    for key in KEYS[:10]:
        cache.write(key, {"a": torch.zeros(24_500)})
    cache.write(KEYS[10], {"a": torch.zeros(24_500)})
    assert held(cache) <= 0.9 * 10**6


def test_leftovers_of_an_interrupted_writer_count_and_go(cache):
    leftover = cache.folder / KEYS[0][:2] / f".{KEYS[0]}.safetensors.77.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(bytes(900_000))
    os.utime(leftover, (0, 0))
    cache.write(KEYS[1], {"a": torch.zeros(50_000)})
    assert not leftover.exists()


def test_an_entry_larger_than_the_bound_is_told_and_removes_nothing(cache, warnings):
    cache.write(KEYS[0], ENTRY)
    cache.write(KEYS[1], {"a": torch.zeros(500_000)})
    assert warnings == [f"nothing more is cached in {cache.folder}: the cache may not hold as much"]
    assert KEYS[0] in cache


def test_a_disk_is_not_filled(cache, warnings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 10**9, 10**9))
    cache.write(KEYS[0], ENTRY)
    assert warnings == [f"nothing more is cached in {cache.folder}: too little space is left on the disk"]
    assert held(cache) == 0


def test_a_disk_that_others_fill_gets_its_space_back(cache, monkeypatch):
    for key in KEYS[:4]:
        cache.write(key, {"a": torch.zeros(50_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 2 * 10**9 - 300_000))
    Cache(cache.folder, 10**6).write(KEYS[4], {"a": torch.zeros(50_000)})
    assert held(cache) <= 500_000
    assert KEYS[4] in cache


# ------------------------------------------------------------------------------------------------ what may go wrong


def test_a_full_disk_is_told_once(cache, warnings, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for key in KEYS[:3]:
        cache.write(key, ENTRY)
    assert warnings == [f"nothing more is cached in {cache.folder}: No space left on device"]
    assert held(cache) == 0


def test_a_folder_that_cannot_be_made_is_told(tmp_path, warnings):
    (tmp_path / "taken").write_text("")
    cache = Cache(tmp_path / "taken" / "cache", 10**6, lambda text: warnings.append(text))
    cache.write(KEYS[0], ENTRY)
    assert len(warnings) == 1
    assert cache.read(KEYS[0]) is None


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_read(cache, warnings):
    cache.write(KEYS[0], ENTRY)
    for folder in (file_of(cache).parent, cache.folder):
        folder.chmod(0o500)
    try:
        cache.write(KEYS[1], ENTRY)
        assert cache.read(KEYS[0])["a"].equal(ENTRY["a"])
        assert warnings == [f"nothing more is cached in {cache.folder}: Permission denied"]
    finally:
        for folder in (cache.folder, file_of(cache).parent):
            folder.chmod(0o700)


def test_a_folder_that_vanishes_while_writing_is_harmless(cache, warnings, monkeypatch):
    def vanished(source, target):
        raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", vanished)
        cache.write(KEYS[0], ENTRY)
    cache.write(KEYS[1], ENTRY)
    assert (warnings, KEYS[1] in cache) == ([], True)


def test_processes_share_a_folder_that_is_too_small_for_them(tmp_path):
    command = [sys.executable, "-c", BUSY, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert list(tmp_path.rglob("*.part")) == []


# ------------------------------------------------------------------------------------------------ clearing


def test_clearing_frees_everything(cache):
    for key in KEYS[:3]:
        cache.write(key, ENTRY)
    size = held(cache)
    assert cache.clear() == size
    assert not cache.folder.exists()


def test_clearing_leaves_files_of_others(cache):
    cache.write(KEYS[0], ENTRY)
    (cache.folder / "ab").mkdir(exist_ok=True)
    for name in ("holiday.jpg", "ab/model.safetensors"):
        (cache.folder / name).write_text("mine")
    cache.clear()
    assert {path.name for path in cache.folder.rglob("*") if path.is_file()} == {"holiday.jpg", "model.safetensors"}


def test_clearing_what_is_not_there_frees_nothing(tmp_path):
    assert clear(tmp_path / "nothing") == 0


def test_clearing_a_root_clears_every_kind(tmp_path):
    for kind in KINDS:
        Cache(tmp_path / kind, 10**6).write(KEYS[0], ENTRY)
    assert clear(tmp_path) > 2 * 4000
    assert list(tmp_path.rglob("*.safetensors")) == []


# ------------------------------------------------------------------------------------------------ where it is


@pytest.mark.parametrize(
    ("folder", "environment", "expected"),
    [
        ("/named", {"ANOFRAME_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/named"),
        (None, {"ANOFRAME_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        (None, {"XDG_CACHE_HOME": "/xdg"}, "/xdg/anoframe"),
        (None, {"HOME": "/home/me"}, "/home/me/.cache/anoframe"),
        ("~/fast", {"HOME": "/home/me"}, "/home/me/fast"),
    ],
)
def test_where_the_caches_are(monkeypatch, folder, environment, expected):
    for name in ("ANOFRAME_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_root(folder) == Path(expected)
