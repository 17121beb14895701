from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ray import tune

from trainables.checkpoint import load_model
from trainables.context import RECIPE_FILE, TrialContext
from trainables.data.store import RegionStore
from trainables.evaluate import evaluate
from trainables.evaluation_set import EvaluationSet
from trainables.model.adapters import adapters_off, get_base
from trainables.protocol import PROTOCOLS
from trainables.sam2_trainable import SAM2Trainable
from trainables.scoring import load_adapted, load_candidate, score_candidate

CONFIG = {"adapter.rank": 4, "adapter.alpha": 12.0, "adapter.dropout": 0.2, "optim.lr": 3e-3}


@pytest.fixture(scope="module")
def context(tissue_store: RegionStore) -> TrialContext:
    return TrialContext(
        model="nano",
        checkpoint=None,
        store_folder=str(tissue_store.folder),
        train=tissue_store.names[:3],
        val=tissue_store.names[3:],
        protocol=PROTOCOLS["recorded"],
        max_epochs=1,
        seed=0,
        fixed={"optim.batch_size": 2},
        n_workers=0,
    )


@pytest.fixture(scope="module")
def trial(
    context: TrialContext, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, float], Path]:
    """One epoch's metrics, and the checkpoint after it."""
    folder = tmp_path_factory.mktemp("trial")
    with pytest.MonkeyPatch.context() as patch:
        # Ray gives a trial that has no storage a folder below the home directory.
        patch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(folder / "ray"))
        trainable = tune.with_parameters(SAM2Trainable, context=context)(dict(CONFIG))
    metrics = trainable.train()
    trainable.save_checkpoint(str(folder))
    return metrics, folder


def test_a_trial_s_checkpoint_scores_what_the_trial_reported(
    context: TrialContext, trial: tuple[dict[str, float], Path]
) -> None:
    metrics, checkpoint = trial
    scores = score_candidate(context, checkpoint, context.val)
    assert scores.protocol == context.protocol
    assert {f"val_{name}": value for name, value in scores.to_flat().items()} == {
        name: value for name, value in metrics.items() if name.startswith("val_")
    }


def test_zero_shot_is_the_bare_model_and_the_trial_with_its_adapter_off(
    context: TrialContext, tissue_store: RegionStore, trial: tuple[dict[str, float], Path]
) -> None:
    zero_shot = score_candidate(context, None, context.val)
    regions = EvaluationSet(tissue_store, context.val, context.protocol)
    assert zero_shot == evaluate(load_model("nano", None), regions, torch.device("cpu"))
    with adapters_off(load_adapted(context, trial[1])) as base:
        assert evaluate(base, regions, torch.device("cpu")) == zero_shot
    assert score_candidate(context, trial[1], context.val) != zero_shot


def test_only_the_named_regions_are_scored(context: TrialContext, tissue_store: RegionStore) -> None:
    scores = score_candidate(context, None, tissue_store.names[:1])
    assert {pair.file for pair in scores.pairs} == {tissue_store.names[0]}


def test_load_candidate_gives_the_model_inside(
    context: TrialContext, trial: tuple[dict[str, float], Path]
) -> None:
    loaded = load_candidate(context, trial[1]).state_dict()
    expected = get_base(load_adapted(context, trial[1])).state_dict()
    assert all(torch.equal(value.cpu(), expected[name]) for name, value in loaded.items())
    assert any("lora_A" in name for name in loaded)
    assert not any("lora_A" in name for name in load_candidate(context, None).state_dict())


def test_a_folder_that_is_no_checkpoint_is_told(context: TrialContext, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=RECIPE_FILE):
        load_adapted(context, tmp_path)
