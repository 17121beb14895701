from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.data.regions import Region, RegionSet
from trainables.data.splits import Fold, Split, make_folds, make_split
from trainables.errors import DataError

PATTERNS = {
    "one each": [1] * 23,
    "three each": [3] * 11,
    "mixed": [1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 1, 2],
    "one giant": [20, *[1] * 12],
    "few": [2, 1],
}


def make_regions(sizes: list[int]) -> RegionSet:
    root = Path("/data")
    names = [(f"{p:02d}-{i}.png", f"p{p:02d}") for p, size in enumerate(sizes) for i in range(size)]
    regions = tuple(Region(name, root / name, root / name, patient) for name, patient in names)
    return RegionSet("x", root, {0: "a", 1: "b", 2: "c"}, (), regions, None)


def draw_presence(regions: RegionSet, seed: int) -> dict[str, frozenset[int]]:
    rng = np.random.default_rng(seed)
    chances = (0.9, 0.5, 0.2)
    return {one.name: frozenset(np.flatnonzero(rng.random(3) < chances).tolist()) for one in regions.regions}


def split_all(regions: RegionSet, n_val: int = 1) -> Split:
    names = [region.name for region in regions.regions]
    return Split("declared", "", train=tuple(names[n_val:]), val=tuple(names[:n_val]), test=("other.png",))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("pattern", "n_folds"),
    [(name, n) for name, sizes in PATTERNS.items() for n in (2, 3, 5, len(sizes)) if n <= len(sizes)],
)
def test_folds_partition_the_pool_by_patient(pattern: str, n_folds: int, seed: int) -> None:
    sizes = PATTERNS[pattern]
    regions = make_regions(sizes)
    folds = make_folds(split_all(regions), regions, n_folds, seed, draw_presence(regions, seed))
    pool = sorted(region.name for region in regions.regions)
    patient_of = {region.name: region.patient for region in regions.regions}
    assert len(folds) == n_folds
    assert sorted(name for fold in folds for name in fold.val) == pool
    for fold in folds:
        assert fold.train and fold.val and sorted(fold.train + fold.val) == pool
        assert not {patient_of[name] for name in fold.train} & {patient_of[name] for name in fold.val}
    n_val = [len(fold.val) for fold in folds]
    assert max(n_val) - min(n_val) <= max(sizes)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("n_folds", range(2, 8))
@pytest.mark.parametrize("n_patients", [7, 10, 16, 21])
def test_equal_patients_make_folds_that_differ_by_one(n_patients: int, n_folds: int, size: int) -> None:
    regions = make_regions([size] * n_patients)
    folds = make_folds(split_all(regions), regions, n_folds, 0, draw_presence(regions, n_patients))
    numbers = Counter(len(fold.val) for fold in folds)
    fewest, n_more = divmod(n_patients, n_folds)
    expected = {fewest * size: n_folds - n_more, (fewest + 1) * size: n_more}
    assert numbers == {n: count for n, count in expected.items() if count}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_rare", [1, 4, 5, 7, 10])
def test_a_rare_class_is_spread_over_the_folds(n_rare: int, seed: int) -> None:
    regions = make_regions([1] * 40)
    names = [region.name for region in regions.regions]
    presence = {name: frozenset({0, 1} if i < n_rare else {0}) for i, name in enumerate(names)}
    folds = make_folds(split_all(regions), regions, 5, seed, presence)
    with_rare = [sum(1 in presence[name] for name in fold.val) for fold in folds]
    assert sum(with_rare) == n_rare and max(with_rare) - min(with_rare) <= 1
    assert [len(fold.val) for fold in folds] == [8] * 5


def test_every_class_is_spread_where_regions_hold_several() -> None:
    """Folds dealt by size alone differ by up to 4 regions of a class here."""
    regions = make_regions([1] * 60)
    for seed in range(20):
        presence = draw_presence(regions, seed)
        folds = make_folds(split_all(regions), regions, 5, seed, presence)
        for one in regions.classes:
            n_with = [sum(one in presence[name] for name in fold.val) for fold in folds]
            assert max(n_with) - min(n_with) <= 2, (seed, one, n_with)


def test_test_regions_and_unused_ones_stay_out() -> None:
    regions = make_regions([1] * 20)
    presence = draw_presence(regions, 0)
    split = make_split(regions, class_presence=presence)
    split = replace(split, train=split.train[1:])
    used = {name for fold in make_folds(split, regions, 3, 0, presence) for name in fold.train + fold.val}
    assert used == {*split.train, *split.val}


def test_folds_depend_on_the_seed_and_not_on_the_order_of_names() -> None:
    regions = make_regions([1] * 20)
    presence = draw_presence(regions, 0)
    split = split_all(regions, 5)
    turned = replace(split, train=split.val[::-1], val=split.train[::-1])
    first, again = (make_folds(one, regions, 4, 1, presence) for one in (split, turned))
    assert first == again != make_folds(split, regions, 4, 2, presence)
    assert all(isinstance(fold, Fold) for fold in first)


@pytest.mark.parametrize(
    ("sizes", "n_folds", "text"),
    [
        ([1, 1, 1], 1, "--folds 1: must be at least 2"),
        ([1, 1, 1], 0, "--folds 0"),
        ([1, 1, 1], -3, "--folds -3"),
        ([9, 1, 1], 4, "3 patient.*give at most 3"),
        ([9], 2, "1 patient.*leave it out"),
    ],
)
def test_impossible_numbers_of_folds(sizes: list[int], n_folds: int, text: str) -> None:
    regions = make_regions(sizes)
    with pytest.raises(DataError, match=text):
        make_folds(split_all(regions), regions, n_folds, 0, draw_presence(regions, 0))
