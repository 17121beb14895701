"""The main job: searches, tracks, judges, exports. ``python -m search.run --space lora.yaml``."""

from __future__ import annotations

import argparse

from search.command_line.exit_codes import end_process, run_command
from search.command_line.options import make_parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs the search; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    import dataclasses
    import json

    from rich.console import Console

    # Names and paths are printed as they are: [ab12] is no style, :a: no emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print("reading space, data and model ...")
    resumed = None
    if arguments.resume is not None:
        from search.plan.resume import read_resumed

        defaults = vars(make_parser().parse_args(["--resume", arguments.resume]))
        resumed = read_resumed(arguments, defaults)
        plan = resumed.plan
    else:
        from search.plan.planner import make_plan

        plan = make_plan(arguments)
    for line in plan.to_lines():
        console.print(line, soft_wrap=True)
    from search.stages.main_job import run_search

    where = plan.arguments
    outcome = run_search(plan, console, where.address, where.gpus_per_trial, where.max_concurrent, resumed)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    end_process(main())
