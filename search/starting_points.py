"""Trials to try before any that is sampled: the ``start_from`` of a space file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search.conditions import Condition
from search.space import Parameter, contains, read_value, report_not_searched, spell_bounds
from search.yaml_lines import YamlNode
from trainables.recipe import Scalar


@dataclass(frozen=True)
class StartingPoint:
    """A trial to try before any that is sampled.

    Attributes:
        name: What the trial is called in tables; unique in its file.
        values: Of searched fields by their flat names, all inside the space, and each applying under the
            others; missing fields are sampled where they apply.
    """

    name: str
    values: Mapping[str, Scalar]


def read_start_from(
    node: YamlNode, space: Mapping[str, Parameter], space_node: YamlNode | None
) -> tuple[StartingPoint, ...]:
    """Reads the starting points of a file; problems are reported.

    Args:
        node: The ``start_from`` of the file.
        space: What could be read of the file's space, with its conditions.
        space_node: The ``space`` of the file, if it has one.
    """
    searched = tuple(space_node.value) if space_node and isinstance(space_node.value, dict) else ()
    points: list[StartingPoint] = []
    for number, item in enumerate(node.read_list(), start=1):
        entries = item.read_mapping()
        name_node = entries.pop("name", None)
        name = name_node.read_text(f"start-{number}") if name_node else f"start-{number}"
        if any(name == point.name for point in points):
            (name_node or item).report(f"another starting point is named {name!r}", "give each its own name")
        if not entries and isinstance(item.value, dict):
            item.report("the starting point has no values", "name a parameter of the space, or leave it out")
        values = _read_values(entries, space, searched)
        for key in values:
            for condition in space[key].when:
                # A field that is fixed was compared when the condition was read.
                if condition.name in searched:
                    _check_condition(key, condition, entries, values)
        points.append(StartingPoint(name, values))
    return tuple(points)


def _read_values(
    entries: Mapping[str, YamlNode], space: Mapping[str, Parameter], searched: tuple[str, ...]
) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for key, child in entries.items():
        if key not in searched:
            report_not_searched(key, child, searched)
        # A parameter that is wrong itself has been reported.
        elif key in space and (value := read_value(key, child)) is not None:
            values[key] = value
            if not contains(space[key], value):
                fix = f"keep to {spell_bounds(space[key])}, or widen the space"
                child.report(f"{value!r} lies outside the space", fix)
    return values


def _check_condition(
    name: str, condition: Condition, entries: Mapping[str, YamlNode], values: Mapping[str, Scalar]
) -> None:
    what = f"{name} applies only with {condition.spell()}"
    if condition.name not in entries:
        fix = f"add {condition.name}, or leave {name} out"
        entries[name].report(f"{what}, which the point does not say", fix)
    elif condition.name in values and not condition.holds(values):
        has = Condition(condition.name, (values[condition.name],)).spell()
        entries[name].report(f"{what}, but the point has {has}", f"leave {name} out, or change {condition.name}")
