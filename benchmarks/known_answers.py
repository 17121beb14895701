"""Answers a replayed trial: a row of a table as it was measured, or a surrogate's curve for what the table lacks."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.curve_table import CurveRow, CurveTable, name_scale, sort_keys
from benchmarks.surrogate import Surrogate, SurrogateError
from search.space.config import SearchConfig
from search.space.parameters import contains
from trainables.context import FAILURE
from trainables.recipe import Scalar

TEST = "test_dice"
Params = Mapping[str, Scalar]
Results = tuple[dict[str, Any], ...]


class Answers:
    """Results of configurations, one an epoch, as the trainable reports them, with test Dice beside.

    A configuration of the table has its measured row, any other one the curve of a :class:`Surrogate`.
    """

    def __init__(self, table: CurveTable, config: SearchConfig, takes_raw: bool = False) -> None:
        """Takes a table, and the space in which configurations are proposed; Dice may be that of the raw weights.

        An epoch counts at the best of the space's scales; all rows have been scored at each of them.
        """
        rows = {key: _take_raw(row) for key, row in table.rows.items()} if takes_raw else table.rows
        if config.scales != (1.0,):
            rows = {key: take_best(row, config.scales) for key, row in rows.items()}
        table = CurveTable(table.header, dict(rows))
        self.table, self._config = table, config
        self.keys = sort_keys(table.rows)
        self._names = sorted({name for row in table.rows.values() for name in row.params})
        self._exact = {self._identify(table.rows[key].params): key for key in self.keys}
        whole = [key for key in self.keys if not table.rows[key].failure]
        self._metrics = [
            name
            for name in table.rows[whole[0]].metrics
            if all(np.isfinite(table.rows[key].metrics.get(name, [math.nan])).all() for key in whole)
        ]
        self._whole = whole
        self._fitted: Surrogate | None = None

    def list_proposable(self) -> list[int]:
        """Returns the numbers of the drawn rows that lie in the space, as its ``space`` and ``fixed`` say."""
        return [
            key for key in self.keys if isinstance(key, int) and is_inside(self.table.rows[key].params, self._config)
        ]

    def list_searched(self, key: int) -> Params:
        """Returns those parameters of a row that the space searches."""
        return {name: value for name, value in self.table.rows[key].params.items() if name in self._config.space}

    def find_key(self, params: Params) -> int | str | None:
        """Returns the key of the row with this configuration, what is fixed included, if there is one."""
        return self._exact.get(self._identify({**self._config.fixed, **params}))

    def look_up(self, params: Params) -> Results:
        """Returns the results of a configuration: measured ones, or the surrogate's."""
        key = self.find_key(params)
        if key is None:
            return self._predict({**self._config.fixed, **params})
        return self.list_results(self.table.rows[key])

    def list_results(self, row: CurveRow) -> Results:
        """Returns the results of a row; a training that failed ends with its failure."""
        n_epochs = len(row.metrics["val_dice"])
        results: list[dict[str, Any]] = [
            {
                **{name: curve[epoch] for name, curve in row.metrics.items() if epoch < len(curve)},
                "training_iteration": epoch + 1,
                "done": epoch + 1 == n_epochs,
            }
            for epoch in range(n_epochs)
        ]
        for result in results:
            cost = [value for name, value in result.items() if name.startswith("seconds/") and name != "seconds/test"]
            result["time_this_iter_s"] = sum(cost) or 1.0
            if row.pairs and result["training_iteration"] <= len(row.pairs):
                result["pairs"] = row.pairs[int(result["training_iteration"]) - 1]
        if row.failure:
            results[-1][FAILURE] = row.failure
        return tuple(results)

    def measure_error(self) -> SurrogateError:
        """Returns the surrogate's error in the last epoch's test Dice."""
        last = (self._metrics.index(TEST) + 1) * int(self.table.header["max_epochs"]) - 1
        return self._fit().measure_error(last)

    def _identify(self, params: Params) -> tuple[object, ...]:
        return tuple(params.get(name) for name in self._names)

    def _fit(self) -> Surrogate:
        if self._fitted is None:
            rows = [self.table.rows[key] for key in self._whole]
            curves = np.array([[value for name in self._metrics for value in row.metrics[name]] for row in rows])
            self._fitted = Surrogate(self._config.space, [row.params for row in rows], curves)
        return self._fitted

    def _predict(self, params: Params) -> Results:
        curve, nearest = self._fit().predict(params)
        by_metric = curve.reshape(len(self._metrics), -1)
        metrics = {
            name: np.clip(values, 0, 1).tolist() if name.startswith(("val_dice", TEST)) else values.tolist()
            for name, values in zip(self._metrics, by_metric, strict=True)
        }
        row = self.table.rows[self._whole[nearest]]
        metrics |= {name: curve for name, curve in row.metrics.items() if name.startswith("seconds/")}
        return self.list_results(CurveRow("", params, row.seed, metrics, row.pairs))


def is_inside(params: Params, config: SearchConfig) -> bool:
    """Returns whether a search could propose a configuration; what it neither searches nor fixes is not looked at."""
    return all(
        contains(config.space[name], value) if name in config.space else config.fixed.get(name, value) == value
        for name, value in params.items()
    )


def _take_raw(row: CurveRow) -> CurveRow:
    """Returns a row with the Dice of the raw weights in place of their average's, where it has both."""
    raw = {name.removesuffix("_raw"): curve for name, curve in row.metrics.items() if name.endswith("_raw")}
    return dataclasses.replace(row, metrics={**row.metrics, **raw})


def take_best(row: CurveRow, scales: Sequence[float]) -> CurveRow:
    """Returns a row whose Dice is that of the best of these scales by validation, the first of equals.

    Validation takes its time for each scale.
    """
    val = {scale: row.metrics.get(f"val_dice{name_scale(scale)}", ()) for scale in scales}
    n_scored = min(map(len, val.values()))  # a training that failed has one epoch more, without a score
    best = [max(scales, key=lambda scale: val[scale][epoch]) for epoch in range(n_scored)]
    metrics = dict(row.metrics)
    if "seconds/validate" in metrics:
        metrics["seconds/validate"] = [len(scales) * seconds for seconds in metrics["seconds/validate"]]
    for kind in {"val_dice", TEST} & metrics.keys():
        scored = [row.metrics[f"{kind}{name_scale(scale)}"][epoch] for epoch, scale in enumerate(best)]
        metrics[kind] = [*scored, *metrics[kind][n_scored:]]
    return dataclasses.replace(row, metrics=metrics)
