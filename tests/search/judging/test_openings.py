"""Openings of the test set are counted, and more than one is flagged."""

from pathlib import Path

import pytest

from search.errors import ConfigError
from search.judging.openings import add_opening, describe_openings, find_opening, read_openings
from search.run_folder.layout import OPENINGS_FILE


def test_openings_are_counted_in_their_order(tmp_path: Path) -> None:
    assert read_openings(tmp_path) == []
    assert [add_opening(tmp_path, candidate, "ab12cd34") for candidate in ("winner", "trial abc")] == [1, 2]
    assert [each.candidate for each in read_openings(tmp_path)] == ["winner", "trial abc"]
    assert {each.protocol_id for each in read_openings(tmp_path)} == {"ab12cd34"}
    assert all(each.time.endswith("+00:00") for each in read_openings(tmp_path))
    assert describe_openings(1) == "" and "opened 2 times" in describe_openings(2)


@pytest.mark.parametrize("content", ["", "\0\0", "[]", "{}", "null", "5", '[{"time": "now"}]', '["x"]', "[" * 100_000])
def test_an_opening_after_others_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / OPENINGS_FILE
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"test_openings\.json: cannot be read.* how often the test set was opened"):
        add_opening(tmp_path, "winner", "ab12cd34")
    assert path.read_text() == content
    with pytest.raises(ConfigError):
        find_opening(tmp_path, "winner", "ab12cd34")
