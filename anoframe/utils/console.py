"""The frame of every command line: errors as one line, exit status, and a console that cannot end the work."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from anoframe.distributed import process_group as distributed
from anoframe.errors import AnoframeError, OutputError
from anoframe.utils.files import is_interruption, way_out
from anoframe.utils.imports import keep_imported_objects
from anoframe.utils.threads import wait_without_spinning

_CLOSED = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader has ended or the terminal is gone: nobody is there to tell


def run_command(command: Callable[[], int], resume: str) -> int:
    """Run a command line.

    Args:
        command: does the work and returns the exit status.
        resume: how to continue after Ctrl-C or a full disk, for the message.

    Returns:
        The status of the command; 2 for an error that the user can correct; 130 after Ctrl-C.
    """
    wait_without_spinning()
    keep_imported_objects()  # from here on, `quick_imports` does so for what it imports
    with tolerant_console(), ExitStack() as stack:
        stack.callback(keep_imported_objects)  # the process ends: no need to examine all objects first
        try:
            return command()
        except OutputError as error:
            return _report_error(f"error: {error}{f' ({resume})' * is_interruption(error)}", 2)
        except AnoframeError as error:
            return _report_error(f"error: {error}", 2)
        except OSError as error:  # not turned into an AnoframeError elsewhere: a name too long, a failing disk
            return _report_error(f"error: {error}. {way_out(error)}{f' ({resume})' * is_interruption(error)}", 2)
        except KeyboardInterrupt:
            return _report_error(f"interrupted: {resume}", 130)
        except Exception as error:
            if distributed.is_lost_peer(error):
                return _report_error(f"error: another process of this run has ended: {resume}", 2)
            if not distributed.is_joined():
                raise
            return _report_error(traceback.format_exc().rstrip(), 1)


def _report_error(text: str, status: int) -> int:
    """Print an error, in one of several processes; return the status, or end the process if it is one of several."""
    if distributed.should_report_error():
        print(text, file=sys.stderr)
    distributed.exit_immediately(status)
    return status


@contextmanager
def tolerant_console() -> Iterator[None]:
    """Make printing safe in a block: letters that the console does not know are escaped, a closed pipe is ignored.

    >>> with tolerant_console():
    ...     print("text")
    text
    """
    with ExitStack() as stack:
        if sys.stdout is None or sys.stderr is None:  # closed by the caller: `>&-`
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        output, errors = (_TolerantStream(stream or nowhere) for stream in (sys.stdout, sys.stderr))
        stack.callback(errors.flush)
        stack.callback(output.flush)  # here, because a failure at the exit of Python changes the status
        stack.enter_context(redirect_stdout(cast(TextIO, output)))
        stack.enter_context(redirect_stderr(cast(TextIO, errors)))
        yield


class _TolerantStream:
    """Wrap a text stream so that writing raises nothing; after a failure its text is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            with self._dropped_on_failure():
                self._stream.write(escape_unknown(text, self._stream))
        except (OSError, ValueError) as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        with self._dropped_on_failure():
            self._stream.flush()

    @contextmanager
    def _dropped_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Send what is left in the buffer, and all that follows, to nowhere."""
        with suppress(OSError, ValueError):
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        if isinstance(error, OSError) and error.errno not in _CLOSED and self._stream is not sys.__stderr__:
            print(f"warning: the output of this command is incomplete: {error.strerror}", file=sys.stderr)


def escape_unknown(text: str, stream: TextIO) -> str:
    """Replace letters that the encoding of a stream does not have by escapes.

    >>> import io
    >>> escape_unknown("切れ 5 µm", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    '\\\\u5207\\\\u308c 5 µm'
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
