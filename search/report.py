"""Writes a search as one HTML page, also while it runs: ``python -m search.report --run NAME``."""

import argparse
import sys

from search.command_line.command_parser import make_command
from search.command_line.exit_codes import run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.run_folder.layout import REPORT_FILE, find_run


def make_parser() -> argparse.ArgumentParser:
    parser = make_command(
        "report",
        "Writes a search as one HTML page, also while it runs.",
        {
            "--run NAME": "the report of runs/NAME, in its folder",
            "--run last --out page.html": "the report of the latest search, as a file of your choice",
        },
    )
    add_run_options(parser, reads_data=False)
    parser.add_argument("--out", metavar="FILE", help=f"default: {REPORT_FILE} in the search's folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and writes the report; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_command(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> None:
    from search.reporting.page import write_report  # late: it imports Optuna and matplotlib

    folder = find_run(locate_storage(arguments.storage), arguments.run)
    out = expand_path(arguments.out) if arguments.out else folder / REPORT_FILE
    print(write_report(folder, out))


if __name__ == "__main__":
    sys.exit(main())
