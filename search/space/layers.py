"""A space file with what is laid over it: the file that it ``extends`` below, settings (``--set``) on top.

A later layer's mappings are merged into an earlier one's key by key; everything else, lists too, takes the earlier
one's place, and ``null`` removes. What cannot stand beside the later layer gives way: see :func:`_give_way`. Findings
name the layer that said something last.
"""

import copy
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.errors import ConfigError
from search.space.kinds import SAMPLER_OPTIONS, SCHEDULER_OPTIONS
from search.space.parameter_reader import RANGE_KEYS, list_fields
from trainables.files.yaml_lines import KeyPath, YamlNode, describe, read_yaml, read_yaml_value

EXTENDS = "extends"
_OPTION = "--set"
_KINDS = {"scheduler": SCHEDULER_OPTIONS, "sampler": SAMPLER_OPTIONS}
_FIELD_SECTIONS = ("space", "fixed")
_LINES_A_LAYER = 1_000_000  # more than a file of yaml_lines.MAX_BYTES has: findings stand in the order of the layers
_LAST = 10**12


def read_layers(
    path: Path, settings: Sequence[str], find_shipped: Callable[[str], Path]
) -> tuple[YamlNode, tuple[str, ...]]:
    """Returns a space file as one tree, merged from its layers, and what the layers are in words; one for a plain file.

    Args:
        path: The space file.
        settings: ``KEY=VALUE``, in which the key is a path through the file by dots and the value is YAML. A recipe
            field may stand without its section: ``optim.lr.high=3e-3`` is about ``space``, ``optim.lr=3e-3`` fixes it.
        find_shipped: Finds a shipped space by its name.

    Raises:
        ConfigError: If a file cannot be read, or extends itself.
    """
    files = _read_files(path, find_shipped)
    merged = files[0]
    for over in files[1:]:
        if isinstance(merged.value, dict):
            merged.value.pop("name", None)  # another file is another space
        merged = _lay_over(merged, over)
    for text in settings:
        setting = _read_setting(text, merged)
        merged = _lay_over(merged, setting) if setting else merged
    return merged, (*(each.file for each in files), *(f"{_OPTION} {text}" for text in settings))


def _read_files(path: Path, find_shipped: Callable[[str], Path]) -> list[YamlNode]:
    """Returns the files of a space, without the key ``extends``: the one that extends nothing first."""
    files: list[YamlNode] = []
    paths = [path]
    while True:
        top = read_yaml(paths[-1], ConfigError)
        files.insert(0, top)
        if not isinstance(top.value, dict) or EXTENDS not in top.value:
            return files
        node = top.read_mapping()[EXTENDS]
        del top.value[EXTENDS]
        paths[-1] = paths[-1].resolve()
        base = _find_base(node, paths[-1], find_shipped)
        if base in paths:
            names = " -> ".join(each.name for each in (*paths[paths.index(base) :], base))
            raise ConfigError.at(node.where, f"the files extend each other in a circle: {names}", "leave one out")
        paths.append(base)


def _find_base(node: YamlNode, path: Path, find_shipped: Callable[[str], Path]) -> Path:
    """Returns the file that is extended: relative to the file that says so, or a shipped space."""
    text = node.value
    if not isinstance(text, str) or not text.strip():
        what = f"must name one space file, but got {describe(text)}"
        raise ConfigError.at(node.where, what, "write extends: lora.yaml")
    is_file = os.path.isfile(path.parent / text)  # False for text that no path can be
    if is_file and (beside := (path.parent / text).resolve()) != path:
        return beside
    try:
        return find_shipped(text)  # a file may have the name of the shipped one that it extends
    except ConfigError as error:
        if is_file:
            return path
        what = f"{text} is neither a file in {path.parent} nor a shipped space"
        raise ConfigError.at(node.where, what, error.findings[0].fix) from error


def _read_setting(text: str, base: YamlNode) -> YamlNode | None:
    """Returns a setting as a tree of its one value; None, and a finding in the base's problems, if it is none."""
    key, sign, typed = (part.strip() for part in text.partition("="))
    where = f"{_OPTION} {key or text}"
    try:
        value = _read_value(where, key, typed if sign else "")
    except ConfigError as error:
        base.problems.extend((_LAST, dataclasses.replace(finding, where=where)) for finding in error.findings)
        return None
    paths = _locate(key, value.value, base.value if isinstance(base.value, dict) else {})
    tree: dict[str, Any] = {}
    places: dict[KeyPath, str] = {}
    for path in paths:
        _put(tree, path, copy.deepcopy(value.value))
        places |= {path[:n]: where for n in range(1, len(path))} | {(*path, *below): where for below in value.lines}
    return YamlNode(tree, (), base.file, dict.fromkeys(places, 0), [], base.error_type, places)


def _read_value(where: str, key: str, typed: str) -> YamlNode:
    fix = "write KEY=VALUE, such as optim.lr.high=3e-3 or sampler.kind=gp"
    if not typed:
        raise ConfigError.at(where, "has no value", f"{fix}; KEY=null removes the key")
    if not all(key.split(".")):
        raise ConfigError.at(where, "names no key", fix)
    if not f"{key}{typed}".isprintable():  # bytes that are not UTF-8 too
        raise ConfigError.at(where, "holds characters that YAML text has not", fix)
    try:
        value = read_yaml_value(typed, where, ConfigError)
    except ConfigError as error:
        quote = "check its brackets, and put the whole setting in quotes"
        raise ConfigError.at(where, error.findings[0].what, quote) from error
    value.raise_problems()
    return value


def _locate(key: str, value: object, base: Mapping[str, Any]) -> list[KeyPath]:
    """Returns the path of a key, in which the name of a recipe field is one part; of what is removed, each of them."""
    words, path = key.split("."), list[str]()
    sections = {name.partition(".")[0] for name in list_fields()}
    while words:
        may_be_field = not path or path[-1] in (*_FIELD_SECTIONS, "when")
        n_words = 2 if may_be_field and words[0] in sections else 1
        path.append(".".join(words[:n_words]))
        del words[:n_words]
    if "." not in path[0]:
        return [tuple(path)]
    if len(path) == 1 and value is None:
        return [(name, path[0]) for name in _FIELD_SECTIONS if path[0] in _section(base, name)] or [("space", path[0])]
    is_searched = len(path) > 1 or isinstance(value, dict)
    return [("space" if is_searched else "fixed", *path)]


def _put(tree: dict[str, Any], path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(str(key), {})
    tree[str(path[-1])] = value


def _lay_over(base: YamlNode, over: YamlNode) -> YamlNode:
    """Returns the base with another layer merged into it."""
    if not isinstance(base.value, dict):
        base.read_mapping()  # which reports it
        base.raise_problems()
    first = max(base.lines.values()) // _LINES_A_LAYER * _LINES_A_LAYER + _LINES_A_LAYER
    problems = [*base.problems, *((first + line, finding) for line, finding in over.problems)]
    value = copy.deepcopy(base.value) if isinstance(base.value, dict) else {}
    merged = YamlNode(
        value,
        (),
        over.file,
        {**base.lines, **{path: first + line for path, line in over.lines.items()}},
        problems,
        base.error_type,
        {**_list_places(base), **_list_places(over)},
    )
    assert isinstance(over.value, dict), "a setting is one, and so is a file that extends another"
    _give_way(value, over.value)
    _merge(merged, value, over.value)
    return merged


def _list_places(node: YamlNode) -> dict[KeyPath, str]:
    return {path: dataclasses.replace(node, path=path).where for path in node.lines if path}


def _merge(top: YamlNode, target: dict[str, Any], source: Mapping[str, Any], path: KeyPath = ()) -> None:
    for key, value in source.items():
        here = (*path, key)
        if value is None:
            if key not in target:
                dataclasses.replace(top, path=here).report("there is nothing to remove", "leave it out")
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(top, target[key], value, here)
        else:
            target[key] = value


def _give_way(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Removes from the base what cannot stand beside the later layer.

    A field that is fixed now is no longer searched, and the other way round; a range replaces a choice, and a choice a
    range; another ``kind`` drops the options that it does not know; starting points lose fields that are no longer
    searched.
    """
    space, fixed = _section(base, "space"), _section(base, "fixed")
    searched = _section(over, "space")
    gone = {name for name, value in _section(over, "fixed").items() if value is not None and name in space}
    for name in gone - searched.keys():
        del space[name]
    for name, value in searched.items():
        if value is None:
            gone.add(name)
        else:
            fixed.pop(name, None)
        before, now = space.get(name), value if isinstance(value, dict) else {}
        if isinstance(before, dict):
            stale = RANGE_KEYS if "choice" in now else ("choice",) if now.keys() & set(RANGE_KEYS) else ()
            for key in stale:
                before.pop(key, None)
    for name, options in _KINDS.items():
        kind, before = _section(over, name).get("kind"), _section(base, name)
        for key in [key for key in before if key != "kind" and key not in options.get(str(kind), before)]:
            del before[key]
    points = base.get("start_from")
    if isinstance(points, list) and gone:
        kept = [_drop(point, gone) for point in points]
        base["start_from"] = [point for point in kept if not isinstance(point, dict) or point.keys() - {"name", "note"}]


def _drop(point: object, names: set[str]) -> object:
    return {key: value for key, value in point.items() if key not in names} if isinstance(point, dict) else point


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
