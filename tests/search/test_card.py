"""The card of an exported model says what its figures mean, and its example runs."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from search.card import write_card
from search.record import SearchRecord
from search.results import Winner
from search.summary import Summary
from trainables.checkpoint import load_model
from trainables.context import TrialContext
from trainables.model.build import ASSETS, MODELS
from trainables.protocol import PROTOCOLS

WINNER = Winner("abc", Path("/checkpoint"), 5, 0.71234, {"adapter.rank": 8, "optim.lr": 0.001})
SUMMARY = Summary(
    search_id="first",
    demo="",
    trials={"complete": 3, "stopped": 13},
    best_trial="abc",
    best_params={},
    best_epoch=5,
    val_dice=0.71234,
    zeroshot_val_dice=0.60001,
    val_floor=0.5123,
    val_ceiling=0.9321,
    test_dice=0.6812,
    zeroshot_test_dice=0.6134,
    verdict="undecided",
    protocol="recorded",
    protocol_id="-",
    data_fingerprint="0123456789ab",
    seed=3,
    parent_run_id="run",
    wall_seconds=1.0,
    bar_recorded_comparable=False,
)


def make_record(model: str = "nano", demo: str = "") -> SearchRecord:
    context = TrialContext(model, None, "/store", ("a",), ("b",), PROTOCOLS["recorded"], 8, 3, {}, 0)
    split = {"train": ["a", "e"], "val": ["b"], "test": ["c", "d", "f"]}
    environment: dict[str, Any] = {"git_commit": "c0ffee", "packages": {"torch": "2.14.1", "sam2": "1.1.0"}}
    return SearchRecord(
        *("first", "lora", "run", "/data", split, "Drawn here with seed 3.", "0123456789ab", demo),
        *({}, context.to_dict(), environment),
    )


def read_card(folder: Path, record: SearchRecord, summary: Summary | None = SUMMARY) -> str:
    write_card(folder / "README.md", record, WINNER, summary, stock_dice=0.71229)
    return (folder / "README.md").read_text()


def test_figures_stand_beside_the_bar_under_their_protocol(tmp_path: Path) -> None:
    card = read_card(tmp_path, make_record())
    for part in (
        *("| this model | 0.7123 | 0.6812 |", "| zero-shot, measured alike | 0.6000 | 0.6134 |"),
        *("| 0.5123 |", "| 0.9321 |", "stock `SAM2ImagePredictor` | 0.7123 |", "**undecided**", "16 trials"),
        *(PROTOCOLS["recorded"].describe(), "0.517", "BCSS test set", "2 train, 1 val, 3 test"),
        *("0123456789ab", "Drawn here with seed 3.", "Seed 3", "c0ffee", "torch 2.14.1"),
        *("`first`", "`abc`", "epoch 5", "| `adapter.rank` | 8 |", "| `optim.lr` | 0.001 |"),
    ):
        assert part in card, part


def test_a_demo_is_marked_and_real_data_are_not(tmp_path: Path) -> None:
    demo = "demo data (synthetic tissue)"
    assert f"**Made with {demo}: its numbers say nothing about tissue.**" in read_card(tmp_path, make_record(demo=demo))
    assert "demo" not in read_card(tmp_path, make_record(model="large")).lower()


def test_without_a_summary_there_is_no_test_figure_and_no_verdict(tmp_path: Path) -> None:
    card = read_card(tmp_path, make_record(), summary=None)
    assert "| this model | 0.7123 | not scored |" in card
    assert "Against zero-shot" not in card


def test_every_verdict_is_told_as_it_is(tmp_path: Path) -> None:
    card = read_card(tmp_path, make_record(), dataclasses.replace(SUMMARY, verdict="not beaten"))
    assert "**not beaten**" in card


@pytest.mark.parametrize("model", sorted(set(MODELS) - {"nano"}))
def test_stock_models_are_built_by_their_stock_config(tmp_path: Path, model: str) -> None:
    card = read_card(tmp_path, make_record(model))
    assert f'build_sam2("{MODELS[model].config}", "sam2.pt"' in card
    assert "initialize_config_dir" not in card


@pytest.fixture
def kept_hydra() -> Iterator[None]:
    """The example clears Hydra's search path, which is this process's own."""
    before = GlobalHydra.instance().hydra
    yield
    GlobalHydra.instance().hydra = before


def test_the_example_for_nano_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_hydra: None) -> None:
    base = load_model("nano", None)
    torch.save({"model": base.state_dict()}, tmp_path / "sam2.pt")
    shutil.copy(ASSETS / MODELS["nano"].config, tmp_path)
    code = re.findall(r"```python\n(.*?)```", read_card(tmp_path, make_record()), re.DOTALL)
    assert len(code) == 1
    assert "/absolute/path/of/this/folder" in code[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[0].replace("/absolute/path/of/this/folder", str(tmp_path)), names)
    assert all(value.equal(base.state_dict()[name]) for name, value in names["model"].state_dict().items())
