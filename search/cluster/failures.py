"""Describes in a line why a trial failed, and ends the search where no retry can help, as on a full disk."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.exceptions import (
    ActorDiedError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.tune import Callback

from search.cluster.disk import StorageError, describe_fault, find_storage_words

# A trial that lost its worker is retried from its last checkpoint as often as this.
MAX_RETRIES = 2
WORKER_DIED = "its worker died (killed, out of memory, or its node was lost)"
_DIED = ("actor died", "actor is dead", "worker died", "WorkerCrashedError", "ActorDiedError", "node has died")
_FAILED_TO_START = "error raised in its creation task"  # Ray's words where a node lacks a package, and the like
_WORKER_DEATHS = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError, RayActorError)


def retry_after_memory_kills() -> None:
    """Has Tune retry a trial whose worker Ray's memory monitor ended, as it does after any other death of a worker.

    As Ray 2.60 has it, Tune knows a worker's death by :class:`~ray.exceptions.RayActorError` alone, and any other
    error of a running step ends the whole search.
    """
    try:
        from ray.air.execution._internal.actor_manager import RayActorManager

        fail = RayActorManager._actor_task_failed
    except (ImportError, AttributeError):  # another version's: a rare retry is not worth the search
        return
    if hasattr(fail, "__wrapped__"):
        return

    @functools.wraps(fail)
    def fail_as_dead(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        fail(self, tracked_actor_task, ActorDiedError() if isinstance(exception, OutOfMemoryError) else exception)

    RayActorManager._actor_task_failed = fail_as_dead  # type: ignore[method-assign]


class StorageGuard(Callback):
    """Ends the search at the first error of a disk: all other trials would fail as well."""

    def __init__(self, folder: str, probe: Callable[[], tuple[str, str]]) -> None:
        """Takes the search's folder, and a function that returns which place cannot be written, and why."""
        self._folder, self._probe = folder, probe

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Checks why the trial is retried.

        Raises:
            StorageError: If a file could not be written, or another place has a disk's error.
        """
        # On a full disk the error's own file may be empty; an object store's errors have words of their own.
        where, what = self._probe()
        if fault := describe_fault(find_storage_words(read_error(trial)), where or self._folder, what):
            raise StorageError(fault)


def read_error(trial: Any) -> str:
    """Returns the whole text of a trial's last error; empty where there is none."""
    try:
        # The driver writes it first, and copies it to the trial's other files later.
        local = getattr(trial, "error_file", None)
        if local and Path(local).is_file():
            return Path(local).read_text(encoding="utf-8", errors="replace")
        return str(trial.get_error() or "")
    except Exception:  # the error's file may be out of reach
        return ""


def is_made_anew(trial: Any) -> bool:
    """Whether a trial that Tune gave up has retries left, which search/tuning/trial_generator.py uses."""
    return bool(trial.should_recover())


def describe_failure(trial: Any) -> str:
    """Returns a line that says why a trial failed."""
    text = read_error(trial)
    last = text.rpartition("Failure # ")[2]
    if _FAILED_TO_START not in last and any(words in last for words in _DIED):
        return WORKER_DIED
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "unknown, see the trial's error.txt"


def describe_ray_error(error: RayError) -> str:
    """Returns a line that says why a call in a worker has no answer; empty for a bug or a disk's error."""
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
