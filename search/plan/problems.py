"""Collects what several readers find wrong, so that everything is shown at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from trainables.errors import Finding, InputError

HAS_CHANGED = "has changed since the search began: it was {} and is {}"
GIVE_DATA = "bring the data back as it was, or give its new place: --data DIR"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Problems:
    """The findings so far, which stop the search, and the warnings, which stop nothing."""

    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def collect(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Calls a reader; returns None where it raises, and keeps the error as findings."""
        try:
            return read(*args, **kwargs)
        except InputError as error:
            self.findings += error.findings
        except OSError as error:
            what, fix = error.strerror or str(error), "check the path, its permissions and the room on the disk"
            self.findings.append(Finding(str(error.filename or "reading the input"), what, fix))
        return None
