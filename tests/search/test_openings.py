"""Every look at the test regions is counted, and more than one is told."""

from __future__ import annotations

from pathlib import Path

from search.openings import add_opening, describe_openings, read_openings


def test_openings_are_counted_in_their_order(tmp_path: Path) -> None:
    assert read_openings(tmp_path) == []
    assert [add_opening(tmp_path, candidate, "ab12cd34") for candidate in ("winner", "trial abc")] == [1, 2]
    assert [each.candidate for each in read_openings(tmp_path)] == ["winner", "trial abc"]
    assert {each.protocol_id for each in read_openings(tmp_path)} == {"ab12cd34"}
    assert all(each.time.endswith("+00:00") for each in read_openings(tmp_path))


def test_only_a_second_opening_is_a_caveat() -> None:
    assert describe_openings(1) == ""
    assert "opened 2 times" in describe_openings(2)
