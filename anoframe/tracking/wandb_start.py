"""Start a W&B run: choose online or offline mode, and open the run within a bounded time."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anoframe.config import ConfigDict
from anoframe.tracking.tracker import first_line

if TYPE_CHECKING:
    import wandb

_INIT_SECONDS = 60.0  # wait for the service at the start; then the run continues offline
_FINISH_SECONDS = 300.0  # wait for uploads at the end; the rest can be sent later
_FLUSH_SECONDS = 1.0  # a kill can lose the data of this time; the default of W&B is 15 seconds
_HEADER_BYTES = 7  # size of a run file without a record


def run_mode() -> tuple[str, str]:
    """Return `online`, `offline` or `disabled`, and the reason if not online.

    Takes ten seconds at most, and asks nothing on the terminal.
    """
    import wandb

    mode = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode  # `wandb offline` writes a settings file
    if mode == "disabled":
        return "disabled", "WANDB_MODE=disabled"
    if mode in ("offline", "dryrun"):
        return "offline", f"WANDB_MODE={mode}"
    try:
        has_account = wandb.run is not None or wandb.login(prompt=False, verify=True)
    except Exception as error:
        return "offline", first_line(error)
    return ("online", "") if has_account else ("offline", "no account is set up: wandb login, or WANDB_API_KEY")


def open_run(
    cfg: ConfigDict,
    folder: Path,
    mode: str,
    reason: str,
    id: str,
    config: Mapping[str, Any],
    disclosed: Mapping[str, Any],
) -> tuple[wandb.Run, str]:
    """Open a W&B run; offline if the service does not accept it.

    Args:
        cfg: section `wandb` of a config.
        folder: run folder.
        mode, reason: from `run_mode`.
        id: of the run.
        config: the resolved config, shown by W&B.
        disclosed: how the results may be compared, shown with the config; its `protocol_tag` becomes a tag.

    Returns:
        tuple: the run, and the reason if it is offline.
    """
    import wandb

    try:
        return _init(cfg, folder, mode, id, config, disclosed), reason
    except Exception as error:
        if mode == "offline":
            raise
        wandb.teardown()  # frees the id
        return _init(cfg, folder, "offline", id, config, disclosed), first_line(error)


def _init(
    cfg: ConfigDict, folder: Path, mode: str, id: str, config: Mapping[str, Any], disclosed: Mapping[str, Any]
) -> wandb.Run:
    import wandb

    undocumented = {"x_transaction_log_flush_interval": _FLUSH_SECONDS}  # may be missing in later versions of W&B
    supported = {name: value for name, value in undocumented.items() if name in wandb.Settings.model_fields}
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        id=os.environ["WANDB_RUN_ID"] if _in_sweep() else id,
        resume="allow",
        reinit="create_new",  # leaves another run of the user in this process open
        dir=folder,
        config={**config, **disclosed},
        project=cfg.project or os.environ.get("WANDB_PROJECT") or "anoframe",
        entity=cfg.entity or os.environ.get("WANDB_ENTITY"),
        name=cfg.name or os.environ.get("WANDB_NAME") or _default_name(folder),
        group=cfg.group or os.environ.get("WANDB_RUN_GROUP") or _default_group(folder),
        job_type=cfg.job_type or os.environ.get("WANDB_JOB_TYPE") or job_type(folder),
        notes=cfg.notes or os.environ.get("WANDB_NOTES") or "; ".join(disclosed.get("notes") or ()) or None,
        tags=_tags(cfg, disclosed) or None,
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=_INIT_SECONDS,
            finish_timeout=_FINISH_SECONDS,
            finish_timeout_raises=True,
            **supported,  # type: ignore[arg-type]
        ),
    )


def _in_sweep() -> bool:
    """Whether the agent of a sweep has started this process; it has chosen the id of the run."""
    return bool(os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"))


def job_type(folder: Path) -> str:
    """Return what a run does, by the folder that it writes to.

    >>> [job_type(Path("runs/patchcore_224/separate/bottle", seed)) for seed in ("0", "0-test")]
    ['train', 'test']
    """
    kinds = {"pretraining": "pretrain", "probe": "probe"}
    if folder.name.endswith("-test"):
        return "test"
    return kinds.get(folder.parts[-3], "train") if len(folder.parts) > 3 and folder.name.isdigit() else "grid"


def _default_group(folder: Path) -> str | None:
    """Return config and protocol of a run, which its seeds and categories share; None for a grid."""
    return None if job_type(folder) == "grid" else "/".join(folder.parts[-4:-2])[-128:]


def _tags(cfg: ConfigDict, disclosed: Mapping[str, Any]) -> list[str]:
    """Tags of the user, the protocol tag, and `see notes` for a run whose results need a remark."""
    own = [disclosed["protocol_tag"]] if "protocol_tag" in disclosed else []
    own += ["see notes"] if disclosed.get("notes") else []
    return list(dict.fromkeys([*cfg.tags, *own]))


def sync_command(folder: Path, *options: str) -> str:
    """Return the command that uploads everything kept in a run folder, earlier starts of a resumed run included."""
    return shlex.join(["wandb", "sync", *options, str(folder / "wandb")])


def remove_empty_files(folder: Path) -> None:
    """Remove run files without a record, left by a kill: `wandb sync` fails at such a file and sends nothing."""
    for path in folder.glob("*run-*/*.wandb"):
        if not path.parent.is_symlink() and path.stat().st_size <= _HEADER_BYTES:
            path.unlink()


def _default_name(folder: Path) -> str:
    """Return config, protocol, categories and seed: the last four parts of a run folder's path."""
    return "/".join(folder.parts[-4:])[-128:]
