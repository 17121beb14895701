"""What a search exports is read back as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search.errors import ConfigError, SearchError
from search.run_folder.chosen import Chosen, discard_choice
from search.run_folder.layout import CHOSEN_FILE
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.study.ranking import read_chosen
from search.study.study_file import make_study_file
from search.study.trial_attributes import RAY_TRIAL_ID
from trainables.data.splits import Fold


@pytest.fixture
def record(make_record: Callable[..., SearchRecord]) -> SearchRecord:
    return make_record(config={"sampler": {"kind": "random"}})


def test_the_written_choice_is_read_back(
    tmp_path: Path, record: SearchRecord, make_chosen: Callable[..., Chosen]
) -> None:
    chosen = make_chosen()
    chosen.write(tmp_path)
    assert read_chosen(tmp_path, record) == chosen
    assert chosen.locate(tmp_path) == tmp_path / "confirmation/trial-x/checkpoint_000004"


def test_a_damaged_choice_is_reported_by_its_name(tmp_path: Path, record: SearchRecord, damaged: str) -> None:
    (tmp_path / CHOSEN_FILE).write_text(damaged)
    with pytest.raises(ConfigError, match=r"chosen\.json: cannot be read"):
        read_chosen(tmp_path, record)


def test_a_choice_with_a_value_of_another_type_is_damage(
    tmp_path: Path, record: SearchRecord, make_chosen: Callable[..., Chosen]
) -> None:
    make_chosen(checkpoint=None).write(tmp_path)
    with pytest.raises(ConfigError, match=r"chosen\.json: .*checkpoint must be a valid string, but got None"):
        read_chosen(tmp_path, record)


def test_what_was_chosen_is_forgotten_with_its_summary(tmp_path: Path, make_summary: Callable[..., Summary]) -> None:
    for trial_id in ("first", "second"):
        make_summary(best_trial=trial_id).write(tmp_path)
        (tmp_path / CHOSEN_FILE).write_text("{}")
        discard_choice(tmp_path)
    assert Summary.read(tmp_path) is None and not (tmp_path / CHOSEN_FILE).exists()
    assert Summary.list_former_winners(tmp_path) == ["first", "second"]
    discard_choice(tmp_path)  # nothing is there
    (tmp_path / "summary-1.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"summary-1\.json"):
        Summary.list_former_winners(tmp_path)


def test_a_search_without_checkpoints_has_no_choice(tmp_path: Path, record: SearchRecord) -> None:
    with pytest.raises(SearchError, match="no trial left a checkpoint"):
        read_chosen(tmp_path, record)


def test_before_the_choice_the_best_trial_stands_at_its_scale(
    tmp_path: Path, record: SearchRecord, write_trial: Callable[..., Path]
) -> None:
    trial = make_study_file(tmp_path, record).open().ask()
    trial.set_user_attr(RAY_TRIAL_ID, "abc")
    write_trial(tmp_path / "trials", "abc", [{"val_dice": 0.6, "update_scale": 0.5}], kept=[1])
    chosen = read_chosen(tmp_path, record)
    assert (chosen.trial_id, chosen.epoch, chosen.scale, chosen.val_dice) == ("abc", 1, 0.5, 0.6)


def test_a_cross_validation_without_its_refit_has_nothing_to_export(
    tmp_path: Path, make_record: Callable[..., SearchRecord]
) -> None:
    record = make_record({"folds": (Fold(("a",), ("b",)),)}, config={"sampler": {"kind": "random"}})
    with pytest.raises(SearchError, match="did not come to its refit"):
        read_chosen(tmp_path, record)
