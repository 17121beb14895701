"""Exports the model that a search chose: ``python -m search.export --run NAME --out DIR``."""

import argparse
import sys

from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.run_folder.layout import find_run
from search.run_folder.search_record import SearchRecord
from search.stages.exporter import export_run


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m search.export", description=(__doc__ or "").split("\n\n")[0])
    add_run_options(parser)
    parser.add_argument("--out", required=True, help="folder to make")
    arguments = parser.parse_args(argv)

    def export() -> None:
        from search.plan.moved_inputs import find_inputs  # late: it imports PyTorch

        folder, out = find_run(locate_storage(arguments.storage), arguments.run), expand_path(arguments.out)
        with explain_stop(lambda: f"nothing was exported to {out}"):
            report = export_run(folder, out, find_inputs(folder, SearchRecord.read(folder), arguments))
        print(f"exported to {report.folder}")
        print("\n".join(report.to_lines()))

    return run_command(export)


if __name__ == "__main__":
    sys.exit(main())
