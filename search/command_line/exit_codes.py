"""Runs a command: prints its errors and returns its exit code."""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from search.errors import describe_findings
from trainables.errors import Finding, InputError, TrainablesError

DONE, FAILED, WRONG_INPUT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141


def end_process(code: int) -> NoReturn:
    """Ends the process with an exit code.

    Where an object store was used, an upload of Tune's may still wait, in a thread, for a server that is gone; the
    interpreter's own end crashes there (seen in Python 3.11: ``PyGILState_Release``, exit code 134). So what is
    registered for the end is done, and the process ends without it.
    """
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is None or asyn.iothread[0] is None:  # its thread lives once a file system of that kind was opened
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_command(action: Callable[[], None]) -> int:
    """Runs a command's action and returns its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted.

    What reads the output may go away, as ``head`` does: then it ends without a word, with 141 where that cut the action
    short, else with the code that it has come to.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    code = UNREAD
    try:
        try:
            action()
            code = DONE
        except InputError as error:
            code = WRONG_INPUT
            print_findings(error.findings)
        except TrainablesError as error:
            code = FAILED
            print(f"error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            code = INTERRUPTED
            print("interrupted", file=sys.stderr)
        print(end="", flush=True)
    except BrokenPipeError:
        if not (unread := list(filter(_is_unread, (sys.stdout, sys.stderr)))):
            raise
        _silence(unread)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        code = FAILED if code in (DONE, UNREAD) else code
        with suppress(OSError):
            print(f"error: cannot write: {error.strerror}", file=sys.stderr, flush=True)
        _silence([sys.stdout, sys.stderr])
    return code


def _is_unread(stream: TextIO) -> bool:
    """Whether nothing reads what is written there."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def _silence(streams: Sequence[TextIO]) -> None:
    """Lets nothing more be written there: what is left would be tried, and told with a traceback, at Python's end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints every finding: where, what, and what to do."""
    print(f"error: {describe_findings(findings, 'nothing was started')}", file=sys.stderr)
