"""The table of a search that trains nothing names each figure's protocol, and says that it ranks nothing."""

import json
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.run_folder.layout import PROTOCOLS_FILE
from search.run_folder.protocol_table import PROTOCOLS_DIFFER, ProtocolRow, ProtocolTable

ROWS = (
    ProtocolRow("b", "as-recorded", "recorded+tta=b", "ab12cd34", 0.4, 0.2, 0.5, 0.9),
    ProtocolRow("a", "trial 1", "recorded+tta=a", "ab12cd34", 0.9, 0.45, 0.5, 0.9),
)
TABLE = ProtocolTable("first", "demo data", "0123", 0, "run", (PROTOCOLS_DIFFER, "leak allowed"), ROWS)


def test_the_lines_hold_every_figure_and_caveat() -> None:
    text = "\n".join(TABLE.to_lines())
    for part in (
        *("as-recorded", "[ab12cd34] recorded+tta=a", "Dice 0.900", "demo data"),
        *(PROTOCOLS_DIFFER, "leak allowed", "not opened"),
    ):
        assert part in text


def test_a_written_table_is_read_back(tmp_path: Path) -> None:
    assert ProtocolTable.read(tmp_path) is None
    TABLE.write(tmp_path)
    assert ProtocolTable.read(tmp_path) == TABLE
    content = json.loads((tmp_path / PROTOCOLS_FILE).read_text())
    assert content["rows"][1]["dice"] == 0.9 and content == json.loads(json.dumps(TABLE.to_dict()))


@pytest.mark.parametrize("change", [{"rows": [1]}, {"seed": "0"}, None, "text"])
def test_a_damaged_table_is_reported_by_its_name(tmp_path: Path, change: dict[str, object] | str | None) -> None:
    damaged = {**TABLE.to_dict(), **change} if isinstance(change, dict) else []
    (tmp_path / PROTOCOLS_FILE).write_text("" if change == "text" else json.dumps(damaged))
    with pytest.raises(ConfigError, match=f"{PROTOCOLS_FILE}: .*damaged"):
        ProtocolTable.read(tmp_path)
