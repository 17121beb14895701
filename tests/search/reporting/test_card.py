"""The card of an exported model says what its figures mean, and its example runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from search.reporting.card import Card
from search.run_folder.chosen import Chosen
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from trainables.adapters.adapted_model import attach_adapters, get_base, save_adapters
from trainables.model.build import ASSETS, MODELS
from trainables.model.fusion import add_fusion
from trainables.model.pathology_encoder import compute_fingerprint
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe

SOUP = {"soup": "seeds", "soup_members": ("trial a, seed 1, epoch 3", "trial a, seed 2, epoch 4")}
ReadCard = Callable[..., str]


@pytest.fixture
def read_card(make_record: Callable[..., SearchRecord], make_chosen: Callable[..., Chosen]) -> ReadCard:
    """Returns a card; takes changes of the chosen model, and under their names those of a search and of its context."""

    def read(
        summary: Summary | None = None,
        record: Mapping[str, Any] = MappingProxyType({}),
        context: Mapping[str, Any] = MappingProxyType({}),
        card: Mapping[str, Any] = MappingProxyType({}),
        **chosen: Any,
    ) -> str:
        begun = make_record(context, **record)
        return Card(begun, make_chosen(**chosen), summary, **{"stock_dice": 0.71229, **card}).to_markdown()

    return read


def test_figures_stand_beside_the_bar_under_their_protocol(
    read_card: ReadCard, make_summary: Callable[..., Summary]
) -> None:
    environment = {"git_commit": "c0ffee", "packages": {"torch": "2.14.1", "sam2": "1.1.0"}}
    split = {"train": ["a", "e"], "val": ["b"], "test": ["c", "d", "f"]}
    card = read_card(make_summary(verdict="undecided"), {"split": split, "environment": environment}, {"seed": 3})
    for part in (
        *("| this model | 0.7123 | 0.6812 |", "| zero-shot, measured alike | 0.6000 | 0.6134 |"),
        *("| 0.5123 |", "| 0.9321 |", "stock `SAM2ImagePredictor` | 0.7123 |", "**undecided**", "16 trials"),
        *("best of 3 configurations", "over 4 seeds (0.7012, standard deviation 0.0123)", "multiplied by 0.75"),
        *(PROTOCOLS["recorded"].describe(), "0.517", "BCSS test set", "2 train, 1 val, 3 test"),
        *("0123456789ab", "Drawn here.", "Seed of the search 3", "c0ffee", "torch 2.14.1"),
        *("`first`", "`abc`", "seed 2, epoch 5", "| `adapter.rank` | 8 |", "| `optim.lr` | 0.001 |"),
    ):
        assert part in card, part


@pytest.mark.parametrize(
    ("outcome", "chosen", "words"),
    [
        ({}, {}, "test, first opening"),
        ({"test_opening": 2, "test_openings": 3}, {}, "test, opening 2"),
        ({"verdict": "not beaten"}, {}, "**not beaten**"),
        ({}, {"refit": True}, "| | cross-validation |"),
        ({}, {"refit": True}, "(regions that the refit trained on)"),
        ({}, {"scale": 0.0}, "`sam2.pt` holds the zero-shot weights"),
        ({}, {}, "`sam2.pt` holds the merged weights"),
        ({}, {"n_finalists": 0}, "It was not confirmed with other seeds."),
        (
            {},
            {"params": {"optim.ema_decay": 0.95}},
            "the running average of those that training went through (decay 0.95",
        ),
        ({}, SOUP, "the mean of the updates of 2 trainings that differ in their seed: trial a, seed 1, epoch 3; trial"),
        ({}, {**SOUP, "soup": "greedy"}, "as long as validation did not lose by it (greedy soup): trial a, seed 1"),
        ({}, SOUP, "`adapter/` is the PEFT adapter alone, of the members' summed rank."),
    ],
)
def test_the_outcome_is_named(
    read_card: ReadCard,
    make_summary: Callable[..., Summary],
    outcome: dict[str, Any],
    chosen: dict[str, Any],
    words: str,
) -> None:
    assert words in read_card(make_summary(**outcome), **chosen)


def test_a_soup_whose_adapters_cannot_be_joined_has_none(read_card: ReadCard, summary: Summary) -> None:
    assert "There is no `adapter/`" in read_card(summary, card={"has_adapter": False}, **SOUP)


def test_an_early_export_has_no_other_scale_no_test_figure_and_no_verdict(read_card: ReadCard) -> None:
    early = read_card(card={"has_choice": False})
    assert "no other scale was tried" in early and "best of several scales" not in early
    assert "| this model | 0.7123 | not scored |" in early and "Against zero-shot" not in early


def test_the_use_of_class_prompts_is_described(read_card: ReadCard, summary: Summary) -> None:
    card = read_card(summary, context={"protocol": PROTOCOLS["auto"]})
    for part in (
        *("python -m search.predict --model", "class_prompts.safetensors", "needs no prompts"),
        *("these files, read again", "one class everywhere (floor)", "untrained class prompts"),
        "every pixel named right (ceiling)",
    ):
        assert part in card
    assert "WiSE-FT" not in card and "prompt box" not in card
    assert "search.predict" not in read_card(summary)


def test_a_demo_is_marked_and_real_data_are_not(read_card: ReadCard) -> None:
    demo = "demo data (synthetic tissue)"
    assert f"**Made with {demo}: its numbers say nothing about tissue.**" in read_card(record={"demo": demo})
    assert "demo" not in read_card(context={"model": "large"}).lower()


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"nano"}))
def test_stock_models_are_built_by_their_stock_config(read_card: ReadCard, model: str) -> None:
    card = read_card(context={"model": model})
    assert f'build_sam2("{MODELS[model].config}", "/absolute/path/of/this/folder/sam2.pt"' in card
    assert "initialize_config_dir" not in card


def test_caveats_stand_at_the_top(read_card: ReadCard, make_summary: Callable[..., Summary]) -> None:
    caveat = "leak allowed by --allow-leak: patient X stands in 2 parts"
    card = read_card(make_summary(caveats=[caveat]))
    assert f"**L{caveat[1:]}.**" in card.split("## Dice")[0]


@pytest.fixture
def kept_hydra() -> Iterator[None]:
    """The example clears Hydra's search path, which is this process's own."""
    before = GlobalHydra.instance().hydra
    yield
    GlobalHydra.instance().hydra = before


def test_the_example_for_nano_runs(
    read_card: ReadCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_hydra: None
) -> None:
    base = load_model("nano", None)
    torch.save({"model": base.state_dict()}, tmp_path / "sam2.pt")
    shutil.copy(ASSETS / MODELS["nano"].config, tmp_path)
    code = re.findall(r"```python\n(.*?)```", read_card(), re.DOTALL)
    assert len(code) == 1
    assert "/absolute/path/of/this/folder" in code[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[0].replace("/absolute/path/of/this/folder", str(tmp_path)), names)
    assert all(value.equal(base.state_dict()[name]) for name, value in names["model"].state_dict().items())


FUSED = {"fusion.kind": "concat", "fusion.encoder": "test_vit", "adapter.kind": "none"}


UNMERGED: dict[str, Any] = {"card": {"unmergeable": "a fusion with the encoder test_vit"}, "scale": 1.0}


def test_what_cannot_be_merged_says_why_and_how_to_load_it(read_card: ReadCard) -> None:
    weights = {"pathology_weights": {"test_vit": "/private/vit.safetensors"}}
    context = {"model": "large", "checkpoint": "/private/sam2.1.pt", **weights}
    card = read_card(context=context, params=FUSED, **UNMERGED)
    assert "There is no `sam2.pt`: a fusion with the encoder test_vit cannot be merged" in card
    assert 'checkpoint="/absolute/path/of/sam2.1.pt"' in card
    assert 'pathology_weights={"test_vit": "/absolute/path/of/vit.safetensors"}' in card
    assert "these files, read again" in card
    assert "build_sam2" not in card and "SAM2ImagePredictor` |" not in card and "private" not in card
    plain = read_card(context=weights, params={**FUSED, "fusion.kind": "none"}, **UNMERGED)
    assert "pathology_weights=" not in plain


def test_the_example_for_what_cannot_be_merged_runs(read_card: ReadCard, tmp_path: Path) -> None:
    recipe = Recipe.from_flat(FUSED)
    adapted = attach_adapters(load_model("nano", None), recipe.adapter, 0)
    add_fusion(get_base(adapted), recipe.fusion, {}, 0)
    save_adapters(adapted, tmp_path / "adapter")
    (tmp_path / "recipe.json").write_text(json.dumps(FUSED))
    base = {"model": "nano", "fingerprint": compute_fingerprint(load_model("nano", None))}
    (tmp_path / "base.json").write_text(json.dumps(base))
    (code,) = re.findall(r"```python\n(.*?)```", read_card(params=FUSED, **UNMERGED), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("/absolute/path/of/this/folder", str(tmp_path)), names)
    wanted = get_base(adapted).state_dict()
    assert all(value.equal(wanted[name]) for name, value in names["model"].state_dict().items())
