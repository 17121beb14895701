"""YAML that remembers its lines, so that all problems of a file can be told at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from search.command_line.numbers import MAX_COUNT
from search.errors import ConfigError
from trainables.errors import Finding
from trainables.recipe import suggest_name

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_DIGITS = 100

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
# YAML 1.1 reads 010 as 8 and 1:30 as 90.
_SURPRISING_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")
_NUMBER = re.compile(r"([-+]?)([0-9]*)(\.[0-9]*)?(?:[eE]([-+]?)([0-9]+))?")


@dataclass(frozen=True)
class YamlNode:
    """A value of a YAML file with its place, and the problems found in the file so far.

    Attributes:
        value: Plain Python: dict, list, str, int, float, bool or None.
        path: Keys and list indices from the top of the file.
        file: The file's name, as messages tell it.
        lines: Line of every path of the file, counted from 1.
        problems: Line and finding of everything reported; shared by all nodes of one file.
    """

    value: object
    path: KeyPath
    file: str
    lines: Mapping[KeyPath, int] = field(repr=False)
    problems: list[tuple[int, Finding]] = field(repr=False)

    @property
    def where(self) -> str:
        """The place, such as ``lora.yaml:12 space.adapter.rank``; only the file for the top of it."""
        if not self.path:
            return self.file
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{self.file}:{self.lines[self.path]} {dotted.lstrip('.')}"

    def report(self, what: str, fix: str) -> None:
        """Keeps one problem of this value for ``raise_problems``."""
        self.problems.append((self.lines[self.path], Finding(self.where, what, fix)))

    def raise_problems(self) -> None:
        """Raises ConfigError with every problem reported in the file, by line, if there is any."""
        if self.problems:
            raise ConfigError([finding for _, finding in sorted(self.problems, key=lambda item: item[0])])

    def read_mapping(self, known: Sequence[str] | None = None) -> dict[str, YamlNode]:
        """Returns the values by key; keys that are not known are reported and left out."""
        if not isinstance(self.value, dict):
            self.report(f"must be a mapping, but got {describe(self.value)}", "write {key: value}")
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

    def read_int(self, default: int, low: int) -> int:
        """Returns a whole number from ``low`` to ``MAX_COUNT``; reports anything else and returns the default."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            spelled = spell_number(self.value, int) if isinstance(self.value, str) else None
            fix = f"write {spelled}, without quotes" if spelled else f"write a whole number such as {default}"
            self.report(f"must be a whole number, but got {describe(self.value)}", fix)
        elif self.value < low:
            self.report(f"must be at least {low}, but got {self.value}", f"write {low} or more")
        elif self.value > MAX_COUNT:
            self.report(f"must be at most {MAX_COUNT:,}, but got {self.value:,}", "write a smaller number")
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
        return YamlNode(value, (*self.path, key), self.file, self.lines, self.problems)


def read_yaml(path: Path) -> YamlNode:
    """Reads a YAML file.

    Duplicate keys, keys that are not text, and values that are no plain text, number or truth value are
    reported in the node's problems, beside what the caller adds.

    Raises:
        ConfigError: If the file cannot be read, is too large, is not text, is empty, is not YAML, or has
            aliases (a few nested ones stand for gigabytes).
    """
    text = _read_text(path)
    try:
        loader = _BoundedLoader(text)
        top = loader.get_single_node()
    except yaml.YAMLError as error:
        raise ConfigError([_tell_syntax_error(path.name, error)]) from error
    if top is None:
        raise ConfigError([Finding(path.name, "the file is empty", "write at least a space: mapping")])
    builder = _Builder(loader, path.name)
    return YamlNode(builder.build(top, ()), (), path.name, builder.lines, builder.problems)


def spell_number(text: str, kind: type) -> str | None:
    """Returns how YAML 1.1 wants a number to be written that it reads as text, or None for other text.

    It takes an exponent only after a dot and with a sign: ``1e-4`` is text, ``1.0e-4`` a number.

    Args:
        text: As it stands in the file.
        kind: ``int`` or ``float``: what is wanted.
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
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{shown} ({'text' if isinstance(value, str) else type(value).__name__})"


class _BoundedLoader(yaml.SafeLoader):
    """Refuses aliases and deep nesting while it reads; leaves dates as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TAG + "timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise ComposerError(None, None, "aliases (*name) are not supported", mark)
        if self.depth >= MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Builder:
    """Turns the nodes of one file into plain values; collects their lines and problems."""

    def __init__(self, loader: _BoundedLoader, file: str) -> None:
        self._loader = loader
        self._file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, Finding]] = []

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        """Returns the plain value of one node; None where it has none."""
        self.lines.setdefault(path, node.start_mark.line + 1)
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
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                shown = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                finding = Finding(
                    f"{self._file}:{line}", f"a key must be text, but got {shown}", "put it in quotes"
                )
                self.problems.append((line, finding))
            elif key.value in values:
                first = self.lines[(*path, key.value)]
                what = f"key {key.value!r} stands twice, in lines {first} and {line}"
                self._report((*path, key.value), what, "keep one of them")
            else:
                self.lines[(*path, key.value)] = line
                values[key.value] = self.build(value, (*path, key.value))
        return values

    def _build_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        kind = node.tag.replace(_TAG, "")
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
        YamlNode(None, path, self._file, self.lines, self.problems).report(what, fix)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError([Finding(path.name, "is not a file", "give the path of a YAML file")])
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(
                [Finding(path.name, "the file is over 1 MB", "give a space file, which is text of a page")]
            )
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"the file is not UTF-8 text (byte {error.start})"
        raise ConfigError([Finding(path.name, what, "give a YAML file, saved as UTF-8")]) from error
    except OSError as error:
        what = f"the file cannot be read: {error.strerror}"
        raise ConfigError([Finding(str(path), what, "check the path and its permissions")]) from error


def _tell_syntax_error(file: str, error: yaml.YAMLError) -> Finding:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return Finding(
            file, "the file holds characters that YAML text has not", "give a text file, saved as UTF-8"
        )
    what = f"not valid YAML: {error.problem}" + (f" {error.context}" if error.context else "")
    fix = "check the indentation, colons, quotes and brackets there"
    if "\\t" in what:
        fix = "indent with spaces; YAML allows no tabs"
    if "alias" in what or "levels" in what:
        fix = "write the values out"
    return Finding(f"{file}:{mark.line + 1}:{mark.column + 1}", what, fix)
