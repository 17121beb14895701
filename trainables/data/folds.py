"""Patient-grouped cross-validation: deals the training and validation regions of a split to folds."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.data.dealer import Dealer, Turn, group_by_patient
from trainables.data.regions import RegionSet
from trainables.data.splits import Split
from trainables.errors import DataError


@dataclass(frozen=True)
class Fold:
    """Names of the regions that train and validate in one fold, each sorted, of different patients."""

    train: tuple[str, ...]
    val: tuple[str, ...]


def make_folds(
    split: Split, regions: RegionSet, n_folds: int, seed: int, class_presence: Mapping[str, frozenset[int]]
) -> tuple[Fold, ...]:
    """Deals the pooled training and validation regions to folds, at least 2; the test regions stay out.

    Every pooled region validates in exactly one fold and trains in all others. Folds get whole patients, about
    equally many regions of each class, and differ by at most one patient if patients are equal in size; the seed
    decides between patients that are alike. scikit-learn's StratifiedGroupKFold takes one class per region, and regions
    hold several.

    Raises:
        DataError: If there are fewer than 2 folds, or more than patients in the pool.
    """
    pooled = {*split.train, *split.val}
    by_patient = group_by_patient(region for region in regions.regions if region.name in pooled)
    _check_number(n_folds, len(by_patient))
    largest = max(map(len, by_patient.values()))

    def choose(turn: Turn) -> str:
        return _choose_fold(turn, largest)

    shares = {str(fold): 1 / n_folds for fold in range(n_folds)}
    dealt = Dealer(by_patient, shares, seed, class_presence).deal(choose)
    return tuple(Fold(train=tuple(sorted(pooled.difference(val))), val=val) for val in dealt.values())


def _check_number(n_folds: int, n_patients: int) -> None:
    where = f"--folds {n_folds}"
    if n_folds < 2:
        raise DataError.at(where, "must be at least 2", "give 2 or more, or leave it out")
    if n_folds > n_patients:
        what = f"but train and val have {n_patients} patient(s), who are not divided between folds"
        fix = f"give at most {n_patients}" if n_patients >= 2 else "leave it out, or add other patients' regions"
        raise DataError.at(where, what, fix)


def _choose_fold(turn: Turn, largest: int) -> str:
    """Returns the fold that wants the class most, among those after which equal sizes are still possible.

    ``largest`` is the number of regions of the largest patient.
    """
    level = [fold for fold in turn.allowed if _stays_level(turn, fold, largest)]
    if not level:  # patients of different sizes do not always add up
        return max(turn.allowed, key=lambda fold: turn.room[fold])
    roomy = [fold for fold in level if turn.room[fold] >= 0.5] or level
    return max(roomy, key=lambda fold: (turn.class_room[fold], turn.room[fold]))


def _stays_level(turn: Turn, fold: str, largest: int) -> bool:
    """Says whether enough regions wait to bring all folds within one largest patient's size of the fullest."""
    room = {**turn.room, fold: turn.room[fold] - turn.n_regions}
    highest_room = min(room.values()) + largest
    short_by = sum(max(0.0, one - highest_room) for one in room.values())
    return short_by < turn.n_regions_after + 0.5  # whole numbers, but for rounding
