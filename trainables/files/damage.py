"""Files that a kill, a power cut or an editor has damaged are told by their name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainables.errors import Finding, InputError

# What reading a file's content and building something of it raises, whatever the file holds.
CONTENT_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@contextmanager
def tell_damage(
    path: Path, fix: str, error_type: Callable[[list[Finding]], Exception] = InputError
) -> Iterator[None]:
    """Tells whatever goes wrong within as a finding about a file.

    Args:
        path: The file that is read within, and nothing else.
        fix: What to do about it.
        error_type: What to raise, of a list of findings.

    Raises:
        InputError: If anything of :data:`CONTENT_ERRORS` is raised within; errors of our own pass as they are.
    """
    try:
        yield
    except CONTENT_ERRORS as error:
        words = " ".join(str(error).split())[:200]
        what = f"cannot be read: {type(error).__name__}" + (f": {words}" if words else "")
        raise error_type([Finding(str(path), what, fix)]) from error
