"""Names, what they stand for, and arguments checked before anything is built."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS, MODELS, Registry, check_arguments

SHAPES = Registry("shape", {"dict": "builtins:dict", "gone": "no_such_package.part:Shape", "odd": "builtins:Odd"})


class Box:
    def __init__(self, width: int, height: int = 1, *, depth: int):
        self.size = (width, height, depth)


class Plain:
    pass


def anything(first: int, **others: int) -> int:
    return first + sum(others.values())


def test_methods_are_found_by_existing():
    assert {"patchcore", "patchcore_noising"} <= set(MODELS.names())


def test_datasets_have_the_names_of_the_issue():
    assert DATASETS.names() == ["demo", "folder", "mvtec", "visa"]


@pytest.mark.parametrize("registry", [MODELS, DATASETS], ids=["models", "datasets"])
def test_every_name_stands_for_a_class(registry):
    assert all(isinstance(registry.load(name), type) for name in registry.names())


def test_a_new_module_is_a_new_name(tmp_path, monkeypatch):
    package = tmp_path / "house_of_methods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_private.py").touch()
    (package / "my_method.py").write_text("class Other: pass\nclass MyMethod: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("model", package="house_of_methods")
    assert registry.names() == ["my_method"]
    assert registry.load("my_method").__name__ == "MyMethod"


def test_asking_for_names_imports_no_module(tmp_path, monkeypatch):
    package = tmp_path / "house_of_bombs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "bomb.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry("model", package="house_of_bombs").names() == ["bomb"]
    assert "house_of_bombs.bomb" not in sys.modules


def test_a_module_without_its_class_is_told(tmp_path, monkeypatch):
    package = tmp_path / "house_of_nothing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "my_method.py").write_text("class Another: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AnoframeError, match=r"no class of that name .*'mymethod'"):
        Registry("model", package="house_of_nothing").load("my_method")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AnoframeError, match="unknown model 'patchcoer': did you mean 'patchcore'"):
        MODELS.load("patchcoer")


def test_a_target_outside_the_package_stands_for_itself():
    assert SHAPES.load("collections:OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize("name", ["gone", "no_such_package:Shape"])
def test_a_module_that_is_not_there_is_named(name):
    with pytest.raises(AnoframeError, match="needs the module 'no_such_package'"):
        SHAPES.load(name)


@pytest.mark.parametrize("name", ["odd", "builtins:Odd"])
def test_an_attribute_that_is_not_there_is_named(name):
    with pytest.raises(AnoframeError, match="module builtins has no 'Odd'"):
        SHAPES.load(name)


def test_building_passes_the_arguments():
    assert Registry("box", {"box": f"{__name__}:Box"}).build("box", width=2, depth=3).size == (2, 1, 3)


def test_an_unknown_argument_suggests_the_nearest():
    with pytest.raises(AnoframeError, match="a box takes no argument 'widht': did you mean 'width'"):
        check_arguments(Box, {"widht": 1, "depth": 1}, "a box")


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "arguments width, depth"), ({"width": 1}, "argument depth"), ({"depth": 1}, "argument width")],
)
def test_missing_arguments_are_named(given, missing):
    with pytest.raises(AnoframeError, match=f"^a box needs the {missing}$"):
        check_arguments(Box, given, "a box")


def test_a_target_that_takes_any_argument_gets_it():
    check_arguments(anything, {"first": 1, "whatever": 2}, "a sum")


def test_a_class_without_a_constructor_takes_nothing():
    with pytest.raises(AnoframeError, match="takes no argument 'width'"):
        check_arguments(Plain, {"width": 1}, "a plain one")


def typed(width: int, names: Sequence[str] = (), depth: float | None = None):
    """Something with annotations."""


@pytest.mark.parametrize("given", [{"width": 1}, {"width": 1, "names": ["a"], "depth": 2}, {"width": 1, "depth": None}])
def test_arguments_of_the_annotated_type_pass(given):
    check_arguments(typed, given, "a box")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": "1"}, "a box: width takes a whole number, got '1'"),
        ({"width": 1, "names": "ab"}, "a box: names takes a list of values, got 'ab'"),
        ({"width": 1, "depth": float("nan")}, "a box: depth takes a number or None, got nan"),
    ],
)
def test_an_argument_of_another_type_is_named(given, message):
    with pytest.raises(AnoframeError, match=message):
        check_arguments(typed, given, "a box")


@pytest.mark.parametrize("name", [5, None, ["patchcore"]])
def test_a_name_that_is_no_text_is_told(name):
    with pytest.raises(AnoframeError, match="the name of a model is text"):
        MODELS.load(name)
