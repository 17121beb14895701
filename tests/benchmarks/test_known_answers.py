"""What a replayed trial is answered: rows of the table, and a surrogate's curves for what it lacks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.curve_table import CurveRow, CurveTable, is_scored
from benchmarks.known_answers import Answers, take_best
from benchmarks.make_curves import draw_config
from benchmarks.surrogate import Surrogate
from search.space.config import SearchConfig
from search.space.parameters import Choice
from trainables.context import FAILURE
from trainables.recipe import Scalar


def test_a_configuration_of_the_table_has_its_row(table: CurveTable, config: SearchConfig) -> None:
    answers, row = Answers(table, config), table.rows[4]
    results = answers.look_up(dict(reversed(row.params.items())))
    assert [result["val_dice"] for result in results] == row.metrics["val_dice"]
    assert [result["training_iteration"] for result in results] == [1, 2, 3, 4]
    assert [result["done"] for result in results] == [False, False, False, True]
    assert results[0]["time_this_iter_s"] == row.metrics["seconds/train"][0]
    assert answers.find_key(row.params) == 4 and answers.find_key({**row.params, "optim.lr": 0.123}) is None


def test_dice_can_be_that_of_the_raw_weights(table: CurveTable, config: SearchConfig) -> None:
    row = table.rows[4]
    table.rows[4] = dataclasses.replace(row, metrics={**row.metrics, "val_dice_raw": [0.1, 0.2, 0.3, 0.4]})
    raw, plain = (Answers(table, config, takes_raw).look_up(row.params) for takes_raw in (True, False))
    assert [result["val_dice"] for result in raw] == [0.1, 0.2, 0.3, 0.4]
    assert [result["val_dice"] for result in plain] == row.metrics["val_dice"]


def test_an_epoch_counts_at_the_best_of_the_space_s_scales(table: CurveTable, config: SearchConfig) -> None:
    row = table.rows[4]
    own = {"val_dice": [0.4, 0.5, 0.6, 0.7], "test_dice": [0.1, 0.2, 0.3, 0.4]}
    half = {"val_dice@0.5": [0.5, 0.5, 0.5, 0.8], "test_dice@0.5": [0.6, 0.7, 0.8, 0.9]}
    scored = dataclasses.replace(row, metrics={**row.metrics, **own, **half})
    metrics = {"val_dice": [0.4, math.nan], "test_dice": [0.1], "val_dice@0.5": [0.5], "test_dice@0.5": [0.2]}
    failed = CurveRow(9, {}, 0, metrics, [], "diverged")
    found = Answers(CurveTable(table.header, {4: scored}), dataclasses.replace(config, scales=(1.0, 0.5))).look_up(
        row.params
    )
    assert [result["val_dice"] for result in found] == [0.5, 0.5, 0.6, 0.8]
    assert [result["test_dice"] for result in found] == [0.6, 0.2, 0.3, 0.9]  # of equals the first scale
    assert is_scored(scored, {1.0, 0.5}) and not is_scored(row, {1.0, 0.5}) and is_scored(row, {1.0})
    assert take_best(scored, (0.5,)).metrics["test_dice"] == half["test_dice@0.5"]
    ended = take_best(failed, (1.0, 0.5)).metrics
    assert ended["test_dice"] == [0.2] and ended["val_dice"][0] == 0.5 and math.isnan(ended["val_dice"][1])
    first = dataclasses.replace(failed, metrics={"val_dice": [math.nan]})
    assert is_scored(first, {0.5}) and math.isnan(take_best(first, (1.0, 0.5)).metrics["val_dice"][0])


def test_a_training_that_failed_ends_with_its_failure(table: CurveTable, config: SearchConfig) -> None:
    table.rows[30] = CurveRow(30, {"optim.lr": 0.01}, 0, {"val_dice": [0.5, math.nan]}, [], "diverged")
    first, last = Answers(table, config).look_up({"optim.lr": 0.01})
    assert FAILURE not in first and last[FAILURE] == "diverged" and last["done"]


def test_the_surrogate_follows_what_the_table_shows(table: CurveTable, config: SearchConfig) -> None:
    answers = Answers(table, config)
    error = answers.measure_error()
    assert error.r2 > 0.6 and error.rank > 0.8 and error.mae < 0.05
    base = {"adapter.targets": "both", "augment.kind": "flips"}
    good, bad = (answers.look_up({**base, "optim.lr": lr})[-1]["test_dice"] for lr in (1.01e-3, 9.9e-3))
    assert good > bad + 0.1 and 0 <= bad <= good <= 1


@pytest.mark.parametrize("values", [(False, True), (0, 1)])
def test_the_surrogate_tells_false_from_true_and_0_from_1(values: tuple[Scalar, Scalar]) -> None:
    rows = [{"some": values[number % 2]} for number in range(12)]
    curves = np.array([[0.3 * bool(row["some"]) + 0.001 * number] for number, row in enumerate(rows)])
    surrogate = Surrogate({"some": Choice(values)}, rows, curves)
    assert surrogate.measure_error(0).r2 > 0.9


def test_the_surrogate_finds_nothing_better_than_was_measured() -> None:
    places = np.linspace(0.0, 1.0, 11)
    curves = 0.5 + places[:, None] + np.array([0.0, 0.1]) * (-1.0) ** np.arange(11)[:, None]
    surrogate = Surrogate({}, [{"a": float(place)} for place in places], curves)
    found = np.array([surrogate.predict({"a": place})[0] for place in np.linspace(-0.5, 1.5, 101)])
    assert (found >= curves.min(axis=0)).all() and (found <= curves.max(axis=0)).all()
    assert np.ptp(found) > 0.5


def test_rows_outside_the_space_are_not_proposed(table: CurveTable, config: SearchConfig) -> None:
    assert Answers(table, config).list_proposable() == list(range(30))
    fixed = dataclasses.replace(
        config, space={"optim.lr": config.space["optim.lr"]}, fixed={"adapter.targets": "both", "augment.kind": "flips"}
    )
    kept = Answers(table, fixed).list_proposable()
    assert 0 < len(kept) < 30
    assert all(table.rows[key].params["adapter.targets"] == "both" for key in kept)


@pytest.mark.parametrize("number", [0, 1])
def test_a_proposal_of_a_real_sampler_is_answered(table: CurveTable, config: SearchConfig, number: int) -> None:
    results = Answers(table, config).look_up(draw_config(config, 5, number))
    assert len(results) == 4 and all(math.isfinite(result["val_dice"]) for result in results)
