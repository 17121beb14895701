"""Says how far a long loop has come, where a command shows it."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

EVERY_S = 10.0  # at most one line in so many seconds
logger = logging.getLogger("trainables.progress")


def follow(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yields the items, ``total`` in number; logs how many of them are done, and about how long the others take."""
    started = said = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if number and now - said >= EVERY_S:
            left = timedelta(seconds=round((now - started) / number * (total - number)))
            logger.info("  %d of %d %s, about %s left", number, total, what, left)
            said = now
        yield item


@contextmanager
def show_progress() -> Iterator[None]:
    """Prints these lines on the standard error stream while the block runs."""
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
