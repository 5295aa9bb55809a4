"""Find config files: on disk, in the `configs/` folder of a checkout, or inside the installed package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from anoframe.errors import AnoframeError, suggest
from anoframe.utils.paths import expand_path

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".py", ".yaml", ".yml")
_BASE = "__base__"  # folder of the configs that others inherit from


def configs_root() -> Path:
    """Return the folder of the shipped configs: `configs/` of a checkout, or its copy in an installed package."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def base_config(name: str) -> Path | None:
    """Return the file `__base__/<name>.py` of the shipped configs; None if there is no such file."""
    files = {path.stem: path for path in (configs_root() / _BASE).glob("*.py")}  # never a path outside this folder
    return files.get(name)


def list_configs() -> list[str]:
    """List the names of the shipped configs in the form that `--config` accepts."""
    root = configs_root()
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return sorted(name for name in names if not name.startswith(_BASE))


def find_config(name: str | Path) -> Path:
    """Resolve a config name to a file.

    Args:
        name: path of a `.py` or YAML file or of a run folder; or the name of a shipped config, with or without
            `configs/` before it. A path on disk has priority over a shipped config.

    Raises:
        AnoframeError: no such config, or a file of another type.
    """
    given = expand_path(name, "config")
    shipped = Path(*given.parts[1:]) if given.parts[:1] == ("configs",) else given
    for path in (given, configs_root() / shipped):
        with suppress(OSError):  # a name that is too long for a file name
            if path.is_dir() and (path / "config.yaml").is_file():
                return (path / "config.yaml").resolve()
            if path.is_file():
                if path.suffix not in _SUFFIXES:
                    raise AnoframeError(
                        f"{path} is not a config: give a .py file, a run folder, or the config.yaml of a run folder"
                    )
                return path.resolve()
    raise AnoframeError(
        f"no config {str(name)!r} on disk or among the shipped configs: {suggest(str(shipped), list_configs())}"
    )


def find_run_config(checkpoint: str | Path) -> Path:
    """Return the `config.yaml` of the run that a checkpoint belongs to.

    Args:
        checkpoint: a run folder, its `checkpoint/` folder, or the folder of one fit in it.

    Raises:
        AnoframeError: no such path, several runs below it, or no `config.yaml`.
    """
    checkpoint = expand_path(checkpoint, "checkpoint")
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    if not checkpoint.exists():
        raise AnoframeError(f"there is no checkpoint {checkpoint}: give a run folder, or its checkpoint folder")
    if runs := [file.parent for file in sorted(checkpoint.glob("*/*/*/config.yaml"))]:
        raise AnoframeError(f"{checkpoint} contains {len(runs)} run(s): give one of them, for example {runs[0]}")
    raise AnoframeError(f"no config.yaml next to {checkpoint}: name the config to test with (--config)")
