"""Config trees as YAML text, and the description of changes."""

from __future__ import annotations

import doctest

import pytest

from anoframe.config import comparison, display, flatten, format_config, key_names, load_config


def test_printed_config_can_be_loaded(tmp_path):
    cfg = load_config("patchcore_noising/patchcore_noising_256_100e.py", {"evaluation.aupro_limits": "0.3,0.05"})
    (tmp_path / "printed.yaml").write_text(format_config(cfg), encoding="utf-8")
    assert list(flatten(load_config(tmp_path / "printed.yaml"))) == list(flatten(cfg))


def test_derived_value_is_printed_as_its_value(write):
    path = write("own.py", "with cfg.unlocked():", "    cfg.epochs = 100", "    cfg.half = cfg.get_ref('epochs') // 2")
    assert "half: 50" in format_config(load_config(path))


@pytest.mark.parametrize("module", [comparison, display, key_names])
def test_docstring_examples_run(module):
    result = doctest.testmod(module)
    assert (result.attempted > 0, result.failed) == (True, 0)
