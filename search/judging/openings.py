"""Counts evaluations on the test set of a search. From the second on, every artifact is flagged."""

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from search.errors import ConfigError
from search.run_folder.json_files import read_record, write_record
from search.run_folder.layout import OPENINGS_FILE

_FIX = "bring it back from a copy: without it nobody knows how often the test set was opened"


@dataclass(frozen=True)
class Opening:
    """One evaluation on the test set: when (ISO 8601 in UTC), what (trial, seed, scale), and the protocol."""

    time: str
    candidate: str
    protocol_id: str


def read_openings(folder: Path) -> list[Opening]:
    """Returns the openings of a search's test set, the first one first.

    Raises:
        ConfigError: If the file is damaged or lists none: the next opening would count as the first.
    """
    path = folder / OPENINGS_FILE
    if not path.exists():
        return []
    openings = read_record(path, list[Opening], _FIX)
    if not openings:
        raise ConfigError.at(path, "cannot be read: it lists no opening", _FIX)
    return openings


def add_opening(folder: Path, candidate: str, protocol_id: str) -> int:
    """Records an opening before the test set is scored, and returns its number, counted from 1."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    openings = [*read_openings(folder), Opening(now, candidate, protocol_id)]
    write_record(folder / OPENINGS_FILE, openings)
    return len(openings)


def find_opening(folder: Path, candidate: str, protocol_id: str) -> int:
    """Returns the number of the last opening if it was for this candidate, else 0."""
    openings = read_openings(folder)
    is_same = bool(openings) and (openings[-1].candidate, openings[-1].protocol_id) == (candidate, protocol_id)
    return len(openings) if is_same else 0


def locate_test_scores(folder: Path, opening: int) -> Path:
    """Returns the file with the scores of an opening, which is counted from 1."""
    return folder / ("scores_test.csv" if opening == 1 else f"scores_test_{opening}.csv")


def make_opening_tags(number: int) -> dict[str, str]:
    """Returns MLflow's tags of a search by the number of its test openings."""
    text = describe_openings(number)
    return {"test_openings": str(number), **({"caveat_test": text} if text else {})}


def describe_openings(number: int) -> str:
    """Returns the caveat of a test set that was opened more than once; else an empty text."""
    if number < 2:
        return ""
    return (
        f"the test set was opened {number} times for this search: from the second time on its figures "
        "no longer are those of regions that nobody has looked at"
    )
