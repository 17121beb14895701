"""Why a trial failed, in a line; and failures that no second try can mend, as the disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.tune import Callback
from ray.tune.error import TuneError

from search.command import is_url
from search.errors import SearchError

# A trial that lost its worker is tried again from its last checkpoint as often as this.
MAX_RETRIES = 2
# No more room, over quota, a file system that became read-only, no permission.
_STORAGE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_STORAGE_WORDS = tuple(os.strerror(number) for number in _STORAGE_ERRNOS)
# What to do about a place that cannot be written: a folder, or a URL.
MAKE_ROOM = "make room there (or change its permissions or quota)"
_LOOK = "look whether it can be reached (or change its permissions or quota)"
WORKER_DIED = "its worker died (killed, out of memory, or its node was lost)"
_DIED = ("actor died", "actor is dead", "worker died", "WorkerCrashedError", "ActorDiedError", "node has died")
_WORKER_DEATHS = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError, RayActorError)


class StorageError(SearchError):
    """The search's files cannot be written; nothing is lost, and the search goes on when they can."""


class StorageGuard(Callback):
    """Ends the search at the first checkpoint that cannot be written: all other trials would fail as well."""

    def __init__(self, folder: str, probe: Callable[[], tuple[str, str]]) -> None:
        """Takes the search's folder, and what tells which place cannot be written, and why."""
        self._folder, self._probe = folder, probe

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Looks at why the trial is tried again.

        Raises:
            StorageError: If a file could not be written.
        """
        if what := find_storage_words(read_error(trial)):
            raise StorageError(describe_storage(what, self._folder))
        # On a full disk the error's own file may be empty; an object store's errors have words of their own.
        where, what = self._probe()
        if what:
            raise StorageError(describe_storage(what, where))


def probe_storage(folder: Path) -> str:
    """Returns why a folder cannot be written, by writing 256 KiB there; empty where it can."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(bytes(2**18))
    except OSError as error:
        return find_storage_error(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""


def describe_storage(what: str, folder: str) -> str:
    """Returns what to do where files cannot be written, to a folder or below a URL."""
    return f"{folder} cannot be written: {what}; {_LOOK if is_url(folder) else MAKE_ROOM}"


def to_storage_error(error: BaseException, folder: str) -> StorageError | None:
    """Returns what to tell where a search was stopped by a disk; None where it was not.

    Args:
        error: What stopped it; Tune wraps errors of callbacks in its own.
        folder: The search's, to be named.
    """
    for each in _list_causes(error):
        if isinstance(each, StorageError):
            return each
    what = find_storage_error(error)
    return StorageError(describe_storage(what, folder)) if what else None


def find_storage_error(error: BaseException) -> str:
    """Returns what the operating system said, where an error or one of its causes is of a disk; else nothing."""
    for each in _list_causes(error):
        if isinstance(each, OSError) and each.errno in _STORAGE_ERRNOS:
            return f"{each.strerror}" + (f" ({each.filename})" if each.filename else "")
        # Of what these wrap they keep the text alone.
        if isinstance(each, (TuneError, RayError)) and (words := find_storage_words(str(each))):
            return words
    return ""


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, and what it came of."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def find_storage_words(text: str) -> str:
    """Returns what the operating system says of a disk, where an error's text has it; else nothing."""
    return next((words for words in _STORAGE_WORDS if words in text), "")


def read_error(trial: Any) -> str:
    """Returns the whole text of a trial's last error; empty where there is none."""
    try:
        # Written on the driver first, and copied beside the trial's other files later.
        local = getattr(trial, "error_file", None)
        if local and Path(local).is_file():
            return Path(local).read_text(encoding="utf-8", errors="replace")
        return str(trial.get_error() or "")
    except Exception:  # the error's file may be out of reach
        return ""


def has_lost_worker(trial: Any) -> bool:
    """Whether a trial's last error is that its worker died."""
    text = read_error(trial).rpartition("Failure # ")[2]
    return any(words in text for words in _DIED)


def is_made_anew(trial: Any) -> bool:
    """Whether a trial that Tune gave up has retries left: :class:`~search.trial_generator.TrialGenerator` goes on."""
    return bool(trial.should_recover())


def describe_failure(trial: Any) -> str:
    """Returns a line that says why a trial failed."""
    text = read_error(trial)
    if has_lost_worker(trial):
        return WORKER_DIED
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "unknown, see the trial's error.txt"


def describe_ray_error(error: RayError) -> str:
    """Returns a line that says why a call in a worker has no answer; empty where it is a bug, or of a disk."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if (type(cause).__module__, type(cause).__name__) != ("torch", "OutOfMemoryError"):
            return ""
        fix = "give trials more of a GPU (--gpus-per-trial), or end what else runs there"
        return f"the GPU's memory ran out ({_shorten(str(cause))}): {fix}"
    if find_storage_words(str(error)):
        return ""
    return WORKER_DIED if isinstance(error, _WORKER_DEATHS) else _shorten(str(error)) or type(error).__name__


def _shorten(text: str) -> str:
    """Returns a text's first line, cut where it is long."""
    return text.strip().partition("\n")[0][:200]
