"""The queue between a search and MLflow: every record waits in the search's folder until it has been delivered."""

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from search.tracking.errors import TrackingError
from search.tracking.outbox import Outbox, count_lines
from search.tracking.records import End, Metrics, Progress, Record, Reopening, read_line, to_line
from search.tracking.tracker import Tracker, now_ms
from search.tracking.trial_runs import SearchRuns, TrialRun

OUTBOX_FILE = "mlflow_outbox.jsonl"
CLOSING_FILE = "mlflow_closing.jsonl"

WAIT_S = 5.0  # of one who waits for deliveries: what is left by then waits on

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Courier:
    """One thread for all queues of the process: what a copy has begun ends before another's turn comes."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._ends_s = math.inf

    def send(self, work: Callable[[], object]) -> None:
        """Lets the thread do some work when its turn comes."""
        self._thread.submit(work)

    def wait_for(self, work: Callable[[], T]) -> T:
        """Returns what some work returns; from now on, all work before it and itself have ``WAIT_S`` left."""
        self._ends_s = time.monotonic() + WAIT_S
        future = self._thread.submit(work)
        wait([future])  # a Ctrl-C here leaves the end as it is: the thread must not keep the process from ending
        self._ends_s = math.inf
        return future.result()

    def has_time(self) -> bool:
        """Whether deliveries may go on."""
        return time.monotonic() < self._ends_s


_COURIER = _Courier()


class SearchQueue:
    """Delivers the records of a search and its trials, in order; in its ``runs`` what still waits is counted in.

    One thread, which all queues of the process share, delivers, so that no trial waits for MLflow. During an outage
    records wait on disk; a later one, the search's end, or a resume delivers them. Its copies, such as Tune's, share
    files: only one is used at a time, and :meth:`reread` takes over what another has written.
    """

    def __init__(self, tracker: Tracker, parent: str, folder: Path) -> None:
        """Reads what an earlier process left in the search's folder; ``parent`` is the search's run id."""
        self._arguments = tracker, parent, folder.absolute()
        self.reread()

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray pickles callbacks when fit() starts and hands that copy to a restore: the folder knows better.
        return SearchQueue, self._arguments

    def reread(self) -> None:
        """Reads the folder again, after the last delivery of any copy."""
        _COURIER.wait_for(self._read)

    def _read(self) -> None:
        tracker, parent, folder = self._arguments
        self.runs = SearchRuns(tracker, parent, folder)
        self._outbox = Outbox(folder / OUTBOX_FILE, self._deliver, save=self.runs.write)
        for line in self._outbox.pending:
            with contextlib.suppress(TrackingError):  # a damaged one is refused when its turn comes
                self._count_in(read_line(line)[0])

    def post(self, record: Record) -> None:
        """Puts a record on disk, behind what waits for MLflow, and returns before it is delivered.

        None that stores files: in order, a store that fails would hold up the trials.
        """
        # On disk before it counts, and it counts before it can leave: a kill at any time loses nothing.
        with self._outbox.writing:
            self._outbox.post(to_line(record, now_ms()))
            self._count_in(record)
        _COURIER.send(self._deliver_waiting)

    def flush(self) -> int:
        """Tries to deliver what waits, now, for some seconds; returns how many records still wait on disk."""
        return _COURIER.wait_for(functools.partial(self._outbox.flush, force=True, goes_on=_COURIER.has_time))

    def write_runs(self) -> None:
        """Writes to disk what is known of the runs, which follows from no record."""
        with self._outbox.writing:
            self.runs.write()

    def _deliver_waiting(self) -> None:
        try:
            self._outbox.flush(goes_on=_COURIER.has_time)
        except Exception:
            logger.exception("tracking failed; the search goes on")

    def open_closing(self, records: Sequence[Record]) -> Outbox:
        """Returns a queue of the search's last records, in place of what an earlier end left; delivers none of them.

        Not in order: a file that its store does not take must not hold up the others.
        """
        path = self._arguments[2] / CLOSING_FILE
        path.unlink(missing_ok=True)
        closing = Outbox(path, self._deliver, in_order=False)
        time_ms = now_ms()
        for record in records:
            closing.post(to_line(record, time_ms))
        return closing

    def _deliver(self, line: Mapping[str, Any]) -> None:
        record, time_ms = read_line(line)
        record.deliver(self.runs, time_ms)

    def _count_in(self, record: Record) -> None:
        """Adds to the runs what a record says of them, delivered or not."""
        trial_id: str | None = getattr(record, "trial_id", None)
        if trial_id is None:
            return
        run = self.runs.by_trial.setdefault(trial_id, TrialRun())
        if isinstance(record, Metrics):
            run.last_step = max(run.last_step, record.step)
            run.best_val_dice = record.metrics.get("best_val_dice", run.best_val_dice)
        elif isinstance(record, End | Reopening):
            run.closed = isinstance(record, End)
        elif isinstance(record, Progress):
            run.counted = True


def await_deliveries() -> None:
    """Returns when all that was posted has been tried, or some seconds have passed."""
    _COURIER.wait_for(lambda: None)


def count_waiting(folder: Path) -> int:
    """Returns how many records of a search have not been delivered."""
    return sum(count_lines(folder / name) for name in (OUTBOX_FILE, CLOSING_FILE))
