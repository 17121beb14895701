"""A small table of curves that follow from their configurations by a formula, and its space."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.curve_table import CurveRow, CurveTable
from benchmarks.make_curves import draw_config
from search.space.config import SearchConfig, load_config

SPACE = """
name: tiny
num_trials: 12
max_epochs: 4
scheduler: {kind: asha, grace_period: 1, reduction_factor: 2}
sampler: {kind: random}
space:
  optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
  adapter.targets: {choice: [image_encoder, mask_decoder, both]}
  augment.kind: {choice: [flips, color]}
  augment.strength: {low: 0.1, high: 0.5, when: {augment.kind: color}}
start_from:
  - {name: first, optim.lr: 1.0e-3, adapter.targets: both, augment.kind: flips}
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture
def config(space: Path) -> SearchConfig:
    return load_config(space)


@pytest.fixture
def table(config: SearchConfig) -> CurveTable:
    """The starting point and 30 draws: a rate near 1e-3 is best, above it trials dip first; test is 0.02 lower."""
    rows: dict[int | str, CurveRow] = {}
    for key in ("first", *range(30)):
        params = draw_config(config, 0, key)
        off = abs(math.log10(float(params["optim.lr"])) + 3)
        dice = [0.7 - 0.2 * off + 0.02 * epoch - 0.3 * off / epoch for epoch in range(1, 5)]
        seconds = [10.0 + (params["adapter.targets"] == "both")] * 4
        metrics = {"val_dice": dice, "test_dice": [value - 0.02 for value in dice], "seconds/train": seconds}
        rows[key] = CurveRow(key, params, 0, metrics, [[value, value] for value in dice])
    zeroshot = {"val": 0.5, "test": 0.48, "val_pairs": [5000, 5000]}
    header = {"space_hash": "0", "max_epochs": 4, "seed": 0, "zeroshot": zeroshot, "environment": {"python": "3"}}
    words = {"data": "made up", "data_fingerprint": "f", "protocol": "box", "model": "none", "model_hash": "0"}
    return CurveTable({**header, **words}, rows)
