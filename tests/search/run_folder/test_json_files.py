"""A record that was written is read, and a missing one is None or an error."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.json_files import find_record, read_record, write_record


@dataclass(frozen=True)
class Row:
    names: tuple[str, ...]
    dice: float = 0.5


def test_a_written_record_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    assert find_record(path, Row) is None
    with pytest.raises(ConfigError, match=r"row\.json: cannot be read: No such file .* start a new search"):
        read_record(path, Row)
    write_record(path, Row(("a", "b"), float("nan")))
    assert path.read_text().endswith("}\n") and str(find_record(path, Row)) == "Row(names=('a', 'b'), dice=nan)"
    path.write_text('{"names": [], "more": 1}')
    with pytest.raises(ConfigError, match="more is an unknown key"):
        find_record(path, Row)
    assert read_record(path, Row, unknown="ignore") == Row(())
