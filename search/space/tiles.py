"""The ``tiles`` of a space file, and the parameters that are searched only with tiles, or only without."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainables.files.yaml_lines import YamlNode, describe
from trainables.tiles.grid import Tiles

KEY = "tiles"
_EXAMPLE = "write tiles: {side_px: 1024, um_per_px: 0.5, overlap: 0.25}"


def read_tiles(node: YamlNode) -> Tiles | None:
    """Reads how regions are cut; reports what is wrong, and then returns None."""
    n_before = len(node.problems)
    entries = node.read_mapping(("side_px", "um_per_px", "overlap"))
    if isinstance(node.value, dict) and "side_px" not in entries:
        node.report("has no side_px", _EXAMPLE)
    values: dict[str, Any] = {}
    for key, child in entries.items():
        kinds = (int,) if key == "side_px" else (int, float)
        if isinstance(child.value, kinds) and not isinstance(child.value, bool):
            values[key] = child.value if key == "side_px" else float(child.value)
        else:
            child.report(f"must be a {'whole ' * (key == 'side_px')}number, but got {describe(child.value)}", _EXAMPLE)
    if len(node.problems) > n_before:
        return None
    try:
        return Tiles(**values)
    except ValueError as error:
        node.report(str(error), _EXAMPLE)
        return None


def select_parameters(node: YamlNode, has_tiles: bool) -> YamlNode:
    """Returns a ``space`` without the parameters whose ``when: {tiles: true}`` (or false) does not hold.

    The condition itself goes too: what is left has the space of a file that never had the others.
    """
    if not isinstance(node.value, dict):
        return node
    kept = {}
    for name, value in node.value.items():
        when = value.get("when") if isinstance(value, dict) else None
        if not isinstance(when, dict) or KEY not in when:
            kept[name] = value
        elif _holds(node, name, has_tiles):
            kept[name] = _drop_condition(value, when)
    return replace(node, value=kept)


def _holds(node: YamlNode, name: str, has_tiles: bool) -> bool:
    condition = node.read_mapping()[name].read_mapping()["when"].read_mapping()[KEY]
    return condition.read_bool(has_tiles) == has_tiles


def _drop_condition(value: Mapping[str, Any], when: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: asked for name, asked in when.items() if name != KEY}
    kept = {key: each for key, each in value.items() if key != "when"}
    return {**kept, "when": others} if others else kept
