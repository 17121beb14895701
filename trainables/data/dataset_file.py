"""``dataset.yaml``: what a data set says of itself, read with the line of everything that is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainables.errors import Finding

_Tell = Callable[[tuple[Any, ...], str, str], None]  # keys from the top, what is wrong, what to do

FILE = "dataset.yaml"
PARTS = ("train", "val", "test")
_MISNAMED = ("dataset.yaml", "dataset.yml", "dataset.yaml.txt", "dataset.yml.txt")  # in any case
_KEYS = ("name", "classes", "background", "ignore", "split", "patients")
_MAX_BYTES = 64_000_000  # 100,000 regions with their split and patients take a fifth of it
_MAX_DEPTH, _MAX_DIGITS = 8, 100
_CLASS_NAME = re.compile(r"(?=.*\w)[\w.\- ]{1,100}")  # what may stand in the name of a tracked metric

_TAG = "tag:yaml.org,2002:"
_PLAIN_NUMBER = re.compile("0|-?[1-9][0-9]{,9}")
_NOTHING = re.compile(r"\.nan", re.IGNORECASE)  # what programs write for an empty cell of a table


# The C loader reads a split of 100,000 names in a second, the other in a minute.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two
    """Leaves dates as text: not every text that looks like one is one."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class DatasetFile:
    """What ``dataset.yaml`` says; the defaults are those of a folder without one.

    Attributes:
        path: The file, be it there or not.
        name: Of the data set.
        classes: Class id in the masks -> class name.
        has_classes: Whether it is known what ids mean; not where the file is at fault about them.
        background_ids: Ids that stand for no class, ascending.
        ignore_ids: Ids that are neither scored nor trained on, ascending.
        split: Part -> image file names, unchecked.
        patients: Image file name -> patient.
        lines: Line of each key, of each key below it, and of each item of a list there, counted from 1.
    """

    path: Path
    name: str | None = None
    classes: Mapping[int, str] | None = None
    has_classes: bool = True
    background_ids: tuple[int, ...] = ()
    ignore_ids: tuple[int, ...] | None = None
    split: Mapping[str, tuple[str, ...]] | None = None
    patients: Mapping[str, str] | None = None
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False)

    def locate(self, *keys: object) -> str:
        """Returns what findings call a place: ``data/dataset.yaml:3 classes.300``."""
        return _locate(self.path, self.lines, keys)

    def locate_split(self, part: str, name: str = "") -> str:
        """Returns what findings call a part of the split, with the line of a name in it, if one is given."""
        return f"{_find_line(self.path, self.lines, ('split', part, name))} split.{part}"


class _Content(NamedTuple):
    """A YAML file: its plain value, and the lines of keys at the top and one level below, and of lists' items there."""

    value: Any
    lines: Mapping[tuple[str, ...], int]


def normalize_name(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): as macOS writes it, ``é`` is two characters, elsewhere one."""
    return unicodedata.normalize("NFC", name)


def read_dataset_file(root: Path, default_classes: Mapping[int, str], findings: list[Finding]) -> DatasetFile:
    """Reads and checks ``dataset.yaml``; appends each problem and goes on without that key. Raises nothing.

    Args:
        root: The data set's folder.
        default_classes: The classes where the file names none.
        findings: Where problems go.
    """
    path = root / FILE
    if not os.path.lexists(path):
        misnamed = _find_misnamed(root)
        findings += [Finding(str(root / name), "is not read", f"rename it to {FILE}") for name in misnamed]
        return DatasetFile(path, has_classes=not misnamed)
    try:
        content, lines = _load_yaml(path)
    except Exception as error:  # on broken tags the loader raises almost anything, AttributeError too
        what = " ".join((str(error) or type(error).__name__).split())
        findings.append(Finding(str(path), f"cannot be read: {shorten(what)}", "correct it"))
        return DatasetFile(path, has_classes=False)
    if content is None:
        return DatasetFile(path)
    if not isinstance(content, dict):
        findings.append(Finding(str(path), "is no mapping", f"its keys may be {', '.join(_KEYS)}"))
        return DatasetFile(path, has_classes=False)

    def tell(keys: tuple[Any, ...], what: str, fix: str) -> None:
        findings.append(Finding(_locate(path, lines, keys), what, fix))

    for key in content:
        if key not in _KEYS:
            tell((key,), "unknown key", suggest_key(key, _KEYS))
    name = _read_name(content.get("name"), tell)
    n_told = len(findings)
    classes = _read_classes(content.get("classes"), tell)
    taken = {one: f"the class {called}" for one, called in (classes or default_classes).items()}
    ignore_ids = _read_ids("ignore", content.get("ignore"), taken, "score it or ignore it", tell)
    taken |= dict.fromkeys(ignore_ids or (), "ignored")
    background = _read_ids("background", content.get("background"), taken, "keep one of them", tell)
    is_misspelled = any(_is_near(key, known) for key in content for known in ("classes", "background", "ignore"))
    return DatasetFile(
        path=path,
        name=name,
        classes=classes,
        has_classes=len(findings) == n_told and not is_misspelled,
        background_ids=background or (),
        ignore_ids=ignore_ids,
        split=_read_split(content.get("split"), tell),
        patients=_read_patients(content.get("patients"), tell),
        lines=lines,
    )


def _find_misnamed(root: Path) -> list[str]:
    """Finds what was meant as ``dataset.yaml`` and is called otherwise; nothing in a folder that cannot be listed."""
    try:
        return sorted(name for name in os.listdir(root) if name.casefold() in _MISNAMED)
    except OSError:
        return []


def _locate(path: Path, lines: Mapping[tuple[str, ...], int], keys: tuple[object, ...]) -> str:
    words = tuple(map(str, keys))
    return f"{_find_line(path, lines, words)} {shorten('.'.join(words))}"


def _find_line(path: Path, lines: Mapping[tuple[str, ...], int], words: tuple[str, ...]) -> str:
    """Returns the file with the line of the innermost of nested keys that has one."""
    line = next((lines[words[:n]] for n in range(len(words), 0, -1) if words[:n] in lines), None)
    return f"{path}{'' if line is None else f':{line}'}"


def _load_yaml(path: Path) -> _Content:
    """Reads a YAML file of bounded size, depth and effort.

    Raises:
        ValueError: If it is no plain file, too large, nested too deeply, or has aliases (a few nested ones stand
            for gigabytes), keys that stand twice or endless numbers.
        OSError: If it cannot be read.
        yaml.YAMLError: If it is not YAML. Broken tags raise nearly anything else.
    """
    if not path.is_file():
        raise ValueError("it is no plain file" + ", but a link that leads to none" * path.is_symlink())
    if (n_bytes := path.stat().st_size) > _MAX_BYTES:
        raise ValueError(f"it has {n_bytes:,} bytes, more than {_MAX_BYTES:,}")
    loader = _Loader(path.read_text(encoding="utf-8-sig"))
    try:
        top = loader.get_single_node()
        if top is None:
            return _Content(None, {})
        if problems := list(_find_node_problems(top)):
            raise ValueError("; ".join(problems[:5]))
        _keep_texts(top)
        return _Content(loader.construct_document(top), dict(_find_lines(top)))
    finally:
        loader.dispose()


def _find_lines(node: yaml.Node, above: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], int]]:
    """Finds the lines of the keys of a mapping, of those one level below, and of the items of lists there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield (*above, key.value), key.start_mark.line + 1
                yield from _find_lines(value, (key.value,)) if not above else _find_items(value, (*above, key.value))


def _find_items(node: yaml.Node, above: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], int]]:
    """Finds the lines of the items of a list of file names; of one that stands twice, the last."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.ScalarNode):
                yield (*above, normalize_name(item.value)), item.start_mark.line + 1


def _find_node_problems(top: yaml.Node) -> Iterable[str]:
    """Finds aliases, keys that stand twice, deep nesting and endless numbers, without recursion."""
    seen: set[int] = set()
    waiting = [(top, 0)]
    while waiting:
        node, depth = waiting.pop()
        line = node.start_mark.line + 1
        if id(node) in seen:
            yield f"the value of line {line} is used again by an alias (*name): write it out"
            continue
        seen.add(id(node))
        if depth > _MAX_DEPTH:
            yield f"line {line} is nested more than {_MAX_DEPTH} levels deep"
        elif isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice = [shorten(key) for key, number in keys.items() if number > 1]
            yield from (f"key {key} stands more than once in the mapping of line {line}" for key in twice)
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(item, depth + 1) for item in node.value]
        elif node.tag == f"{_TAG}int" and len(node.value) > _MAX_DIGITS:
            yield f"line {line} holds a number of {len(node.value):,} characters"


def _keep_texts(top: yaml.Node) -> None:
    """Makes text of what YAML 1.1 would read as something else than stands there.

    It would read the patients 1_23 and 12_3 as one number and NO as false, the id 010 as 8, and 1, 1.0 and yes as one
    key. As texts patients are themselves, and ids are told.
    """
    for key, value in top.value if isinstance(top, yaml.MappingNode) else ():
        pairs = value.value if isinstance(value, yaml.MappingNode) else ()
        if key.value == "name":
            _keep_text(value, {"int", "float"})
        elif key.value == "patients":
            for name, patient in pairs:
                _keep_text(name, {"int", "float", "bool"})
                _keep_text(patient, {"int", "float", "bool"})
        elif key.value == "classes":
            for one, _ in pairs:
                _keep_text(one, {"int", "float", "bool"}, unless=_PLAIN_NUMBER)
        elif isinstance(value, yaml.SequenceNode):
            for one in value.value:
                _keep_text(one, {"int"}, unless=_PLAIN_NUMBER)


def _keep_text(node: yaml.Node, kinds: Container[str], unless: re.Pattern[str] = _NOTHING) -> None:
    """Makes text of a scalar of these kinds, unless it looks like ``unless``."""
    if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in kinds and not unless.fullmatch(node.value):
        node.tag = f"{_TAG}str"


def _read_name(given: Any, tell: _Tell) -> str | None:
    if given is None:
        return None
    if isinstance(given, (bool, bytes, dict, list, set, tuple)):
        tell(("name",), f"is {_show(given)}", "write text, in quotes if need be")
        return None
    name = normalize_name(str(given))
    if not name.strip() or not name.isprintable():
        tell(("name",), f"is {_show(given)}", "write a line of text, or leave it out")
        return None
    return name


def _read_classes(given: Any, tell: _Tell) -> Mapping[int, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not given:
        tell(("classes",), f"is {_show(given)}", "write id and name of each: {1: tumor, 2: stroma}")
        return None
    good: dict[int, str] = {}
    for one, called in given.items():
        name = normalize_name(called) if isinstance(called, str) else None
        if not _is_id(one):
            tell(("classes", one), "the id is no whole number in 0..255", "write the id that the masks hold")
        elif name is None or not _CLASS_NAME.fullmatch(name):
            fix = "use at most 100 letters, digits, _ . - and spaces; quote yes and no"
            tell(("classes", one), f"the name is {_show(called)}", fix)
        elif name.casefold() in map(str.casefold, good.values()):
            tell(("classes", one), f"another class is called {name} too, be it in another case", "rename one")
        else:
            good[one] = name
    return good


def _read_ids(key: str, given: Any, taken: Mapping[int, str], fix: str, tell: _Tell) -> tuple[int, ...] | None:
    """Reads a list of ids, none of which may be taken: id -> what it is already."""
    if given is None:
        return None
    if not isinstance(given, list) or not all(_is_id(one) for one in given):
        tell((key,), f"is {_show(given)}", "write a list of ids in 0..255, such as [0]")
        return None
    for one in sorted(set(given) & taken.keys()):
        tell((key,), f"{one} is also {taken[one]}", fix)
    return tuple(sorted(set(given)))


def _read_split(given: Any, tell: _Tell) -> Mapping[str, tuple[str, ...]] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        fix = f"write a list of image file names under each of {', '.join(PARTS)}"
        tell(("split",), f"is {_show(given)}", fix)
        return None
    split: dict[str, tuple[str, ...]] = dict.fromkeys(PARTS, ())
    for part, names in given.items():
        if part not in PARTS:
            tell(("split", part), "unknown key", suggest_key(part, PARTS))
        elif not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            tell(("split", part), "is no list of file names", "write one; quote names that read as numbers")
        else:
            split[part] = tuple(map(normalize_name, names))
    return split


def _read_patients(given: Any, tell: _Tell) -> Mapping[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        tell(("patients",), f"is {_show(given)}", "write file and patient of each: {a.png: patient-1}")
        return None
    for name, patient in given.items():
        # An empty cell of a table becomes nothing, a blank or NaN: all these regions would be one patient's.
        if patient is None or isinstance(patient, (dict, list)) or patient != patient or not str(patient).strip():
            tell(("patients", name), f"is {_show(patient)}", "write the patient's name or number")
    return {normalize_name(str(name)): normalize_name(str(patient)) for name, patient in given.items()}


def suggest_key(given: Any, known: Iterable[str]) -> str:
    """Returns what to do about a name that is unknown: the nearest known one, or all of a few."""
    known = list(known)
    if near := find_nearest(str(given), known):
        return f"did you mean {near}?"
    return f"use one of {', '.join(known)}" if len(known) <= len(_KEYS) else "correct or remove it"


def find_nearest(given: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is nearest, first of all one that differs in case only; None where none is near."""
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(given.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def shorten(text: str) -> str:
    """Returns a text that leaves room on a screen for others."""
    return text if len(text) <= 200 else f"{text[:197]}..."


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255  # not isinstance: True is an int too


def _is_near(key: Any, known: str) -> bool:
    """Says whether a key is another one misspelled."""
    return key != known and bool(difflib.get_close_matches(str(key), [known], n=1))


def _show(value: Any) -> str:
    return shorten(repr(value))
