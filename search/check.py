"""The pre-flight: reports everything that could stop a search. ``python -m search.check``."""

import argparse
import dataclasses
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence

from search.command_line.exit_codes import DONE, WRONG_INPUT, run_command
from search.command_line.options import SearchOptions, parse_options
from search.command_line.options import make_parser as make_run_parser
from search.errors import ConfigError
from trainables.errors import Finding

# Files listed with one problem; 100,000 of them would push the other problems off the screen.
MAX_ALIKE = 8
_NAME_OR_NUMBER = re.compile(r"\S*[/\d]\S*|\S+\.\w{3,4}\b")


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser: that of ``search.run``, so that its arguments can be tried as they are."""
    return make_run_parser(
        "check",
        "Checks everything that search.run would be given, takes the same arguments and starts nothing: no trial, no "
        "Ray; it reads MLflow's store and asks whether a cluster can be reached. The decoded regions are kept below "
        "--storage, where the search finds them. Exit code 2 if a search could not start, else 0.",
        {
            "--space lora.yaml --data data": "lists every error and warning of the space and the data",
            "--space mine.yaml --set optim.lr.high=3e-3": "checks a setting before a night is spent on it",
        },
    )


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and checks; returns the exit code: 0 if a search could start, else 2."""
    parser = make_parser()
    options = parse_options(parser, argv)
    if options.resume is not None:
        parser.error("--resume: a search that began was checked then; search.run --resume checks it again")
    if options.dry_run:
        parser.error("--dry-run: is for search.run; search.check starts nothing anyway")
    return run_command(lambda: _check(options))


def _check(options: SearchOptions) -> int:
    """Prints the plan, warnings and findings; returns the exit code."""
    from search.plan.planner import make_plan
    from search.plan.search_plan import SearchPlan

    findings: Sequence[Finding] = ()
    warnings: list[Finding] = []
    plan: SearchPlan | None = None
    try:
        plan = make_plan(options, warnings.append)
    except ConfigError as error:
        findings = error.findings
    if options.json:
        content = {"findings": findings, "warnings": warnings}
        print(json.dumps({key: [dataclasses.asdict(each) for each in found] for key, found in content.items()}))
        return WRONG_INPUT if findings else DONE
    lines = dataclasses.replace(plan, warnings=()).to_lines() if plan else []  # the warnings follow in full
    if warnings:
        lines += [f"warnings: {len(warnings)}; they stop nothing", *format_findings(warnings)]
    if findings:
        lines += [f"findings: {len(findings)}; each stops a search", *format_findings(findings)]
    else:
        lines.append("OK: this search can start")
    print(*lines, sep="\n")
    return WRONG_INPUT if findings else DONE


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """Returns the findings as lines; those that differ in numbers and file names alone are grouped.

    Of a group the first ``MAX_ALIKE`` are listed and the others counted; ``--json`` has them all.
    """
    groups: defaultdict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[tuple(_NAME_OR_NUMBER.sub("#", text) for text in (finding.what, finding.fix))].append(finding)
    lines = []
    for alike in groups.values():
        for each in alike[:MAX_ALIKE]:
            lines += [f"  {each.where}", f"    {each.what}"]
        if len(alike) > MAX_ALIKE:
            lines.append(f"  ... and {len(alike) - MAX_ALIKE:,} more alike; --json lists all")
        lines.append(f"    -> {alike[0].fix}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
