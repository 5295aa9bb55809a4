"""Versions, commit and machine of a result."""

from __future__ import annotations

import importlib.metadata
import socket

import anoframe
from anoframe.evaluation.provenance import git_commit, machine, versions


def test_versions_are_those_installed():
    installed = versions()
    assert installed.pop("anoframe") == anoframe.__version__
    assert installed == {name: importlib.metadata.version(name) for name in installed}


def test_versions_include_the_packages_that_can_change_numbers():
    assert {"torch", "torchvision", "timm", "numpy", "pillow"} <= set(versions())


def test_commit_is_a_hash_with_a_plus_for_changes():
    commit = git_commit()
    assert commit is None or len(bytes.fromhex(commit.removesuffix("+"))) == 20


def test_commit_is_none_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(anoframe, "__file__", str(tmp_path / "anoframe" / "__init__.py"))
    git_commit.cache_clear()
    try:
        assert git_commit() is None
    finally:
        git_commit.cache_clear()


def test_machine_does_not_contain_the_host_name():
    assert socket.gethostname() not in map(str, machine().values())
