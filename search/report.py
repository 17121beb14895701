"""A search as one HTML page that needs nothing else: ``python -m search.report --run NAME``.

Verdict, leaderboard, figures and overlays, also of a search that has not ended: then with what is there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from search.command import add_storage_option, expand_path, locate_storage, run_command
from search.errors import ConfigError, SearchError
from trainables.errors import Finding
from trainables.whole_file import write_whole

REPORT_FILE = "report.html"


def write_report(folder: Path, out: Path) -> Path:
    """Writes a search's report, whole or not at all.

    Args:
        folder: The search's folder.
        out: The file; folders above it are made if missing.

    Returns:
        The file.

    Raises:
        ConfigError: If the folder holds no search, or the report can be no file there.
        SearchError: If one of its files is damaged, or the report cannot be written.
    """
    import optuna

    from search.report_data import read_report, tell_unreportable
    from search.report_page import render_page

    _check_out(out)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        data = read_report(folder)
        with tell_unreportable(folder):
            page = render_page(data)
    finally:
        optuna.logging.set_verbosity(verbosity)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, page)
    except OSError as error:
        raise SearchError(f"the report {out} cannot be written: {error.strerror}") from error
    return out


def _check_out(out: Path) -> None:
    """Refuses what would be replaced though it is no file of a page: a pipe, a device, a folder."""
    # Not Path.exists(), which raises where a folder cannot be searched: that is told when the file is written.
    if os.path.exists(out) and not os.path.isfile(out):
        raise ConfigError([Finding(str(out), "is no plain file", "name a file")])
    above = next(path for path in out.parents if os.path.exists(path))
    if not os.path.isdir(above):
        raise ConfigError([Finding(str(out), f"{above} is no folder", "name a file in a folder")])


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and writes the report; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", required=True, help="name of a search below --storage, or its folder")
    parser.add_argument("--out", metavar="FILE", help=f"default: {REPORT_FILE} in the search's folder")
    add_storage_option(parser)
    arguments = parser.parse_args(argv)
    return run_command(lambda: _report(arguments))


def _report(arguments: argparse.Namespace) -> None:
    from search.record import find_run

    folder = find_run(locate_storage(arguments.storage), arguments.run)
    out = expand_path(arguments.out) if arguments.out else folder / REPORT_FILE
    print(write_report(folder, out))


if __name__ == "__main__":
    sys.exit(main())
