"""Reads what CLIP is told about each class: YAML, class name -> texts, every finding at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from search.errors import ConfigError
from search.yaml_lines import YamlNode, read_yaml
from trainables.errors import Finding

PROMPT_TEXTS_FILE = "prompt_texts.yaml"

PromptTexts = Mapping[str, tuple[str, ...]]


def read_prompt_texts(path: Path | None, classes: Sequence[str] | None) -> PromptTexts:
    """Reads a file of texts; of the shipped one, only the classes that the data set has.

    Args:
        path: A user's file; None for the shipped one, of BCSS's five classes.
        classes: The data set's classes, which must be the file's; None where they are not known.

    Returns:
        The texts, in the order of the data set's classes.

    Raises:
        ConfigError: With every finding: a class that the data set has not, one without texts, an entry that is
            no list, is empty, or holds anything but text.
    """
    if path is not None:
        return _read(path, classes)
    with as_file(files("trainables") / PROMPT_TEXTS_FILE) as shipped:
        texts = _read(shipped, None)
    if classes is None:
        return texts
    if missing := [name for name in classes if name not in texts]:
        what = f"the shipped texts say nothing about {', '.join(missing)}"
        fix = "write a file of texts for your classes (the shipped one shows how) and pass it"
        raise ConfigError([Finding("--prompt-texts", what, fix)])
    return {name: texts[name] for name in classes}


def _read(path: Path, classes: Sequence[str] | None) -> PromptTexts:
    node = read_yaml(path)
    entries = node.read_mapping(classes)
    texts = {name: _read_entry(entry) for name, entry in entries.items()}
    for name in classes or ():
        if name not in texts and isinstance(node.value, dict):
            node.report(f"class {name!r} of the data set has no texts", f"add {name}: [a text, another]")
    node.raise_problems()
    return {name: texts[name] for name in classes or texts}


def _read_entry(entry: YamlNode) -> tuple[str, ...]:
    items = entry.read_list()
    if entry.value == []:
        entry.report("the list is empty", "write at least one text, in quotes")
    return tuple(item.read_text("") for item in items)
