"""Imports without garbage collection and without packages that are not needed."""

import gc
import subprocess
import sys
import time

import pytest

from anoframe.utils import imports
from anoframe.utils.imports import import_in_background, keep_imported_objects, load_timm, quick_imports


def test_garbage_is_not_collected_inside_and_is_again_afterwards():
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with quick_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError), quick_imports():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_wandb_is_hidden_inside_only(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb.py").write_text("marker = 1")
    monkeypatch.syspath_prepend(tmp_path)
    with quick_imports(), pytest.raises(ImportError):
        import wandb
    import wandb

    assert wandb.marker == 1


def test_a_package_that_is_imported_already_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", sys)
    with quick_imports():
        import wandb

        assert wandb is sys
    assert sys.modules["wandb"] is sys


def test_the_modules_of_a_prediction_import_neither_wandb_nor_scipy():
    code = (
        "import sys; from anoframe.utils.imports import quick_imports\n"
        "with quick_imports(): import anoframe.runs.predict\n"
        "print([name for name in ('wandb', 'scipy') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_what_a_program_imports_is_not_examined_for_garbage(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "_freezes", False)
    (tmp_path / "module_with_a_list.py").write_text("content = [[] for _ in range(1000)]")
    monkeypatch.syspath_prepend(tmp_path)
    keep_imported_objects()
    try:
        before = gc.get_freeze_count()
        with quick_imports():
            import module_with_a_list

        assert gc.get_freeze_count() >= before + len(module_with_a_list.content)
    finally:
        gc.unfreeze()


def test_a_library_freezes_nothing(monkeypatch):
    monkeypatch.setattr(imports, "_freezes", False)
    frozen = gc.get_freeze_count()
    with quick_imports():
        pass
    assert gc.get_freeze_count() == frozen


def test_modules_are_imported_in_the_background(tmp_path, monkeypatch):
    (tmp_path / "module_in_the_background.py").write_text("marker = 1")
    monkeypatch.syspath_prepend(tmp_path)
    import_in_background("module_that_does_not_exist", "module_in_the_background")
    end = time.monotonic() + 10
    while not hasattr(sys.modules.get("module_in_the_background"), "marker") and time.monotonic() < end:
        time.sleep(0.01)
    assert sys.modules.pop("module_in_the_background").marker == 1


def test_timm_that_is_imported_freezes_no_objects_again(monkeypatch):
    load_timm()
    monkeypatch.setattr(imports, "_freezes", True)
    frozen = gc.get_freeze_count()
    load_timm()
    assert gc.get_freeze_count() == frozen
