"""Names of methods and datasets in configs, and the classes they stand for.

An entry is a name and a `"module:attribute"` string, which is imported on use: listing the names imports no method. A
config may also contain a `"module:attribute"` string in place of a name, so a method can live outside the package.
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
    """Named classes of one kind.

    Args:
        kind: what the names stand for, used in error messages.
        entries: name -> `"module:attribute"`.
        package: a package whose modules are entries as well: the file `<package>/<name>.py` or
            `<package>/<name>/model.py` registers `name`. Its class has the same name without underscores and in any
            case (`patchcore_noising` -> `PatchCoreNoising`). Folders without a `model.py` and names that start with
            an underscore are ignored. So a new method is registered by adding its file.
        exclude: modules of `package` that are not entries.
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
        """Return all names, sorted, without importing the modules behind them."""
        return sorted({*self._entries, *self._discover()})

    def load(self, name: str) -> Any:
        """Import the class or function behind a name.

        Raises:
            AnoframeError: unknown name (the message suggests the most similar one), or a missing module or attribute.
        """
        if not isinstance(name, str):
            raise AnoframeError(f"the name of a {self.kind} is text, got {name!r}: {suggest('', self.names())}")
        target = name if ":" in name else self._entries.get(name) or self._discover().get(name)
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
        return self._get_attribute(module, attribute, name)

    def build(self, name: str, **arguments: Any) -> Any:
        """Call the class or function behind a name, after checking the arguments with `check_arguments`."""
        target = self.load(name)
        check_arguments(target, arguments, f"{self.kind} {name!r}")
        return target(**arguments)

    def _discover(self) -> dict[str, str]:
        """Return name -> `"module:"` for every entry found in the package."""
        if self._package is None:
            return {}
        spec = importlib.util.find_spec(self._package)
        entries = {}
        for finder, name, is_package in pkgutil.iter_modules(spec.submodule_search_locations if spec else None):
            if name.startswith("_") or name in self._exclude:
                continue
            if not is_package:
                entries[name] = f"{self._package}.{name}:"
            elif Path(finder.path, name, "model.py").is_file():  # type: ignore[union-attr]
                entries[name] = f"{self._package}.{name}.model:"
        return entries

    def _get_attribute(self, module: Any, attribute: str, name: str) -> Any:
        """Return the named attribute, or without one the class whose name matches the name of the entry."""
        if attribute:
            if not hasattr(module, attribute):
                raise AnoframeError(f"{self.kind} {name!r}: module {module.__name__} has no {attribute!r}")
            return getattr(module, attribute)
        expected = name.replace("_", "")
        for candidate in vars(module):
            if candidate.lower() == expected:
                return getattr(module, candidate)
        raise AnoframeError(
            f"{self.kind} {name!r}: module {module.__name__} has no class of that name "
            f"(expected {expected!r} with any capital letters)"
        )


def check_arguments(target: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """Check that `target(**arguments)` is a valid call, and that values match annotations of plain types.

    Methods therefore need not check the types of their settings (see `anoframe.utils.type_check`).

    Args:
        target: a class or function.
        arguments: keyword arguments.
        where: start of an error message, for example the config section.

    Raises:
        AnoframeError: an unknown argument (the message suggests the most similar one), a missing argument, or a value
            of another type.
    """
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for argument in arguments:
            if argument not in parameters:
                raise AnoframeError(f"{where} takes no argument {argument!r}: {suggest(argument, parameters)}")
    if missing := _missing_arguments(parameters, arguments):
        raise AnoframeError(f"{where} needs the argument{'s' * (len(missing) > 1)} {', '.join(missing)}")
    hints = _type_hints(target)
    for argument, value in arguments.items():
        if argument in hints and not matches_type(value, hints[argument]):
            raise AnoframeError(f"{where}: {argument} takes {type_words(hints[argument])}, got {value!r}")


def _missing_arguments(parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> list[str]:
    """Return the required parameters that are not given: positional ones first, then keyword-only ones."""
    required = [p for p in parameters.values() if p.default is p.empty and p.name not in arguments]
    positional = [p.name for p in required if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return positional + [p.name for p in required if p.kind is p.KEYWORD_ONLY]


def _type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of the parameters; none if they contain a name that exists only for type checkers."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


MODELS = Registry("model", package="anoframe.models", exclude=("base", "factory", "learner", "summary"))
DATASETS = Registry(
    "dataset",
    {
        "mvtec": "anoframe.data.mvtec:MVTec",
        "visa": "anoframe.data.visa:VisA",
        "loco": "anoframe.data.loco:Loco",
        "mvtec_ad_2": "anoframe.data.mvtec_ad_2:MVTecAD2",
        "btad": "anoframe.data.btad:BTAD",
        "mpdd": "anoframe.data.mpdd:MPDD",
        "real_iad": "anoframe.data.real_iad:RealIAD",
        "ksdd2": "anoframe.data.ksdd2:KolektorSDD2",
        "csv": "anoframe.data.csv_table:CsvTable",
        "folder": "anoframe.data.folder:Folder",
        "demo": "anoframe.data.demo:Demo",
    },
)
PRETRAINING = Registry(
    "pretraining",
    {
        "simclr": "anoframe.pretraining.simclr:SimCLR",
        "simsiam": "anoframe.pretraining.simsiam:SimSiam",
        "spd": "anoframe.pretraining.spd:SPD",
        "supervised": "anoframe.pretraining.supervised:Supervised",
        "triplet": "anoframe.pretraining.triplet:Triplet",
        "relative_position": "anoframe.pretraining.relative_position:RelativePosition",
    },
)
SYNTHESIS = Registry(
    "generator of synthetic anomalies",
    {
        "cutpaste": "anoframe.data.synthesis.cutpaste:CutPaste",
        "cutpaste_patch": "anoframe.data.synthesis.cutpaste_patch:CutPastePatch",
        "cutpaste_scar": "anoframe.data.synthesis.cutpaste_scar:CutPasteScar",
        "cutpaste_nsa": "anoframe.data.synthesis.cutpaste_nsa:CutPasteNSA",
        "nsa": "anoframe.data.synthesis.nsa:NSA",
        "draem": "anoframe.data.synthesis.draem:DRAEM",
        "cdo": "anoframe.data.synthesis.cdo:CDO",
        "smooth_blend": "anoframe.data.synthesis.smooth_blend:SmoothBlend",
        "fpi": "anoframe.data.synthesis.fpi:FPI",
        "fpi_poisson": "anoframe.data.synthesis.fpi_poisson:FPIPoisson",
        "mixture": "anoframe.data.synthesis.mixture:Mixture",
    },
)
LABELLED = Registry(
    "kind of images",
    {
        "images": "anoframe.data.labelled.folders:open_images",
        "classes": "anoframe.data.labelled.folders:open_class_folders",
        "npz": "anoframe.data.labelled.arrays:open_npz",
        "cifar10": "anoframe.data.labelled.arrays:open_cifar10",
        "cifar100": "anoframe.data.labelled.arrays:open_cifar100",
        "stl10": "anoframe.data.labelled.arrays:open_stl10",
        "stl10_unlabeled": "anoframe.data.labelled.arrays:open_stl10_unlabeled",
        "fashion_mnist": "anoframe.data.labelled.arrays:open_fashion_mnist",
    },
)
PROBES = Registry(
    "probe",
    {
        "linear": "anoframe.evaluation.classification.linear_probe:LinearProbe",
        "knn": "anoframe.evaluation.classification.knn:NearestNeighbours",
    },
)
EVALUATORS = Registry(
    "evaluator",
    {
        "anomaly": "anoframe.evaluation.anomaly:AnomalyEvaluator",
        "classification": "anoframe.evaluation.classification.evaluator:ClassificationEvaluator",
    },
)
CLASSIFIERS = Registry(
    "class-incremental classifier",
    {
        "clap4clip": "anoframe.models.class_incremental.clap4clip:Clap4Clip",
        "linear_probe": "anoframe.models.class_incremental.linear_probe:LinearProbe",
        "nearest_class_mean": "anoframe.models.class_incremental.nearest_class_mean:NearestClassMean",
        "zero_shot": "anoframe.models.class_incremental.zero_shot:ZeroShot",
    },
)
