"""The figures behind a verdict: how far two models differ on the same patients, and how sure that is.

The patient is the unit that was sampled; (image, class) pairs of one patient are not independent. So the
bootstrap draws whole patients (Efron and Tibshirani 1993), and the signed-rank test (Wilcoxon 1945) sees one
number a patient.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FloatArray = NDArray[np.float64]

N_RESAMPLES = 9_999
# Coverage of the interval that is shown, and of the stricter one that `beaten` needs.
CONFIDENCE, STRICT_CONFIDENCE = 0.95, 0.99
MAX_COUNTED = 13  # patients whose signs SciPy counts one by one where there are ties
DECIMALS = 12  # 0.3 - 0.2 and 0.2 - 0.1 are a tie, not a win by 3e-17


@dataclass(frozen=True)
class Interval:
    """A two-sided interval for a mean difference of scores, with its nominal coverage in (0, 1)."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """Candidate minus baseline over a set of (image, class) pairs, which it wins, loses or ties.

    Attributes:
        mean_difference: Mean over pairs, in [-1, 1].
        interval: BCa interval, patients resampled; None where one patient leaves nothing to resample.
        strict_interval: The same at the stricter confidence that `beaten` needs (see `search.judging.verdict.decide`).
        p_value: Two-sided Wilcoxon signed-rank on patient means; 1 if no patient differs.
        ranks_favor_candidate: Whether the signed-rank sum is above what no difference gives.
    """

    mean_difference: float
    interval: Interval | None
    strict_interval: Interval | None
    p_value: float
    ranks_favor_candidate: bool
    n_pairs: int
    n_patients: int
    wins: int
    losses: int
    ties: int

    def describe_interval(self) -> str:
        """Returns the interval in words: ``95 % interval -0.0100 to +0.0300``."""
        if self.interval is None:
            return "no interval: one patient"
        low, high, confidence = self.interval.low, self.interval.high, self.interval.confidence
        return f"{100 * confidence:.4g} % interval {low:+.4f} to {high:+.4f}"


def compare(
    difference: FloatArray, patient: NDArray[np.str_], rng: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> Comparison:
    """Compares two models on the pairs that both were scored on, patients resampled.

    The differences, candidate minus baseline, are finite, in [-1, 1]; they and the patients have the shape (pairs,).
    """
    assert difference.size, "nothing to compare"
    difference = np.round(difference, DECIMALS)
    patients, index = np.unique(patient, return_inverse=True)
    sums = np.asarray(np.bincount(index, weights=difference), dtype=np.float64)
    counts = np.bincount(index).astype(np.float64)
    means = np.round(sums / counts, DECIMALS)
    interval, strict = bootstrap_intervals(sums, counts, (CONFIDENCE, STRICT_CONFIDENCE), rng, n_resamples)
    return Comparison(
        mean_difference=float(difference.mean()),
        interval=interval,
        strict_interval=strict,
        p_value=signed_rank_p_value(means),
        ranks_favor_candidate=bool((np.sign(means) * stats.rankdata(np.abs(means))).sum() > 0),
        n_pairs=difference.size,
        n_patients=patients.size,
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
        ties=int((difference == 0).sum()),
    )


def bootstrap_intervals(
    sums: FloatArray,
    counts: FloatArray,
    confidences: Sequence[float],
    rng: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> tuple[Interval | None, ...]:
    """Returns intervals for the mean over pairs, one a confidence, all from one set of resampled patients.

    Args:
        sums: Sum of the differences of each patient, shape (patients,).
        counts: Number of pairs of each patient, shape (patients,).
        confidences: Nominal coverages.
        rng: Draws the patients.
        n_resamples: Bootstrap resamples.

    Returns:
        BCa intervals; percentile ones where BCa is undefined (all patients alike); None for a single patient.
    """
    if sums.size < 2:
        return (None,) * len(confidences)

    def interval(method: str, confidence: float, earlier: object | None) -> object:
        return stats.bootstrap(
            (sums, counts),
            _mean_over_pairs,
            paired=True,
            vectorized=True,
            method=method,
            confidence_level=confidence,
            n_resamples=0 if earlier else n_resamples,
            batch=max(1, 10_000_000 // sums.size),  # bounds the memory
            bootstrap_result=earlier,
            rng=rng,
        )

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # SciPy warns of the degenerate case that the fallback answers
        drawn = interval("percentile", confidences[0], None)
        found = []
        for confidence in confidences:
            for method in ("BCa", "percentile"):
                bounds = interval(method, confidence, drawn).confidence_interval  # type: ignore[attr-defined]
                if np.isfinite(bounds).all():
                    break
            found.append(Interval(float(bounds[0]), float(bounds[1]), confidence))
    return tuple(found)


def _mean_over_pairs(sums: FloatArray, counts: FloatArray, axis: int = -1) -> FloatArray:
    return np.asarray(sums.sum(axis=axis) / counts.sum(axis=axis))


def signed_rank_p_value(patient_means: FloatArray) -> float:
    """Returns the two-sided Wilcoxon signed-rank p-value of patient means, zeros dropped; 1 if all are zero."""
    # SciPy takes the normal approximation wherever there are zeros, even for three patients that differ:
    # without them it counts exactly when they are few
    differing = patient_means[patient_means != 0]
    ranks = stats.rankdata(np.abs(differing))
    if len(ranks) > MAX_COUNTED or len(set(ranks)) == len(ranks):
        return float(stats.wilcoxon(differing).pvalue) if differing.size else 1.0
    # With ties SciPy counts, too, but ranks anew for every choice of signs: seconds for a dozen patients.
    sums, observed = ranks @ np.indices((2,) * len(ranks)).reshape(len(ranks), -1), ranks[differing > 0].sum()
    return float(min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean())))


def adjust_holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns p-values after Holm's step-down adjustment (Holm 1979): any false one is below 0.05 in at most 5 %."""
    from statsmodels.stats.multitest import multipletests  # takes longer to import than the rest

    return tuple(float(p) for p in multipletests(p_values, method="holm")[1]) if p_values else ()
