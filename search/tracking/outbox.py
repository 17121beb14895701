"""A queue on disk for lines whose receiver may be out of reach."""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.errors import ConfigError
from search.tracking.errors import TrackingError, TrackingUnavailable
from trainables.files.whole_file import cut_torn_line, write_whole

Line = dict[str, Any]  # a record in its form on disk

RETRY_S = 10.0  # between a failed try and the next

logger = logging.getLogger(__name__)


class Outbox:
    """Writes each record to a JSONL file before it is delivered, and removes it afterwards.

    After a crash the file is delivered again from its first line: a repeated record must change nothing. A record that
    the receiver refuses for good goes to `<name>.rejected.jsonl` with the reason and holds up no other.

    One thread may post while another delivers.

    Attributes:
        writing: Held while the file changes; what a poster does inside it as well is done before ``save``.
    """

    def __init__(
        self,
        path: Path,
        deliver: Callable[[Line], None],
        clock: Callable[[], float] = time.monotonic,
        in_order: bool = True,
        save: Callable[[], None] = lambda: None,
    ) -> None:
        """Reads what an earlier process left undelivered.

        Args:
            path: The JSONL file; its folder is made if missing.
            deliver: Delivers one record; raises :class:`TrackingUnavailable` if it should be tried again, another
                :class:`TrackingError` if not.
            clock: Seconds, increasing.
            in_order: Whether no record may overtake one that could not be delivered. If it may, the next one is tried
                too, and the second failure in a row counts as an outage.
            save: Called when records have been delivered, before they leave the file.

        Raises:
            ConfigError: If there is a file that cannot be read, or a folder in its place.
        """
        self._path = path
        self._rejected_path = path.with_suffix(".rejected.jsonl")
        self._deliver = deliver
        self._clock = clock
        self._failures_of_outage = 1 if in_order else 2
        self._save = save
        self._next_try = -float("inf")
        self.writing = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            records, n_skipped = _read_records(path)
        except OSError as error:
            fix = "move it away: what waits in it is not delivered then"
            raise ConfigError.at(path, f"cannot be read: {error.strerror or error}", fix) from error
        self._pending: deque[Line] = deque(records)
        if n_skipped:
            self._rewrite_file()

    @property
    def pending(self) -> tuple[Line, ...]:
        """The records not delivered yet, oldest first."""
        return tuple(self._pending)

    def post(self, record: Line) -> None:
        """Puts a record at the end of the queue, on disk first; does not deliver.

        If the disk cannot be written, logs a warning and keeps the record in memory only.
        """
        with self.writing:
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                logger.warning("could not write %s: %s; its record is kept in memory only", self._path, error)
            self._pending.append(record)

    def flush(self, force: bool = False, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Delivers what is pending, by force even if the last failure is too recent; returns how many are left.

        Before each record it asks whether it goes on.
        """
        if not self._pending or (self._clock() < self._next_try and not force):
            return len(self._pending)
        n_done = n_failed = 0  # failures in a row
        for _ in range(len(self._pending)):
            if not goes_on():
                break
            try:
                self._deliver(self._pending[0])
            except TrackingUnavailable as error:
                self._note_outage(error)
                n_failed += 1
                if n_failed == self._failures_of_outage:
                    break
                self._pending.rotate(-1)
                continue
            except TrackingError as error:
                self._reject(self._pending[0], error)
            n_failed = 0
            n_done += 1
            self._pending.popleft()
        if not self._pending:
            self._next_try = -float("inf")
        if n_done:
            with self.writing:
                self._save()
                self._rewrite_file()
        return len(self._pending)

    def _note_outage(self, error: TrackingUnavailable) -> None:
        self._next_try = self._clock() + RETRY_S
        logger.warning("MLflow is out of reach (%s); %d records wait in %s", error, len(self._pending), self._path)

    def _reject(self, record: Line, error: TrackingError) -> None:
        logger.warning("MLflow refused a record (%s); it is kept in %s", error, self._rejected_path)
        try:
            with self._rejected_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"reason": str(error), "record": record}) + "\n")
        except OSError as disk_error:
            logger.warning("could not write %s: %s", self._rejected_path, disk_error)

    def _rewrite_file(self) -> None:
        try:
            write_whole(self._path, "".join(json.dumps(record) + "\n" for record in self._pending))
        except OSError as error:
            logger.warning("could not write %s: %s; a resume delivers records twice", self._path, error)


def _read_records(path: Path) -> tuple[list[Line], int]:
    """Returns the file's records, and how many lines are none; a last line torn by a kill is cut off."""
    if cut_torn_line(path):
        logger.warning("%s ended in the middle of a record; that record is dropped", path)
    records: list[Line] = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            logger.warning("%s:%d is not a record; skipped", path, number)
    return records, len(lines) - len(records)


def count_lines(path: Path) -> int:
    """Returns how many records of an outbox's file have not been delivered."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0
