"""The console command ``sam2-search VERB``: each verb is ``python -m search.VERB``, and ``resume`` is run's."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Mapping

from search.command_line.command_parser import CONSOLE
from search.command_line.completion import compose_completion, make_completion_parser
from search.command_line.exit_codes import DONE, WRONG_INPUT, end_process, run_command

VERBS: Mapping[str, str] = {
    "run": "searches, tracks, judges, exports",
    "check": "checks everything that a search needs, and starts nothing",
    "resume": "goes on with a search that stopped, by default the last one; adds trials",
    "report": "rebuilds the report at any time, also while the search runs",
    "export": "writes the winner's model files into another folder",
    "predict": "segments images without any prompt",
    "compare": "scores SAM or MedSAM on a search's validation regions",
    "verdict": "compares any two columns of a CSV file of scores",
    "open_test": "scores another trial on the test set, which is flagged",
    "completion": "prints what completes these words in bash, zsh or fish",
}
_WIDTH = max(map(len, VERBS)) + 2
HELP = f"""\
{CONSOLE} searches fine-tunes of SAM2 for one that beats zero-shot on your histology.

Type first:
  {CONSOLE} run --space lora.yaml
      a demo: no data, no weights, no GPU; five to twelve minutes on two CPU cores

Then, with images and masks of your own in data/:
  {CONSOLE} check --space lora.yaml --data data
      lists every error and warning
  {CONSOLE} run --space lora.yaml --data data --dry-run
      shows ten trials, and what the search would cost
  {CONSOLE} run --space lora.yaml --data data
      runs it; Ctrl-C stops it
  {CONSOLE} resume
      goes on with it

Verbs, each with --help:
{chr(10).join(f"  {verb:{_WIDTH}}{what}" for verb, what in VERBS.items())}
"""


def main(argv: list[str] | None = None) -> int:
    """Calls a verb; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    verb = words[0] if words else "--help"
    if verb in ("--help", "-h", "help"):
        print(HELP, end="")
        return DONE
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        question = f"did you mean {near[0]}? " if near else ""
        print(f"error: there is no verb {verb!r}; {question}verbs are: {', '.join(VERBS)}", file=sys.stderr)
        return WRONG_INPUT
    if verb == "resume":
        return _resume(words[1:])
    if verb == "completion":
        shell = make_completion_parser().parse_args(words[1:]).shell
        print(compose_completion({each: make_verb_parser(each) for each in VERBS}, shell))
        return DONE
    code: int = importlib.import_module(f"search.{verb}").main(words[1:])
    return code


def make_verb_parser(verb: str) -> argparse.ArgumentParser:
    if verb == "resume":
        from search.command_line.options import make_resume_parser

        return make_resume_parser()
    if verb == "completion":
        return make_completion_parser()
    module = importlib.import_module(f"search.{verb}")
    parser: argparse.ArgumentParser = module.make_parser()
    return parser


def _resume(words: list[str]) -> int:
    from search.command_line.options import make_resume_parser, parse_options
    from search.run import run_options

    options = parse_options(make_resume_parser(), words)
    return run_command(lambda: run_options(options))


def start() -> None:
    """Runs the console command and ends the process."""
    end_process(main())


if __name__ == "__main__":
    start()
