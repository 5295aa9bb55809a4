"""Several devices of this machine from one command: torchrun's own launcher, with words that a user can follow."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from anoframe.config import ConfigDict, plain
from anoframe.devices import choose_devices
from anoframe.models import build_detector
from anoframe.trainers.shared import check_several

_RESUME = "the same command with --resume goes on with what is done"


def launch(argv: Sequence[str], cfg: ConfigDict, learns: bool) -> int:
    """Start a process for each device that the config names, all with this command line, and wait for them.

    Args:
        argv: the words of the command line.
        learns: whether they will train, which not every method does on several devices.

    Returns:
        The exit status: that of the process that failed first, or 0.

    Raises:
        AnoframeError: a device is not there, or what is to be learned is learned on one alone.
    """
    count = len(cfg.device.split())
    if learns:
        check_several(build_detector(plain(cfg.model), cfg.seed), cfg.protocol.name, f"--device {cfg.device}")
    choose_devices(cfg.device, count)
    _prepare_environment(count)
    return _launch(["--standalone", "--nproc-per-node", str(count), "--module", "anoframe", *argv])


def _prepare_environment(count: int) -> None:
    """What the processes inherit: where this package lies, and their share of the processor."""
    here = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))


def _launch(words: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    try:
        run(get_args_parser().parse_args(list(words)))
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"error: process {rank} was ended by {name}: {_RESUME}", file=sys.stderr)
            return 2
        return int(failure.exitcode)
    except SignalException as stopped:  # the processes had the signal too
        return 128 + int(stopped.sigval)
    return 0
