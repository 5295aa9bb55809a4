"""docs/design.md names files of the package: every one of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


def test_answers_of_the_table_are_existing_files():
    table = PAGE.partition("## Where is ...?")[2].partition("\n## ")[0]
    paths = re.findall(r"`([\w/]+(?:\.py|/))`", table)
    assert len(paths) > 30
    missing = [path for path in paths if not (ROOT / "anoframe" / path).exists()]
    assert missing == []


def test_layout_names_every_package():
    layout = PAGE.partition("## Layout")[2].partition("\n## ")[0]
    packages = {path.parent.name for path in (ROOT / "anoframe").glob("*/__init__.py")}
    methods = {path.parent.name for path in (ROOT / "anoframe" / "models").glob("*/model.py")}
    assert packages | methods <= set(re.findall(r"(\w+)/", layout))
