"""What a search may vary: choices, ranges, and the conditions under which a parameter applies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter

from trainables.recipe import Scalar


def spell_value(value: object, form: str = "") -> str:
    """Returns a parameter's value as a space file says it; a real number in a format such as ``.3g``."""
    if isinstance(value, float):
        return format(value, form)
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Condition:
    """That another field of the recipe has one of some values: at least one, all different."""

    name: str
    values: tuple[Scalar, ...]

    def holds(self, drawn: Mapping[str, object]) -> bool:
        """Returns whether the field is among the drawn ones, with one of the values.

        A field that does not apply itself has not been drawn, so nothing that depends on it applies.
        """
        return self.name in drawn and drawn[self.name] in self.values

    def spell(self) -> str:
        """Returns the condition as a space file would say it: ``augment.kind: [color, all]``."""
        words = ", ".join(map(spell_value, self.values))
        return f"{self.name}: {words if len(self.values) == 1 else f'[{words}]'}"


Conditions = tuple[Condition, ...]


def spell_when(when: Conditions) -> dict[str, object]:
    """Returns what a space file would say under a parameter: ``{"when": {...}}``, or nothing without conditions."""
    values = {one.name: one.values[0] if len(one.values) == 1 else list(one.values) for one in when}
    return {"when": values} if values else {}


def applies(name: str, when: Mapping[str, Conditions], drawn: Mapping[str, object]) -> bool:
    """Returns whether all conditions of a parameter, if it has any, hold beside a trial's values."""
    return all(condition.holds(drawn) for condition in when.get(name, ()))


def sort_parents_first(names: Collection[str], when: Mapping[str, Conditions]) -> list[str]:
    """Returns the names in an order in which each follows those that its conditions name, which are among them.

    Without conditions the order stays as it is. A space file whose conditions form a circle is refused before.
    """
    parents = {name: [condition.name for condition in when.get(name, ())] for name in names}
    return list(TopologicalSorter(parents).static_order())


@dataclass(frozen=True)
class Choice:
    """One of several values, in no order: at least two, all different and of one type.

    The parameter applies where all conditions hold.
    """

    values: tuple[Scalar, ...]
    when: Conditions = ()

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return {"choice": list(self.values)} | spell_when(self.when)


@dataclass(frozen=True)
class IntRange:
    """Whole numbers from ``low`` to ``high``, both included.

    Attributes:
        low: Least value; at least 1 with ``log``.
        high: Greatest value, above ``low``.
        log: Whether equal factors, rather than equal differences, are equally likely.
        step: Distance between values; divides ``high - low``. Is 1 with ``log``.
        when: Where the parameter applies: where all of these hold.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Conditions = ()

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        step = None if self.step == 1 else self.step
        return {"low": self.low, "high": self.high} | _list_options(self.log, step) | spell_when(self.when)


@dataclass(frozen=True)
class FloatRange:
    """Real numbers from ``low`` to ``high``, both included.

    As :class:`IntRange`, but with ``log`` the least value is above 0, and without ``step`` any value may be drawn.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Conditions = ()

    def to_dict(self) -> dict[str, object]:
        """Returns what a space file would say."""
        return {"low": self.low, "high": self.high} | _list_options(self.log, self.step) | spell_when(self.when)


Parameter = Choice | IntRange | FloatRange


def list_conditions(space: Mapping[str, Parameter]) -> dict[str, Conditions]:
    """Returns the conditions by the names of the parameters that have any.

    Conditions on fixed fields are left out: a file in which one does not hold is refused.
    """
    searched = {
        name: tuple(condition for condition in parameter.when if condition.name in space)
        for name, parameter in space.items()
    }
    return {name: conditions for name, conditions in searched.items() if conditions}


def spell_bounds(parameter: Parameter) -> str:
    """Returns the values of a parameter as a space file would say them: ``low: 1, high: 4``."""
    return ", ".join(f"{word}: {bound}" for word, bound in parameter.to_dict().items() if word != "when")


def contains(parameter: Parameter, value: object) -> bool:
    """Returns whether a search over the parameter can draw the value; a whole number counts as a float."""
    if isinstance(parameter, Choice):
        # True == 1 in Python, but not in a recipe.
        return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in parameter.values)
    accepted = (int,) if isinstance(parameter, IntRange) else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not parameter.low <= value <= parameter.high:
        return False
    if not parameter.step:
        return True
    steps = (value - parameter.low) / parameter.step
    return abs(steps - round(steps)) < 1e-8


def _list_options(log: bool, step: float | None) -> dict[str, object]:
    return ({"log": True} if log else {}) | ({} if step is None else {"step": step})
