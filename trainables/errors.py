"""The errors of this package, and the one form in which every problem of the user's input is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One problem, told so that the reader can act on it.

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

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)


class DataError(InputError):
    """Images, masks, classes or splits that cannot be used."""


class CheckpointError(InputError):
    """Weights that cannot be read, or do not fit the model."""
