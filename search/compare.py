"""Scores MedSAM or the first SAM on the regions of a search: ``python -m search.compare --run NAME --medsam FILE``."""

import argparse
import os
import re
import sys

from search.cluster.limits import count_cpus
from search.command_line.command_parser import make_command
from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.options import add_run_options
from search.command_line.paths import expand_path, locate_storage
from search.errors import SearchError
from search.run_folder.layout import find_run

_TAKEN_NAMES = ("zeroshot", "chosen", "winner", "floor", "ceiling", "file", "class", "patient", "protocol", "caveats")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", text) or text in _TAKEN_NAMES:
        raise argparse.ArgumentTypeError(
            f"must be letters, digits, - and _, 40 at most, and none of {', '.join(_TAKEN_NAMES)}, but got {text!r}"
        )
    return text


def make_parser() -> argparse.ArgumentParser:
    from trainables.evaluation.sam1_weights import SAM_MED2D_NOTE

    parser = make_command(
        "compare",
        "Scores a checkpoint of MedSAM or the first SAM beside a search's zero-shot SAM2 and its chosen model, on "
        "validation alone and under the search's protocol. Needs the package segment-anything.",
        {
            "--run last --medsam medsam_vit_b.pth": "MedSAM beside the latest search",
            "--run NAME --sam sam_vit_b_01ec64.pth --name sam_b": "the first SAM, under this name in files and MLflow",
        },
        SAM_MED2D_NOTE,
    )
    add_run_options(parser)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument(
        "--medsam",
        metavar="FILE",
        help="medsam_vit_b.pth or a fine-tune of it: image stretched to a square, values in [0, 1], its single mask",
    )
    weights.add_argument(
        "--sam",
        metavar="FILE",
        help="sam_vit_b_01ec64.pth or another checkpoint of the first SAM; its size follows from the weights",
    )
    parser.add_argument("--name", type=_name, help="what it is called in files and MLflow (default: medsam or sam)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and compares; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_command(lambda: _compare(arguments))


def _compare(arguments: argparse.Namespace) -> None:
    from search.plan.moved_inputs import find_inputs  # late: they import PyTorch
    from search.stages.comparator import compare_run, log_comparison
    from search.study.ranking import read_chosen

    os.environ.setdefault("OMP_NUM_THREADS", str(count_cpus()))
    folder = find_run(locate_storage(arguments.storage), arguments.run)
    record = find_inputs(folder, arguments)
    style = "sam" if arguments.medsam is None else "medsam"
    weights = expand_path(arguments.sam if arguments.medsam is None else arguments.medsam)
    with explain_stop(lambda: "nothing was written"):
        found = compare_run(folder, weights, style, arguments.name or style, record)
    try:
        chosen = read_chosen(folder, record)
    except SearchError:
        chosen = None
    print("\n".join(found.to_lines(record, chosen)))
    print(f"  pairs: {found.file}")
    try:
        log_comparison(record, found)
    except SearchError as error:
        print(f"MLflow: {error}; the files are written. Run this where the search ran, or set MLFLOW_TRACKING_URI.")


if __name__ == "__main__":
    sys.exit(main())
