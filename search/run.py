"""The main job: searches, tracks, judges, exports. ``python -m search.run --space lora.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.command_line.exit_codes import end_process, run_command
from search.command_line.options import SearchOptions, make_parser, parse_options
from search.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from search.stages.main_job import Outcome


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and runs the search; returns the exit code."""
    options = parse_options(make_parser(), argv)
    return run_command(lambda: run_options(options))


def run_options(options: SearchOptions) -> None:
    """Runs a search, goes on with one, or shows what one would do; prints all that there is to say."""
    import json

    from rich.console import Console

    # Names and paths are printed as they are: [ab12] is no style, :a: no emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    found = preview(options, console) if options.dry_run else search_for(options, console).to_dict()
    if options.json:
        print(json.dumps(found))


def search_for(options: SearchOptions, console: Console) -> Outcome:
    """Runs a search, or goes on with one, and returns its outcome.

    Raises:
        ConfigError: If it cannot start, with every finding.
        SearchError: If it fails while it runs.
    """
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

    return run_search(plan, console, resumed)


def preview(options: SearchOptions, console: Console) -> dict[str, object]:
    """Prints what a search would do, measures what a trial costs, and returns the figures; starts no trial.

    Raises:
        ConfigError: If the search could not start, with every finding.
    """
    if options.resume is not None:
        raise ConfigError.at("--dry-run", "shows a search that begins, not one that goes on", "leave one of them out")
    from search.plan.planner import make_plan
    from search.preview.dry_run import show_search

    console.print("reading space, data and model ...")
    return show_search(make_plan(options), lambda line: console.print(line, soft_wrap=True))


if __name__ == "__main__":
    end_process(main())
