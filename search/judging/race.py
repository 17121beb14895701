"""The race of the finalists: who can no longer win gets no more seeds.

Racing (Maron & Moore 1994, Hoeffding races) with the rule of clinical trials that are stopped for futility: the chance
that what is still to come turns the result (predictive power: Spiegelhalter, Freedman & Blackburn 1986).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from search.run_folder.finalists import Finalist

# Who would win with a smaller chance than this, if all were trained with every seed, is out.
MIN_CHANCE = 0.1


def mark_hopeless(finalists: Sequence[Finalist], n_seeds: int, label: str) -> list[Finalist]:
    """Returns the finalists, with the reason in ``out`` for those that leave the race.

    Nobody leaves when each has all of its seeds; those that failed with a seed have left already.

    Args:
        finalists: Those that race, all with the same number of seeds.
        n_seeds: How many seeds each is to have.
        label: Name of what they are compared by.
    """
    sound = [finalist for finalist in finalists if finalist.is_complete]
    if len(sound) < 2 or len(sound[0].runs) >= n_seeds:
        return list(finalists)
    leader, chances = max(sound, key=lambda each: each.mean_score), estimate_chances(sound, n_seeds)
    marked = []
    for each in finalists:
        if chances.get(each.trial_id, 1.0) < MIN_CHANCE:
            why = (
                f"out after {len(each.runs)} of {n_seeds} seeds: mean {label} {each.mean_score:.3f} against "
                f"{leader.mean_score:.3f} of trial {leader.trial_id}; its chance to end above it is "
                f"{chances[each.trial_id]:.0%}"
            )
            each = dataclasses.replace(each, out=why)
        marked.append(each)
    return marked


def estimate_chances(finalists: Sequence[Finalist], n_seeds: int) -> dict[str, float]:
    """Returns each finalist's chance to end above the one that leads now, by trial, once each has so many seeds.

    Scores of one configuration are normal around an unknown mean, with one spread for all. The spread
    comes from the seeds and from each configuration's trial in the search: as that trial was chosen for its score, the
    spread is rather too large, and the chances too near to one half. They are predictive, by Student's t.

    Args:
        finalists: All with the same number of seeds; none has failed.
        n_seeds: How many seeds each is to have.
    """
    scores = np.array([[run.score for run in finalist.runs] for finalist in finalists])
    n_done, n_left = scores.shape[1], n_seeds - scores.shape[1]
    with_search = np.column_stack([scores, [finalist.search_score for finalist in finalists]])
    freedom = len(finalists) * n_done
    spread = np.sqrt(with_search.var(axis=1).sum() * (n_done + 1) / freedom)
    means = scores.mean(axis=1)
    gaps = means.max() - means
    # Both means move by n_left / n_seeds times (mean of what comes - mean so far).
    moves = spread * np.sqrt(2 * (1 / n_done + 1 / n_left)) * n_left / n_seeds if n_left else 0.0
    chances = stats.t.cdf(-gaps / moves, freedom) if moves else np.where(gaps > 0, 0.0, 0.5)
    return {finalist.trial_id: float(chance) for finalist, chance in zip(finalists, chances, strict=True)}
