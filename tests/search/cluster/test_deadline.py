"""Calls with a deadline."""

import threading

import pytest

from search.cluster.deadline import call_within


@pytest.mark.parametrize("timeout_s", [None, 10.0])
def test_a_call_in_time_returns_or_raises_its_own(timeout_s: float | None) -> None:
    def fail() -> None:
        raise KeyError("x")

    assert call_within(timeout_s, lambda: 7) == 7
    assert call_within(timeout_s, lambda: None) is None
    with pytest.raises(KeyError, match="x"):
        call_within(timeout_s, fail)


def test_a_call_that_hangs_is_given_up() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError, match="no answer"):
        call_within(0.05, lambda: release.wait(10))
    release.set()
