"""Values that a file has filled a data class with, held against the class's annotations."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal


def check_fields(record: object) -> None:
    """Checks every field of a data class's instance, and those of the instances in it.

    Args:
        record: Annotated with plain types, unions and literals, lists, tuples, mappings and data classes.

    Raises:
        TypeError: Naming the first field whose value does not fit.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        if not fits(getattr(record, field.name), hints[field.name]):
            raise TypeError(f"{field.name} is {describe_value(getattr(record, field.name))}")


def check_keys(values: object, hints: Mapping[str, Any], where: str = "") -> None:
    """Checks some keys of a mapping that must be there.

    Args:
        values: What must be a mapping.
        hints: What each key's value must fit, by key; other keys may hold anything.
        where: Of the mapping, for the words: ``config``.

    Raises:
        TypeError: Naming the first key that is missing or whose value does not fit.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{where or 'it'} is {describe_value(values)}")
    for key, hint in hints.items():
        name = f"{where}.{key}" if where else key
        if key not in values:
            raise TypeError(f"{name} is missing")
        if not fits(values[key], hint):
            raise TypeError(f"{name} is {describe_value(values[key])}")


def describe_value(value: object) -> str:
    """Returns a value that does not fit, short enough for a finding."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type; a whole number is a number too, and a truth value is none."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if dataclasses.is_dataclass(hint):
        return isinstance(value, typing.cast(type, hint)) and all(
            fits(getattr(value, name), each) for name, each in typing.get_type_hints(hint).items()
        )
    if isinstance(value, Mapping):
        is_mapping = isinstance({}, origin or hint)
        return is_mapping and (not inner or all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str) and origin is not None:
        return isinstance(value, origin) and all(fits(each, inner[0]) for each in value)
    if isinstance(value, bool):
        return hint is bool
    return origin is None and isinstance(value, (int, float) if hint is float else hint)
