"""Which trackers a config asks for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anoframe.config import ConfigDict
from anoframe.errors import AnoframeError
from anoframe.tracking.tracker import Console, JsonLines, Tracker, Trackers

_INSTALL = {"wandb": "pip install wandb", "tensorboard": 'pip install "anoframe[tensorboard]"'}


def check_tracking(cfg: ConfigDict) -> None:
    """Find out before any work whether the trackers of a config can be had. Imports none of them.

    Raises:
        AnoframeError: a package is missing, or a value makes no sense.
    """
    for name, command in _INSTALL.items():
        if cfg[name].enable and not _installed(name):
            raise AnoframeError(f"{name}.enable needs a package that is not there: {command}, or --{name}.enable False")
    if cfg.wandb.log_freq < 1:
        raise AnoframeError(f"wandb.log_freq counts steps and is 1 or more, got {cfg.wandb.log_freq}")


def open_trackers(cfg: ConfigDict, folder: Path) -> Trackers:
    """The console, `log.jsonl` in the run folder, and the others that the config turns on.

    Args:
        cfg: its sections `wandb` and `tensorboard` are read.
        folder: of the run; it exists. Whatever a tracker writes is in it.

    Returns:
        Trackers: they expect the event `run` first, and `close` last.
    """
    always = Trackers(Console(), JsonLines(folder / "log.jsonl"))
    optional: list[Tracker] = []
    if cfg.wandb.enable:
        from anoframe.tracking.wandb import WandB

        optional.append(WandB(cfg.wandb, folder, always.log))
    if cfg.tensorboard.enable:
        from anoframe.tracking.tensorboard import TensorBoard

        optional.append(TensorBoard(folder / "tensorboard"))
    return Trackers(always, optional=optional)


def _installed(package: str) -> bool:
    """A folder `wandb/` left in the working directory by other runs is not the package: it has no `__init__`."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None
