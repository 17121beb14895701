"""Exports the model that a search chose: ``python -m search.export --run NAME --out DIR``."""

import argparse
import sys

from search.command_line.command_parser import make_command
from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.run_folder.layout import find_run


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = make_command(
        "export",
        "Writes the files of the model that a search chose into another folder, and scores them once more.",
        {
            "--run last --out best/": "the winner of the latest search",
            "--run NAME --out best/ --data /new/place": "the data has moved since",
        },
    )
    add_run_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    arguments = make_parser().parse_args(argv)

    def export() -> None:
        from search.plan.moved_inputs import find_inputs  # late: they import PyTorch
        from search.run_folder.search_record import SearchRecord
        from search.stages.exporter import export_run

        folder, out = find_run(locate_storage(arguments.storage), arguments.run), expand_path(arguments.out)
        with explain_stop(lambda: f"nothing was exported to {out}"):
            report = export_run(folder, out, find_inputs(folder, SearchRecord.read(folder), arguments))
        print(f"exported to {report.folder}")
        print("\n".join(report.to_lines()))

    return run_command(export)


if __name__ == "__main__":
    sys.exit(main())
