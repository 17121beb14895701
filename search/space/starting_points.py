"""Trials to try before any that is sampled: the ``start_from`` of a space file."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from search.space.parameter_reader import read_value, report_not_searched
from search.space.parameters import Condition, Parameter, contains, spell_bounds
from trainables.files.yaml_lines import YamlNode, describe
from trainables.recipe import Scalar

RECORDED = "recorded"


@dataclass(frozen=True)
class StartingPoint:
    """A trial to try before any that is sampled.

    Attributes:
        name: What the trial is called in tables; unique in its file.
        values: Of searched fields by their flat names, all inside the space, and each applying under the
            others; missing fields are sampled where they apply.
        note: What a reader should know of it; one line, or empty.
    """

    name: str
    values: Mapping[str, Scalar]
    note: str = ""

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return {"name": self.name, **({"note": self.note} if self.note else {}), **self.values}


class StartFrom(NamedTuple):
    """The trials to try first, and what ``recorded`` left out, by name with the reason."""

    points: tuple[StartingPoint, ...]
    left_out: tuple[tuple[str, str], ...]


def read_start_from(
    node: YamlNode,
    space: Mapping[str, Parameter],
    space_node: YamlNode | None,
    find_recorded: Callable[[], list[tuple[str, StartingPoint | str]]] | None,
) -> StartFrom:
    """Reads the starting points of a file; problems are reported.

    A file says a list of points, in which the word ``recorded`` stands for every recorded configuration inside the
    space; or that word alone. ``find_recorded`` gives each recorded experiment's point, or why it has none; it is None
    where nothing is trained, as the recorded configurations are fine-tunes.
    """
    searched = tuple(space_node.value) if space_node and isinstance(space_node.value, dict) else ()
    points: list[StartingPoint] = []
    left_out: list[tuple[str, str]] = []
    for number, item in enumerate(_list_items(node), start=1):
        new: list[StartingPoint] = []
        if item.value != RECORDED:
            new = [_read_point(item, number, space, searched)]
        elif find_recorded is None:
            what = "the recorded configurations are fine-tunes, and nothing is trained"
            item.report(what, "list points of your own, such as {name: flips, protocol.tta: flips}")
        else:
            found = find_recorded()
            new = [point for _, point in found if isinstance(point, StartingPoint)]
            left_out += [(name, reason) for name, reason in found if isinstance(reason, str)]
        _report_repeated(item, new, taken={point.name for point in points})
        points += new
    return StartFrom(tuple(points), tuple(left_out))


def _report_repeated(item: YamlNode, new: Iterable[StartingPoint], taken: Collection[str]) -> None:
    repeated = [point.name for point in new if point.name in taken]
    if repeated:
        named = item.read_mapping().get("name", item) if isinstance(item.value, dict) else item
        named.report(f"another starting point is named {repeated[0]!r}", "give each its own name")


def _list_items(node: YamlNode) -> list[YamlNode]:
    if node.value == RECORDED:
        return [node]
    if isinstance(node.value, str):
        what = f"must be a list, or the word {RECORDED}, but got {describe(node.value)}"
        node.report(what, f"write {RECORDED}, or [{{optim.lr: 1.0e-3}}]")
        return []
    return node.read_list()


def _read_point(
    item: YamlNode, number: int, space: Mapping[str, Parameter], searched: tuple[str, ...]
) -> StartingPoint:
    entries = item.read_mapping()
    name = entries.pop("name").read_text("") if "name" in entries else ""
    note = entries.pop("note").read_text("") if "note" in entries else ""
    if not entries and isinstance(item.value, dict):
        item.report("the starting point has no values", "name a parameter of the space, or leave it out")
    values = _read_values(entries, space, searched)
    for key in values:
        for condition in space[key].when:
            # A field that is fixed was compared when the condition was read.
            if condition.name in searched:
                _check_condition(key, condition, entries, values)
    return StartingPoint(name or f"start-{number}", values, note)


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
                fix = f"keep to {spell_bounds(space[key])}, widen the space, or leave the point out"
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
