"""The parser of a command: named as it was called, with examples at the end of its help."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

CONSOLE = "sam2-search"  # the command of pyproject.toml
_HEADING = "examples:\n"


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, and leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        prose, heading, examples = text.partition(_HEADING)
        filled = super()._fill_text(prose, width, indent) if prose.strip() else ""
        return "\n\n".join(filter(None, [filled, heading + examples]))


def make_command(name: str, description: str, examples: Mapping[str, str], note: str = "") -> argparse.ArgumentParser:
    """Returns the parser of a command without options.

    Args:
        name: Of the module below ``search``, and of the verb.
        description: What the command does; one or a few sentences.
        examples: Arguments as they are typed -> what they do.
        note: A paragraph below the options.
    """
    command = name_command(name)
    lines = [f"  {f'{command} {words}'.strip()}\n      {what}" for words, what in examples.items()]
    epilog = f"{note}\n{_HEADING}" + "\n".join(lines)
    return argparse.ArgumentParser(
        prog=command, description=description, epilog=epilog, formatter_class=_Formatter, allow_abbrev=False
    )


def name_command(name: str) -> str:
    """Returns how a command is typed: as this process was, by the console command or as a module."""
    is_console = Path(sys.argv[0]).name == CONSOLE or name in ("resume", "completion")
    return f"{CONSOLE} {name}" if is_console else f"python -m search.{name}"
