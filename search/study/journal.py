"""The study's journal file: stale locks and torn lines are removed before Optuna opens it."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileOpenLock

from search.errors import SearchError
from trainables.files.whole_file import write_whole

STALE_LOCK_S = 60.0
_FIRST_BYTES = b'{"op_code"'

_log = logging.getLogger(__name__)


def remove_stale_lock(journal: Path) -> None:
    """Removes the journal's lock if it is older than ``STALE_LOCK_S``."""
    lock = journal.with_name(f"{journal.name}.lock")
    try:
        age_s = time.time() - lock.lstat().st_mtime
        if age_s <= STALE_LOCK_S:
            return
        lock.unlink()
    except FileNotFoundError:
        return
    _log.warning("removed the lock %s, left behind %.0f s ago", lock, age_s)


def drop_torn_line(journal: Path) -> None:
    """Cuts the journal's last line off if it is no whole record.

    Raises:
        SearchError: The file is no journal, or a line before the last is damaged.
    """
    if not journal.exists():
        return
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()  # another process may be in the middle of a line
    try:
        content = journal.read_bytes()
        if not content.startswith(_FIRST_BYTES[: len(content)]):
            raise SearchError(f"{journal} is not a journal of Optuna; give another path, or move it away")
        lines = content.splitlines(keepends=True)
        bad = [number for number, line in enumerate(lines, start=1) if not _is_record(line)]
        if not bad:
            return
        if bad[0] < len(lines):
            n_after = len(lines) - bad[0]
            raise SearchError(f"{journal}:{bad[0]}: damaged line in the journal, {n_after} lines before its end")
        n_torn = len(lines[-1])
        with journal.open("r+b") as file:
            file.truncate(len(content) - n_torn)
            os.fsync(file.fileno())
    finally:
        lock.release()
    _log.warning("dropped the last line of %s (%d bytes), which was not written whole", journal, n_torn)


@contextmanager
def undo_if_torn(journal: Path) -> Iterator[None]:
    """Notes the journal's length while several lines are written that belong together: a trial drawn, or its end.

    A process that dies in between leaves the note, by which :func:`undo_torn_lines` removes the lines. The search's
    own process must be the only one that writes to the journal.
    """
    mark = _locate_mark(journal)
    write_whole(mark, str(journal.stat().st_size))
    yield
    mark.unlink()


def undo_torn_lines(journal: Path) -> None:
    """Removes the lines that were being written when the search's process died.

    Only the process that owns the search may call it: another one might cut lines off that are just being written.

    Raises:
        SearchError: The note holds no length that the journal has had, or either cannot be read or written.
    """
    mark = _locate_mark(journal)
    if not mark.exists():
        return
    try:
        length, size = _read_length(mark), journal.stat().st_size if journal.exists() else 0
        if length is None or length > size:
            raise SearchError(
                f"{mark} is damaged: it must hold a length of {journal.name}, from 0 to {size} bytes; remove it to go "
                "on with the journal as it is, whose last trial may then not be whole"
            )
        with journal.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())
        mark.unlink()
    except OSError as error:
        raise SearchError(f"what {mark} notes cannot be taken back: {error}") from error


def _read_length(mark: Path) -> int | None:
    text = mark.read_bytes().strip()
    return int(text) if re.fullmatch(rb"[0-9]{1,18}", text) else None


def _locate_mark(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.undo")


def _is_record(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
