"""Runs a command: prints its errors and returns its exit code."""

import atexit
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

from search.errors import describe_findings
from trainables.errors import InputError, TrainablesError
from trainables.files.progress import show_progress

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def end_process(code: int) -> NoReturn:
    """Ends the process with an exit code.

    After an upload to an object store, a thread may still wait for a server that is gone, and Python's own shutdown
    crashes (3.11: ``PyGILState_Release``, exit code 134). Then the exit handlers run, and the shutdown is skipped.
    """
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is None or asyn.iothread[0] is None:  # the thread starts with the first file system of that kind
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_command(action: Callable[[], int | None]) -> int:
    """Runs a command's action and returns its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted.

    The action may return an exit code of its own.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    code = FAILED
    try:
        code = _call(action)
        print(end="", flush=True)
    except BrokenPipeError:
        if not _is_unread(sys.stdout):
            raise
        # The reader is gone, as after `| head`. Python flushes the rest at its end, which would be an error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


@contextmanager
def explain_stop(describe: Callable[[], str]) -> Iterator[None]:
    """Lets a Ctrl-C within the block end in a line that says what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(describe()) from stop


def _call(action: Callable[[], int | None]) -> int:
    try:
        with show_progress():
            return action() or DONE
    except InputError as error:
        print(f"error: {describe_findings(error.findings, 'nothing was started')}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt as stop:
        print(": ".join(["interrupted", *map(str, stop.args)]), file=sys.stderr)
        return INTERRUPTED
    except TrainablesError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: cannot write: {error.strerror}", file=sys.stderr)
    return FAILED


def _is_unread(stream: TextIO) -> bool:
    """Whether the stream is a pipe whose reader is gone."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))
