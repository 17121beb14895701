"""Reads the ``when`` of a space's parameters, and reports every condition that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from search.space.parameter_reader import read_value, report_not_searched
from search.space.parameters import Condition, FloatRange, Parameter, contains, spell_bounds
from trainables.files.yaml_lines import YamlNode
from trainables.recipe import Scalar

_Given = tuple[Condition, YamlNode]  # a condition with its place in the file


def read_conditions(
    node: YamlNode, space: Mapping[str, Parameter], fixed_node: YamlNode | None, fixed: Mapping[str, Scalar]
) -> dict[str, Parameter]:
    """Returns the space with the conditions of its parameters; problems are reported.

    The conditions of parameters that could not be read, and so are not in ``space``, are checked as well.
    """
    parameters = node.read_mapping() if isinstance(node.value, dict) else {}
    fixed_names = tuple(fixed_node.value) if fixed_node and isinstance(fixed_node.value, dict) else ()
    reader = _Reader(space, fixed, (*parameters, *fixed_names))
    given = {
        name: reader.read_when(name, child.read_mapping()["when"])
        for name, child in parameters.items()
        if isinstance(child.value, dict) and "when" in child.value
    }
    _report_cycles(given)
    return {
        name: replace(parameter, when=tuple(condition for condition, _ in given.get(name, ())))
        for name, parameter in space.items()
    }


@dataclass(frozen=True)
class _Reader:
    """Reads conditions beside what they may name: all that the file has, and what could be read of it."""

    space: Mapping[str, Parameter]
    fixed: Mapping[str, Scalar]
    named: tuple[str, ...]

    def read_when(self, parameter: str, node: YamlNode) -> list[_Given]:
        entries = node.read_mapping()
        if isinstance(node.value, dict) and not entries:
            node.report("the condition names no parameter", "name one, or leave when out")
        conditions = [(self._read_condition(parameter, name, child), child) for name, child in entries.items()]
        return [(condition, child) for condition, child in conditions if condition]

    def _read_condition(self, parameter: str, name: str, node: YamlNode) -> Condition | None:
        if name == parameter:
            node.report(f"{name} depends on itself", "leave the condition out, or name another parameter")
            return None
        if name not in self.named:
            report_not_searched(name, node, self.named)
            return None
        searched = self.space.get(name)
        if not searched and name not in self.fixed:
            return None  # what is wrong there has been reported
        if isinstance(searched, FloatRange):
            node.report(f"{name} is a range of real numbers", "name a choice or whole numbers, or make it a choice")
            return None
        values = self._read_values(name, searched, node)
        if values and not searched and self.fixed[name] not in values:
            place = node.cite(("fixed", name))
            what = f"{parameter} can never apply: {name} is fixed to {self.fixed[name]!r} {place}"
            node.report(what, f"leave {parameter} out, or search {name}")
            return None
        return Condition(name, values) if values else None

    def _read_values(self, name: str, searched: Parameter | None, node: YamlNode) -> tuple[Scalar, ...]:
        """Returns the values that a condition asks for, or none if any is wrong."""
        items = node.read_list() if isinstance(node.value, list) else [node]
        if not items:
            node.report("the condition has no values", f"give at least one value of {name}")
        values: list[Scalar] = []
        for item in items:
            value = read_value(name, item)
            if value is None:
                continue
            if value in values:
                item.report(f"the condition holds {value!r} more than once", "keep one of each")
            elif searched and not contains(searched, value):
                item.report(f"{name} is never {value!r}", f"the space has {spell_bounds(searched)}")
            else:
                values.append(value)
        return tuple(values) if len(values) == len(items) else ()


def _report_cycles(given: Mapping[str, list[_Given]]) -> None:
    """Reports each circle of conditions once, at its first parameter."""
    order = list(given)
    graph = {name: [condition.name for condition, _ in ones] for name, ones in given.items()}
    while cycle := _find_cycle(graph):
        start = min(range(len(cycle)), key=lambda position: order.index(cycle[position]))
        cycle = [*cycle[start:], *cycle[:start]]
        node = next(node for condition, node in given[cycle[0]] if condition.name == cycle[1])
        circle = " -> ".join([*cycle, cycle[0]])
        node.report(f"conditions form a circle: {circle}", "leave one of the conditions out")
        graph = {name: parents for name, parents in graph.items() if name not in cycle}


def _find_cycle(graph: Mapping[str, list[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        backwards: list[str] = error.args[1]  # each is named by the next; the first stands at the end again
        return backwards[:0:-1]
    return []
