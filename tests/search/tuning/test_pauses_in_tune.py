"""Paused trials with Tune itself: killed and resumed on one place equals undisturbed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from killer import Killer
from optuna.trial import FrozenTrial
from ray import tune
from ray.tune import TuneError

from search.cluster.failures import MAX_RETRIES
from search.run_folder.trial_folder import locate_trial, name_trial_folder
from search.space.kinds import SchedulerConfig
from search.space.parameters import FloatRange
from search.study.searcher import StudySearcher
from search.study.study_file import StudyFile
from search.study.trial_attributes import RAY_TRIAL_ID, name_state, read_curve, read_trials
from search.tuning.epoch_log import EpochLog
from search.tuning.promotion import PromotionScheduler
from search.tuning.scheduler import make_scheduler, replay_results
from search.tuning.trial_generator import TrialGenerator
from search.tuning.unfinished import clear_checkpoints, list_decided, list_unfinished
from trainables.context import STOPPED_BY

N_TRIALS, MAX_EPOCHS = 7, 5


def search(folder: Path, kill_after: int = 0) -> Sequence[FrozenTrial]:
    """Runs or resumes a search on one place; returns the study's trials."""

    class Walk(tune.Trainable):  # inside the function, so that it travels to the workers by value
        def setup(self, config: dict[str, Any]) -> None:
            self.x, self.place = config["x"], 0.0

        def step(self) -> dict[str, Any]:
            self.place = (self.place * 3.7 + self.x) % 1.0  # what it has trained decides what comes next
            return {"val_dice": self.place}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            from trainables.files.manifest import seal_checkpoint

            (Path(checkpoint_dir) / "place.json").write_text(json.dumps(self.place))
            seal_checkpoint(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint_dir: Any) -> None:
            self.place = json.loads((Path(checkpoint_dir) / "place.json").read_text())

    study_file = StudyFile(folder / "study.journal", "s", "tpe", 3, 4, pauses=True)
    searcher = StudySearcher(study_file, {"x": FloatRange(0.0, 1.0)}, N_TRIALS, MAX_EPOCHS)
    scheduler = make_scheduler(SchedulerConfig("promotion", reduction_factor=2), MAX_EPOCHS, concurrent=1)
    assert isinstance(scheduler, PromotionScheduler)
    past = read_trials(study_file)
    for trial_id, report in list_decided(past, folder / "trials").items():
        searcher.on_trial_complete(trial_id, report)
    past = read_trials(study_file)
    curves = {str(trial.user_attrs[RAY_TRIAL_ID]): read_curve(trial) for trial in past}
    rows = {name: {epoch: {"val_dice": row[0]} for epoch, row in curve.items()} for name, curve in curves.items()}
    replay_results(scheduler, rows)
    unfinished = list_unfinished(past, folder / "trials")

    def find_kept(trial_id: str) -> Any:
        return clear_checkpoints(locate_trial(folder / "trials", trial_id))

    killers = [Killer(kill_after)] if kill_after else []
    tuner = tune.Tuner(
        tune.with_resources(Walk, {"cpu": 0.1}),  # an actor of a killed search may hold its share for a while
        tune_config=tune.TuneConfig(
            search_alg=TrialGenerator(searcher, 1, find_kept, unfinished, scheduler),
            scheduler=scheduler,
            num_samples=N_TRIALS,
            reuse_actors=True,
            trial_dirname_creator=name_trial_folder,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder),
            stop={"training_iteration": MAX_EPOCHS},
            callbacks=[EpochLog(folder / "trials"), *killers],
            failure_config=tune.FailureConfig(max_failures=MAX_RETRIES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_frequency=1, checkpoint_at_end=True, checkpoint_score_attribute="val_dice"
            ),
            verbose=0,
        ),
    )
    if kill_after:
        with pytest.raises(TuneError, match="Killed"):
            tuner.fit()
    else:
        tuner.fit()
    return read_trials(study_file)


def describe(trials: Sequence[FrozenTrial]) -> list[Any]:
    return [(t.params, read_curve(t), name_state(t), t.user_attrs.get(STOPPED_BY)) for t in trials]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    whole = describe(search(tmp_path / "whole"))
    assert [state for _, _, state, _ in whole].count("complete") >= 1
    assert all((state == "stopped") == bool(reason) for _, _, state, reason in whole), whole
    n_epochs = sum(len(curve) for _, curve, _, _ in whole)
    for kill_after in (3, n_epochs // 2, n_epochs - 1):
        folder = tmp_path / f"killed-{kill_after}"
        search(folder, kill_after)
        assert describe(search(folder)) == whole
