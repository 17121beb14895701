"""The errors of the search package."""

from collections.abc import Sequence

from trainables.errors import Finding, InputError, TrainablesError, count_things


class SearchError(TrainablesError):
    """Base of the errors that this package raises on purpose: the search failed while it ran (exit code 1)."""


class ConfigError(SearchError, InputError):
    """A space file, command line or folder that cannot be used (exit code 2); carries every finding at once."""


def describe_findings(findings: Sequence[Finding], state: str = "") -> str:
    """Returns how many findings there are, what state that leaves, and of each where, what, and what to do."""
    number = count_things(len(findings), "problem")
    lines = [f"  {finding.where}\n    {finding.what}\n    -> {finding.fix}" for finding in findings]
    return "\n".join([f"{number}; {state}" if state else number, *lines])
