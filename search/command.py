"""What all commands have in common: exit codes, and how errors are told."""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from search.errors import ConfigError, SearchError, describe_findings
from trainables.errors import Finding, InputError, TrainablesError

# Below the working directory.
DEFAULT_STORAGE = "runs"
MAX_COUNT = 1_000_000  # of trials, epochs and the like; more is a slip of the hand
DONE, FAILED, WRONG_INPUT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141


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
        except (ConfigError, InputError) as error:
            code = WRONG_INPUT
            print_findings(error.findings)
        except (SearchError, TrainablesError) as error:
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


def is_url(storage: str) -> bool:
    """Whether ``--storage`` names a file system by a URL and no folder."""
    return "://" in storage


def expand_path(text: str) -> Path:
    """Returns a path of the command line made absolute.

    Raises:
        ConfigError: If it can be no path: empty, the home of a user that is unknown, links in a circle, too long, with
            a NUL in it, or not UTF-8, which weights cannot be written to.
    """
    if not text:
        raise ConfigError([Finding('""', "a path is empty", "write it out; a variable of the shell may be unset")])
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        what = f"there is no user {expanded.partition('/')[0][1:]}"
        raise ConfigError([Finding(text, what, f"write the path out, or ./{text} for a name with a ~")])
    try:
        path = os.path.realpath(expanded)  # Path.resolve raises an error of its own on links in a circle
    except OSError as error:
        raise ConfigError([Finding(text, "the working directory is gone", "change to another one")]) from error
    except ValueError as error:
        raise ConfigError([Finding(ascii(text), f"is no path ({error})", "check the path")]) from error
    try:
        path.encode()
        os.stat(path)
    except UnicodeEncodeError as error:
        what = f"is not UTF-8: {ascii(path)}"
        raise ConfigError([Finding(ascii(text), what, "rename it, or choose another path")]) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError([Finding(f"{text[:80]}...", "is too long for a path", "check the path")]) from error
        if error.errno == errno.ELOOP:
            what = "is a link that leads back to itself, or lies below one"
            raise ConfigError([Finding(text, what, "remove the link, or choose another path")]) from error
    return Path(path)


def locate_storage(storage: str) -> Path:
    """Returns the folder of all searches: under a URL lie their checkpoints, beside which each has its own folder."""
    return expand_path(DEFAULT_STORAGE if is_url(storage) else storage)


def add_storage_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--storage``."""
    parser.add_argument(
        "--storage",
        default=DEFAULT_STORAGE,
        help="folder of all searches (default: runs), which all nodes of a cluster share; or a URL such as "
        "s3://bucket/searches for the checkpoints, all else then in runs",
    )
