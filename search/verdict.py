"""Compares two columns of a scores file: ``python -m search.verdict --scores FILE --candidate A --baseline B``."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from search.command_line.command_parser import make_command
from search.command_line.exit_codes import run_command


def make_parser() -> argparse.ArgumentParser:
    parser = make_command(
        "verdict",
        "Compares two columns of a table of scores pair by pair, clustered by patient: is the baseline beaten?",
        {
            "--scores runs/NAME/scores_test.csv --candidate winner --baseline zeroshot": "a search's verdict",
            "--scores mine.csv --candidate ours --baseline theirs --patient case": "any two models on the same pairs",
        },
    )
    parser.add_argument(
        "--scores",
        type=Path,
        required=True,
        metavar="FILE.csv",
        help="columns file, class and one for each model; scores in [0, 1]",
    )
    parser.add_argument("--candidate", required=True, metavar="COL", help="the model that should win")
    parser.add_argument("--baseline", required=True, metavar="COL", help="the model to beat")
    parser.add_argument("--patient", metavar="COL", help="the patient (default: patient, else TCGA barcodes in file)")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, judges, prints; returns the exit code, 0 whatever the word is, 2 for input that cannot be used."""
    options = make_parser().parse_args(arguments)
    return run_command(lambda: _judge_file(options))


def _judge_file(options: argparse.Namespace) -> None:
    from search.judging.paired_scores import read_scores  # late: they import pandas and SciPy
    from search.judging.verdict import judge

    verdict = judge(read_scores(options.scores, options.candidate, options.baseline, options.patient))
    print(json.dumps(dataclasses.asdict(verdict), indent=2) if options.json else verdict.to_text())


if __name__ == "__main__":
    sys.exit(main())
