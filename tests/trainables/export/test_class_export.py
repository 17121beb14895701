"""Class prompts from training through the checkpoint to the export, on a few small regions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from trainables.adapters.adapted_model import get_base
from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.errors import CheckpointError, TrainablesError
from trainables.evaluation.candidates import load_candidate, score_candidate, score_model, score_scales
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.export.class_export import CLASS_EXPORT_FILE, ClassExport, load_class_export, write_class_export
from trainables.export.merged import MERGED_FILE, write_merged
from trainables.export.unmerged import write_unmerged
from trainables.model.class_prompts import ClassPrompts, find_class_prompts, save_class_prompts
from trainables.model.weights import load_model
from trainables.protocol.scores import Scores
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe
from trainables.training.fine_tune import FineTune

Trained = tuple[FineTune, Scores, Path]
RECIPE = Recipe.from_flat(
    {
        "adapter.rank": 2,
        "adapter.train_decoder": True,
        "optim.lr": 3e-3,
        "optim.batch_size": 2,
        "class_prompts.tokens": 2,
        "loss.focal": 1.0,
    }
)


@pytest.fixture(scope="module")
def context(context: TrialContext) -> TrialContext:
    return replace(context, protocol=PROTOCOLS["auto"], max_epochs=2)


def make_fine_tune(context: TrialContext, recipe: Recipe = RECIPE) -> FineTune:
    base_state, own = load_model("nano", None).state_dict(), replace(context, seed=5)
    return FineTune(own, context.list_folds()[0], base_state, recipe, torch.device("cpu"))


def score(fit: FineTune) -> Scores:
    context = fit.context
    return fit.evaluate(EvaluationSet(fit.store, context.val, context.protocol, context.train))


@pytest.fixture(scope="module")
def trained(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A fine-tune after one epoch, what it scored then, and its checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    fit = make_fine_tune(context)
    report = fit.train_epoch(0)
    assert set(report.losses) == {"total", "focal", "dice", "objectness"}
    scores = score(fit)
    fit.save(folder)
    return fit, scores, folder


@pytest.fixture(scope="module")
def export(context: TrialContext, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_merged(context, trained[2], folder)
    write_class_export(context, trained[2], folder)
    return folder


def test_training_moves_every_token(context: TrialContext, trained: Trained) -> None:
    started = find_class_prompts(get_base(make_fine_tune(context).state.adapted))
    moved = find_class_prompts(get_base(trained[0].state.adapted))
    assert started is not None and moved is not None
    assert bool((started.tokens != moved.tokens).flatten(2).any(2).all())


def test_a_checkpoint_scores_and_goes_on_as_the_fine_tune_does(context: TrialContext, trained: Trained) -> None:
    fit, scores, folder = trained
    assert score_candidate(context, folder, context.val) == scores
    assert score_scales(context, folder, context.val, (1.0,)) == {1.0: scores}
    resumed = make_fine_tune(context)
    resumed.load(folder)
    assert resumed.train_epoch(1).losses == pytest.approx(fit.train_epoch(1).losses, rel=1e-5)


def test_the_bar_is_untrained_tokens_with_nothing_between(context: TrialContext, trained: Trained) -> None:
    bar = score_candidate(context, None, context.val)
    assert score_scales(context, trained[2], context.val, (0.0, 1.0))[0.0] == bar
    assert bar.floor == trained[1].floor > 0
    assert find_class_prompts(load_candidate(replace(context, protocol=PROTOCOLS["box"]), None)) is None
    with pytest.raises(TrainablesError, match="score each at scale 1"):
        score_candidate(context, trained[2], context.val, 0.5)
    with pytest.raises(TrainablesError, match="score each at scale 1"):
        score_scales(context, trained[2], context.val)


def test_an_export_scores_what_the_checkpoint_does(context: TrialContext, trained: Trained, export: Path) -> None:
    assert score_model(context, load_class_export(export)[1]).dice == pytest.approx(
        score_candidate(context, trained[2], context.val).dice, abs=0.001
    )
    written, model = load_class_export(export)
    assert written.tile_px == (160, 160) and written.model == "nano"
    assert list(written.names.values())[-1] == "background" and 0 in written.names
    prompts = find_class_prompts(model)
    assert prompts is not None and len(prompts.tokens) == len(written.names)
    stock = torch.load(export / MERGED_FILE, weights_only=True)["model"]
    assert set(stock) == set(load_model("nano", None).state_dict())


def test_adapters_that_cannot_be_merged_are_exported_with_class_prompts(context: TrialContext, tmp_path: Path) -> None:
    recipe = Recipe.from_flat({"adapter.kind": "bottleneck", "adapter.rank": 2, "class_prompts.tokens": 1})
    fit = make_fine_tune(context, recipe)
    fit.train_epoch(0)
    for name in ("checkpoint", "export"):
        (tmp_path / name).mkdir()
    fit.save(tmp_path / "checkpoint")
    write_unmerged(context, tmp_path / "checkpoint", tmp_path / "export")
    write_class_export(context, tmp_path / "checkpoint", tmp_path / "export")
    assert not (tmp_path / "export" / MERGED_FILE).exists()
    assert score_model(context, load_class_export(tmp_path / "export")[1]) == score(fit)


def test_an_export_without_class_prompts_says_that_it_needs_prompts(export: Path, tmp_path: Path) -> None:
    (tmp_path / MERGED_FILE).write_bytes((export / MERGED_FILE).read_bytes())
    with pytest.raises(CheckpointError, match="this export needs prompts"):
        load_class_export(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ('{"model": "nano"}', "tile_px"),
        ('{"model": "none", "names": [[0, "a"]], "tile_px": [96, 96]}', "no model"),
        ('{"model": "nano", "names": [[999, "a"]], "tile_px": [96, 96]}', "no model or ids"),
        ('{"model": "nano", "names": [[0, "a"]], "tile_px": [0, 96]}', "tile_px must lie in 16..20000"),
        ('{"model": "nano", "names": [[0, "a"]], "tile_px": [1, 1]}', "tile_px must lie in 16..20000"),
        ('{"model": "nano", "names": [[0, "a"]], "tile_px": [96, 1e11]}', "tile_px.1 must be a valid integer"),
        ('{"model": "nano", "names": [[0, "a"]], "tile_px": [96, 1e400]}', "tile_px.1 must be a valid integer"),
        ("[" * 100_000, "cannot be read: Invalid JSON: recursion limit"),
    ],
)
def test_a_damaged_description_is_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / CLASS_EXPORT_FILE).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        ClassExport.read(tmp_path)


@pytest.mark.parametrize(
    ("n_names", "width", "words"),
    [
        (5, 64, "has tokens for 6 names, but class_prompts.json lists 5"),
        (6, 128, "has tokens of 128 channels, but nano takes"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(export: Path, tmp_path: Path, n_names: int, width: int, words: str) -> None:
    (tmp_path / MERGED_FILE).symlink_to(export / MERGED_FILE)
    content = json.loads((export / CLASS_EXPORT_FILE).read_text())
    (tmp_path / CLASS_EXPORT_FILE).write_text(json.dumps({**content, "names": content["names"][:n_names]}))
    save_class_prompts(ClassPrompts(torch.zeros(6, 2, width)), tmp_path)
    with pytest.raises(CheckpointError, match=words):
        load_class_export(tmp_path)


def test_tiles_of_tiny_regions_are_no_smaller_than_can_be_read(
    context: TrialContext, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RegionStore, "size", lambda *_: (5, 30_000))
    write_class_export(context, trained[2], tmp_path)
    assert ClassExport.read(tmp_path).tile_px == (16, 20_000)


@pytest.mark.parametrize("place", ["nowhere", ".", "a" * 300])
def test_folders_that_are_no_export_are_refused(place: str, tmp_path: Path) -> None:
    words = "no such folder" if place != "." else "holds no export"
    with pytest.raises(CheckpointError, match=words):
        ClassExport.read(tmp_path / place)
