"""Why a scheduler ended a trial, in a sentence that goes with the trial to the study and to ``result.json``."""

from typing import Any

from trainables.context import STOPPED_BY


def note_reason(trial: Any, reason: str) -> None:
    """Notes the reason on a trial of Tune: its scheduler and its searcher have nothing else in common."""
    trial.stopped_by = reason


def find_reason(trial: Any) -> dict[str, str]:
    """Returns what :func:`note_reason` noted, as part of a result; nothing where no rule ended the trial."""
    reason = getattr(trial, STOPPED_BY, "")
    return {STOPPED_BY: reason} if reason else {}


def spell_rank(rank: int) -> str:
    """Returns ``1st``, ``2nd``, ``3rd``, ``4th``, ``11th``."""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"
