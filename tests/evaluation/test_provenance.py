"""What a number says of where it comes from."""

from __future__ import annotations

import importlib.metadata
import socket

import anoframe
from anoframe.evaluation.provenance import git_commit, machine, versions


def test_versions_are_those_installed():
    found = versions()
    assert found.pop("anoframe") == anoframe.__version__
    assert found == {name: importlib.metadata.version(name) for name in found}


def test_versions_name_what_changes_numbers():
    assert {"torch", "torchvision", "timm", "numpy", "pillow"} <= set(versions())


def test_a_commit_is_a_hash_with_a_sign_for_changes():
    commit = git_commit()
    assert commit is None or len(bytes.fromhex(commit.removesuffix("+"))) == 20


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(anoframe, "__file__", str(tmp_path / "anoframe" / "__init__.py"))
    git_commit.cache_clear()
    try:
        assert git_commit() is None
    finally:
        git_commit.cache_clear()


def test_the_machine_has_no_name():
    assert socket.gethostname() not in map(str, machine().values())
