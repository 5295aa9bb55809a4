"""The frame of command lines: one line per error, the exit status, and consoles that break."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anoframe.errors import AnoframeError
from anoframe.utils.console import run_command, tolerant_console
from anoframe.utils.files import write_atomic

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
PRINTS = """
from anoframe.utils.console import run_command
def command():
    for number in range({lines}):
        print("切れ目 µm caf\\udce9", number, flush={flush})
    return 3
raise SystemExit(run_command(command, ""))
"""


def run_python(code, redirection="", **environment):
    """Run code in a new process through a shell with a redirection of its output; return status, stdout and stderr."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, code],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (AnoframeError("no config"), 2, "error: no config\n"),
        (OSError(36, "File name too long", "a"), 2, "error: [Errno 36] File name too long: 'a'. Choose a shorter"),
        (OSError(28, "disk full"), 2, "error: [Errno 28] disk full. Free space and start again (run it again)\n"),
        (KeyboardInterrupt(), 130, "interrupted: run it again\n"),
    ],
)
def test_error_is_one_line(capsys, error, status, text):
    def command():
        raise error

    assert run_command(command, "run it again") == status
    assert capsys.readouterr().err.startswith(text)


@pytest.mark.parametrize(("number", "ending"), [(28, "Free space and start again (run it again)"), (13, "--output")])
def test_how_to_continue_is_told_where_the_output_can_be_used_again(capsys, tmp_path, monkeypatch, number, ending):
    def fsync(file):
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", fsync)
    assert run_command(lambda: write_atomic(tmp_path / "file", ""), "run it again") == 2
    assert capsys.readouterr().err.endswith(f"{ending}\n")


def test_streams_are_restored():
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit):
        run_command(lambda: sys.exit(2), "")
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_letters_that_the_console_does_not_have_are_escaped(encoding):
    status, out, err = run_python(PRINTS.format(lines=1, flush=False), PYTHONIOENCODING=encoding)
    assert (status, err) == (3, "")
    assert out.decode(encoding).strip().endswith("caf\\udce9 0")


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("lines", [1, 20000])
@pytest.mark.parametrize("redirection", ["| true", "| head -1", ">&-", "2>&-", ">&- 2>&-", "2>&1 | true"])
def test_closed_console_does_not_change_the_status(redirection, lines, flush):
    status, _, err = run_python(PRINTS.format(lines=lines, flush=flush), redirection)
    assert (status, err) == (3, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device of a full disk")
def test_full_disk_behind_the_output_is_a_warning():
    status, _, err = run_python(PRINTS.format(lines=20000, flush=False), "> /dev/full")
    assert status == 3
    assert err == "warning: the output of this command is incomplete: No space left on device\n"


def test_stream_that_is_closed_is_ignored(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with tolerant_console():
        print("text")


@pytest.mark.parametrize("tool", TOOLS)
def test_help_of_every_tool_fits_any_console(tool, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), "--help"],
        capture_output=True,
        cwd=tmp_path,
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            "COLUMNS": "40",
            "PYTHONIOENCODING": "ascii",
        },
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("main.py", ["--config", "nowhere.py", "--print_config"]),
        ("check_data.py", ["--data.root", "nowhere"]),
        ("check_data.py", ["--data.root", "a" * 300]),
        ("report.py", ["nowhere"]),
        ("report.py", ["a" * 300]),
        ("benchmark.py", ["--configs", "nowhere.py", "--cls_names", "felt"]),
    ],
)
def test_error_of_every_tool_is_one_line(tool, words, tmp_path):
    command = [sys.executable, str(ROOT / "tools" / tool), *words]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
