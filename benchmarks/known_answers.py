"""Answers a replayed trial: a row of a table as it was measured, or a surrogate's curve for what the table lacks."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import cross_val_predict

from benchmarks.curve_table import CurveRow, CurveTable, sort_keys
from search.space.config import SearchConfig
from search.space.parameters import Choice, Parameter, contains
from trainables.context import FAILURE
from trainables.recipe import Scalar

TEST = "test_dice"
N_FOLDS, N_TREES = 10, 100
Params = Mapping[str, Scalar]
Results = tuple[dict[str, Any], ...]


class SurrogateError(NamedTuple):
    """Error of the forest on rows that it has not seen (10-fold), of the last epoch's test Dice.

    ``r2`` is the share of the variance that is explained, ``rank`` Spearman's correlation, ``mae`` the mean absolute
    error.
    """

    r2: float
    rank: float
    mae: float


class Answers:
    """Results of configurations, one an epoch, as the trainable reports them, with test Dice beside.

    A configuration of the table has its measured row. Any other one has the curve that a forest (extremely randomized
    trees, Geurts et al. 2006, on all epochs and metrics at once) predicts, plus what the nearest row in the forest's
    eyes (that shares most leaves) deviates from its own prediction, made without it: as noisy as a measured one.
    """

    def __init__(self, table: CurveTable, config: SearchConfig) -> None:
        """Takes a table, and the space in which configurations are proposed."""
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
        self._forest_parts: Any = None

    def list_proposable(self) -> list[int]:
        """Returns the numbers of the drawn rows that lie in the space, as its ``space`` and ``fixed`` say."""
        return [
            key for key in self.keys if isinstance(key, int) and is_inside(self.table.rows[key].params, self._config)
        ]

    def find_key(self, params: Params) -> int | str | None:
        """Returns the key of the row with this configuration, if there is one."""
        return self._exact.get(self._identify(params))

    def look_up(self, params: Params) -> Results:
        """Returns the results of a configuration: measured ones, or the surrogate's."""
        key = self.find_key(params)
        return self.list_results(self.table.rows[key]) if key is not None else self._predict(params)

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
        """Cross-validates the surrogate."""
        _, curves, *_ = self._fit()
        last = (self._metrics.index(TEST) + 1) * int(self.table.header["max_epochs"]) - 1
        truth, predicted = curves[:, last], self._unseen[:, last]
        r2 = 1 - ((truth - predicted) ** 2).mean() / truth.var()
        return SurrogateError(
            float(r2), float(spearmanr(truth, predicted).statistic), float(abs(truth - predicted).mean())
        )

    def _identify(self, params: Params) -> tuple[object, ...]:
        return tuple(params.get(name) for name in self._names)

    def _fit(self) -> Any:
        if self._forest_parts is None:
            rows = [self.table.rows[key] for key in self._whole]
            encoded = np.array([self._encode(row.params) for row in rows])
            curves = np.array([[value for name in self._metrics for value in row.metrics[name]] for row in rows])
            forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
            self._unseen = cross_val_predict(forest, encoded, curves, cv=min(N_FOLDS, len(rows)))
            forest.fit(encoded, curves)
            leaves = forest.apply(encoded)
            # Of each row in each tree: how many rows share its leaf, among which the tree averages.
            sizes = np.array([[np.count_nonzero(tree == leaf) for leaf in tree] for tree in leaves.T]).T
            self._forest_parts = [tree.tree_ for tree in forest.estimators_], curves, leaves, sizes
        return self._forest_parts

    def _predict(self, params: Params) -> Results:
        trees, curves, leaves, sizes = self._fit()
        query = self._encode(params)[None].astype(np.float32)
        shares = leaves == [tree.apply(query)[0] for tree in trees]  # the forest's own predict takes ten times as long
        nearest = int(shares.mean(axis=1).argmax())
        curve = (shares / sizes).mean(axis=1) @ curves + curves[nearest] - self._unseen[nearest]
        by_metric = curve.reshape(len(self._metrics), -1)
        metrics = {
            name: np.clip(values, 0, 1).tolist() if name.startswith(("val_dice", TEST)) else values.tolist()
            for name, values in zip(self._metrics, by_metric, strict=True)
        }
        row = self.table.rows[self._whole[nearest]]
        metrics |= {name: curve for name, curve in row.metrics.items() if name.startswith("seconds/")}
        return self.list_results(CurveRow("", params, row.seed, metrics, row.pairs))

    def _encode(self, params: Params) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns a configuration as numbers: logarithms as the space has them, a column a choice; -1 for none."""
        columns: list[float] = []
        for name in self._names:
            parameter, value = self._config.space.get(name), params.get(name)
            if isinstance(parameter, Choice) and not all(isinstance(one, (int, float)) for one in parameter.values):
                columns += [float(value == one) for one in parameter.values]
            elif isinstance(value, (int, float)):
                columns.append(math.log(value) if _is_log(parameter) else float(value))
            else:
                columns.append(-1.0)
        return np.array(columns)


def is_inside(params: Params, config: SearchConfig) -> bool:
    """Returns whether a search could propose a configuration; what it neither searches nor fixes is not looked at."""
    return all(
        contains(config.space[name], value) if name in config.space else config.fixed.get(name, value) == value
        for name, value in params.items()
    )


def _is_log(parameter: Parameter | None) -> bool:
    return bool(getattr(parameter, "log", False))
