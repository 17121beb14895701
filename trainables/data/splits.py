"""Splits regions into train, val and test (as declared, as recorded for BCSS, or drawn by seed), and into folds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.data.dataset_file import PARTS
from trainables.data.dealer import Turn, deal_patients, group_by_patient
from trainables.data.patients import find_tcga_hospital, find_tcga_patient
from trainables.data.regions import MAX_COMPARISONS, LocateSplit, RegionSet, name_part
from trainables.errors import DataError, Finding, find_nearest

BCSS_TEST_HOSPITALS = ("OL", "LL", "E2", "EW", "GM", "S3")
BCSS_SEED = 42
_MIN_BCSS_REGIONS = 30  # a handful of TCGA files is not BCSS, whatever its hospitals
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Split:
    """Names of the regions in each part; the kind is ``declared``, ``bcss`` or ``random``.

    The description is a sentence for the screen: where the split comes from, and its weaknesses.
    """

    kind: str
    description: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Part -> region names, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}


def bcss_split(names: Iterable[str]) -> Split:
    """Reproduces the recorded BCSS split: six whole hospitals test, a fifth of the shuffled rest validates.

    Train and validation names come in shuffled order, test names sorted.
    """
    ordered = sorted(names)
    test = tuple(name for name in ordered if find_tcga_hospital(name) in BCSS_TEST_HOSPITALS)
    held_out = set(test)
    rest = [name for name in ordered if name not in held_out]
    np.random.RandomState(BCSS_SEED).shuffle(rest)  # the legacy generator: the recorded one
    n_val = int(0.2 * len(rest))
    parts = {"train": tuple(rest[n_val:]), "val": tuple(rest[:n_val]), "test": test}
    hospitals = ", ".join(BCSS_TEST_HOSPITALS)
    return Split("bcss", f"The recorded BCSS split (test: hospitals {hospitals}): {_count_regions(parts)}.", **parts)


def make_split(
    regions: RegionSet, kind: str = "auto", seed: int = 0, *, class_presence: Mapping[str, frozenset[int]]
) -> Split:
    """Splits regions into three parts: as ``dataset.yaml`` ``declared``, ``bcss``, ``random``, or the first that fits.

    The seed is that of the random split. ``class_presence`` has the ids of the classes in every region's mask.

    Raises:
        DataError: With every problem: names that do not exist or occur twice, an empty part.
    """
    names = [region.name for region in regions.regions]
    chosen = _choose_kind(regions, names) if kind == "auto" else kind
    if chosen == "declared":
        split = _take_declared(regions)
    elif chosen == "bcss":
        split = bcss_split(names)
    else:
        split = _draw_split(regions, seed, class_presence)
    locate = regions.locate_split if chosen == "declared" else name_part
    if findings := find_split_problems(names, split.parts, locate):
        raise DataError(findings)
    return _add_remarks(split, regions, class_presence)


def find_split_problems(names: Iterable[str], parts: Mapping[str, Sequence[str]], locate: LocateSplit) -> list[Finding]:
    """Finds names that are no region, names that occur twice, and empty parts.

    ``locate`` returns the place of a part, and of a name in it, for findings.
    """
    ordered = sorted(set(names))
    findings = [Finding(locate(part, ""), "is empty", "each part needs a region") for part in PARTS if not parts[part]]
    parts_of: defaultdict[str, list[str]] = defaultdict(list)
    for part in PARTS:
        for name in parts[part]:
            parts_of[name].append(part)
    unknown = parts_of.keys() - set(ordered)
    is_cheap = len(unknown) * len(ordered) <= MAX_COMPARISONS
    for name, found_in in parts_of.items():
        if name in unknown:
            near = find_nearest(name, ordered) if is_cheap else None
            fix = f"did you mean {near}?" if near else "take it out, or add the image"
            findings.append(Finding(locate(found_in[0], name), f"no region is called {name}", fix))
        if len(found_in) > 1:
            what = f"{name} stands in {' and '.join(found_in)}"
            findings.append(Finding(locate(found_in[1], name), what, "name it in one part, once"))
    return findings


def _choose_kind(regions: RegionSet, names: list[str]) -> str:
    if regions.declared_split is not None:
        return "declared"
    patients = {find_tcga_patient(name) for name in names} - {None}
    # BCSS has one region a patient: several would not stay together in its split.
    is_bcss = _MIN_BCSS_REGIONS <= len(names) == len(patients) and all(bcss_split(names).parts.values())
    return "bcss" if is_bcss else "random"


def _take_declared(regions: RegionSet) -> Split:
    declared = regions.declared_split
    if declared is None:
        fix = "add `split` to dataset.yaml, or choose another kind"
        raise DataError.at(regions.root, "declares no split", fix)
    parts = {part: tuple(declared.get(part, ())) for part in PARTS}
    description = f"The split that dataset.yaml declares{_describe_patients(regions)}: {_count_regions(parts)}."
    return Split("declared", description, **parts)


def _describe_patients(regions: RegionSet) -> str:
    """Says where every region counts as a patient of its own, perhaps for want of names; else empty."""
    shared = len({region.patient for region in regions.regions}) < len(regions.regions)
    return "" if shared else " (no two regions are known to share a patient)"


def _count_regions(parts: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{len(parts[part])} {part}" for part in PARTS) + " regions"


def _draw_split(regions: RegionSet, seed: int, class_presence: Mapping[str, frozenset[int]]) -> Split:
    """Deals whole patients to parts, stratified by class."""
    by_patient = group_by_patient(regions.regions)
    if len(by_patient) < len(PARTS):
        what = f"has {len(by_patient)} patient(s), fewer than 3, one for each part"
        raise DataError.at(regions.root, what, "add regions of other patients, or declare a split")
    parts = deal_patients(by_patient, _SHARES, seed, class_presence, _choose_part)
    unit = f"by patient{_describe_patients(regions)}"
    description = f"Drawn here with seed {seed}, {unit}, stratified by class: {_count_regions(parts)}."
    return Split("random", description, **parts)


def _choose_part(turn: Turn) -> str:
    """Returns the next part: train, then val, then test, while a part lacks the class."""
    if "train" in turn.lacking:
        return "train"  # even beyond its share: what is never trained on cannot be learned
    roomy = [part for part in turn.allowed if turn.room[part] >= 0.5] or turn.allowed
    if wanting := [part for part in turn.lacking if part in roomy]:
        return wanting[0]
    return max(roomy, key=lambda part: (turn.class_room[part], turn.room[part], -PARTS.index(part)))


def _add_remarks(split: Split, regions: RegionSet, class_presence: Mapping[str, frozenset[int]]) -> Split:
    """Adds the split's weaknesses to its description: unused regions, absent classes."""
    parts = split.parts
    remarks = []
    if unused := len(regions.regions) - sum(map(len, parts.values())):
        remarks.append(f"{unused} region(s) are in no part")
    for part, names in parts.items():
        present = frozenset[int]().union(*(class_presence[name] for name in names))
        if absent := [name for one, name in regions.classes.items() if one not in present]:
            remarks.append(f"{part} has no {', '.join(absent)}")
    return replace(split, description="; ".join([split.description.rstrip("."), *remarks]) + ".")


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
    dealt = deal_patients(by_patient, shares, seed, class_presence, choose)
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
