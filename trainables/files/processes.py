"""Runs the same work on many inputs in processes of this machine."""

from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from typing import Any, TypeVar

from trainables.errors import TrainablesError

T = TypeVar("T")

_IDLE_S = 60.0  # after which a process ends, also where this one was killed
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


def map_in_processes(work: Callable[..., T], calls: Sequence[tuple[Any, ...]], n_processes: int) -> Iterator[T]:
    """Yields what each call returns, in their order; one process means this one, call by call.

    An error of a call is raised as it is, and ends the others.

    Raises:
        TrainablesError: If a process was killed.
    """
    if n_processes == 1:
        yield from starmap(work, calls)
        return
    # Unlike the standard library's processes, its own do not run a user's script again when they start.
    from loky import ProcessPoolExecutor
    from loky.process_executor import BrokenProcessPool

    pool = ProcessPoolExecutor(n_processes, timeout=_IDLE_S, env=_ONE_THREAD)
    try:
        yield from pool.map(work, *zip(*calls, strict=True))
    except BrokenProcessPool as error:
        raise TrainablesError(
            f"one of {n_processes} processes was killed, perhaps as memory ran out; try again"
        ) from error
    finally:
        pool.shutdown(kill_workers=True)
