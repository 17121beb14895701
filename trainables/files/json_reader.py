"""JSON files read into typed values, every value checked against its annotation."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from trainables.errors import Finding, InputError, shorten

T = TypeVar("T")

_make_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # making one takes milliseconds

_MOST_FAULTS = 5  # of one file that a screen lists
_WORDS = {"missing": "is missing", "unexpected_keyword_argument": "is an unknown key"}


def read_json(
    path: Path,
    kind: type[T],
    fix: str,
    error_type: Callable[[list[Finding]], Exception] = InputError,
    unknown: Literal["forbid", "ignore"] = "forbid",
) -> T:
    """Returns what a JSON file holds as a value of one type.

    Args:
        path: The file.
        kind: A data class, or lists, tuples and mappings of data classes and plain types. A key may be missing if
            its field has a default; a whole number is a float too, and nothing else is converted.
        fix: What a user can do about a damaged file.
        error_type: Makes the error that is raised, from a list of findings.
        unknown: Whether a key that is no field of its data class is a fault or is left out.

    Raises:
        InputError: If the file cannot be read, is not JSON, or holds something else; one finding names every fault
            (at most 5) with its path: ``config.num_trials must be a valid integer, but got 'x'``.
    """
    try:
        found: T = _make_adapter(kind).validate_json(path.read_bytes(), strict=True, extra=unknown)
    except ValidationError as error:
        faults = list_faults(error)
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        what = "; ".join([*faults[:_MOST_FAULTS], *more])
        raise error_type([Finding(str(path), f"cannot be read: {what}", fix)]) from error
    except OSError as error:
        raise error_type([Finding(str(path), f"cannot be read: {error.strerror or error}", fix)]) from error
    return found


def build_record(values: object, kind: type[T], unknown: Literal["forbid", "ignore"] = "forbid") -> T:
    """Returns plain values (as :func:`json.loads` gives them, or with tuples) as a value of one type.

    Raises:
        ValidationError: If they do not fit; it is a ValueError, whose faults :func:`list_faults` spells.
    """
    record: T = _make_adapter(kind).validate_json(json.dumps(values), strict=True, extra=unknown)
    return record


def holds(kind: type[T]) -> AfterValidator:
    """Returns the annotation of a mapping that must hold a data class's fields, and may hold more."""

    def check(values: dict[str, Any]) -> dict[str, Any]:
        build_record(values, kind, "ignore")
        return values

    return AfterValidator(check)


def list_faults(error: ValidationError) -> list[str]:
    """Returns every fault with its path: ``rows.0.dice is missing``."""
    return [_spell_fault(fault) for fault in error.errors(include_url=False)]


def _spell_fault(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    words = _WORDS.get(fault["type"]) or fault["msg"].replace("Input should", "must").removeprefix("Value error, ")
    if fault["type"] not in (*_WORDS, "json_invalid", "value_error"):
        words += f", but got {shorten(repr(fault['input']), 40)}"
    return f"{where} {words}".strip()
