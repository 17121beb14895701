"""Searches that train nothing: what varies is the protocol, so their numbers are no ranking of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from search.space import Choice, FloatRange, Parameter
from search.yaml_lines import YamlNode
from trainables.protocol import Protocol
from trainables.protocol_fields import change_protocol
from trainables.recipe import Scalar

PROMPT = "protocol.prompt"
PROTOCOLS_DIFFER = (
    "nothing is trained: each trial scores zero-shot under a protocol of its own; such numbers tell what a prompt "
    "or a clean-up yields, they do not rank models, and none of them is compared with the bar"
)


def report_protocol_faults(
    base: Protocol,
    space: Mapping[str, Parameter],
    fixed: Mapping[str, Scalar],
    space_node: YamlNode | None,
    fixed_node: YamlNode | None,
) -> None:
    """Reports values that no protocol can have: an even closing, or points as a prompt with no positive one.

    Each value of a whole-number or word parameter is tried with each kind of prompt that it can meet.

    Args:
        base: The search's protocol.
        space: What is searched, with its conditions.
        fixed: What is fixed.
        space_node: The ``space`` of the file, if it has any.
        fixed_node: The ``fixed`` of the file, if it has any.
    """
    if fixed_node and PROMPT not in space and (fault := _find_fault(base, [fixed])):
        fixed_node.report(fault, "change it, or leave it out")
        return
    for name, parameter in space.items():
        prompts = _list_prompts(name, parameter, space)
        tried = [{**fixed, **prompt, name: value} for value in _list_values(parameter) for prompt in prompts]
        if space_node and (fault := _find_fault(base, tried)):
            space_node.read_mapping()[name].report(fault, "leave such values out, or say by when: where they apply")


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
    # Beyond a protocol's own limits there is nothing, but for the least component's pixels, of which any will do.
    return range(parameter.low, min(parameter.high, parameter.low + 200) + 1, parameter.step)
