"""The race of the finalists: who can no longer win gets no more seeds.

Racing (Maron & Moore 1994, Hoeffding races) with the rule of clinical trials that are stopped for futility: the chance
that what is still to come turns the result (predictive power: Spiegelhalter, Freedman & Blackburn 1986).

Finalists are compared at the largest number of first seeds that all of them have, and once at each number. What they
have beyond that waits for its turn. So the decisions follow from the scores alone, in whatever order and on however
many slots the trainings end, and a resume makes the same ones; a comparison of unequal numbers would depend on when it
is made, and look at the scores more often than the chances allow for.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from search.run_folder.finalists import Finalist

ALL_FAILED = "all that were left failed with some seed: those that were out go on"
# Who would win with a smaller chance than this, if all were trained with every seed, is out.
MIN_CHANCE = 0.1


@dataclass(frozen=True)
class Standing:
    """Where the race stands.

    Attributes:
        finalists: All, in their order, with the runs that have ended; those that are out with the reason.
        seeds: What each is to be trained with, in this order.
        racing: The indices of those that can still win.
        n_compared: How many first seeds these have been compared by.
        words: What has happened, in sentences. Further runs only add to them.
    """

    finalists: tuple[Finalist, ...]
    seeds: tuple[int, ...]
    racing: tuple[int, ...]
    n_compared: int
    words: tuple[str, ...]

    def list_possible(self) -> Iterator[tuple[int, int]]:
        """Yields index and seed of every training of those that race, ended or not; none after a failure."""
        for seed in self.seeds:
            for index in self.racing:
                if seed in self._list_sound(index):
                    yield index, seed

    def list_wanted(self, slots: int) -> list[tuple[int, int]]:
        """Returns index and seed of the trainings to be begun now, by urgency; some of them may have been begun.

        First those that the next comparison needs, a seed each, or more where there are slots for more. Where all of
        them have been begun, a free slot trains the one that leads, which most likely gets all of its seeds.
        """
        n_ahead = max(1, slots // len(self.racing)) if self.racing else 0
        possible, needed = list(self.list_possible()), self.seeds[: self.n_compared + n_ahead]
        leader = max(self.racing, key=self._find_score, default=None)
        wanted = [(index, seed) for index, seed in possible if seed in needed]
        return wanted + [(index, seed) for index, seed in possible if index == leader and seed not in needed]

    def _find_score(self, index: int) -> float:
        each = self.finalists[index]
        if not each.is_complete:
            return -math.inf
        return each.mean_score if each.runs else each.search_score

    def _list_sound(self, index: int) -> tuple[int, ...]:
        failed = [self.seeds.index(run.seed) for run in self.finalists[index].runs if run.failure]
        return self.seeds[: min(failed) + 1] if failed else self.seeds


def follow_race(finalists: Sequence[Finalist], seeds: Sequence[int], label: str) -> Standing:
    """Returns where the race stands.

    Where all that are left failed with a seed, those that were out race among themselves.

    Args:
        finalists: The best of the search first, each with its runs that have ended, in the order of the seeds.
        seeds: What each is to be trained with.
        label: Name of what they are compared by.
    """
    all_seeds, whole, words = tuple(seeds), list(finalists), list[str]()
    racing, n_compared = list(range(len(whole))), 0
    while racing and n_compared < len(all_seeds):
        first = all_seeds[: n_compared + 1]
        if any(tuple(run.seed for run in whole[index].runs[: len(first)]) != first for index in racing):
            break  # someone has still to be trained with these seeds
        n_compared += 1
        reached = [dataclasses.replace(whole[index], runs=whole[index].runs[:n_compared]) for index in racing]
        marked = mark_hopeless(reached, len(all_seeds), label)
        for index, each in zip(racing, marked, strict=True):
            whole[index] = dataclasses.replace(whole[index], out=each.out)
            words += [f"{each.name} is {each.out}"] * bool(each.out)
        racing = [index for index, each in zip(racing, marked, strict=True) if each.can_win]
        if not racing and any(each.out for each in whole):
            words.append(ALL_FAILED)
            racing, n_compared = [index for index, each in enumerate(whole) if each.out], 0
            whole = [dataclasses.replace(each, out="") for each in whole]
    return Standing(tuple(whole), all_seeds, tuple(racing), n_compared, tuple(words))


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
                f"{leader.mean_score:.3f} of {leader.name}; its chance to end above it is "
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
