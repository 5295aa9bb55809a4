"""Progress bars: what fits into a line of the terminal."""

from __future__ import annotations

import io

import pytest

from anoframe.utils import progress
from anoframe.utils.progress import ProgressBar

VALUES = {"loss": "0.1234", "images/s": "12.3", "waiting": "0.1 s", "lr": "1.00e-04"}


@pytest.fixture
def draw(monkeypatch):
    """Function that advances a bar on a terminal of a width, and returns the last line that it shows."""

    def last_line(width, title="reconstruction", values=VALUES):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        terminal = Terminal()
        shown = {"file": terminal, "dynamic_ncols": False, "ncols": width, "mininterval": 0}
        monkeypatch.setattr(progress, "_options", lambda: shown)
        with ProgressBar(1000, title, done=50) as bar:
            bar.advance(values)
        return [line for line in terminal.getvalue().replace("\n", "\r").split("\r") if line.strip()][-1]

    return last_line


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_line_is_not_wider_than_the_terminal(draw, width):
    assert len(draw(width)) <= width


def test_line_of_80_columns_has_the_position_the_loss_and_the_speed(draw):
    line = draw(80)
    assert line.startswith("reconstruction:   5%|")
    assert "| 51/1000 [00:00<00:0" in line
    assert line.endswith(", loss 0.1234, images/s 12.3]")


def test_wide_line_has_all_values(draw):
    assert draw(160).endswith(", loss 0.1234, images/s 12.3, waiting 0.1 s, lr 1.00e-04]")


def test_long_title_is_cut(draw):
    line = draw(80, title="reconstruction of the adapters at layer 3")
    assert line.startswith("reconstruction of the...:   5%|")
    assert line.endswith("loss 0.1234]")
