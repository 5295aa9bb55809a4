"""Every bad input says which file or key it is and what to do; the page `docs/errors.md` shows what."""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

import pytest
from catalogue import CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
WRITE = "ANOFRAME_WRITE_ERRORS"
COMMAND = f"{WRITE}=1 python -m pytest tests/errors/test_catalogue.py"
HEAD = f"""\
# What anoframe says of bad input

Made by the tests, from what the command line or Python says in each case: `{COMMAND}`.
`DATA` is the root of a dataset, `RUNS` an output folder, `RUN` a finished run, `HERE` another folder. Each error ends
the command with status 2, without a traceback; what can be known before a fit is told before a fit.
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Case -> what was said, filled by the cases as they run."""
    return {}


def test_no_two_cases_have_one_name():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(bench, case, said):
    outcome = case.act(bench)
    text = bench.shortened(outcome.text)
    assert outcome.status == case.status, text
    assert [words for words in (*case.says, case.way_out) if words not in text] == [], text
    assert not bench.witness.exists(), "the payload was run"
    if case.before_work:
        assert [path for path in bench.folder.rglob("checkpoint") if path.parent != bench.run] == []
    said[case.name] = re.sub(case.varies, "...", text) if case.varies else text


def test_the_page_shows_what_is_said(said):
    if len(said) < len(CASES):
        pytest.skip("the page is made of all cases, and not all of them ran")
    page = "\n".join(
        [HEAD, *(_section(name, list(cases), said) for name, cases in groupby(CASES, lambda c: c.section))]
    )
    if os.environ.get(WRITE):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, f"docs/errors.md is stale: {COMMAND}"


def _section(name: str, cases: list[Case], said: dict[str, str]) -> str:
    rows = [f"| {case.wrong} | {_said(said[case.name], case)} | {case.way_out or 'not needed'} |" for case in cases]
    return "\n".join([f"## {name}", "", "| what is wrong | what anoframe says | way out |", "|---|---|---|", *rows, ""])


def _said(text: str, case: Case) -> str:
    """As a cell of a table."""
    if case.accepted:
        return f"accepted; {_cell(text)}" if text else "accepted"
    return _cell(text)


def _cell(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "<br>".join(f"`{line.replace('|', '/')}`" for line in lines)
