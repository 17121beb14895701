"""The main job: searches, tracks, judges, exports. ``python -m search.run --space lora.yaml``."""

from search.command_line.exit_codes import end_process, run_command
from search.command_line.options import SearchOptions, make_parser, parse_options


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs the search; returns the exit code."""
    options = parse_options(make_parser(), argv)
    return run_command(lambda: _run(options))


def _run(options: SearchOptions) -> None:
    import json

    from rich.console import Console

    # Names and paths are printed as they are: [ab12] is no style, :a: no emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print("reading space, data and model ...")
    resumed = None
    if options.resume is not None:
        from search.plan.resume import read_resumed

        resumed = read_resumed(options)
        plan = resumed.plan
    else:
        from search.plan.planner import make_plan

        plan = make_plan(options)
    for line in plan.to_lines():
        console.print(line, soft_wrap=True)
    from search.stages.main_job import run_search

    outcome = run_search(plan, console, resumed)
    if options.json:
        print(json.dumps(outcome.to_dict()))


if __name__ == "__main__":
    end_process(main())
