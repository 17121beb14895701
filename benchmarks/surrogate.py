"""Learning curves of configurations that were not trained, predicted from those that were."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from search.space.parameters import Choice, Parameter
from trainables.recipe import Scalar

Floats = np.ndarray[Any, np.dtype[np.float64]]
Params = Mapping[str, Scalar]


class SurrogateError(NamedTuple):
    """Error of a surrogate on rows that it has not seen: share of variance explained, Spearman's correlation, mean."""

    r2: float
    rank: float
    mae: float


class Surrogate:
    """A Gaussian process over all epochs and metrics at once, with a length scale of its own for each parameter.

    Rows are left out one by one in closed form (Rasmussen & Williams 2006, equation 5.12), under the kernel that was
    fitted to all of them.
    """

    def __init__(self, space: Mapping[str, Parameter], rows: Sequence[Params], curves: Floats) -> None:
        """Fits the process.

        Args:
            space: Says which parameters are choices, and which have logarithms.
            rows: Configurations.
            curves: Their figures, [rows, figures].
        """
        self._space, self._curves = space, curves
        self._names = sorted({name for row in rows for name in row})
        encoded = np.array([self._encode(row) for row in rows])
        self._center = np.nanmean(encoded, axis=0)
        filled = np.where(np.isnan(encoded), self._center, encoded)
        self._spread = np.where(filled.std(axis=0) > 0, filled.std(axis=0), 1.0)
        inputs = (filled - self._center) / self._spread
        signal = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.full(inputs.shape[1], 3.0), (0.5, 100.0), nu=2.5)
        kernel = signal + WhiteKernel(0.1, (1e-4, 2.0))
        with warnings.catch_warnings():
            # A length scale at its upper bound is that of a parameter that decides nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._process = GaussianProcessRegressor(kernel, normalize_y=True).fit(inputs, curves)
        self._inputs, self._signal = inputs, self._process.kernel_.k1
        inverse = np.linalg.inv(self._process.kernel_(inputs))
        centered = curves - curves.mean(axis=0)
        self._residuals = inverse @ centered / np.diag(inverse)[:, None]

    def predict(self, params: Params) -> tuple[Floats, int]:
        """Returns a configuration's figures, as noisy as measured ones, and the number of the nearest row.

        They are the process's mean, plus what the row that is most like it deviates from its own prediction; no figure
        lies beyond those of all rows, so that a searcher cannot find what nobody has measured.
        """
        encoded = self._encode(params)
        query = ((np.where(np.isnan(encoded), self._center, encoded) - self._center) / self._spread)[None]
        nearest = int(self._signal(query, self._inputs)[0].argmax())
        figures = self._process.predict(query).reshape(-1) + self._residuals[nearest]
        return figures.clip(self._curves.min(axis=0), self._curves.max(axis=0)), nearest

    def measure_error(self, figure: int) -> SurrogateError:
        """Returns the error in one figure of rows that are left out."""
        truth, residual = self._curves[:, figure], self._residuals[:, figure]
        rank = spearmanr(truth, truth - residual).statistic
        return SurrogateError(float(1 - residual.var() / truth.var()), float(rank), float(abs(residual).mean()))

    def _encode(self, params: Params) -> Floats:
        """Returns a configuration as numbers: logarithms as the space has, a column a word or bool; NaN for none."""
        columns: list[float] = []
        for name in self._names:
            parameter, value = self._space.get(name), params.get(name)
            choices = parameter.values if isinstance(parameter, Choice) else ()
            if any(isinstance(one, (str, bool)) for one in choices):
                columns += [float(value == one) for one in choices]
            elif isinstance(value, (int, float)):
                is_log = getattr(parameter, "log", False) or min(map(float, choices), default=0.0) > 0
                columns.append(math.log(value) if is_log and value > 0 else float(value))
            else:
                columns.append(math.nan)
        return np.array(columns)
