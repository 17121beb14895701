"""Every field that a space file may name: of the recipe, and of the protocol where nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from trainables.errors import Finding
from trainables.protocol_fields import PROTOCOL_RULES
from trainables.recipe import FieldRule, check_value, list_rules


@cache
def list_fields() -> Mapping[str, FieldRule]:
    """Returns the rule of every field by its flat name."""
    return {**list_rules(), **PROTOCOL_RULES}


def check_field(name: str, value: object) -> Finding | None:
    """Returns what is wrong with one value of a field, or None."""
    if name not in PROTOCOL_RULES:
        return check_value(name, value)
    fault = PROTOCOL_RULES[name].find_fault(value)
    return Finding(name, f"{name} {fault}", PROTOCOL_RULES[name].help) if fault else None
