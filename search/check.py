"""The pre-flight: everything that could stop a search, before it costs anything. ``python -m search.check``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence

from search.command_line.exit_codes import DONE, UNREAD, WRONG_INPUT, run_command
from search.command_line.options import make_parser as make_run_parser
from search.errors import ConfigError
from trainables.errors import Finding

# Files that are told of one problem; with 100,000 of them the other problems would leave the screen.
MAX_ALIKE = 8
_NAME_OR_NUMBER = re.compile(r"\S*[/\d]\S*|\S+\.\w{3,4}\b")


def make_parser() -> argparse.ArgumentParser:
    """Returns the command line's parser: that of ``search.run``, so that its arguments can be tried as they are."""
    parser = argparse.ArgumentParser(
        prog="python -m search.check",
        description="Checks everything that search.run would be given, takes the same arguments and starts nothing: "
        "no trial, no Ray; of MLflow and a cluster it asks only whether they can be reached. The decoded regions are "
        "kept below --storage, where the search finds them. "
        "Exit code 2 if something stands in the way, else 0.",
        parents=[make_run_parser()],
        conflict_handler="resolve",
    )
    parser.add_argument("--json", action="store_true", help="print findings and warnings as one line of JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and checks; returns the exit code: 0 if a search could start, else 2."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.resume is not None:
        parser.error("--resume: a search that began was checked then; search.run --resume checks it again")
    found = DONE

    def check() -> None:
        nonlocal found
        found, lines = _check(arguments)
        print(*lines, sep="\n")

    code = run_command(check)
    return found or (DONE if code == UNREAD else code)


def _check(arguments: argparse.Namespace) -> tuple[int, list[str]]:
    """Returns the exit code, and what to say."""
    from search.plan.planner import describe_warning, make_plan
    from search.plan.search_plan import SearchPlan

    findings: Sequence[Finding] = ()
    warnings: list[Finding] = []
    plan: SearchPlan | None = None
    try:
        plan = make_plan(arguments, warnings.append)
    except ConfigError as error:
        findings = error.findings
    if arguments.json:
        content = {"findings": findings, "warnings": warnings}
        line = json.dumps({key: [dataclasses.asdict(each) for each in told] for key, told in content.items()})
        return WRONG_INPUT if findings else DONE, [line]
    lines: list[str] = []
    if plan:
        told_below = set(map(describe_warning, warnings))
        remarks = tuple(remark for remark in plan.remarks if remark not in told_below)
        lines += dataclasses.replace(plan, remarks=remarks).to_lines()
    if warnings:
        lines += [f"warnings: {len(warnings)}; they stop nothing", *format_findings(warnings)]
    if findings:
        return WRONG_INPUT, [*lines, f"findings: {len(findings)}; each stops a search", *format_findings(findings)]
    return DONE, [*lines, "nothing stands in the way of this search"]


def format_findings(findings: Sequence[Finding]) -> list[str]:
    """Returns the lines that tell findings; those alike, but for numbers and file names, stand together.

    Of more than ``MAX_ALIKE`` alike the first are told and the others counted; ``--json`` has them all.
    """
    groups: defaultdict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[tuple(_NAME_OR_NUMBER.sub("#", text) for text in (finding.what, finding.fix))].append(finding)
    lines = []
    for alike in groups.values():
        for each in alike[:MAX_ALIKE]:
            lines += [f"  {each.where}", f"    {each.what}"]
        if len(alike) > MAX_ALIKE:
            lines.append(f"  ... and {len(alike) - MAX_ALIKE:,} more alike; --json tells all")
        lines.append(f"    -> {alike[0].fix}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
