"""Registry: discovery of methods, loading by name, and checks of arguments."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from anoframe.errors import AnoframeError
from anoframe.registry import DATASETS, MODELS, Registry, check_arguments

SHAPES = Registry("shape", {"dict": "builtins:dict", "gone": "no_such_package.part:Shape", "odd": "builtins:Odd"})


class Box:
    def __init__(self, width: int, height: int = 1, *, depth: int):
        self.size = (width, height, depth)


class Plain:
    pass


def add(first: int, **others: int) -> int:
    return first + sum(others.values())


def test_methods_of_the_package_are_discovered():
    assert {"patchcore", "patchcore_noising"} <= set(MODELS.names())


def test_names_of_datasets():
    assert DATASETS.names() == [
        *("btad", "csv", "demo", "folder", "ksdd2", "loco", "mpdd", "mvtec", "mvtec_ad_2", "real_iad", "visa")
    ]


@pytest.mark.parametrize("registry", [MODELS, DATASETS], ids=["models", "datasets"])
def test_every_name_loads_a_class(registry):
    assert all(isinstance(registry.load(name), type) for name in registry.names())


@pytest.fixture
def write_package(tmp_path, monkeypatch):
    """Return a function that writes an importable package: name, and relative path -> content of its modules."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, modules: Mapping[str, str]) -> str:
        for path, content in {"__init__.py": "", **modules}.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return name

    return write


CLASSES = "class Other: pass\nclass MyMethod: pass\n"


def test_a_file_is_discovered_as_a_method(write_package):
    package = write_package("methods_as_files", {"_private.py": "", "my_method.py": CLASSES})
    registry = Registry("model", package=package)
    assert registry.names() == ["my_method"]
    assert registry.load("my_method").__name__ == "MyMethod"


def test_a_folder_with_model_py_is_discovered_as_a_method(write_package):
    modules = {"my_method/__init__.py": "", "my_method/layers.py": "", "my_method/model.py": CLASSES}
    registry = Registry("model", package=write_package("methods_as_folders", modules))
    assert registry.names() == ["my_method"]
    assert registry.load("my_method").__module__ == "methods_as_folders.my_method.model"


def test_a_folder_without_model_py_is_ignored(write_package):
    package = write_package("no_methods", {"components/__init__.py": "", "components/layers.py": ""})
    registry = Registry("model", package=package)
    assert registry.names() == []
    with pytest.raises(AnoframeError, match="unknown model 'components'"):
        registry.load("components")


@pytest.mark.parametrize("excluded", ["base.py", "base/model.py"])
def test_excluded_modules_are_ignored(write_package, excluded):
    modules = {excluded: "class Base: pass", str(Path(excluded).parent / "__init__.py"): "", "my_method.py": CLASSES}
    package = write_package(f"methods_beside_{excluded[4]}".replace("/", "folder").replace(".", "file"), modules)
    assert Registry("model", package=package).names() == ["base", "my_method"]
    registry = Registry("model", package=package, exclude=("base",))
    assert registry.names() == ["my_method"]
    with pytest.raises(AnoframeError, match="unknown model 'base'"):
        registry.load("base")


def test_listing_names_imports_no_module(write_package):
    package = write_package("methods_that_fail", {"bomb.py": "raise RuntimeError('imported')\n"})
    assert Registry("model", package=package).names() == ["bomb"]
    assert f"{package}.bomb" not in sys.modules


def test_a_module_without_its_class_is_an_error(write_package):
    package = write_package("methods_without_class", {"my_method.py": "class Another: pass\n"})
    with pytest.raises(AnoframeError, match=r"no class of that name .*'mymethod'"):
        Registry("model", package=package).load("my_method")


def test_error_of_an_unknown_name_suggests_a_name():
    with pytest.raises(AnoframeError, match="unknown model 'patchcoer': did you mean 'patchcore'"):
        MODELS.load("patchcoer")


def test_module_and_attribute_load_a_class_outside_the_package():
    assert SHAPES.load("collections:OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize("name", ["gone", "no_such_package:Shape"])
def test_error_names_a_missing_module(name):
    with pytest.raises(AnoframeError, match="needs the module 'no_such_package'"):
        SHAPES.load(name)


@pytest.mark.parametrize("name", ["odd", "builtins:Odd"])
def test_error_names_a_missing_attribute(name):
    with pytest.raises(AnoframeError, match="module builtins has no 'Odd'"):
        SHAPES.load(name)


def test_build_passes_the_arguments():
    assert Registry("box", {"box": f"{__name__}:Box"}).build("box", width=2, depth=3).size == (2, 1, 3)


def test_error_of_an_unknown_argument_suggests_a_name():
    with pytest.raises(AnoframeError, match="a box takes no argument 'widht': did you mean 'width'"):
        check_arguments(Box, {"widht": 1, "depth": 1}, "a box")


@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "arguments width, depth"), ({"width": 1}, "argument depth"), ({"depth": 1}, "argument width")],
)
def test_error_names_missing_arguments(given, missing):
    with pytest.raises(AnoframeError, match=f"^a box needs the {missing}$"):
        check_arguments(Box, given, "a box")


def test_a_function_with_keyword_arguments_accepts_any_name():
    check_arguments(add, {"first": 1, "second": 2}, "a sum")


def test_a_class_without_constructor_accepts_no_argument():
    with pytest.raises(AnoframeError, match="takes no argument 'width'"):
        check_arguments(Plain, {"width": 1}, "a plain class")


def typed(width: int, names: Sequence[str] = (), depth: float | None = None):
    """A function with annotations."""


@pytest.mark.parametrize("given", [{"width": 1}, {"width": 1, "names": ["a"], "depth": 2}, {"width": 1, "depth": None}])
def test_arguments_of_the_annotated_type_are_accepted(given):
    check_arguments(typed, given, "a box")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"width": "1"}, "a box: width takes a whole number, got '1'"),
        ({"width": 1, "names": "ab"}, "a box: names takes a list of values, got 'ab'"),
        ({"width": 1, "depth": float("nan")}, "a box: depth takes a number or None, got nan"),
    ],
)
def test_error_names_an_argument_of_another_type(given, message):
    with pytest.raises(AnoframeError, match=message):
        check_arguments(typed, given, "a box")


@pytest.mark.parametrize("name", [5, None, ["patchcore"]])
def test_a_name_that_is_not_text_is_an_error(name):
    with pytest.raises(AnoframeError, match="the name of a model is text"):
        MODELS.load(name)
