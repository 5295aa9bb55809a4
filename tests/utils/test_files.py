"""Atomic file writes, JSON files, and names of output folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from anoframe.errors import AnoframeError
from anoframe.utils.files import bounded_name, file_name, read_json, safe_path, write_atomic, write_error, write_json


@pytest.fixture
def no_replace(monkeypatch):
    """Make every atomic write fail."""

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)


@pytest.mark.parametrize(("content", "expected"), [("naïve\n", "naïve\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_text_and_bytes_are_written(tmp_path, content, expected):
    write_atomic(tmp_path / "new" / "file", content)
    assert (tmp_path / "new" / "file").read_bytes() == expected


def test_an_earlier_file_is_replaced(tmp_path):
    for content in ("first and long", "second"):
        write_atomic(tmp_path / "file", content)
    assert (tmp_path / "file").read_text() == "second"


def test_no_temporary_file_is_left(tmp_path):
    write_atomic(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == ["file"]


def test_error_names_file_and_reason(tmp_path, no_replace):
    with pytest.raises(AnoframeError, match=r"cannot write .*file: No space left on device"):
        write_atomic(tmp_path / "file", "text")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Free space"),
        (errno.EACCES, "Change its permissions"),
        (errno.EROFS, "Read-only file system. Choose another --output"),
        (errno.ENAMETOOLONG, "File name too long. Choose a shorter"),
        (errno.ENOTDIR, "Move the file"),
        (errno.EIO, "Check that path and the disk"),
    ],
)
def test_error_says_what_to_do_about_its_reason(tmp_path, number, words):
    message = str(write_error(tmp_path, OSError(number, os.strerror(number))))
    assert message.startswith(f"cannot write {tmp_path}: {os.strerror(number)}. ")
    assert words in message
    assert ("Free space" in message) == (number == errno.ENOSPC)


def test_file_with_the_longest_possible_name_is_written(tmp_path):
    write_atomic(tmp_path / ("a" * 255), "text")
    assert os.listdir(tmp_path) == ["a" * 255]


def test_text_that_is_not_unicode_is_escaped(tmp_path):
    write_json(tmp_path / "tree.json", {"file": "caf\udce9.png"})
    assert (tmp_path / "tree.json").read_bytes() == b'{\n  "file": "caf\\udce9.png"\n}\n'
    assert read_json(tmp_path / "tree.json") == {"file": "caf\udce9.png"}


@pytest.mark.parametrize("name", ["000.png", "Filz grün.png", "切" * 66])
def test_short_name_is_not_changed(name):
    assert bounded_name(name) == name


def test_changed_names_are_short_and_different():
    names = ["é" * 101, "é" * 102, "a" * 199 + "é", "\udce9" * 99, "caf\udce9", "caf\udce8", "a" * 255]
    changed = [bounded_name(name) for name in names]
    assert len({*changed, *names}) == 2 * len(names)
    assert max(len(name.encode()) for name in changed) <= 200


def test_a_failed_write_leaves_no_partial_file(tmp_path, no_replace):
    with pytest.raises(AnoframeError):
        write_atomic(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_earlier_file(tmp_path, no_replace):
    (tmp_path / "file").write_text("earlier")
    with pytest.raises(AnoframeError):
        write_atomic(tmp_path / "file", "text")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "earlier"}


def test_an_interrupted_write_leaves_no_file(tmp_path, monkeypatch):
    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(AnoframeError, match="cannot write"):
        write_atomic(tmp_path / "taken" / "file", "text")


def test_json_keeps_all_digits_and_none(tmp_path):
    tree = {"a": 0.1 + 0.2, "b": None, "ü": [1, True]}
    write_json(tmp_path / "tree.json", tree)
    assert read_json(tmp_path / "tree.json") == tree


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_rejects_nan_and_infinity(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "tree.json", {"a": value})
    assert os.listdir(tmp_path) == []


def test_error_names_a_missing_json_file(tmp_path):
    with pytest.raises(AnoframeError, match=r"there is no .*gone\.json"):
        read_json(tmp_path / "gone.json")


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe", b"", b'{"a": NaN}', b'{"a": [-Infinity]}'])
def test_error_names_a_damaged_json_file(tmp_path, content):
    (tmp_path / "tree.json").write_bytes(content)
    with pytest.raises(AnoframeError, match=r"tree\.json is damaged"):
        read_json(tmp_path / "tree.json")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free space and start again"),
        (errno.EACCES, "Change its permissions, or choose another --output"),
        (errno.EROFS, "Choose another --output"),
        (errno.ENAMETOOLONG, "Choose a shorter --output, or shorten the names of files and folders"),
        (errno.EIO, "Check that path and the disk, and start again"),
    ],
)
def test_the_remedy_fits_the_reason(number, remedy):
    message = str(write_error(Path("out"), OSError(number, os.strerror(number))))
    assert message == f"cannot write out: {os.strerror(number)}. {remedy}"


def test_a_name_that_is_not_utf8_is_read_back_from_json(tmp_path):
    tree = {"caf\udce9.png": "back\\slash\udce9"}
    write_json(tmp_path / "tree.json", tree)
    assert read_json(tmp_path / "tree.json") == tree
    assert (tmp_path / "tree.json").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ names of files


@pytest.mark.parametrize("text", ["000", "Filz grün", "切れ目", "a.b:c"])
def test_a_good_file_name_stays(text):
    assert file_name(text, ".png") == f"{text}.png"


@pytest.mark.parametrize("text", ["k" * 250, "切" * 84, "caf\udce9", "a\nb", "a\\b", "a/b", "\0"])
def test_any_other_text_becomes_a_file_name(tmp_path, text):
    name = file_name(text, ".png")
    assert len(name.encode()) <= 200
    assert name.isprintable()
    write_atomic(tmp_path / name, b"")
    assert os.listdir(tmp_path) == [name]


def test_shortened_names_of_different_texts_differ():
    texts = ["k" * 250 + "1", "k" * 250 + "2", "caf\udce9", "caf\udce8", "caf_"]
    assert len({file_name(text, ".png") for text in texts}) == len(texts)


# ------------------------------------------------------------------------------------------------ names of folders


@pytest.mark.parametrize("name", ["bottle", "Filz grün", "切れ目", "a.b", ".hidden", "..a", "0-test"])
def test_a_plain_name_is_accepted(tmp_path, name):
    assert safe_path(tmp_path, category=name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "../x", "a\\b", "a\nb", "a\0b", " ", "caf\udce9", 5, None]
)
def test_a_name_that_leads_out_of_the_folder_is_an_error(tmp_path, name):
    with pytest.raises(AnoframeError, match=r"config name .* names a folder of the output: give it a plain name"):
        safe_path(tmp_path, config_name=name)


def test_a_name_that_is_too_long_is_an_error(tmp_path):
    with pytest.raises(AnoframeError, match="at most 200 bytes"):
        safe_path(tmp_path, category="é" * 101)
