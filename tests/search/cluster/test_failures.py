"""Failures of trials and of calls in a line, and the failures that end a search."""

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectStoreFullError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from search.cluster.checkpoint_storage import CheckpointStorage
from search.cluster.disk import StorageError
from search.cluster.failures import StorageGuard, describe_failure, describe_ray_error, retry_after_memory_kills


def make_trial(error: str) -> Any:
    return SimpleNamespace(trial_id="a", get_error=lambda: error)


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        ("", "unknown, see"),
        ("Traceback\n  File\nValueError: too small\n", "ValueError: too small"),
        ("The actor died unexpectedly before finishing this task.\n\tclass_name: X", "its worker died"),
        (
            "The actor died because of an error raised in its creation task, a\nImportError: no peft",
            "ImportError: no peft",
        ),
    ],
)
def test_a_failure_is_one_line(error: str, beginning: str) -> None:
    line = describe_failure(make_trial(error))
    assert line.startswith(beginning) and "\n" not in line


def test_a_worker_that_the_memory_monitor_ended_is_a_dead_one_for_tune() -> None:
    seen: list[Exception] = []
    resources: Any = SimpleNamespace(free_resources=lambda **_: None)
    manager = RayActorManager(resources)
    actor = TrackedActor(1, on_error=lambda _, error: seen.append(error))
    manager._live_actors_to_ray_actors_resources[actor] = (SimpleNamespace(_actor_id="a"), resources)
    task = TrackedActorTask(actor, on_error=lambda _, error: seen.append(error))
    retry_after_memory_kills()
    retry_after_memory_kills()
    manager._actor_task_failed(tracked_actor_task=task, exception=OutOfMemoryError("the node runs low on memory"))
    assert [type(error) for error in seen] == [ActorDiedError, ActorDiedError]
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(tracked_actor_task=task, exception=ValueError("a bug"))


def wrap(error: Exception) -> RayTaskError:
    return RayTaskError("score", "Traceback ...", error, "ray::score", 1, "127.0.0.1")


@pytest.mark.parametrize(
    ("error", "beginning"),
    [
        (WorkerCrashedError(), "its worker died"),
        (ActorDiedError(), "its worker died"),
        (OutOfMemoryError("Task was killed, the node runs low on memory.\nMemory ..."), "its worker died"),
        (NodeDiedError("the node is dead"), "its worker died"),
        (ObjectStoreFullError("the store is full\nand more"), "the store is full"),
        (wrap(torch.OutOfMemoryError("CUDA out of memory.\nGPU 0")), "the GPU's memory ran out (CUDA out of memory.):"),
    ],
)
def test_a_call_without_an_answer_is_described_in_a_line(error: RayError, beginning: str) -> None:
    line = describe_ray_error(error)
    assert line.startswith(beginning) and "\n" not in line


@pytest.mark.parametrize("error", [wrap(KeyError("a bug")), wrap(MemoryError()), RayError("No space left on device")])
def test_bugs_and_disks_keep_their_errors(error: RayError) -> None:
    assert describe_ray_error(error) == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_ends_the_search_and_other_failures_do_not(number: int, tmp_path: Path) -> None:
    guard = StorageGuard(str(tmp_path), CheckpointStorage(tmp_path).probe)
    guard.on_trial_recover(1, [], make_trial("ValueError: too small"))
    assert not list(tmp_path.iterdir())
    said = f"OSError: [Errno {number}] {os.strerror(number)}: "
    with pytest.raises(StorageError, match=f"^{tmp_path} cannot be written: {re.escape(said)}"):
        guard.on_trial_recover(1, [], make_trial(f"Traceback\n{said}'{tmp_path}/x'"))
    with pytest.raises(StorageError, match=f"^{re.escape(said)}'/elsewhere/x'; make room there"):
        guard.on_trial_recover(1, [], make_trial(f"Traceback\n{said}'/elsewhere/x'"))


def test_a_place_that_does_not_answer_ends_the_search() -> None:
    guard = StorageGuard("/runs/a", lambda: ("s3://bucket/a", "no answer within 30 s"))
    with pytest.raises(StorageError, match="^s3://bucket/a cannot be written: no answer within 30 s"):
        guard.on_trial_recover(1, [], make_trial("OSError: [Errno 5] any"))
