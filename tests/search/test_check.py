"""The pre-flight's list of findings; tests/jobs/bad_inputs tries the command."""

from search.check import MAX_ALIKE, format_findings
from trainables.errors import Finding


def test_findings_alike_but_for_numbers_and_names_stand_together() -> None:
    sizes = [Finding(f"d/{n}.png", f"the mask has {n} pixels, its image {n}.png 5", "export both") for n in range(99)]
    other = Finding("d/x.png", "is empty", "copy it")
    lines = format_findings([*sizes[:50], other, *sizes[50:]])
    assert len(lines) == 2 * MAX_ALIKE + 2 + 3
    assert lines.count("    -> export both") == lines.count("    -> copy it") == 1
    assert f"  ... and {99 - MAX_ALIKE} more alike; --json lists all" in lines
