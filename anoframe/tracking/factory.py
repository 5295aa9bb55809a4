"""Create the trackers that a config turns on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anoframe.config import ConfigDict
from anoframe.errors import AnoframeError
from anoframe.tracking.tracker import Console, JsonLines, Tracker, Trackers

_INSTALL = {"wandb": "pip install wandb", "tensorboard": 'pip install "anoframe[tensorboard]"'}


def check_tracking(cfg: ConfigDict) -> None:
    """Check that the packages of the enabled trackers are installed, without importing them.

    Raises:
        AnoframeError: a package is missing.
    """
    for name, command in _INSTALL.items():
        if cfg[name].enable and not _is_installed(name):
            raise AnoframeError(
                f"{name}.enable needs a package that is not installed: {command}, or --{name}.enable False"
            )


def open_trackers(cfg: ConfigDict, folder: Path) -> Trackers:
    """Create the console, `log.jsonl` in the run folder, and the trackers that the config enables.

    Args:
        cfg: its sections `wandb` and `tensorboard` are read.
        folder: existing run folder; all files of the trackers are written into it.

    Returns:
        Trackers: they expect the event `run` first, and `close` last.
    """
    # a console that is gone (a closed pipe or terminal) costs no result
    required = Trackers(JsonLines(folder / "log.jsonl"), optional=[Console()])
    optional: list[Tracker] = []
    if cfg.wandb.enable:
        from anoframe.tracking.wandb import WandB

        optional.append(WandB(cfg.wandb, folder, required.log))
    if cfg.tensorboard.enable:
        from anoframe.tracking.tensorboard import TensorBoard

        optional.append(TensorBoard(folder / "tensorboard"))
    return Trackers(required, optional=optional)


def _is_installed(package: str) -> bool:
    """Whether a package is installed. A folder `wandb/` of earlier runs in the working directory does not count."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None  # a plain folder has no origin
