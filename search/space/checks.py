"""Checks of a space file that compare several of its keys."""

from collections.abc import Iterable, Mapping

from search.space.parameters import Choice, FloatRange, Parameter
from search.space.starting_points import StartingPoint
from trainables.files.yaml_lines import YamlNode
from trainables.protocol.fields import PROTOCOL_RULES, change_protocol
from trainables.protocol.spec import Protocol
from trainables.recipe import Recipe, RecipeError, Scalar, list_rules

NO_SCHEDULER = "none"

PROMPT = "protocol.prompt"


def check_fixed_or_searched(entries: Mapping[str, YamlNode]) -> None:
    """Reports fields that are fixed and searched."""
    fixed, space = _list_children(entries, "fixed"), _list_children(entries, "space")
    for name, node in fixed.items():
        if name in space:
            place = node.cite(("space", name))
            node.report(f"{name} is fixed here and searched {place}", "keep one of the two")


def check_grace_period(entries: Mapping[str, YamlNode], grace_period: float, max_epochs: int) -> None:
    """Reports a grace period that is longer than a trial; one of them stands in the file."""
    given = entries["max_epochs"].value if "max_epochs" in entries else max_epochs
    if given == max_epochs and grace_period > max_epochs:
        entries["scheduler"].read_mapping()["grace_period"].report(
            f"grace_period <= max_epochs must hold, but got grace_period={grace_period}, max_epochs={max_epochs}",
            "lower grace_period, raise max_epochs, or write kind: none",
        )


def check_sections(entries: Mapping[str, YamlNode], train: bool, has_tiles: bool) -> None:
    """Reports fields of the protocol where something is trained, of the recipe where nothing is.

    And fields of the section ``sampling`` in files in which regions are seen whole.
    """
    for key in ("fixed", "space"):
        for name, node in _list_children(entries, key).items():
            if train and name in PROTOCOL_RULES:
                what = f"{name} varies how a score is measured: a search that trains keeps one protocol"
                node.report(what, "choose it by protocol: NAME, or write train: false")
            elif not train and name in list_rules():
                what = f"{name} has no effect with train: false"
                node.report(what, "leave it out, or name parts of the protocol such as protocol.tta")
            elif not has_tiles and name.startswith("sampling.") and name in list_rules():
                condition = ", or write when: {tiles: true}" * (key == "space")
                node.report(f"{name} has no effect without tiles", f"leave it out, add tiles:{condition}")


def check_ineffective(entries: Mapping[str, YamlNode], train: bool, is_replay: bool) -> None:
    """Reports keys that do nothing in a file that trains nothing, or in a replay: a single, fixed trial."""
    for key in ("max_epochs", "patience", "scales"):
        if not train and key in entries:
            entries[key].report(
                "has no effect with train: false", "leave it out: zero-shot has no epochs and no update"
            )
    if not train and "objective" in entries:
        what = "has no effect with train: false"
        entries["objective"].report(what, "leave it out: scores under several protocols are no ranking")
    why = "a single trial" if is_replay else "train: false"
    if (is_replay or not train) and "scheduler" in entries and not _is_none(entries["scheduler"]):
        entries["scheduler"].report(f"has no effect on {why}", "leave it out, or write kind: none")
    if (is_replay or not train) and "stop" in entries:
        entries["stop"].report(f"has no effect on {why}", "leave it out")
    if not is_replay:
        return
    if "start_from" in entries:
        entries["start_from"].report("has no effect without a space", "leave it out, or name parameters under space")
    if "num_trials" in entries and entries["num_trials"].value != 1:
        what = "without a space every trial is the same"
        entries["num_trials"].report(what, "leave it out: a replay is one trial; or name parameters under space")


def check_conflicts(
    entries: Mapping[str, YamlNode], space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]
) -> None:
    """Reports values of the recipe that contradict each other: fixed ones, and a searched one beside them.

    Each parameter is tried alone at the ends of its range, under the first values that its conditions allow; two
    searched parameters that contradict each other are found by the trial that draws them.
    """
    if "fixed" in entries and (fault := _find_conflict(fixed)):
        entries["fixed"].report(*fault)
        return
    for name, node in _list_children(entries, "space").items():
        if name not in space:
            continue
        given = {condition.name: condition.values[0] for condition in space[name].when}
        faults = (_find_conflict({**fixed, **given, name: value}) for value in _list_ends(space[name]))
        if fault := next(filter(None, faults), None):
            node.report(*fault)


def check_conditions(entries: Mapping[str, YamlNode], space: Mapping[str, Parameter]) -> None:
    """Reports parameters that never apply: their conditions, and those of the fields that these name, clash."""
    for name, node in _list_children(entries, "space").items():
        clash = _find_clash(name, space) if name in space else None
        if clash:
            what = f"its conditions never hold: they and those behind them ask for different values of {clash}"
            node.read_mapping()["when"].report(what, "let one value meet them all, or leave the parameter out")


def _find_clash(name: str, space: Mapping[str, Parameter]) -> str | None:
    """Returns a field for which a parameter's conditions, with those of the fields that they name, leave no value."""
    left: dict[str, set[Scalar]] = {}
    todo = [name]
    while todo:
        for condition in space[todo.pop()].when:
            if condition.name in space and condition.name not in left:
                todo.append(condition.name)
            left[condition.name] = left.get(condition.name, set(condition.values)) & set(condition.values)
    return next((field for field, values in left.items() if not values), None)


def check_points(entries: Mapping[str, YamlNode], points: Iterable[StartingPoint], fixed: Mapping[str, Scalar]) -> None:
    """Reports starting points whose values contradict each other, or fixed ones.

    What a point leaves out is drawn; a contradiction with that is found by the trial.
    """
    for point in points:
        if fault := _find_conflict({**fixed, **point.values}):
            what, fix = fault
            entries["start_from"].report(f"{point.name}: {what}", fix)


def _find_conflict(values: Mapping[str, Scalar]) -> tuple[str, str] | None:
    try:
        Recipe.from_flat(values)
    except RecipeError as error:
        return error.findings[0].what, error.findings[0].fix
    return None


def _list_ends(parameter: Parameter) -> Iterable[Scalar]:
    return parameter.values if isinstance(parameter, Choice) else (parameter.low, parameter.high)


def _list_children(entries: Mapping[str, YamlNode], key: str) -> dict[str, YamlNode]:
    node = entries.get(key)
    return node.read_mapping() if node and isinstance(node.value, dict) else {}


def _is_none(node: YamlNode) -> bool:
    return isinstance(node.value, dict) and node.value.get("kind") == NO_SCHEDULER


def report_protocol_faults(
    entries: Mapping[str, YamlNode], base: Protocol, space: Mapping[str, Parameter], fixed: Mapping[str, Scalar]
) -> None:
    """Reports values that no protocol can have: an even closing, or points as a prompt with no positive one.

    Each value of a whole-number or word parameter is tried with each kind of prompt that it can meet.
    """
    if "fixed" in entries and PROMPT not in space and (fault := _find_fault(base, [fixed])):
        entries["fixed"].report(fault, "change it, or leave it out")
        return
    for name, node in _list_children(entries, "space").items():
        prompts, values = _list_prompts(name, space[name], space), _list_values(space[name])
        if fault := _find_fault(base, [{**fixed, **prompt, name: value} for value in values for prompt in prompts]):
            node.report(fault, "leave such values out, or say by when: where they apply")


def _find_fault(base: Protocol, tried: Iterable[Mapping[str, Scalar]]) -> str | None:
    for values in tried:
        try:
            change_protocol(base, values)
        except ValueError as error:
            spelled = ", ".join(f"{name}: {value}" for name, value in values.items())
            return f"{error} (with {spelled})"
    return None


def _list_prompts(name: str, parameter: Parameter, space: Mapping[str, Parameter]) -> list[dict[str, Scalar]]:
    """Returns the kinds of prompt that a parameter can meet, as values to add; nothing to add where none varies."""
    searched = space.get(PROMPT)
    if name == PROMPT or not isinstance(searched, Choice):
        return [{}]
    asked = [condition.values for condition in parameter.when if condition.name == PROMPT]
    return [{PROMPT: kind} for kind in (asked[0] if asked else searched.values)]


def _list_values(parameter: Parameter) -> Iterable[Scalar]:
    if isinstance(parameter, Choice):
        return parameter.values
    if isinstance(parameter, FloatRange):
        return parameter.low, parameter.high
    # Beyond a protocol's own limits no value is valid; any least component size is, so its first 200 stand for all.
    return range(parameter.low, min(parameter.high, parameter.low + 200) + 1, parameter.step)
