"""Reads the parameters of a space file, searched and fixed, and checks them against the fields of a recipe."""

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from search.space.parameters import Choice, FloatRange, IntRange, Parameter, spell_value
from trainables.errors import suggest_name
from trainables.files.yaml_lines import YamlNode, describe, spell_number
from trainables.protocol.fields import PROTOCOL_RULES
from trainables.recipe import FieldRule, Scalar, check_value, list_rules

MAX_STEPS = 1_000_000

RANGE_KEYS = ("low", "high", "log", "step")


@cache
def list_fields() -> Mapping[str, FieldRule]:
    """Returns the rule of every field by its flat name."""
    return {**list_rules(), **PROTOCOL_RULES}


def read_space(node: YamlNode) -> dict[str, Parameter]:
    """Reads the ``space`` of a file, but for its conditions; problems are reported, and their parameters left out."""
    names = node.read_mapping()
    if isinstance(node.value, dict) and not names:
        node.report("the space is empty", "name at least one parameter, such as optim.lr: {low: 1.0e-4, high: 1.0e-2}")
    parameters = {name: read_parameter(name, child) for name, child in names.items()}
    return {name: parameter for name, parameter in parameters.items() if parameter}


def read_parameter(name: str, node: YamlNode) -> Parameter | None:
    """Reads one parameter of a space, but for its conditions; reports every problem and then returns None."""
    if name not in list_fields():
        _report_unknown_name(name, node)
        return None
    if not isinstance(node.value, dict) or not node.value:
        fix = "write {choice: [...]} or {low: ..., high: ...}, or put a single value under fixed"
        wrong = "says no values" if node.value in ({}, None) else f"must be a mapping, but got {describe(node.value)}"
        node.report(wrong, fix)
        return None
    n_problems = len(node.problems)
    entries = node.read_mapping(("choice", *RANGE_KEYS, "when"))
    entries.pop("when", None)
    if len(node.problems) > n_problems and "choice" not in entries and not {"low", "high"} <= entries.keys():
        # The mistyped key is the missing one.
        return None
    if "choice" in entries and len(entries) > 1:
        others = ", ".join(key for key in entries if key != "choice")
        node.report(f"has choice and {others}", "give either choice, or low and high")
        return None
    parameter = _read_choice(name, entries["choice"]) if "choice" in entries else _read_range(name, node, entries)
    return parameter if len(node.problems) == n_problems else None


def read_value(name: str, node: YamlNode) -> Scalar | None:
    """Reads a value of one field; reports what the field cannot hold and then returns None."""
    if name not in list_fields():
        _report_unknown_name(name, node)
        return None
    rule = list_fields()[name]
    value = node.value
    finding = check_value(name, value, list_fields())
    if finding is None:
        assert isinstance(value, (bool, int, float, str))
        return float(value) if rule.kind is float else value
    spelled = spell_number(value, rule.kind) if isinstance(value, str) and rule.kind in (int, float) else None
    if spelled:
        what = f"{name} must be {rule.kind.__name__}, but {value!r} is text in YAML 1.1"
        node.report(what, f"write {spelled}, without quotes")
    elif value is None or isinstance(value, (dict, list)):
        node.report(f"{name} must be {rule.kind.__name__}, but got {describe(value)}", rule.help)
    else:
        node.report(finding.what, finding.fix)
    return None


def read_fixed(node: YamlNode) -> dict[str, Scalar]:
    """Reads the ``fixed`` of a file; problems are reported, and their fields left out."""
    values = {name: read_value(name, child) for name, child in node.read_mapping().items()}
    return {name: value for name, value in values.items() if value is not None}


def report_not_searched(name: str, node: YamlNode, searched: tuple[str, ...]) -> None:
    """Reports a name that the file should search, and does not."""
    if name in list_fields():
        node.report(f"{name} is not in the space", "put it under fixed, or add it to the space")
    else:
        node.report(f"unknown parameter {name!r}", suggest_name(name, searched))


def _read_choice(name: str, node: YamlNode) -> Choice | None:
    items = node.read_list()
    values = [value for item in items if (value := read_value(name, item)) is not None]
    if not items and isinstance(node.value, list):
        node.report("the choice is empty", "give at least two values, or leave the parameter out")
    if len(values) < len(items) or not items:
        return None
    repeated = {repr(value) for value in values if values.count(value) > 1}
    if repeated:
        node.report(f"the choice holds {', '.join(sorted(repeated))} more than once", "keep one of each")
    elif len(values) == 1:
        node.report("the choice has a single value", f"put it under fixed, as {name}: {spell_value(values[0])}")
    return Choice(tuple(values))


def _read_range(name: str, node: YamlNode, entries: Mapping[str, YamlNode]) -> IntRange | FloatRange | None:
    rule = list_fields()[name]
    if rule.kind not in (int, float):
        words = rule.choices or ("true", "false")
        node.report(f"{name} is {rule.kind.__name__} and has no range", f"write {{choice: [{', '.join(words)}]}}")
        return None
    for key in ("low", "high"):
        if key not in entries:
            node.report(f"has no {key}", f"give low and high, or {{choice: [...]}} ({rule.help})")
    low, high = (read_value(name, entries[key]) if key in entries else None for key in ("low", "high"))
    log = entries["log"].read_bool(False) if "log" in entries else False
    step = _read_step(rule, entries["step"]) if "step" in entries else None
    if low is None or high is None:
        return None
    # Text and truth values were refused by the rule of a numeric field.
    assert isinstance(low, (int, float)) and isinstance(high, (int, float))
    _check_range(name, node, low, high, log, step)
    if isinstance(low, int) and isinstance(high, int):
        return IntRange(low, high, log, 1 if step is None else int(step))
    return FloatRange(float(low), float(high), log, step)


def _read_step(rule: FieldRule, node: YamlNode) -> float | None:
    value = node.value
    accepted = (int,) if rule.kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not 0 < value < math.inf:
        spelled = spell_number(value, rule.kind) if isinstance(value, str) else None
        fix = f"write {spelled}, without quotes" if spelled else "give the distance between two values"
        node.report(f"step must be a positive {rule.kind.__name__}, but got {describe(value)}", fix)
        return None
    return value


def _check_range(name: str, node: YamlNode, low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        node.report(f"low <= high must hold, but got low={low}, high={high}", "swap them")
    elif low == high:
        node.report(f"low and high are both {low}", f"put it under fixed, as {name}: {low}")
    if log and low <= 0:
        node.report(f"log needs low > 0, but got low={low}", "raise low, or leave log out")
    if log and step is not None:
        node.report("log and step exclude each other", "leave one out, or list the values as a choice")
    elif step is not None and low < high:
        # As written, since 0.3 is no multiple of 0.1 in binary.
        n_steps = (Fraction(str(high)) - Fraction(str(low))) / Fraction(str(step))
        if n_steps.denominator != 1:
            what = f"step={step} does not divide high - low (low={low}, high={high})"
            node.report(what, "change step, low or high")
        elif n_steps > MAX_STEPS:
            node.report(f"step={step} makes over {MAX_STEPS} values", "leave step out")


def _report_unknown_name(name: str, node: YamlNode) -> None:
    sections = {known.split(".")[0] for known in list_fields()}
    fix = suggest_name(name, list_fields())
    if name in sections:
        example = next(known for known in list_fields() if known.startswith(f"{name}."))
        fix = f"write flat names, such as {example}"
    node.report(f"unknown recipe field {name!r}", fix)
