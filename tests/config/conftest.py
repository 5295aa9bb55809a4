"""Config files for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a config file: one line that inherits from `parent`, then the given lines, from line 3 on."""

    def write(name: str, *lines: str, parent: str = "patchcore/patchcore_224.py") -> Path:
        path = tmp_path / name
        head = ("from anoframe.config import inherit", f"cfg = inherit({parent!r})")
        path.write_text("\n".join((*head, *lines)) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def edit_saved(finished, tmp_path) -> Callable[[str, str], Path]:
    """Copies the `config.yaml` of a run with one text replaced by another."""

    def edit(old: str, new: str) -> Path:
        text = (finished.folder / "config.yaml").read_text()
        assert old in text
        (tmp_path / "config.yaml").write_text(text.replace(old, new))
        return tmp_path / "config.yaml"

    return edit
