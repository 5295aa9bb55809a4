"""Several devices of this machine from one command: torchrun's own launcher, with words that a user can follow."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from anoframe.distributed.devices import choose_devices

_RESUME = "the same command with --resume goes on with what is done"


def launch(argv: Sequence[str], device: str) -> int:
    """Start one process per device, all with the same command line, and wait for them.

    Args:
        argv: the arguments of the command line.
        device: names of the devices, separated by spaces, as `--device` takes them.

    Returns:
        The exit status of the process that failed first, or 0.

    Raises:
        AnoframeError: a device does not exist on this machine.
    """
    count = len(device.split())
    choose_devices(device, count)
    _prepare_environment(count)
    return _launch(["--standalone", "--nproc-per-node", str(count), "--module", "anoframe", *argv])


def _prepare_environment(count: int) -> None:
    """What the processes inherit: where this package lies, and their share of the processor."""
    here = str(Path(__file__).resolve().parents[2])
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
