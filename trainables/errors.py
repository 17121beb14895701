"""The errors of this package, and the one form in which every problem with the user's input is reported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

_Error = TypeVar("_Error", bound="InputError")


@dataclass(frozen=True)
class Finding:
    """One problem, described so that the reader can act on it.

    Attributes:
        where: The file, and line or key where there is one: ``lora.yaml:12 space.adapter.rnak``.
        what: What is wrong there, with the value found and the rule it breaks.
        fix: What to do about it.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} -> {self.fix}"


class TrainablesError(Exception):
    """Base of all errors that this package raises on purpose."""


class InputError(TrainablesError):
    """Something that the user gave cannot be used; carries every finding, not just the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        assert findings, "an InputError needs at least one finding"
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))

    @classmethod
    def at(cls: type[_Error], where: object, what: str, fix: str) -> _Error:
        """Returns an error of one finding; ``where`` may be a path."""
        return cls([Finding(str(where), what, fix)])

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)


class DataError(InputError):
    """Images, masks, classes or splits that cannot be used."""


class CheckpointError(InputError):
    """Weights that cannot be read, or do not fit the model."""


@contextmanager
def collect_findings(findings: list[Finding]) -> Iterator[None]:
    """Appends the findings of an InputError raised in the block; the code after the block runs all the same."""
    try:
        yield
    except InputError as error:
        findings += error.findings


def suggest_name(given: str, known: Iterable[str]) -> str:
    """Returns what to do about an unknown name: the nearest known one, or which there are, up to 100."""
    known = tuple(known)
    if nearest := find_nearest(given, known):
        return f"did you mean {nearest!r}?"
    return f"known are: {', '.join(known)}" if len(known) <= 100 else "correct or remove it"


def find_nearest(given: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Returns the known name that is nearest in any case, or None if all are less alike than ``cutoff`` in [0, 1]."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(given.casefold(), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def list_some(names: Sequence[object], at_most: int = 4) -> str:
    """Returns the first few of a list for a finding, and how many more there are: ``a, b, c, d, and 3 more``."""
    more = [f"and {len(names) - at_most} more"] if len(names) > at_most else []
    return ", ".join([*map(str, names[:at_most]), *more])


def shorten(text: str, at_most: int = 60) -> str:
    """Returns a text, cut and with three dots at its end where it has more letters."""
    return text if len(text) <= at_most else f"{text[: at_most - 3]}..."


def count_things(number: int, noun: str) -> str:
    """Returns ``1 region``, ``2 regions``."""
    return f"{number} {noun}{'s' * (number != 1)}"
