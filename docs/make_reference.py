"""Writes what docs/ says of options, fields and keys from the code: ``python docs/make_reference.py``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from search.console import VERBS, make_verb_parser
from search.python_call import SearchOutcome, run_search
from search.run_folder.chosen import ChosenModel
from search.run_folder.origin import Origin
from search.run_folder.summary import _ATTRIBUTES, Bar, HeldOut, Summary
from search.space.kinds import SAMPLER_OPTIONS, SCHEDULER_OPTIONS, SamplerConfig, SchedulerConfig, StopConfig
from trainables.protocol.fields import PROTOCOL_RULES
from trainables.recipe import FieldRule, Recipe, Scalar, list_rules

DOCS = Path(__file__).parent
BEGIN, END = "<!-- made by docs/make_reference.py -->", "<!-- end of what is made -->"


def make_pages() -> dict[Path, str]:
    """Returns each page as it should be: what stands between its two marker comments is made anew."""
    parts = {"spaces.md": make_field_tables(), "reference.md": make_reference()}
    return {DOCS / name: fill(DOCS / name, part) for name, part in parts.items()}


def fill(page: Path, part: str) -> str:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{page} has no {BEGIN} ... {END}"
    return f"{before}{BEGIN}\n\n{part}\n\n{END}{after}"


def make_reference() -> str:
    """Returns the sections of the reference: commands, Python, keys of summary.json, schedulers and samplers."""
    parts = ["## Commands"]
    for verb in VERBS:
        parts += describe_verb(verb)
    parts += ["## From Python", f"`from search import run_search`. {_first_lines(run_search)}", describe_call()]
    parts += [
        "## summary.json",
        "Also the line that `--json` prints. From Python: `outcome.summary`.",
        describe_summary(),
    ]
    parts += ["## Schedulers and samplers of a space", describe_kinds("scheduler", SCHEDULER_OPTIONS, SchedulerConfig)]
    parts += [describe_kinds("sampler", SAMPLER_OPTIONS, SamplerConfig)]
    stop = ((f"`{name}`", text) for name, text in read_attributes(StopConfig).items())
    parts += [f"`stop`: {_first_lines(StopConfig)}", make_table(("key", "meaning"), stop)]
    return "\n\n".join(parts)


def describe_verb(verb: str) -> list[str]:
    """Returns a verb's heading, what it does, and a table of its arguments, unless they are those of ``run``."""
    parser = make_verb_parser(verb)
    head = [f"### {verb}", _clean(parser.description or "")]
    if verb != "run" and _list_arguments(parser) == _list_arguments(make_verb_parser("run")):
        return [*head, "Takes the options of `run`."]
    rows = [(_spell_argument(action), _clean(_fill_in(action))) for action in _list_arguments(parser, whole=True)]
    return [*head, make_table(("argument", "meaning"), rows)]


def describe_call() -> str:
    """Returns the attributes of what ``run_search`` returns."""
    given = "Arguments have the names of `run`'s options: `num_trials=32` is `--num-trials 32`. It returns:"
    rows = ((f"`{name}`", text) for name, text in read_attributes(SearchOutcome).items())
    return f"{given}\n\n{make_table(('attribute', 'meaning'), rows)}"


def describe_summary() -> str:
    """Returns a row for each key of summary.json: the meaning that the attribute's class gives it."""
    classes = {"origin": Origin, "chosen": ChosenModel, "bar": Bar, "test": HeldOut, "": Summary}
    rows = []
    for key, attribute in _ATTRIBUTES.items():
        part, _, name = attribute.rpartition(".")
        rows.append((f"`{key}`", f"`{attribute}`", read_attributes(classes[part])[name]))
    return make_table(("key", "from Python", "meaning"), rows)


def describe_kinds(section: str, options: Mapping[str, tuple[str, ...]], config: type) -> str:
    """Returns a table of the keys of a section of a space, and which kinds take them."""
    meanings = read_attributes(config)
    rows = [("`kind`", "", meanings["kind"])]
    for name in dict.fromkeys(option for own in options.values() for option in own):
        rows.append((f"`{name}`", ", ".join(kind for kind, own in options.items() if name in own), meanings[name]))
    return f"`{section}`:\n\n{make_table(('key', 'of kinds', 'meaning'), rows)}"


def make_field_tables() -> str:
    """Returns a row for each field of a recipe, with its default, and for each of a protocol that can be searched."""
    defaults = Recipe().to_flat()
    recipe = (
        (f"`{name}`", rule.kind.__name__, _spell_values(rule), f"`{_spell(defaults[name])}`", rule.help)
        for name, rule in list_rules().items()
    )
    protocol = (
        (f"`{name}`", rule.kind.__name__, _spell_values(rule), rule.help) for name, rule in PROTOCOL_RULES.items()
    )
    parts = [make_table(("field", "kind", "values", "default", "meaning"), recipe), "## Protocol fields"]
    parts += ["They can be searched with `train: false` alone; what is not given is that of `protocol:`."]
    return "\n\n".join([*parts, make_table(("field", "kind", "values", "meaning"), protocol)])


def make_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * lines[0].count(" | ") + "|---|", *lines[1:]])


def read_attributes(documented: type) -> dict[str, str]:
    """Returns what a class's docstring says of each attribute, for its fields in their order."""
    _, _, listed = (inspect.getdoc(documented) or "").partition("Attributes:\n")
    found = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, re.MULTILINE))
    names = [each.name for each in dataclasses.fields(documented)]
    return {name: _clean(found[name]) for name in names if name in found}


def _list_arguments(parser: argparse.ArgumentParser, whole: bool = False) -> list[object]:
    actions = [action for action in parser._actions if action.dest != "help"]
    return actions if whole else [action.dest for action in actions]


def _spell_argument(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    return f"`{' '.join(filter(None, [*action.option_strings, str(value)]))}`"


def _fill_in(action: argparse.Action) -> str:
    default = action.default
    said = not default or isinstance(default, list) or "default" in (action.help or "")
    return (action.help or "") + ("" if said else f" (default: {default})")


def _first_lines(documented: object) -> str:
    return _clean((inspect.getdoc(documented) or "").partition("\n\n")[0])


def _clean(text: str) -> str:
    """Returns a text in one line, with Markdown's backquotes, that ends no cell of a table."""
    plain = " ".join(text.split()).replace("``", "`").replace("|", r"\|")
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", plain)


def _spell_values(rule: FieldRule) -> str:
    if rule.choices:
        return ", ".join(rule.choices)
    if rule.low is None or rule.high is None:
        return "true, false" if rule.kind is bool else "any text"
    return f"{rule.low:g} to {rule.high:g}"


def _spell(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    for path, text in make_pages().items():
        path.write_text(text, encoding="utf-8")
