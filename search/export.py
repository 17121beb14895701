"""Exports the model that a search chose: ``python -m search.export --run NAME --out DIR``."""

import argparse
import sys

from search.command_line.exit_codes import run_command
from search.command_line.options import add_storage_option
from search.command_line.paths import expand_path, locate_storage
from search.run_folder.layout import find_run
from search.stages.exporter import export_run


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.export", description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", required=True, help="name of a search below --storage, or its folder")
    parser.add_argument("--out", required=True, help="folder to make")
    add_storage_option(parser)
    arguments = parser.parse_args(argv)

    def export() -> None:
        run_folder = find_run(locate_storage(arguments.storage), arguments.run)
        report = export_run(run_folder, expand_path(arguments.out))
        print(f"exported to {report.folder}")
        print("\n".join(report.to_lines()))

    return run_command(export)


if __name__ == "__main__":
    sys.exit(main())
