"""What all commands have in common: exit codes, and how errors are told."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from search.errors import ConfigError, SearchError
from trainables.errors import Finding, InputError, TrainablesError

# Below the working directory.
DEFAULT_STORAGE = "runs"
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def run_command(action: Callable[[], None]) -> int:
    """Runs a command's action and returns its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    try:
        action()
    except (ConfigError, InputError) as error:
        print_findings(error.findings)
        return WRONG_INPUT
    except (SearchError, TrainablesError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints every finding: where, what, and what to do."""
    plural = "s" if len(findings) > 1 else ""
    print(f"error: {len(findings)} problem{plural}; nothing was started", file=sys.stderr)
    for finding in findings:
        print(f"  {finding.where}\n    {finding.what}\n    -> {finding.fix}", file=sys.stderr)


def is_url(storage: str) -> bool:
    """Whether ``--storage`` names a file system by a URL and no folder."""
    return "://" in storage


def expand_path(text: str) -> Path:
    """Returns a path of the command line made absolute.

    Raises:
        ConfigError: If it can be no path: the home of a user that is unknown, links in a circle, too long, with
            a NUL in it, or not UTF-8, which weights cannot be written to.
    """
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
