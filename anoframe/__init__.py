"""anoframe: a PyTorch research framework for industrial visual anomaly detection.

    import anoframe

    cfg = anoframe.load_config("patchcore/patchcore_lite0_224.py", {"data.root": "MVTec"})
    run = anoframe.train(cfg, categories=["bottle"])
    run.metrics["bottle"]["image_auroc"]
    anoframe.load_run(run.folder).predict("part.png")  # Prediction(score, anomaly_map)

Importing this package loads no torch; each name below imports its module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anoframe.config import load_config as load_config
    from anoframe.exporting.api import export as export
    from anoframe.runs.api import Run as Run
    from anoframe.runs.api import load_run as load_run
    from anoframe.runs.api import test as test
    from anoframe.runs.api import train as train
    from anoframe.runs.predict import predict as predict
    from anoframe.runs.thresholds import set_threshold as set_threshold

__version__ = "0.1.0"

_MODULES = {
    "load_config": "anoframe.config",
    "train": "anoframe.runs.api",
    "test": "anoframe.runs.api",
    "load_run": "anoframe.runs.api",
    "Run": "anoframe.runs.api",
    "predict": "anoframe.runs.predict",
    "set_threshold": "anoframe.runs.thresholds",
    "export": "anoframe.exporting.api",
}
__all__ = ["Run", "__version__", "export", "load_config", "load_run", "predict", "set_threshold", "test", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'anoframe' has no attribute {name!r}")
    from anoframe.utils.imports import quick_imports

    with quick_imports():
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
