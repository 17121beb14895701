"""``dataset.yaml``: what a data set says of itself, read with the line of everything that is wrong with it."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainables.errors import Finding, InputError, find_nearest, shorten
from trainables.files.yaml_lines import YamlNode, describe, read_yaml
from trainables.tiles.um_per_px import MAX_UM, MIN_UM, is_plausible

FILE = "dataset.yaml"
PARTS = ("train", "val", "test")
_MISNAMED = ("dataset.yaml", "dataset.yml", "dataset.yaml.txt", "dataset.yml.txt")  # in any case
_KEYS = ("name", "classes", "background", "ignore", "split", "patients", "um_per_px")
_MAX_BYTES = 64_000_000  # 100,000 regions with their split and patients take a fifth of it
_CLASS_NAME = re.compile(r"(?=.*\w)[\w.\- ]{1,100}")  # what may stand in the name of a tracked metric
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_ID = re.compile("0|[1-9][0-9]{,2}")
# What other programs list among the classes and is none: name, without spaces and signs -> what its id is here.
_NO_CLASS = {"background": "background", "bg": "background", "ignore": "ignore", "void": "ignore"}
_NOTHING = re.compile(r"\s*|\.nan", re.IGNORECASE)  # what programs write for an empty cell of a table


@dataclass(frozen=True)
class DatasetFile:
    """What ``dataset.yaml`` says; the defaults are those of a folder without one.

    Attributes:
        path: The file, which may be missing.
        name: Of the data set.
        classes: Class id in the masks -> class name.
        has_classes: Whether it is known what ids mean; False if the file is at fault about them.
        background_ids: Ids that stand for no class, ascending.
        ignore_ids: Ids that are neither scored nor trained on, ascending.
        split: Part -> image file names, unchecked.
        patients: Image file name -> patient.
        um_per_px: Image file name -> micrometres a pixel; under the name "" those of all others.
        warnings: About ids whose names say that they are no class.
        lines: Line of each key, of the keys in it, and of each name in a part of the split, counted from 1.
    """

    path: Path
    name: str | None = None
    classes: Mapping[int, str] | None = None
    has_classes: bool = True
    background_ids: tuple[int, ...] = ()
    ignore_ids: tuple[int, ...] | None = None
    split: Mapping[str, tuple[str, ...]] | None = None
    patients: Mapping[str, str] | None = None
    um_per_px: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict, repr=False)

    def locate(self, *keys: object) -> str:
        """Returns what findings call a place: ``data/dataset.yaml:3 classes.300``."""
        words = tuple(map(str, keys))
        return f"{self._find_line(words)} {shorten('.'.join(words), 200)}"

    def locate_split(self, part: str, name: str = "") -> str:
        """Returns what findings call a part of the split, with the line of a name in it, if one is given."""
        return f"{self._find_line(('split', part, name))} split.{part}"

    def _find_line(self, words: tuple[str, ...]) -> str:
        """Returns the file with the line of the innermost of nested keys that has one."""
        line = next((self.lines[words[:n]] for n in range(len(words), 0, -1) if words[:n] in self.lines), None)
        return f"{self.path}{'' if line is None else f':{line}'}"


def normalize_name(name: str) -> str:
    """Returns a name in Unicode's composed form (NFC): as macOS writes it, ``é`` is two characters, elsewhere one."""
    return unicodedata.normalize("NFC", name)


def read_dataset_file(root: Path, default_classes: Mapping[int, str], findings: list[Finding]) -> DatasetFile:
    """Reads and checks ``dataset.yaml``; appends each problem and goes on without that key. Raises nothing.

    Keys and values are the text that is written: the patients 1_23 and 12_3 are two, NO is a name. A file that names no
    classes has the default ones.
    """
    path = root / FILE
    if not os.path.lexists(path):
        misnamed = _find_misnamed(root)
        findings += [Finding(str(root / name), "is not read", f"rename it to {FILE}") for name in misnamed]
        return DatasetFile(path, has_classes=not misnamed)
    try:
        top = read_yaml(path, file=str(path), texts=True, max_bytes=_MAX_BYTES)
    except InputError as error:
        findings += error.findings
        return DatasetFile(path, has_classes=False)
    if top.value is None and not top.problems:
        return DatasetFile(path)
    is_sound = isinstance(top.value, dict) and not top.problems
    settings = _read_settings(path, top, default_classes, is_sound)
    findings += top.list_problems()
    return settings


def _read_settings(path: Path, top: YamlNode, default_classes: Mapping[int, str], is_sound: bool) -> DatasetFile:
    entries = top.read_mapping(_KEYS)
    entries = {key: node for key, node in entries.items() if node.value is not None}
    name = _read_name(entries["name"]) if "name" in entries else None
    n_before = len(top.problems)
    classes = _read_classes(entries["classes"]) if "classes" in entries else None
    no_class = {one: kind for one, name in (classes or {}).items() if (kind := _find_no_class(name))}
    taken = {one: f"the class {called}" for one, called in (classes or default_classes).items()}
    ids: dict[str, tuple[int, ...]] = {}
    for key, fix in (("ignore", "score it or ignore it"), ("background", "keep one of them")):
        named = {one for one, kind in no_class.items() if kind == key}
        others = {one: words for one, words in taken.items() if one not in named}
        listed = _read_ids(entries[key], others, fix) if key in entries else ()
        taken |= dict.fromkeys(listed, "ignored")
        if key in entries or named:
            ids[key] = tuple(sorted({*listed, *named}))
    if classes and no_class.keys() == classes.keys():
        entries["classes"].report("names no class but background", "write id and name of each: {1: tumor, 2: stroma}")
    given = top.value if isinstance(top.value, dict) else {}
    meant = {find_nearest(key, ("classes", "background", "ignore"), cutoff=0.6) for key in given if key not in _KEYS}
    split, patients = entries.get("split"), entries.get("patients")
    settings = DatasetFile(
        path=path,
        name=name,
        classes=classes and {one: called for one, called in classes.items() if one not in no_class},
        has_classes=is_sound and len(top.problems) == n_before and meant <= {None},
        background_ids=ids.get("background", ()),
        ignore_ids=ids.get("ignore"),
        split=_read_split(split) if split else None,
        patients=_read_patients(patients) if patients else None,
        um_per_px=_read_um_per_px(entries["um_per_px"]) if "um_per_px" in entries else {},
        lines=dict(_list_lines(top)),
    )
    warnings = (
        Finding(
            settings.locate("classes", one),
            f"the name makes it no class: it is read as `{kind}: [{one}]`, neither prompted nor scored as a class",
            "give it another name, such as normal tissue, if it is a class",
        )
        for one, kind in no_class.items()
    )
    return replace(settings, warnings=tuple(warnings))


def _find_no_class(name: str) -> str | None:
    return _NO_CLASS.get(re.sub(r"[\W_]", "", name).casefold())


def _find_misnamed(root: Path) -> list[str]:
    """Finds what was meant as ``dataset.yaml`` and is called otherwise; nothing in a folder that cannot be listed."""
    try:
        return sorted(name for name in os.listdir(root) if name.casefold() in _MISNAMED)
    except OSError:
        return []


def _list_lines(top: YamlNode) -> Iterable[tuple[tuple[str, ...], int]]:
    """Yields the lines of keys, and of the names in the split's parts; of one that stands twice, the last."""
    for path, line in top.lines.items():
        words = [part for part in path if isinstance(part, str)]
        if len(words) < len(path):  # an item of a list
            if len(path) != 3 or path[0] != "split":
                continue
            whole: Any = top.value
            words.append(str(whole[path[0]][path[1]][path[2]]))
        yield tuple(map(normalize_name, words)), line


def _read_name(node: YamlNode) -> str | None:
    name = normalize_name(node.read_text(""))
    if not name.isprintable():
        node.report(f"is {describe(name)}", "write a line of text, or leave it out")
    return name if name and name.isprintable() else None


def _read_classes(node: YamlNode) -> Mapping[int, str] | None:
    entries = node.read_mapping()
    if node.value == {}:
        node.report("names no class", "write id and name of each: {1: tumor, 2: stroma}")
    good: dict[int, str] = {}
    for one, child in entries.items():
        name = normalize_name(child.value) if isinstance(child.value, str) else ""
        if not _is_id(one):
            child.report("the id is no whole number in 0..255", "write the id that the masks hold")
        elif not _CLASS_NAME.fullmatch(name):
            fix = "use at most 100 letters, digits, _ . - and spaces"
            child.report(f"the name is {describe(child.value)}", fix)
        elif name.casefold() in map(str.casefold, good.values()):
            child.report(f"another class is called {name} too; upper and lower case count as one", "rename one")
        else:
            good[int(one)] = name
    return good if entries else None


def _read_ids(node: YamlNode, taken: Mapping[int, str], fix: str) -> tuple[int, ...]:
    """Reads a list of ids; ``taken`` says what other ids are already, by id, and may share none with the list."""
    ids = set()
    for item in node.read_list():
        if _is_id(item.value):
            ids.add(int(str(item.value)))
        else:
            item.report(f"must be an id in 0..255, but got {describe(item.value)}", "write a list of ids, such as [0]")
    for one in sorted(ids & taken.keys()):
        node.report(f"{one} is also {taken[one]}", fix)
    return tuple(sorted(ids))


def _read_split(node: YamlNode) -> Mapping[str, tuple[str, ...]] | None:
    entries = node.read_mapping(PARTS)
    split: dict[str, tuple[str, ...]] = dict.fromkeys(PARTS, ())
    for part, child in entries.items():
        names = child.value if isinstance(child.value, list) else None
        if names is None or not all(isinstance(name, str) for name in names):
            child.report("is no list of file names", "write [a.png, b.png]")
        else:
            split[part] = tuple(map(normalize_name, names))
    return split if isinstance(node.value, dict) else None


def _read_patients(node: YamlNode) -> Mapping[str, str]:
    patients = {}
    for name, child in node.read_mapping().items():
        # An empty cell of a table becomes nothing, a blank or NaN: all these regions would be one patient's.
        if not isinstance(child.value, str) or _NOTHING.fullmatch(child.value):
            child.report(f"is {describe(child.value)}", "write the patient's name or number")
        patients[normalize_name(name)] = normalize_name(str(child.value))
    return patients


def _read_um_per_px(node: YamlNode) -> Mapping[str, float]:
    """Reads one number for all regions, or one for each image's name."""
    children = node.read_mapping() if isinstance(node.value, dict) else {"": node}
    found = {}
    for name, child in children.items():
        is_number = isinstance(child.value, str) and bool(_NUMBER.fullmatch(child.value))
        if is_number and is_plausible(um := float(str(child.value))):
            found[normalize_name(name)] = um
        else:
            what = f"must be micrometres a pixel in {MIN_UM:g}..{MAX_UM:g}, but got {describe(child.value)}"
            child.report(what, "write a number, such as 0.25, or one for each image: {a.png: 0.25}")
    return found


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(_ID.fullmatch(value)) and int(value) <= 255
