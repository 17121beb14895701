"""A queue on disk for records whose receiver may be out of reach: in order, nothing lost, nothing skipped."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.tracking_errors import TrackingError, TrackingUnavailable

Record = dict[str, Any]

# After a failed try the receiver is left alone for 10 s, or for ten times as long as the try took: a server
# that lets every call run into its timeout costs the search a tenth of its time at the most.
RETRY_S = 10.0
RETRY_PER_SECOND_LOST = 10.0

logger = logging.getLogger(__name__)


class Outbox:
    """Writes each record to a JSONL file before it is delivered, and empties the file when all are.

    `deliver` has to bear a repetition of a record: after a crash between a delivery and the emptying of the
    file, the file is delivered again from its first line.

    A record that the receiver refuses for good goes to `<name>.rejected.jsonl` with the reason, so that it
    does not hold up the ones behind it.
    """

    def __init__(
        self, path: Path, deliver: Callable[[Record], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads what an earlier process left undelivered.

        Args:
            path: The JSONL file; its folder is made if missing.
            deliver: Delivers one record; raises :class:`TrackingUnavailable` when it should be tried again
                and :class:`TrackingError` when that would be useless.
            clock: Seconds, increasing.
        """
        self._path = path
        self._rejected_path = path.with_suffix(".rejected.jsonl")
        self._deliver = deliver
        self._clock = clock
        self._next_try = -float("inf")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pending: deque[Record] = deque(_read_records(path))
        self.n_rejected = 0

    @property
    def pending(self) -> tuple[Record, ...]:
        """The records not delivered yet, oldest first."""
        return tuple(self._pending)

    def post(self, record: Record) -> None:
        """Puts a record at the end of the queue, on disk first; does not deliver.

        A disk that cannot be written leaves the record in memory and is told in the log.
        """
        self._pending.append(record)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            logger.warning("could not write %s: %s; its record is kept in memory only", self._path, error)

    def flush(self, force: bool = False) -> int:
        """Delivers what is pending, in order, and returns how many records are left.

        Args:
            force: Try even if the last failure is too recent.
        """
        if not self._pending or (self._clock() < self._next_try and not force):
            return len(self._pending)
        while self._pending:
            began = self._clock()
            try:
                self._deliver(self._pending[0])
            except TrackingUnavailable as error:
                wait_s = max(RETRY_S, RETRY_PER_SECOND_LOST * (self._clock() - began))
                self._next_try = self._clock() + wait_s
                logger.warning(
                    "MLflow is out of reach (%s); %d records wait in %s, next try in %.0f s",
                    error,
                    len(self._pending),
                    self._path,
                    wait_s,
                )
                return len(self._pending)
            except TrackingError as error:
                self._reject(self._pending[0], error)
            self._pending.popleft()
        self._next_try = -float("inf")
        self._empty_file()
        return 0

    def _reject(self, record: Record, error: TrackingError) -> None:
        self.n_rejected += 1
        logger.warning("MLflow refused a record (%s); it is kept in %s", error, self._rejected_path)
        try:
            with self._rejected_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"reason": str(error), "record": record}) + "\n")
        except OSError as disk_error:
            logger.warning("could not write %s: %s", self._rejected_path, disk_error)

    def _empty_file(self) -> None:
        try:
            self._path.write_bytes(b"")
        except OSError as error:
            logger.warning("could not empty %s: %s", self._path, error)


def _read_records(path: Path) -> list[Record]:
    """Returns the file's records; a last line torn by a kill is cut off, lest the next one join it."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole, newline, torn = content.rpartition(b"\n")
    if torn:
        logger.warning("%s ended in the middle of a record; that record is dropped", path)
        path.write_bytes(whole + newline)
    records: list[Record] = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            logger.warning("%s:%d is not a record; skipped", path, number)
    return records
