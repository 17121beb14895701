"""The script that completes the console command in a shell, written by shtab."""

import argparse
from collections.abc import Mapping

from search.command_line.command_parser import CONSOLE, make_command

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "FILE.csv", "FILE_OR_HUB_ID", "IMAGE")  # metavars of what may be a file
_FOLDERS = ("DIR",)


def make_completion_parser() -> argparse.ArgumentParser:
    """Returns the parser of the verb ``completion``."""
    parser = make_command(
        "completion",
        f"Prints a script that completes {CONSOLE}, its verbs, options and files with the tab key.",
        {
            'bash    # in ~/.bashrc: eval "$(sam2-search completion bash)"': "in every new bash",
            "zsh > ~/.zfunc/_sam2-search": "in every new zsh, if ~/.zfunc is in fpath",
            "fish > ~/.config/fish/completions/sam2-search.fish": "in every new fish",
        },
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def compose_completion(verbs: Mapping[str, argparse.ArgumentParser], shell: str) -> str:
    """Returns the script for a shell, given each verb's parser."""
    import shtab  # late: the other verbs need none of it

    whole = argparse.ArgumentParser(prog=CONSOLE)
    below = whole.add_subparsers()
    for verb, parser in verbs.items():
        about = (parser.description or "").partition(". ")[0]
        made = below.add_parser(verb, parents=[parser], add_help=False, help=about, description=about)
        for action in made._actions:
            if action.metavar in _FILES or action.dest == "space":
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
            elif action.metavar in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    script: str = shtab.complete(whole, shell)
    return script
