"""Reads YAML files with the line of every value, and collects all problems of a file, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from trainables.errors import Finding, InputError, shorten, suggest_name

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_DIGITS = 100

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
# YAML 1.1 reads 010 as 8 and 1:30 as 90.
_SURPRISING_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")
_EXPONENT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")
_NUMBER = re.compile(r"([-+]?)([0-9]*)(\.[0-9]*)?(?:[eE]([-+]?)([0-9]+))?")


@dataclass(frozen=True)
class YamlNode:
    """A value of a YAML file with its place, and the problems found in the file so far.

    Attributes:
        value: Plain Python: dict, list, str, int, float, bool or None.
        path: Keys and list indices from the top of the file.
        file: The file, as findings name it.
        lines: Line of every path of the file, counted from 1.
        problems: Line and finding of everything reported; shared by all nodes of one file.
        error_type: Makes the error of ``raise_problems`` from a list of findings.
        places: Places of the paths that stand elsewhere, in words; their lines only give their order.
    """

    value: object
    path: KeyPath
    file: str
    lines: Mapping[KeyPath, int] = field(repr=False)
    problems: list[tuple[int, Finding]] = field(repr=False)
    error_type: Callable[[list[Finding]], Exception] = field(default=InputError, repr=False)
    places: Mapping[KeyPath, str] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """The place, such as ``lora.yaml:12 space.adapter.rank``; only the file for the top of it."""
        if not self.path:
            return self.file
        if self.path in self.places:
            return self.places[self.path]
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{self.file}:{self.lines[self.path]} {dotted.lstrip('.')}"

    def cite(self, path: KeyPath) -> str:
        """Returns where another value stands, for a sentence: ``in line 12``, ``in --set optim.lr``."""
        return f"in {self.places[path]}" if path in self.places else f"in line {self.lines[path]}"

    def report(self, what: str, fix: str) -> None:
        """Keeps one problem of this value for ``raise_problems``."""
        self.problems.append((self.lines[self.path], Finding(self.where, what, fix)))

    def list_problems(self) -> list[Finding]:
        """Returns every problem reported in the file, by line."""
        return [finding for _, finding in sorted(self.problems, key=lambda item: item[0])]

    def raise_problems(self) -> None:
        """Raises the file's type of error with every problem reported in the file, if there is any."""
        if self.problems:
            raise self.error_type(self.list_problems())

    def read_mapping(self, known: Sequence[str] | None = None) -> dict[str, YamlNode]:
        """Returns the values by key; keys that are not known are reported and left out."""
        if not isinstance(self.value, dict):
            is_empty = self.value is None and not self.path
            what = "the file is empty" if is_empty else f"must be a mapping, but got {describe(self.value)}"
            self.report(what, "write {key: value}")
            return {}
        children = {key: self._child(key, value) for key, value in self.value.items()}
        if known is None:
            return children
        for key in [key for key in children if key not in known]:
            children.pop(key).report(f"unknown key {key!r}", suggest_name(key, tuple(known)))
        return children

    def read_list(self) -> list[YamlNode]:
        """Returns the items of a list."""
        if not isinstance(self.value, list):
            self.report(f"must be a list, but got {describe(self.value)}", "write [first, second]")
            return []
        return [self._child(index, value) for index, value in enumerate(self.value)]

    def read_int(self, default: int, low: int, high: int) -> int:
        """Returns a whole number from ``low`` to ``high``; reports anything else and returns the default."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            spelled = spell_number(self.value, int) if isinstance(self.value, str) else None
            fix = f"write {spelled}, without quotes" if spelled else f"write a whole number such as {default}"
            self.report(f"must be a whole number, but got {describe(self.value)}", fix)
        elif self.value < low:
            self.report(f"must be at least {low}, but got {self.value}", f"write {low} or more")
        elif self.value > high:
            self.report(f"must be at most {high:,}, but got {self.value:,}", "write a smaller number")
        else:
            return self.value
        return default

    def read_bool(self, default: bool) -> bool:
        """Returns true or false; reports anything else and returns the default."""
        if isinstance(self.value, bool):
            return self.value
        self.report(f"must be true or false, but got {describe(self.value)}", "write true or false")
        return default

    def read_text(self, default: str) -> str:
        """Returns text that is not blank; reports anything else and returns the default."""
        if isinstance(self.value, str) and self.value.strip():
            return self.value
        wrong = "is blank" if isinstance(self.value, str) else f"must be text, but got {describe(self.value)}"
        self.report(wrong, "write text, in quotes, or leave it out")
        return default

    def read_word(self, default: str, known: Sequence[str]) -> str:
        """Returns one of the known words; reports anything else and returns the default."""
        if isinstance(self.value, str) and self.value in known:
            return self.value
        what = f"must be one of {', '.join(known)}, but got {describe(self.value)}"
        self.report(what, suggest_name(str(self.value), tuple(known)))
        return default

    def _child(self, key: str | int, value: object) -> YamlNode:
        return YamlNode(value, (*self.path, key), self.file, self.lines, self.problems, self.error_type, self.places)


def read_yaml(
    path: Path,
    error_type: Callable[[list[Finding]], Exception] = InputError,
    file: str = "",
    texts: bool = False,
    max_bytes: int = MAX_BYTES,
) -> YamlNode:
    """Reads a YAML file of bounded size, depth and effort.

    Keys that stand twice, keys that are not text, aliases (a few nested ones stand for gigabytes), deep nesting, and
    values that are no plain text, number or truth value are reported in the node's problems, beside what the caller
    adds.

    Args:
        path: The file.
        error_type: Makes what is raised, from a list of findings.
        file: What findings call the file; its name by default.
        texts: Whether every key and value is the text that is written, as a file of names needs it: YAML 1.1 reads
            1_23 and 12_3 as one number, 010 as 8, NO as false. Nothing stays None.
        max_bytes: Greatest size of the file.

    Returns:
        The top of the file; with the value None for an empty file.

    Raises:
        InputError: If the file cannot be read, is too large, is not text, or is not YAML.
    """
    file = file or path.name
    text = _read_text(path, file, max_bytes, error_type)
    return _build_tree((_TextLoader if texts else _PlainLoader)(text), text, file, error_type, texts)


def read_yaml_value(text: str, name: str, error_type: Callable[[list[Finding]], Exception] = InputError) -> YamlNode:
    """Reads a value that was typed on a command line, as :func:`read_yaml` reads a file; ``1e-4`` is a number.

    Raises:
        InputError: If the text is not YAML.
    """
    return _build_tree(_ValueLoader(text), text, name, error_type, texts=False)


def _build_tree(
    loader: _PlainLoader, text: str, file: str, error_type: Callable[[list[Finding]], Exception], texts: bool
) -> YamlNode:
    try:
        top = loader.get_single_node()
        builder = _Builder(loader, file, error_type, texts)
        return replace(builder.top, value=None if top is None else builder.build(top, ()))
    except yaml.YAMLError as error:
        raise error_type([_describe_syntax_error(file, text, error)]) from error
    finally:
        loader.dispose()


def spell_number(text: str, kind: type) -> str | None:
    """Returns how YAML 1.1 wants a number (int or float) to be written that it reads as text; None for other text.

    It takes an exponent only after a dot and with a sign: ``1e-4`` is text, ``1.0e-4`` a number.
    """
    match = _NUMBER.fullmatch(text.strip())
    if not match or not re.search("[0-9]", match[2] + (match[3] or "")):
        return None
    number = float(text)
    if kind is int and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    spelled = f"{sign.strip('+')}{whole.lstrip('0') or '0'}.{fraction[1:] or '0'}"
    return f"{spelled}e{exponent_sign or '+'}{exponent}" if exponent else spelled


def describe(value: object) -> str:
    """Returns a value and its kind in words short enough for one line."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{shorten(repr(value))} ({'text' if isinstance(value, str) else type(value).__name__})"


# The C loader reads 100,000 names in a second, the other in a minute.
class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two
    """Leaves dates as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TAG + "timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _TextLoader(_PlainLoader):
    """Leaves everything as text but nothing."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag == _TAG + "null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _ValueLoader(_PlainLoader):
    """Reads numbers as YAML 1.2 does."""

    yaml_implicit_resolvers = {
        first: [*_PlainLoader.yaml_implicit_resolvers.get(first, []), (_TAG + "float", _EXPONENT)]
        for first in {*_PlainLoader.yaml_implicit_resolvers, *"+-.0123456789"}
    }


class _Builder:
    """Turns the nodes of one file into plain values; collects their lines and problems."""

    def __init__(
        self, loader: _PlainLoader, file: str, error_type: Callable[[list[Finding]], Exception], texts: bool
    ) -> None:
        self._loader = loader
        self._texts = texts
        self._lines: dict[KeyPath, int] = {(): 1}
        self._seen: set[int] = set()
        self.top = YamlNode(None, (), file, self._lines, [], error_type)

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        """Returns the plain value of one node; None where it has none."""
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            self._report(path, "aliases (*name) are not supported", "write the values out")
            return None
        self._seen.add(id(node))
        if len(path) >= MAX_DEPTH:
            self._report(path, f"is nested more than {MAX_DEPTH} levels deep", "write the values out")
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._build_mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN_TAGS:
            return self._build_scalar(node, path)
        self._report(path, f"tag {node.tag.replace(_TAG, '!!')} is not supported", "write the plain value")
        return None

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or (key.tag != _TAG + "str" and not self._texts):
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                what = f"a key must be text, but got {shown}"
                self.top.problems.append((line, Finding(f"{self.top.file}:{line}", what, "put it in quotes")))
            elif key.value in values:
                first = self._lines[(*path, key.value)]
                what = f"key {key.value!r} stands twice, in lines {first} and {line}"
                self._report((*path, key.value), what, "keep one of them")
            else:
                self._lines[(*path, key.value)] = line
                values[key.value] = self.build(value, (*path, key.value))
        return values

    def _build_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind = node.tag.replace(_TAG, "")
        if kind == "str":
            return node.value
        if kind in ("int", "float") and _SURPRISING_NUMBER.fullmatch(node.value):
            self._report(path, f"YAML 1.1 reads {node.value} as another number", "write plain decimals")
            return None
        if kind == "int" and len(node.value) > MAX_DIGITS:
            self._report(path, f"is a number of {len(node.value):,} characters", "write a smaller number")
            return None
        try:
            value: object = self._loader.construct_object(node)
        # A tag that the author wrote (!!int "eight").
        except (ValueError, KeyError, IndexError, yaml.YAMLError):
            self._report(path, f"is no {kind}: {describe(node.value)}", "write a plain value")
            return None
        return value

    def _report(self, path: KeyPath, what: str, fix: str) -> None:
        replace(self.top, path=path).report(what, fix)


def _read_text(path: Path, file: str, max_bytes: int, error_type: Callable[[list[Finding]], Exception]) -> str:
    try:
        if path.exists() and not path.is_file():
            raise error_type([Finding(file, "is not a file", "give the path of a YAML file")])
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            what = f"the file is over {max_bytes // 1_000_000} MB"
            raise error_type([Finding(file, what, "give a YAML file, which is text")])
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start})"
        raise error_type([Finding(file, what, "give a YAML file, saved as UTF-8")]) from error
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        raise error_type([Finding(str(path), what, "check the path and its permissions")]) from error


def _describe_syntax_error(file: str, text: str, error: yaml.YAMLError) -> Finding:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return Finding(file, "the file holds characters that YAML text has not", "give a text file, saved as UTF-8")
    what = f"not valid YAML: {error.problem}" + (f" {error.context}" if error.context else "")
    rest = "".join(text.splitlines()[mark.line : mark.line + 1])[mark.column :]
    fix = "check the indentation, colons, quotes and brackets there"
    if rest.startswith("\t"):
        fix = "indent with spaces; YAML allows no tabs"
    return Finding(f"{file}:{mark.line + 1}:{mark.column + 1}", what, fix)
