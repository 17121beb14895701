"""Runs a call with a timeout: clients of servers try hosts that are down for minutes."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def call_within(timeout_s: float | None, call: Callable[[], T]) -> T:
    """Returns what the call returns, if it does so in time, or at any time if there is no timeout.

    After the timeout the call continues in a daemon thread; its result is dropped.

    Raises:
        TimeoutError: If it has not returned by then; what the call raises is raised here.
    """
    if timeout_s is None:
        return call()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    # A daemon: a connection that hangs must not keep the process from ending.
    threading.Thread(target=run, name="deadline", daemon=True).start()
    if not wait([future], timeout_s).done:
        raise TimeoutError(f"no answer within {timeout_s:.0f} s")
    return future.result()
