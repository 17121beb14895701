"""A search that trains nothing ends with figures that each name their protocol, and says that they rank nothing."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from search.errors import ConfigError
from search.run_folder.layout import PROTOCOLS_FILE
from search.run_folder.protocol_table import PROTOCOLS_DIFFER, ProtocolTable
from search.stages.protocol_comparison import list_caveats, read_rows
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT


def write_result(folder: Path, trial_id: str, dice: float) -> None:
    (folder / f"trial-{trial_id}").mkdir()
    result = {"training_iteration": 1, "val_dice": dice, "val_iou": dice / 2, "val_floor": 0.5, "val_ceiling": 0.9}
    result |= {"protocol": f"recorded+tta={trial_id}", "protocol_id": "ab12cd34"}  # type: ignore[dict-item]
    (folder / f"trial-{trial_id}" / "result.json").write_text(json.dumps(result) + "\n")


def test_rows_come_in_the_order_of_trials_by_their_names(tmp_path: Path) -> None:
    study = optuna.create_study()
    for trial_id, name in (("b", "as-recorded"), ("a", None), ("lost", None)):
        trial = study.ask()
        trial.set_user_attr(RAY_TRIAL_ID, trial_id)
        if name:
            trial.set_user_attr(STARTING_POINT, name)
    write_result(tmp_path, "a", 0.9)
    write_result(tmp_path, "b", 0.4)
    rows = read_rows(study.get_trials(), tmp_path)
    assert [(row.name, row.dice, row.protocol) for row in rows] == [
        ("as-recorded", 0.4, "recorded+tta=b"),
        ("trial 1", 0.9, "recorded+tta=a"),
    ]
    table = ProtocolTable("first", "demo data", "0123", 0, "run", list_caveats(["leak allowed"]), rows)
    said = "\n".join(table.to_lines())
    parts = ("as-recorded", "[ab12cd34] recorded+tta=a", "Dice 0.900", PROTOCOLS_DIFFER, "leak allowed", "not opened")
    for part in parts:
        assert part in said
    assert ProtocolTable.read(tmp_path) is None
    table.write(tmp_path)
    assert ProtocolTable.read(tmp_path) == table
    content = json.loads((tmp_path / PROTOCOLS_FILE).read_text())
    assert content["rows"][1]["dice"] == 0.9
    for damaged in ("", "[]", json.dumps({**content, "rows": [1]}), json.dumps({**content, "seed": "0"})):
        (tmp_path / PROTOCOLS_FILE).write_text(damaged)
        with pytest.raises(ConfigError, match=f"{PROTOCOLS_FILE}: .*damaged"):
            ProtocolTable.read(tmp_path)
