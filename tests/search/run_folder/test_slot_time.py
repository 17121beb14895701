"""The share of slot time that was arithmetic."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.run_folder.slot_time import SlotTime, count_arithmetic

EPOCH = {"seconds/train": 10.0, "data_wait_fraction": 0.2, "seconds/validate": 4.0, "prefix_reused": 0.5}


@pytest.mark.parametrize(
    ("row", "seconds"), [(EPOCH, 12.0), ({"seconds/validate": 4.0}, 4.0), ({"seconds/train": 3.0}, 3.0), ({}, 0.0)]
)
def test_waiting_for_data_is_no_arithmetic(row: dict[str, float], seconds: float) -> None:
    assert count_arithmetic(row) == seconds


def test_runs_add_up_and_epochs_before_a_resume_do_not_count(write_trial: Callable[..., Path], tmp_path: Path) -> None:
    since = time.time() - 100
    old, new = {**EPOCH, "timestamp": since - 500, "prefix_reused": 0.0}, {**EPOCH, "timestamp": since + 50}
    write_trial(tmp_path / "trials", "a", [old, new])
    write_trial(tmp_path / "trials", "b", [new])
    write_trial(tmp_path / "confirmation", "c", [new])
    spent = SlotTime()
    assert spent.arithmetic_share is None and spent.prefix_reused is None
    spent.add(tmp_path / "trials", n_slots=2, since=since)
    assert spent.arithmetic_share == pytest.approx(24 / 200, rel=0.01)
    spent.add(tmp_path / "confirmation", n_slots=1, since=since)
    assert spent.arithmetic_share == pytest.approx(36 / 300, rel=0.01)
    assert spent.prefix_reused == 0.5
