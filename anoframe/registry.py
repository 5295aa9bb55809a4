"""Names that configs use, and the code they stand for.

An entry is a name and a `"module:attribute"` string, imported on use: asking which methods there are imports none of
them. A whole `"module:attribute"` may stand in a config where a name would, so a method can live outside the package.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from anoframe.errors import AnoframeError, suggest
from anoframe.utils.type_check import matches_type, type_words


class Registry:
    """Names of one kind of part.

    Args:
        kind: what the names stand for; used in messages.
        entries: name -> `"module:attribute"`.
        package: a package in which every folder with a `model.py` and every module is an entry: the folder
            `models/patchcore_noising/`, or a file `models/patchcore_noising.py`, is the name `patchcore_noising`. Its
            class is the attribute of the same name without underscores and capitals (`PatchCoreNoising`). A new method
            is therefore registered by existing.
        exclude: modules of that package that are no entries.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str] | None = None,
        package: str | None = None,
        exclude: Collection[str] = (),
    ):
        self.kind = kind
        self._entries = dict(entries or {})
        self._package, self._exclude = package, exclude

    def names(self) -> list[str]:
        """All names, sorted. Imports nothing of what they stand for."""
        return sorted({*self._entries, *self._discovered()})

    def load(self, name: str) -> Any:
        """The class or function behind a name.

        Raises:
            AnoframeError: unknown name (suggests the nearest), or a module or attribute that is not there.
        """
        if not isinstance(name, str):
            raise AnoframeError(f"the name of a {self.kind} is text, got {name!r}: {suggest('', self.names())}")
        target = name if ":" in name else self._entries.get(name) or self._discovered().get(name)
        if target is None:
            raise AnoframeError(f"unknown {self.kind} {name!r}: {suggest(name, self.names())}")
        module_name, _, attribute = target.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise AnoframeError(
                f"{self.kind} {name!r} needs the module {error.name!r}, which is not installed: "
                "install it, or correct the name"
            ) from error
        return self._attribute(module, attribute, name)

    def build(self, name: str, **arguments: Any) -> Any:
        """Call what the name stands for; an unknown or missing argument is an error before anything is built."""
        target = self.load(name)
        check_arguments(target, arguments, f"{self.kind} {name!r}")
        return target(**arguments)

    def _discovered(self) -> dict[str, str]:
        if self._package is None:
            return {}
        spec = importlib.util.find_spec(self._package)
        locations = spec.submodule_search_locations if spec else None
        found = {}
        for finder, name, is_package in pkgutil.iter_modules(locations):
            if name.startswith("_") or name in self._exclude:
                continue
            if not is_package:
                found[name] = f"{self._package}.{name}:"
            elif Path(finder.path, name, "model.py").is_file():  # type: ignore[union-attr]
                found[name] = f"{self._package}.{name}.model:"
        return found

    def _attribute(self, module: Any, attribute: str, name: str) -> Any:
        if attribute:
            if not hasattr(module, attribute):
                raise AnoframeError(f"{self.kind} {name!r}: module {module.__name__} has no {attribute!r}")
            return getattr(module, attribute)
        wanted = name.replace("_", "")
        for candidate in vars(module):
            if candidate.lower() == wanted:
                return getattr(module, candidate)
        raise AnoframeError(
            f"{self.kind} {name!r}: module {module.__name__} has no class of that name "
            f"(expected one that reads {wanted!r} without underscores and capitals)"
        )


def check_arguments(target: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """Raise an AnoframeError if `target(**arguments)` would not bind, naming the argument and the nearest one.

    An annotation of plain types (see `anoframe.utils.type_check`) is checked too, so a method need not check the types
    of its settings.
    """
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for argument in arguments:
            if argument not in parameters:
                raise AnoframeError(f"{where} takes no argument {argument!r}: {suggest(argument, parameters)}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and p.kind < 2 and n not in arguments]
    keyword_only = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    missing += [n for n in keyword_only if n not in arguments]
    if missing:
        raise AnoframeError(f"{where} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    hints = _annotations(target)
    for argument, value in arguments.items():
        if argument in hints and not matches_type(value, hints[argument]):
            raise AnoframeError(f"{where}: {argument} takes {type_words(hints[argument])}, got {value!r}")


def _annotations(target: Callable[..., Any]) -> dict[str, Any]:
    """Types of the parameters; none where they name something that is not there while a program runs."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


MODELS = Registry("model", package="anoframe.models", exclude=("base", "factory", "summary"))
DATASETS = Registry(
    "dataset",
    {
        "mvtec": "anoframe.data.mvtec:MVTec",
        "visa": "anoframe.data.visa:VisA",
        "folder": "anoframe.data.folder:Folder",
        "demo": "anoframe.data.demo:Demo",
    },
)
