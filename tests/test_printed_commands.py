"""The commands that README and docs print are commands, with options that exist and values that their parsers take."""

import re
import shlex
from pathlib import Path

import pytest

from search.console import VERBS, make_verb_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").glob("*.md"))]
COMMAND = re.compile(r"(?:sam2-search |python -m search\.)(\w+)(.*)")


def list_commands() -> list[tuple[str, str, str]]:
    """Returns page, verb and arguments of every command in a block of code, and of those between backquotes."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines += re.findall(r"`((?:sam2-search |python -m search\.)[^`]+)`", prose)
        found += [(page.name, *match.groups()) for line in lines for match in [COMMAND.search(line)] if match]
    return found


@pytest.mark.parametrize(("page", "verb", "arguments"), list_commands())
def test_a_printed_command_is_understood(page: str, verb: str, arguments: str) -> None:
    if verb.isupper():  # COMMAND stands for any
        return
    assert verb in VERBS, f"{page} prints the verb {verb}"
    typed = re.split(r"\s[|>&]|\s\.\.\.|\)\"", arguments)[0]
    words = shlex.split(re.sub(r"\[(--[^]]*)\]", r"\1", typed), comments=True)  # [--json] may be left out
    if words:  # else the command's name alone, in a sentence
        make_verb_parser(verb).parse_args(words)
