"""Writes a search as one HTML page, also while it runs: ``python -m search.report --run NAME``."""

import argparse
import sys

from search.command_line.exit_codes import run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.reporting.page import write_report
from search.run_folder.layout import REPORT_FILE


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and writes the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.report", description=(__doc__ or "").split("\n\n")[0])
    add_run_options(parser, reads_data=False)
    parser.add_argument("--out", metavar="FILE", help=f"default: {REPORT_FILE} in the search's folder")
    arguments = parser.parse_args(argv)
    return run_command(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> None:
    from search.run_folder.layout import find_run

    folder = find_run(locate_storage(arguments.storage), arguments.run)
    out = expand_path(arguments.out) if arguments.out else folder / REPORT_FILE
    print(write_report(folder, out))


if __name__ == "__main__":
    sys.exit(main())
