import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainables.context import ADAPTER_FOLDER, RECIPE_FILE, TrialContext
from trainables.errors import CheckpointError, TrainablesError
from trainables.evaluation.candidates import load_candidate, load_zero_shot, score_candidate, score_model, score_scales
from trainables.export.merged import MERGED_FILE, write_merged
from trainables.export.unmerged import find_unmergeable, load_unmerged, write_unmerged
from trainables.model.build import MODELS, build_architecture
from trainables.model.pathology_encoder import load_encoder
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.fine_tune import FineTune

Make = Callable[[str], Path]
VIT = "test_vit"
RECIPES: Mapping[str, Mapping[str, Scalar]] = {
    "bottleneck": {"adapter.kind": "bottleneck", "adapter.rank": 4},
    "fusion": {"adapter.kind": "none", "fusion.kind": "attention", "fusion.encoder": VIT},
    "fusion alone": {
        "adapter.kind": "none", "adapter.train_heads": False, "fusion.kind": "concat", "fusion.encoder": VIT,
    },
    "fusion, lora": {"adapter.rank": 4, "fusion.kind": "concat", "fusion.encoder": VIT, "fusion.train_encoder": True},
    "lora": {"adapter.rank": 4},
}  # fmt: skip
UNMERGEABLE = [name for name in RECIPES if name != "lora"]


@pytest.fixture(scope="module")
def context(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    """With weights for the encoder, other than its random ones."""
    path = tmp_path_factory.mktemp("encoder") / "vit.safetensors"
    save_file({name: value + 0.001 for name, value in load_encoder(VIT, None).network.state_dict().items()}, path)
    names = {"train": context.train[:1], "val": context.val[1:]}
    return replace(context, **names, protocol=PROTOCOLS["box"], pathology_weights={VIT: str(path)})


@pytest.fixture(scope="module")
def make_checkpoint(context: TrialContext, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Trains an epoch, once a recipe, with a rate that moves the scores."""

    @functools.cache
    def make(name: str) -> Path:
        values = {**RECIPES[name], "optim.lr": 5e-3, "optim.batch_size": 1, "augment.kind": "none"}
        base_state = load_zero_shot(context).state_dict()
        fit = FineTune(context, context.list_folds()[0], base_state, Recipe.from_flat(values), torch.device("cpu"))
        fit.train_epoch(0)
        folder = tmp_path_factory.mktemp("checkpoint")
        fit.save(folder)
        return folder

    return make


@pytest.fixture
def export(context: TrialContext, make_checkpoint: Make, tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    write_unmerged(context, make_checkpoint("bottleneck"), folder)
    return folder


@pytest.mark.parametrize("name", UNMERGEABLE)
def test_what_is_reloaded_is_the_candidate(
    context: TrialContext, make_checkpoint: Make, tmp_path: Path, name: str
) -> None:
    checkpoint, folder = make_checkpoint(name), tmp_path / "export"
    folder.mkdir()
    write_unmerged(context, checkpoint, folder)
    assert not (folder / MERGED_FILE).exists()
    model = load_unmerged(folder, pathology_weights=context.pathology_weights)
    assert not model.training
    wanted = load_candidate(context, checkpoint).cpu().state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    own, bar = (score_candidate(context, candidate, context.val) for candidate in (checkpoint, None))
    assert score_model(context, model).dice == own.dice != bar.dice


@pytest.mark.parametrize("name", RECIPES)
def test_what_cannot_be_merged_has_scales_0_and_1_alone(
    context: TrialContext, make_checkpoint: Make, tmp_path: Path, name: str
) -> None:
    checkpoint = make_checkpoint(name)
    part = find_unmergeable(context, checkpoint)
    assert ("bottleneck" in part) == (name == "bottleneck") and (VIT in part) == ("fusion" in name)
    found = score_scales(context, checkpoint, context.val, (0.0, 0.5, 1.0))
    assert list(found) == ([0.0, 0.5, 1.0] if name == "lora" else [0.0, 1.0])
    assert found[0.0].dice == score_candidate(context, None, context.val).dice
    assert found[1.0].dice == score_candidate(context, checkpoint, context.val).dice
    if part:
        with pytest.raises(TrainablesError, match="cannot be merged"):
            write_merged(context, checkpoint, tmp_path, 0.5)


def test_at_scale_0_even_they_are_stock_zero_shot(context: TrialContext, make_checkpoint: Make, tmp_path: Path) -> None:
    write_merged(context, make_checkpoint("fusion"), tmp_path, 0.0)
    assert not (tmp_path / ADAPTER_FOLDER).exists()
    state = torch.load(tmp_path / MERGED_FILE, weights_only=True)["model"]
    stock = build_architecture(MODELS["nano"])
    stock.load_state_dict(state)
    wanted = load_zero_shot(context).state_dict()
    assert all(torch.equal(state[key], value) for key, value in wanted.items())


def test_a_resumed_fusion_goes_on_as_it_would_have(context: TrialContext, make_checkpoint: Make) -> None:
    checkpoint = make_checkpoint("fusion")
    recipe = Recipe.from_flat(json.loads((checkpoint / RECIPE_FILE).read_text()))
    states = []
    base_state = load_zero_shot(context).state_dict()
    for _ in range(2):
        fit = FineTune(context, context.list_folds()[0], base_state, recipe, torch.device("cpu"))
        fit.load(checkpoint)
        fit.train_epoch(1)
        states.append({key: value.clone() for key, value in fit.state.adapted.state_dict().items()})
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


@pytest.mark.parametrize("weights", [{}, None])
def test_the_encoder_s_weights_are_asked_for(
    context: TrialContext, make_checkpoint: Make, tmp_path: Path, weights: dict[str, str] | None
) -> None:
    write_unmerged(context, make_checkpoint("fusion"), tmp_path)
    with pytest.raises(CheckpointError, match=f"beside {VIT} with other weights") as caught:
        load_unmerged(tmp_path, pathology_weights=weights)
    assert f"--pathology-weights {VIT}=FILE" in caught.value.findings[0].fix


def test_other_weights_of_the_base_are_refused(context: TrialContext, export: Path, tmp_path: Path) -> None:
    state = {name: value + 0.01 for name, value in load_zero_shot(context).state_dict().items()}
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="was trained on other weights of nano"):
        load_unmerged(export, str(tmp_path / "other.pt"))


def test_a_folder_that_is_no_such_export_is_refused(export: Path) -> None:
    for name in ("recipe.json", "base.json", "adapter/adapter_model.safetensors"):
        (export / name).rename(export / "moved")
        with pytest.raises(CheckpointError, match="is no export with an adapter"):
            load_unmerged(export)
        (export / "moved").rename(export / name)
    load_unmerged(export)


@pytest.mark.parametrize("name", ["base.json", "recipe.json"])
def test_a_damaged_file_of_an_export_is_named(export: Path, name: str) -> None:
    for content in ("", "[]", "null", '{"model": 5}', '{"model": [], "fingerprint": "0"}', "[" * 100_000):
        (export / name).write_text(content)
        with pytest.raises(CheckpointError) as caught:
            load_unmerged(export)
        assert caught.value.findings[0].where.startswith(str(export / name))
