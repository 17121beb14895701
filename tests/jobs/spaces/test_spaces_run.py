"""Every shipped space runs: some as the whole main job, the trials of the others for an epoch in here.

Of what sets spaces apart, the trials are nearly all; the rest of the main job is the same for all that train, but for
exports that cannot be merged (fusion, adapters), for replays of one configuration, and for spaces that train nothing.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from searches import read_screen, start_search

from search.space.config import SearchConfig, find_space, list_spaces, load_config
from search.stages.trials import make_searcher
from search.study.study_file import StudyFile
from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.protocol.spec import PROTOCOLS
from trainables.protocol_trainable import ProtocolTrainable
from trainables.sam2_trainable import SAM2Trainable

pytestmark = pytest.mark.slow

# Beside lora and classprompts, with which other tests run the main job.
WHOLE = ("adapters.yaml", "fusion.yaml", "prompts.yaml", "recorded/v1.yaml", "recorded/zeroshot.yaml")
N_TRAIN, N_VAL = 5, 3


@pytest.fixture(scope="module")
def storage(make_work_folder: Callable[[str], Path]) -> Path:
    """One storage for all, so that the data is decoded once."""
    return make_work_folder("spaces")


def run_search(storage: Path, *options: str) -> dict[str, Any]:
    process = start_search(storage, *options, "--json", "--storage", str(storage / "runs"))
    assert process.wait() == 0, read_screen(storage)
    outcome: dict[str, Any] = json.loads(read_screen(storage).strip().splitlines()[-1])
    return outcome


@pytest.mark.parametrize("space", WHOLE)
def test_the_space_runs_to_its_end(storage: Path, space: str) -> None:
    config = load_config(find_space(space))
    name = space.removesuffix(".yaml").replace("/", "-")
    options = ["--space", space, "--data", "data", "--name", name, *([] if config.is_replay else ["--num-trials", "2"])]
    if not config.train:
        outcome = run_search(storage, *options)
        assert len(outcome["rows"]) == (1 if config.is_replay else 2)
        first = {path: path.read_text() for path in (storage / "runs" / name).rglob("result.json")}
        assert run_search(storage, "--resume", name) == outcome
        assert first == {path: path.read_text() for path in (storage / "runs" / name).rglob("result.json")}
        return
    outcome = run_search(storage, *options, "--max-epochs", "1", "--confirm", "0")
    assert set(outcome["trials"]) == {"complete"}, outcome["trials"]
    assert outcome["verdict"] in ("beaten", "not beaten", "undecided")
    assert (Path(outcome["export"]) / "README.md").is_file()


def propose(config: SearchConfig, journal: Path) -> list[dict[str, Any]]:
    """Returns the configurations of the first two trials, as a search would draw them."""
    searcher = make_searcher(config, StudyFile(journal, "space", "random", 0, 0, config.objective.modes))
    proposed = [searcher.suggest(trial_id) for trial_id in "ab"]
    return [dict(params) for params in proposed if not isinstance(params, str)]


@pytest.mark.parametrize("space", [space for space in list_spaces() if space not in WHOLE])
def test_its_trials_run(space: str, small_store: RegionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(find_space(space))
    train, val = small_store.names[:N_TRAIN], small_store.names[N_TRAIN : N_TRAIN + N_VAL]
    protocol, n_epochs, fixed = PROTOCOLS[config.protocol], max(1, config.max_epochs), dict(config.fixed)
    context = TrialContext("nano", None, str(small_store.folder), train, val, protocol, n_epochs, 0, fixed, 0)
    # Ray gives a trial that has no storage a folder below the home directory.
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "ray"))
    trainable = tune.with_parameters(SAM2Trainable if config.train else ProtocolTrainable, context=context)
    proposed = propose(config, tmp_path / "study.journal")
    assert len(proposed) == (1 if config.is_replay else 2)
    for number, params in enumerate(proposed):
        trial = trainable(params)
        metrics = trial.train()
        assert 0 < metrics["val_dice"] < 1
        if config.train:
            assert math.isfinite(metrics["train_loss"])
            (tmp_path / str(number)).mkdir()
            trial.save_checkpoint(str(tmp_path / str(number)))
            trainable(params).load_checkpoint(str(tmp_path / str(number)))
