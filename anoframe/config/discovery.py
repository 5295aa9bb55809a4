"""Where configs are: on disk, in a checkout's `configs/`, or inside an installed package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from anoframe.errors import AnoframeError, suggest

_PACKAGE = Path(__file__).resolve().parents[1]
_KINDS = (".py", ".yaml", ".yml")


def configs_root() -> Path:
    """The shipped configs: `configs/` of a checkout, or their copy inside an installed package."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names of the shipped configs, as `--config` takes them."""
    root = configs_root()
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return sorted(name for name in names if not name.startswith("__base__"))


def find_config(name: str | Path) -> Path:
    """A path on disk wins; otherwise the shipped config of that name, with or without a leading `configs/`."""
    shipped = Path(*Path(name).parts[1:]) if Path(name).parts[:1] == ("configs",) else Path(name)
    for path in (Path(name), configs_root() / shipped):
        with suppress(OSError):  # a name too long for a file is no file
            if path.is_dir() and (path / "config.yaml").is_file():
                return (path / "config.yaml").resolve()
            if path.is_file():
                if path.suffix not in _KINDS:
                    raise AnoframeError(f"{path} is no config: give a .py file, or a run folder or its config.yaml")
                return path.resolve()
    raise AnoframeError(
        f"no config {str(name)!r}, neither on disk nor shipped: {suggest(str(shipped), list_configs())}"
    )


def config_of(checkpoint: str | Path) -> Path:
    """The config of the run that a checkpoint path lies in."""
    for folder in (Path(checkpoint), *Path(checkpoint).resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    if not Path(checkpoint).exists():
        raise AnoframeError(f"there is no checkpoint {checkpoint}: give a run folder, or its checkpoint folder")
    if runs := [file.parent for file in sorted(Path(checkpoint).glob("*/*/*/config.yaml"))]:
        raise AnoframeError(f"{checkpoint} holds {len(runs)} run(s): give one of them, as {runs[0]}")
    raise AnoframeError(f"no config.yaml beside {checkpoint}: say with --config what to test on")
