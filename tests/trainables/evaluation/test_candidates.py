from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray import tune
from sam2.modeling.sam2_base import SAM2Base

from trainables.adapters.adapted_model import adapters_off, get_base
from trainables.adapters.scales import SCALES
from trainables.context import RECIPE_FILE, TrialContext
from trainables.data.store import RegionStore
from trainables.errors import CheckpointError, InputError, TrainablesError
from trainables.evaluation.candidates import load_adapted, load_candidate, score_candidate, score_scales
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import evaluate
from trainables.evaluation.soup_folder import write_soup
from trainables.protocol.scores import flatten_scores
from trainables.sam2_trainable import SAM2Trainable

CONFIG = {"adapter.rank": 4, "adapter.alpha": 12.0, "adapter.dropout": 0.2, "optim.lr": 3e-3}
Trial = tuple[dict[str, float], Path]


@pytest.fixture(scope="module")
def context(context: TrialContext) -> TrialContext:
    return replace(context, fixed={"optim.batch_size": 2})


@pytest.fixture(scope="module")
def trial(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """One epoch's metrics, and the checkpoint after it."""
    folder = tmp_path_factory.mktemp("trial")
    with pytest.MonkeyPatch.context() as patch:
        # Ray gives a trial that has no storage a folder below the home directory.
        patch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(folder / "ray"))
        trainable = tune.with_parameters(SAM2Trainable, context=context)(dict(CONFIG))
    metrics = trainable.train()
    trainable.save_checkpoint(str(folder))
    return metrics, folder


def test_a_trial_s_checkpoint_scores_what_the_trial_reported(context: TrialContext, trial: Trial) -> None:
    metrics, checkpoint = trial
    scores = score_candidate(context, checkpoint, context.val)
    assert scores.protocol == context.protocol and {pair.file for pair in scores.pairs} <= set(context.val)
    reported = {name: value for name, value in metrics.items() if name.startswith("val_") and name != "val_loss"}
    assert flatten_scores(scores, "val") == reported


def test_zero_shot_is_the_bare_model_and_the_trial_with_its_adapter_off(
    context: TrialContext, nano: SAM2Base, tissue_store: RegionStore, trial: Trial
) -> None:
    zero_shot = score_candidate(context, None, context.val)
    regions = EvaluationSet(tissue_store, context.val, context.protocol)
    assert zero_shot == evaluate(nano, regions, torch.device("cpu"))
    with adapters_off(load_adapted(context, trial[1])) as base:
        assert evaluate(base, regions, torch.device("cpu")) == zero_shot
    assert score_candidate(context, trial[1], context.val) != zero_shot


def test_load_candidate_gives_the_model_inside(context: TrialContext, trial: Trial) -> None:
    loaded = load_candidate(context, trial[1]).state_dict()
    expected = get_base(load_adapted(context, trial[1])).state_dict()
    assert all(torch.equal(value.cpu(), expected[name]) for name, value in loaded.items())
    assert any("lora_A" in name for name in loaded)
    assert not any("lora_A" in name for name in load_candidate(context, None).state_dict())


@pytest.mark.parametrize("content", ["", "[]", "null", "5", "{", "[" * 100_000, '{"adapter.rnak": 4}'])
def test_a_damaged_recipe_is_reported_with_its_file(context: TrialContext, tmp_path: Path, content: str) -> None:
    with pytest.raises(CheckpointError, match=RECIPE_FILE):  # the folder is no checkpoint
        load_adapted(context, tmp_path)
    (tmp_path / RECIPE_FILE).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_adapted(context, tmp_path)
    assert caught.value.findings[0].where.startswith(str(tmp_path / RECIPE_FILE))


def test_scales_lead_from_zero_shot_to_the_trial_and_on(context: TrialContext, trial: Trial) -> None:
    checkpoint, names = trial[1], context.val[:1]
    found = score_scales(context, checkpoint, names)
    assert tuple(found) == SCALES
    zero_shot = score_candidate(context, None, names)
    assert [pair.overlap for pair in found[0.0].pairs] == [pair.overlap for pair in zero_shot.pairs]
    assert found[0.0] == zero_shot
    assert found[1.0] == score_candidate(context, checkpoint, names)
    assert len({tuple(pair.overlap for pair in scores.pairs) for scores in found.values()}) > 2


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.25])
def test_several_scales_score_as_one_alone(context: TrialContext, trial: Trial, scale: float) -> None:
    names = context.val[:1]
    both = score_scales(context, trial[1], names, (scale, 1.0))
    assert both[scale] == score_candidate(context, trial[1], names, scale)


def test_zero_shot_is_zero_shot_at_every_scale(context: TrialContext, trial: Trial) -> None:
    states = [load_candidate(context, *case).state_dict() for case in ((None, 1.0), (None, 0.5), (trial[1], 0.0))]
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


@pytest.mark.parametrize(("scales", "left"), [(SCALES, [0.0, 1.0]), ((0.5, 1.0), [1.0]), ((0.5, 0.0), [0.0])])
def test_an_adapter_that_cannot_be_merged_has_two_scales(
    context: TrialContext, make_checkpoint: Callable[..., Path], scales: Sequence[float], left: list[float]
) -> None:
    found = score_scales(context, make_checkpoint("bottleneck"), context.val[:1], scales)
    assert list(found) == left
    if 0.0 in left:
        assert found[0.0] == score_candidate(context, None, context.val[:1])
    if 1.0 in left:
        assert found[1.0] != score_candidate(context, None, context.val[:1])


def test_a_soup_is_a_candidate_like_any_other(
    context: TrialContext, trial: Trial, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    names, soup = context.val[:1], tmp_path / "soup"
    write_soup(soup, [trial[1], make_checkpoint(name="other")])
    found = score_scales(context, soup, names)
    assert tuple(found) == SCALES and found[0.0] == score_candidate(context, None, names)
    for scale in (0.5, 1.0):
        assert found[scale] == score_candidate(context, soup, names, scale)
    write_soup(soup, [trial[1]])
    alone, merged = (load_candidate(context, each, 0.5).state_dict() for each in (soup, trial[1]))
    assert all(torch.equal(value, merged[name]) for name, value in alone.items())


def test_a_soup_of_what_cannot_be_merged_is_refused(
    context: TrialContext, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    write_soup(tmp_path / "soup", [make_checkpoint("bottleneck")])
    with pytest.raises(TrainablesError, match="cannot be merged"):
        load_candidate(context, tmp_path / "soup")


def test_a_wrong_scale_is_refused(context: TrialContext, trial: Trial) -> None:
    with pytest.raises(InputError, match="0 <= scale"):
        score_candidate(context, trial[1], context.val, 2.01)
    with pytest.raises(InputError, match="0 <= scale"):
        score_scales(context, trial[1], context.val, (1.0, 2.01))
