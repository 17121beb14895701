"""A search that trains nothing ends in MLflow too, also where that is out of reach at its end."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from search.run_folder.layout import PROTOCOLS_FILE
from search.run_folder.protocol_table import PROTOCOLS_DIFFER
from search.stages import closing
from search.stages.protocol_comparison import compare_protocols, read_rows
from search.stages.session import Session
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT
from search.tracking.search_queue import count_waiting


def make_result(trial_id: str, dice: float) -> dict[str, object]:
    figures = {"val_dice": dice, "val_iou": dice / 2, "val_floor": 0.5, "val_ceiling": 0.9}
    return {**figures, "protocol": f"recorded+tta={trial_id}", "protocol_id": "ab12cd34"}


@pytest.fixture
def compared(session: Session, write_trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Session:
    """A search with a caveat and two trials, one with a score."""
    monkeypatch.setattr(closing, "PATIENCE_S", 0.0)
    study = make_study_file(session.plan.folder, session.record).open()
    for trial_id in ("a", "lost"):
        study.ask().set_user_attr(RAY_TRIAL_ID, trial_id)
    write_trial(session.plan.folder / "trials", "a", [make_result("a", 0.6)])
    data = dataclasses.replace(session.plan.data, caveats=("a leak was allowed",))
    return dataclasses.replace(session, plan=dataclasses.replace(session.plan, data=data))


@pytest.mark.parametrize("is_out", [False, True], ids=["there", "out of reach"])
def test_figures_caveats_and_end_reach_the_store(compared: Session, store: Path, is_out: bool) -> None:
    if is_out:
        store.rename(store.with_name("gone"))
        compare_protocols(compared, {"val_naming_clip_accuracy": 0.75})
        assert count_waiting(compared.plan.folder)
        store.with_name("gone").rename(store)
    table = compare_protocols(compared, {"val_naming_clip_accuracy": 0.75})
    assert [(row.trial_id, row.dice) for row in table.rows] == [("a", 0.6)]
    assert not count_waiting(compared.plan.folder)
    client, parent = compared.tracker.client, compared.record.parent_run_id
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.tags["caveats"] == f"{PROTOCOLS_DIFFER}; a leak was allowed"
    assert len(client.get_metric_history(parent, "val_naming_clip_accuracy")) == 1
    assert {PROTOCOLS_FILE, "search.json"} <= {item.path for item in client.list_artifacts(parent)}


def test_rows_come_in_the_order_of_trials_by_their_names(write_trial: Callable[..., Path], tmp_path: Path) -> None:
    study = optuna.create_study()
    for trial_id, name in (("b", "as-recorded"), ("a", None), ("lost", None)):
        trial = study.ask()
        trial.set_user_attr(RAY_TRIAL_ID, trial_id)
        if name:
            trial.set_user_attr(STARTING_POINT, name)
    for trial_id, dice in (("a", 0.9), ("b", 0.4)):
        write_trial(tmp_path, trial_id, [make_result(trial_id, dice)])
    assert [(row.name, row.dice, row.protocol) for row in read_rows(study.get_trials(), tmp_path)] == [
        ("as-recorded", 0.4, "recorded+tta=b"),
        ("trial 1", 0.9, "recorded+tta=a"),
    ]
