"""Which trials Ray Tune gets, in which order, and which of them get a second start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.exceptions import ActorDiedError
from ray.tune.experiment import Experiment, Trial

from search.cluster.failures import MAX_RETRIES, is_made_anew
from search.run_folder.trial_folder import locate_trial, name_trial_folder
from search.tuning.trial_generator import ListSearcher, TrialGenerator
from search.tuning.unfinished import Row, UnfinishedTrial, clear_checkpoints

Write = Callable[..., Path]


class Idle(tune.Trainable):
    """Never started here."""


class NotingSearcher(ListSearcher):
    """Keeps the failures and ends that are reported to it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.failures: dict[str, str] = {}
        self.ended: list[str] = []

    def note_failure(self, trial_id: str, reason: str) -> None:
        self.failures[trial_id] = reason

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.ended.append(trial_id)


@dataclasses.dataclass
class Making:
    """A generator with its experiment, as Tune sets it up."""

    folder: Path
    searcher: NotingSearcher
    generator: TrialGenerator

    @staticmethod
    def begin(folder: Path, seeds: int, concurrent: int, *unfinished: UnfinishedTrial) -> Making:
        old = {trial.trial_id: {"seed": -1} for trial in unfinished}
        searcher = NotingSearcher([{"seed": seed} for seed in range(seeds)], old)

        def find_kept(trial_id: str) -> tuple[tuple[Path, Row], ...]:
            return clear_checkpoints(locate_trial(folder / "trials", trial_id))

        generator = TrialGenerator(searcher, concurrent, find_kept, unfinished)
        experiment = Experiment(
            "trials",
            Idle,
            storage_path=str(folder),
            num_samples=seeds + len(unfinished),
            stop={"training_iteration": 5},
            trial_dirname_creator=name_trial_folder,
            max_failures=MAX_RETRIES,
        )
        generator.add_configurations([experiment])
        return Making(folder, searcher, generator)

    def list_seeds(self) -> list[int]:
        return [trial.config["seed"] for trial in iter(self.generator.next_trial, None)]


def test_no_more_run_than_may_and_none_is_lost(tmp_path: Path) -> None:
    making = Making.begin(tmp_path, 3, 2)
    first, second = making.generator.next_trial(), making.generator.next_trial()
    assert first is not None and second is not None
    assert making.generator.next_trial() is None and not making.generator.is_finished()
    making.generator.on_trial_complete(first.trial_id, {})
    assert making.list_seeds() == [2]
    making.generator.on_trial_complete(second.trial_id, {})
    assert making.list_seeds() == [] and making.generator.is_finished()
    assert making.searcher.ended == [first.trial_id, second.trial_id]


def test_when_time_is_over_nothing_that_waits_is_waited_for(tmp_path: Path) -> None:
    making = Making.begin(tmp_path, 1, 1, UnfinishedTrial("a", ()), UnfinishedTrial("b", ()))
    making.generator._limiter.suggest("running")
    assert not making.generator.is_finished()
    making.generator.set_finished()
    assert making.generator.is_finished() and making.generator.next_trial() is None
    assert making.searcher.ended == ["running"]  # Tune reports no end of it


def leave_checkpoint(write_trial: Write, folder: Path, trial_id: str, epoch: int) -> UnfinishedTrial:
    """Writes a trial's reports up to an epoch, and the checkpoint of that one."""
    trial = write_trial(folder / "trials", trial_id, [0.5] * epoch, [epoch])
    return UnfinishedTrial(trial_id, clear_checkpoints(trial))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
class TestTrialsThatGoOn:
    """Tune gives these a place in its session's folder, for which Ray has to run."""

    def test_they_come_first_under_their_ids_from_their_checkpoints(self, tmp_path: Path, write_trial: Write) -> None:
        going_on = leave_checkpoint(write_trial, tmp_path, "b", 3)
        making = Making.begin(tmp_path, 1, 3, going_on, UnfinishedTrial("a", (), last_epoch=2))
        first, second = making.generator.next_trial(), making.generator.next_trial()
        assert first is not None and second is not None
        assert [first.trial_id, second.trial_id, *making.list_seeds()] == ["b", "a", 0]
        assert first.checkpoint is not None and first.checkpoint.path == str(going_on.kept[0][0])
        assert first.storage is not None and first.storage.current_checkpoint_index == 2
        assert Path(first.path) == tmp_path / "trials" / "trial-b"
        assert second.checkpoint is None
        assert (first.stopping_criterion, second.stopping_criterion) == (
            {"training_iteration": 5},
            {"training_iteration": 2},
        )

    def test_they_wait_for_a_place_as_others_do(self, tmp_path: Path) -> None:
        making = Making.begin(tmp_path, 1, 1, UnfinishedTrial("a", ()), UnfinishedTrial("b", ()))
        for trial_id in ("a", "b"):
            trial = making.generator.next_trial()
            assert trial is not None and trial.trial_id == trial_id
            assert making.generator.next_trial() is None and not making.generator.is_finished()
            making.generator.on_trial_complete(trial_id, {})
        assert making.list_seeds() == [0]

    def test_a_death_that_is_counted_twice_costs_a_trial_one_retry(self, tmp_path: Path, write_trial: Write) -> None:
        making = Making.begin(tmp_path, 1, 1)
        trial = making.generator.next_trial()
        assert trial is not None
        leave_checkpoint(write_trial, tmp_path, trial.trial_id, 2)
        trial_id, folder = trial.trial_id, tmp_path / "trials" / f"trial-{trial.trial_id}"
        trial.init_local_path()
        for n_deaths in range(1, MAX_RETRIES + 1):
            for _ in range(2):  # Tune has the trial wait after the first
                trial.handle_error(ActorDiedError())
            making.generator.on_trial_complete(trial_id, error=True)
            assert is_made_anew(trial) and trial.run_metadata.num_failures == n_deaths
            assert not making.searcher.ended and not making.generator.is_finished()
            trial = making.generator.next_trial()
            assert trial is not None and (trial.trial_id, Path(trial.path)) == (trial_id, folder)
            assert trial.checkpoint is not None and trial.checkpoint.path == str(folder / "checkpoint_000001")
        trial.set_status(Trial.RUNNING)
        trial.handle_error(ActorDiedError())
        assert not is_made_anew(trial)
        making.generator.on_trial_complete(trial_id, error=True)
        assert making.searcher.ended == [trial_id] and making.generator.is_finished()
        assert "worker died" in making.searcher.failures[trial_id]

    def test_a_trial_that_fails_by_itself_gets_no_second_start(self, tmp_path: Path) -> None:
        making = Making.begin(tmp_path, 1, 1)
        trial = making.generator.next_trial()
        assert trial is not None
        trial.init_local_path()
        trial.set_status(Trial.RUNNING)
        trial.handle_error(ValueError("no such adapter"))
        making.generator.on_trial_complete(trial.trial_id, error=True)
        assert "no such adapter" in making.searcher.failures[trial.trial_id]
        assert making.searcher.ended == [trial.trial_id] and making.list_seeds() == []


def test_known_configurations_come_once_and_in_order() -> None:
    configs = [{"adapter.rank": 4}, {"adapter.rank": 8}]
    searcher = ListSearcher(configs)
    assert [searcher.suggest(str(number)) for number in range(3)] == [*configs, searcher.FINISHED]
    assert searcher.suggest("late") == searcher.FINISHED


def test_a_trial_that_goes_on_has_its_own_again_and_takes_no_new_one() -> None:
    searcher = ListSearcher([{"seed": 1}], {"old": {"seed": 7}})
    first = searcher.suggest("old")
    assert isinstance(first, dict)
    first["seed"] = 0  # whoever gets one may change it
    assert searcher.suggest("old") == {"seed": 7}
    assert searcher.suggest("new") == {"seed": 1}
