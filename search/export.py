"""Exports the model that a search chose: ``python -m search.export --run NAME --out DIR``."""

import argparse
import sys
from pathlib import Path

from search.command_line.command_parser import make_command
from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.errors import ConfigError
from search.run_folder.layout import find_run
from trainables.errors import Finding

FORMATS = ("transformers", "onnx", "qupath")  # of trainables.export.formats, which imports PyTorch


def make_parser() -> argparse.ArgumentParser:
    parser = make_command(
        "export",
        "Writes the files of the model that a search chose into another folder, and scores them once more.",
        {
            "--run last --out best/": "the winner of the latest search",
            "--run NAME --out best/ --data /new/place": "the data has moved since",
            "--run NAME --out best/ --format transformers onnx": "also for Sam2Model and for onnxruntime",
            "--run NAME --out best/ --push-to-hub USER/MODEL": "lists the files, asks, and uploads them",
        },
    )
    add_run_options(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=[],
        metavar="FORMAT",
        help="write for other tools too: transformers (a folder for Sam2Model), onnx (encoder and decoder for "
        "onnxruntime), qupath (a file for samapi, the server of QuPath's SAM extension); each is loaded by its own "
        "library and scored again",
    )
    parser.add_argument(
        "--push-to-hub",
        metavar="REPO",
        help="list the files, ask, and upload them to USER/NAME on the Hugging Face hub",
    )
    parser.add_argument("--yes", action="store_true", help="the answer to the question of --push-to-hub, for scripts")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit code."""
    arguments = make_parser().parse_args(argv)

    def export() -> None:
        if findings := _check_upload(arguments.push_to_hub, arguments.yes):
            raise ConfigError(findings)
        from search.plan.moved_inputs import find_inputs  # late: they import PyTorch
        from search.stages.exporter import export_run

        folder, out = find_run(locate_storage(arguments.storage), arguments.run), expand_path(arguments.out)
        formats = tuple(dict.fromkeys(arguments.format))
        with explain_stop(lambda: f"nothing was exported to {out}"):
            report = export_run(folder, out, find_inputs(folder, arguments), formats)
        print(f"exported to {report.folder}")
        print("\n".join(report.to_lines()))
        if arguments.push_to_hub:
            _upload(report.folder, arguments.push_to_hub, arguments.yes)

    return run_command(export)


def _check_upload(repo: str | None, is_agreed: bool) -> list[Finding]:
    """Returns why an upload that is asked for could not be made; empty if none is."""
    if repo is None:
        return [Finding("--yes", "answers the question of --push-to-hub, which is missing", "leave it out")] * is_agreed
    from trainables.export.hub_upload import check_repo  # late: half a second

    found = check_repo(repo)
    if not is_agreed and not sys.stdin.isatty():
        found.append(Finding(f"--push-to-hub {repo}", "nobody is there to be asked", "add --yes to agree beforehand"))
    return found


def _upload(folder: Path, repo: str, is_agreed: bool) -> None:
    """Says what would be uploaded, and uploads it if the user agrees."""
    from trainables.export.hub_upload import HubUpload

    upload = HubUpload.of(folder, repo)
    print("\n".join(upload.to_lines()), flush=True)
    try:
        answer = "yes" if is_agreed else input("upload them? [y/N] ")
    except EOFError:  # Ctrl-D
        answer = "no"
        print()
    if answer.strip().lower() not in ("y", "yes"):
        print("nothing was uploaded")
        return
    print(f"uploaded: {upload.send()}")


if __name__ == "__main__":
    sys.exit(main())
