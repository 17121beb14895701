"""Calls that are given up after a while: clients of servers try hosts that are down for minutes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_within(timeout_s: float | None, call: Callable[[], T]) -> T:
    """Returns what the call returns, if it does so in time.

    Args:
        timeout_s: Seconds; None for no deadline.
        call: Goes on behind, unheard, when it is given up.

    Raises:
        TimeoutError: If it has not answered by then; what the call raises is raised here.
    """
    if timeout_s is None:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    # A daemon: a connection that hangs must not keep the process from ending.
    thread = threading.Thread(target=target, name="deadline", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:.0f} s")
    return results[0]
