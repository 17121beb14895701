"""Opens the test set of a finished search again, for another of its trials, and marks every artifact with it.

``python -m search.open_test --run NAME --trial ID``. The test set decides once; whoever opens it again,
and everyone who reads the figures later, is warned.
"""

import argparse
import os
import sys

from search.cluster.limits import count_cpus
from search.command_line.command_parser import make_command
from search.command_line.exit_codes import explain_stop, run_command
from search.command_line.options import add_run_options
from search.command_line.paths import locate_storage


def make_parser() -> argparse.ArgumentParser:
    parser = make_command(
        "open_test",
        "Scores another trial of a finished search on the test set, which is meant to decide once: every artifact then "
        "says how often it was opened.",
        {"--run last --trial 5f777210": "scores this trial, by its id in the report and in MLflow"},
    )
    add_run_options(parser)
    parser.add_argument("--trial", required=True, metavar="ID", help="a trial of the search that left a checkpoint")
    scale_help = "of its update, 0 (zero-shot) to 2 (default: that at which its best epoch counted)"
    parser.add_argument("--scale", type=float, help=scale_help)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and opens the test set; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_command(lambda: _open(arguments))


def _open(arguments: argparse.Namespace) -> None:
    from search.errors import ConfigError
    from search.judging.test_set import score_on_test
    from search.plan.moved_inputs import find_inputs
    from search.run_folder.layout import describe_resume, find_run, hold_search
    from search.run_folder.summary import Summary
    from search.stages.second_opening import mark_artifacts
    from search.study.ranking import find_trial, read_ranked
    from trainables.evaluation.candidates import Candidate, load_candidate, score_candidate

    os.environ.setdefault("OMP_NUM_THREADS", str(count_cpus()))
    folder = find_run(locate_storage(arguments.storage), arguments.run)
    record = find_inputs(folder, arguments)
    with hold_search(folder):
        if record.config.get("train", True) and Summary.read(folder) is None:
            what = "has not ended, and the first look at the test set is for its winner"
            raise ConfigError.at(f"--run {arguments.run}", what, f"end it first: {describe_resume(folder)}")
        trial, context = find_trial(read_ranked(folder, record)[1], arguments.trial), record.context
        checkpoint = context.locate_fold(trial.checkpoint, 0)
        scale = trial.scale if arguments.scale is None else arguments.scale
        fold = ", its first fold's training" if context.folds else ""
        label = f"trial {trial.trial_id}{fold}, epoch {trial.epoch}, scale {scale:g}"
        # Loaded before the opening is recorded: what cannot be loaded opens nothing. Zero-shot is its base.
        load_candidate(context, checkpoint, scale)
        with explain_stop(lambda: "the opening is noted; the same command goes on with it and counts it once"):
            candidate = Candidate(checkpoint, scale)
            result = score_on_test(folder, record, candidate, label, lambda calls: [score_candidate(*c) for c in calls])
            print(f"test, opening {result.opening}: {label}")
            print(result.verdict.to_text())
            print(f"pairs: {result.file}")
            mark_artifacts(folder, record, result)


if __name__ == "__main__":
    sys.exit(main())
