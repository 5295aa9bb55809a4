"""Words of a command line that a parser has left, as keys of the config."""

from __future__ import annotations

import argparse

import pytest

from anoframe.config.overrides import dotted_options
from anoframe.errors import AnoframeError


@pytest.fixture
def parser():
    made = argparse.ArgumentParser()
    made.add_argument("--seed")
    return made


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], {}),
        (["--a.b", "1"], {"a.b": "1"}),
        (["--a.b=1"], {"a.b": "1"}),
        (["--a.b", "1", "2", "--c.d", "x"], {"a.b": ["1", "2"], "c.d": "x"}),
        (["--a.b", "-1"], {"a.b": "-1"}),
    ],
)
def test_words_become_a_mapping(words, found, parser):
    assert dotted_options(words, parser) == found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sed", "1"], "unknown option --sed: did you mean 'seed'"),
        (["stray"], "unexpected argument 'stray'"),
        (["--a.b"], "--a.b needs a value"),
    ],
)
def test_what_is_wrong_is_told(words, told, parser):
    with pytest.raises(AnoframeError, match=told):
        dotted_options(words, parser)
