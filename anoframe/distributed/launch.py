"""Start one process per device of this machine, with the launcher of torchrun."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from anoframe.distributed.devices import choose_devices

_RESUME = "the same command with --resume continues this run"


def launch(argv: Sequence[str], device: str, module: str = "anoframe") -> int:
    """Start one process per device, all with the same command line, and wait for them.

    Args:
        argv: arguments of the command line.
        device: names of the devices, separated by spaces, as `--device` takes them.
        module: that each process runs.

    Returns:
        The exit status of the process that failed first, or 0.

    Raises:
        AnoframeError: a device does not exist on this machine.
    """
    count = len(device.split())
    choose_devices(device, count)
    _prepare_environment(count)
    return _run_torchrun(["--standalone", "--nproc-per-node", str(count), "--module", module, *argv])


def _prepare_environment(count: int) -> None:
    """Set what the processes inherit: the path of this package, and an equal share of the CPU cores."""
    checkout = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))


def _run_torchrun(words: Sequence[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes print their own errors
    try:
        run(get_args_parser().parse_args(list(words)))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"error: process {rank} was ended by {name}: {_RESUME}", file=sys.stderr)
            return 2
        return int(failure.exitcode)
    except SignalException as error:  # the processes received the signal as well
        return 128 + int(error.sigval)
    return 0
