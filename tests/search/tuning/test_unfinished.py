"""Which trials go on after a stop, and from where."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from search.run_folder.trial_folder import read_listed, read_trial_id
from search.study.trial_attributes import RAY_TRIAL_ID
from search.tuning.unfinished import list_decided, list_unfinished, list_unfinished_listed
from trainables.errors import CheckpointError
from trainables.files.manifest import MANIFEST_FILE

Leave = Callable[[str, int, tuple[int, ...]], Path]


@pytest.fixture
def leave(tmp_path: Path, write_trial: Callable[..., Path]) -> Leave:
    """Writes what a trial leaves that reported so many epochs, with whole checkpoints of some of them."""

    def write(trial_id: str, n_epochs: int, kept: tuple[int, ...]) -> Path:
        return write_trial(tmp_path, trial_id, [0.1 * epoch for epoch in range(1, n_epochs + 1)], kept)

    return write


def make_trial(trial_id: str, state: TrialState, epochs: int) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        value=0.5 if state == TrialState.COMPLETE else None,
        intermediate_values={epoch: 0.1 * epoch for epoch in range(1, epochs + 1)},
        user_attrs={RAY_TRIAL_ID: trial_id},
    )


@pytest.mark.parametrize(
    ("state", "epochs", "checkpoints", "expected"),
    [
        (TrialState.RUNNING, 2, (1, 2), (2, None)),
        (TrialState.RUNNING, 2, (1,), (1, None)),  # the checkpoint of epoch 2 was not written
        (TrialState.RUNNING, 0, (), (0, None)),
        (TrialState.COMPLETE, 3, (2, 3), None),
        (TrialState.COMPLETE, 3, (2,), (2, 3)),  # for the last epoch's checkpoint alone
        (TrialState.PRUNED, 1, (), (0, 1)),
        (TrialState.FAIL, 2, (1,), None),
    ],
)
def test_where_a_trial_goes_on(
    leave: Leave, tmp_path: Path, state: TrialState, epochs: int, checkpoints: tuple[int, ...], expected: Any
) -> None:
    leave("a", epochs, checkpoints)
    found = list_unfinished([make_trial("a", state, epochs)], tmp_path)
    assert [(trial.epoch, trial.last_epoch) for trial in found] == ([] if expected is None else [expected])


def end_with(folder: Path, **said: object) -> None:
    """Makes the last report of a trial that of its last epoch, as Tune marks it."""
    *before, last = (folder / "result.json").read_text().splitlines()
    lines = [*before, json.dumps({**json.loads(last), "done": True, **said})]
    (folder / "result.json").write_text("".join(f"{line}\n" for line in lines))


def test_an_end_that_was_decided_and_not_written_is_found_with_its_report(leave: Leave, tmp_path: Path) -> None:
    for trial_id in "abc":
        leave(trial_id, 2, (1,) if trial_id == "b" else (1, 2))
    for trial_id in "ab":
        end_with(tmp_path / f"trial-{trial_id}", failure="the loss is NaN")
    states = {"a": TrialState.RUNNING, "b": TrialState.RUNNING, "c": TrialState.RUNNING}
    trials = [make_trial(trial_id, state, 1) for trial_id, state in states.items()]
    (report,) = list_decided(trials, tmp_path).values()  # b's last checkpoint was not written, c goes on
    assert list(list_decided(trials, tmp_path)) == ["a"]
    assert report == {"training_iteration": 2, "val_dice": 0.2, "done": True, "failure": "the loss is NaN"}
    assert not list_decided([make_trial("a", TrialState.COMPLETE, 2)], tmp_path)


def test_what_ended_without_checkpoints_has_ended_where_none_are_kept(leave: Leave, tmp_path: Path) -> None:
    leave("a", 1, ())
    leave("b", 0, ())
    trials = [make_trial("a", TrialState.COMPLETE, 1), make_trial("b", TrialState.RUNNING, 0)]
    assert [each.trial_id for each in list_unfinished(trials, tmp_path, keeps_checkpoints=False)] == ["b"]
    assert [each.trial_id for each in list_unfinished(trials, tmp_path)] == ["a", "b"]


def test_what_a_kill_left_half_done_is_cleared_unless_only_its_report_is_gone(leave: Leave, tmp_path: Path) -> None:
    folder, unreported = leave("a", 2, (1, 2)), leave("b", 1, (1, 2))
    (folder / "checkpoint_000001" / MANIFEST_FILE).unlink()
    (folder / "checkpoint_000002").mkdir()
    trials = list_unfinished([make_trial(name, TrialState.RUNNING, 2) for name in "ab"], tmp_path)
    assert [trial.epoch for trial in trials] == [1, 1] and (unreported / "checkpoint_000001").is_dir()
    assert [path.name for path in sorted(folder.glob("checkpoint_*"))] == ["checkpoint_000000"]


def test_a_user_s_copies_of_checkpoints_stay(leave: Leave, tmp_path: Path) -> None:
    folder = leave("a", 2, (1, 2))
    copies = [folder / f"checkpoint_000001{end}" for end in (".bak", " (copy)")]
    for copy in copies:
        shutil.copytree(folder / "checkpoint_000000", copy)
        (copy / MANIFEST_FILE).unlink()
    (trial,) = list_unfinished([make_trial("a", TrialState.RUNNING, 2)], tmp_path)
    assert trial.epoch == 2 and all(copy.is_dir() for copy in copies)


@pytest.mark.parametrize("content", ["[]", '{"recipe.json": 2}'])
def test_a_checkpoint_of_another_version_is_an_error_and_stays(leave: Leave, tmp_path: Path, content: str) -> None:
    path = leave("a", 2, (1, 2)) / "checkpoint_000001" / MANIFEST_FILE
    path.write_text(content)
    with pytest.raises(CheckpointError, match="of another version"):
        list_unfinished([make_trial("a", TrialState.RUNNING, 2)], tmp_path)
    assert path.is_file()


def test_a_checkpoint_that_cannot_be_read_stays(leave: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(13, "denied")

    folder = leave("a", 2, (1, 2))
    monkeypatch.setattr("trainables.files.manifest.hash_file", fail)
    with pytest.raises(CheckpointError, match="denied"):
        list_unfinished([make_trial("a", TrialState.RUNNING, 2)], tmp_path)
    assert len(list(folder.glob("checkpoint_*/recipe.json"))) == 2


def test_known_configurations_go_on_by_their_folders(leave: Leave, tmp_path: Path) -> None:
    leave("done", 3, (3,))
    leave("half", 2, (1, 2))
    diverged = leave("diverged", 2, (1, 2))
    with (diverged / "result.json").open("a") as file:
        file.write(json.dumps({"training_iteration": 3, "val_dice": float("nan"), "diverged": True}) + "\n")
    found = list_unfinished_listed({read_trial_id(each.folder): each for each in read_listed(tmp_path)}, 3)
    assert [(trial_id, trial.epoch) for trial_id, trial in found.items()] == [("half", 2)]
