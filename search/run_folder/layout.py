"""The folder of a search: how it is found, locked by one process, and cleared of an earlier result."""

import fcntl
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.command_line.paths import expand_path
from search.errors import ConfigError

RECORD_FILE = "search.json"
LAST = "last"
TRIALS_FOLDER = "trials"
LOCK_FILE = ".running"
HELD_FILE = ".running.held"  # in its place where the file system has no locks
# What the end of a search stores:
SUMMARY_FILE = "summary.json"
CHOSEN_FILE = "chosen.json"
CONFIRMATION_FILE = "confirmation.json"
OPENINGS_FILE = "test_openings.json"
PARETO_FILE = "pareto.json"
REPORT_FILE = "report.html"
PROTOCOLS_FILE = "protocols.json"
NAMING_FOLDER = "naming"
SOUPS_FOLDER = "soups"


def list_results(folder: Path) -> list[Path]:
    """Returns the files of a search's results, for MLflow: tables of scores, and the records that are there."""
    names = (SUMMARY_FILE, CHOSEN_FILE, CONFIRMATION_FILE, OPENINGS_FILE, PARETO_FILE, REPORT_FILE)
    return [*sorted(folder.glob("*.csv")), *(folder / name for name in names if (folder / name).is_file())]


def put_aside(path: Path) -> None:
    """Renames a file or folder, where there is one, to the first free of ``summary-1.json``, ``export-1`` and so on."""
    if not path.exists():
        return
    number = 1
    while (aside := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    path.rename(aside)


def find_run(storage: Path, run: str, option: str = "--run") -> Path:
    """Returns the folder of a search, given its path, its name below the storage, or ``last``: begun or resumed last.

    Raises:
        ConfigError: If there is none, with the names that there are.
    """
    if run == LAST:
        records = sorted(storage.glob(f"*/{RECORD_FILE}"), key=lambda path: path.stat().st_mtime)
        if not records:
            raise ConfigError.at(f"{option} {LAST}", f"{storage} holds no searches", "give --storage, or a folder")
        return records[-1].parent
    for candidate in (expand_path(run), storage / run):
        try:
            if (candidate / RECORD_FILE).is_file():
                return candidate.resolve()
        except OSError as error:
            what = f"{candidate} cannot be read: {error.strerror or error}"
            raise ConfigError.at(f"{option} {run}", what, "ask its owner for the right to read it") from error
    known = sorted(path.parent.name for path in storage.glob(f"*/{RECORD_FILE}"))
    hint = f"known are: {', '.join(known)}" if known else f"{storage} holds no searches"
    raise ConfigError.at(f"{option} {run}", "no such search", hint)


def describe_resume(folder: Path) -> str:
    """Returns the command that goes on with a search."""
    return shlex.join(["python", "-m", "search.run", "--resume", str(folder)])


@contextmanager
def hold_search(folder: Path) -> Iterator[None]:
    """Holds a search's folder; the system gives it back when the process ends, however it ends.

    Where the file system has no locks, a file holds the folder, which a killed process leaves behind.

    Raises:
        ConfigError: If another process runs the search, or the file that says so cannot be opened.
    """
    path = folder / LOCK_FILE
    try:
        opened = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        what, fix = f"cannot be opened: {error.strerror or error}", "remove it: it must be a file that you may write"
        raise ConfigError.at(path, what, fix) from error
    me = f"process {os.getpid()} on {os.uname().nodename}"
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _describe_owner(folder, file.read()) from error
        except OSError:
            with _hold_by_file(folder, me):
                yield
            return
        file.truncate(0)
        file.write(me)
        file.flush()
        yield


@contextmanager
def _hold_by_file(folder: Path, me: str) -> Iterator[None]:
    path = folder / HELD_FILE
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(me)
    except FileExistsError as error:
        owner = path.read_text(encoding="utf-8", errors="replace")
        if not _has_ended(owner):
            raise _describe_owner(folder, owner, f"; if that process has ended, remove {path}") from error
        path.write_text(me, encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _describe_owner(folder: Path, owner: str, more: str = "") -> ConfigError:
    what = f"the search is being run by {owner.strip() or 'another process'}"
    return ConfigError.at(folder, what, f"wait for its end, or stop it with Ctrl-C{more}")


def _has_ended(owner: str) -> bool:
    """Whether an owner was a process of this machine that is no more."""
    found = re.fullmatch(rf"process (\d+) on {re.escape(os.uname().nodename)}", owner)
    if not found:
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return False
