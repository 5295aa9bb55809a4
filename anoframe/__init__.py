"""anoframe: a PyTorch research framework for industrial visual anomaly detection.

    import anoframe

    cfg = anoframe.load_config("patchcore/patchcore_lite0_224.py", {"data.root": "MVTec"})
    run = anoframe.train(cfg, categories=["bottle"])
    run.metrics["bottle"]["image_auroc"]
    anoframe.load_run(run.folder).predict("part.png")  # Prediction(score, anomaly_map)

Importing this loads no torch; the names below load what they need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anoframe.config import load_config as load_config
    from anoframe.prediction import predict as predict
    from anoframe.run import Run as Run
    from anoframe.run import load_run as load_run
    from anoframe.run import test as test
    from anoframe.run import train as train

__version__ = "0.1.0"

_HOME = {
    "load_config": "anoframe.config",
    "train": "anoframe.run",
    "test": "anoframe.run",
    "load_run": "anoframe.run",
    "Run": "anoframe.run",
    "predict": "anoframe.prediction",
}
__all__ = ["Run", "__version__", "load_config", "load_run", "predict", "test", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anoframe' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
