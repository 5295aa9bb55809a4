"""Every invalid input gives an error that names the file or key and tells what to do; `docs/errors.md` lists them."""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

import pytest
from catalogue import CASES, Case

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
WRITE = "ANOFRAME_WRITE_ERRORS"
COMMAND = f"{WRITE}=1 python -m pytest tests/errors/test_error_catalogue.py"
HEAD = f"""\
# Error messages for invalid input

This page is written by the tests, from the messages of the command line or the Python API: `{COMMAND}`.
`DATA` is the root of a dataset, `RUNS` an output folder, `RUN` a finished run, `HERE` another folder. Each error ends
the command with status 2, without a traceback. Errors that can be detected before a fit are raised before it.
"""


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """Case -> message, filled by the cases while they run."""
    return {}


def test_names_of_cases_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_invalid_input(bench, case, messages):
    outcome = case.act(bench)
    text = bench.normalise(outcome.text)
    assert outcome.status == case.status, text
    assert [words for words in (*case.says, case.way_out) if words not in text] == [], text
    assert not bench.witness.exists(), "the payload was run"
    if case.before_work:
        assert [path for path in bench.folder.rglob("checkpoint") if path.parent != bench.run] == []
    messages[case.name] = re.sub(case.varies, "...", text) if case.varies else text


def test_the_page_shows_all_messages(messages):
    if len(messages) < len(CASES):
        pytest.skip("the page needs the messages of all cases, and some cases did not run")
    sections = groupby(CASES, lambda case: case.section)
    page = "\n".join([HEAD, *(_section(name, list(cases), messages) for name, cases in sections)])
    if os.environ.get(WRITE):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, f"docs/errors.md is stale: {COMMAND}"


def _section(name: str, cases: list[Case], messages: dict[str, str]) -> str:
    """Format one section of the page as Markdown."""
    rows = [
        f"| {case.wrong} | {_message(messages[case.name], case)} | {case.way_out or 'not needed'} |" for case in cases
    ]
    return "\n".join([f"## {name}", "", "| invalid input | message | what to do |", "|---|---|---|", *rows, ""])


def _message(text: str, case: Case) -> str:
    """Format a message as a table cell."""
    if case.accepted:
        return f"accepted; {_cell(text)}" if text else "accepted"
    return _cell(text)


def _cell(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "<br>".join(f"`{line.replace('|', '/')}`" for line in lines)
