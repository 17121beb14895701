"""Which regions train, which validate and which test: declared, the recorded BCSS split, or drawn by seed."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trainables.data.dataset_file import PARTS, find_nearest
from trainables.data.regions import LocateSplit, Region, RegionSet, find_tcga_patient, name_part
from trainables.errors import DataError, Finding

KINDS = ("auto", "declared", "bcss", "random")
BCSS_TEST_HOSPITALS = ("OL", "LL", "E2", "EW", "GM", "S3")
BCSS_SEED = 42
_MIN_BCSS_REGIONS = 30  # a handful of TCGA files is not BCSS, whatever its hospitals
_MAX_COMPARISONS = 20_000  # of names, in search of the nearest: 3 s
_SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


@dataclass(frozen=True)
class Split:
    """Names of the regions in each part.

    Attributes:
        kind: ``declared``, ``bcss`` or ``random``.
        description: One sentence for the screen on where the split comes from and what to know about it.
        train: Region names.
        val: Region names.
        test: Region names.
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


@dataclass(frozen=True)
class Turn:
    """What the choice of a part for the next patient may look at; nothing here is to be changed.

    Attributes:
        n_regions: Of the patient.
        n_regions_after: Of all patients who wait still.
        allowed: Parts to choose from.
        lacking: Those of them without a region of the rarest class that waits, which the patient has.
        room: Part -> regions still wanted there.
        class_room: Part -> regions of that class still wanted there; 0 if no class waits.
    """

    n_regions: int
    n_regions_after: int
    allowed: Sequence[str]
    lacking: Sequence[str]
    room: Mapping[str, float]
    class_room: Mapping[str, float]


def bcss_split(names: Iterable[str]) -> Split:
    """Reproduces the recorded BCSS split: six whole hospitals test, a fifth of the shuffled rest validates.

    Train and validation names come in shuffled order, test names sorted.
    """
    ordered = sorted(names)
    prefixes = tuple(f"TCGA-{hospital}-" for hospital in BCSS_TEST_HOSPITALS)
    test = tuple(name for name in ordered if name.startswith(prefixes))
    held_out = set(test)
    rest = [name for name in ordered if name not in held_out]
    np.random.RandomState(BCSS_SEED).shuffle(rest)  # the legacy generator: the recorded one
    n_val = int(0.2 * len(rest))
    sizes = f"{len(rest) - n_val} train, {n_val} val, {len(test)} test regions"
    description = f"The recorded BCSS split (test: hospitals {', '.join(BCSS_TEST_HOSPITALS)}): {sizes}."
    return Split("bcss", description, train=tuple(rest[n_val:]), val=tuple(rest[:n_val]), test=test)


def make_split(
    regions: RegionSet,
    kind: str = "auto",
    seed: int = 0,
    *,
    class_presence: Mapping[str, frozenset[int]],
) -> Split:
    """Splits regions into three parts.

    Args:
        regions: What to split.
        kind: ``declared`` (by ``dataset.yaml``), ``bcss``, ``random``, or ``auto``: the first that fits.
        seed: Of the random split; the others have no choice to make.
        class_presence: Region name -> ids of the classes in its mask, for every region.

    Raises:
        DataError: With every problem: no such kind, names that do not exist or stand twice, an empty part.
    """
    where = str(regions.root)
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        fix = f"did you mean {near[0]}?" if near else f"one of {', '.join(KINDS)}"
        raise DataError([Finding(where, f"no kind of split is called {kind!r}", fix)])
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


def find_split_problems(
    names: Iterable[str], parts: Mapping[str, Sequence[str]], locate: LocateSplit
) -> list[Finding]:
    """Finds names that are no region, names that stand twice, and empty parts.

    Args:
        names: Of all regions.
        parts: Part -> region names.
        locate: What findings call a part, and a name in it.
    """
    known = set(names)
    stands_in: defaultdict[str, list[str]] = defaultdict(list)
    findings = []
    for part in PARTS:
        if not parts[part]:
            findings.append(Finding(locate(part, ""), "is empty", "each part needs a region"))
        for name in parts[part]:
            stands_in[name].append(part)
    ordered, n_unknown = sorted(known), 0
    for name, found_in in stands_in.items():
        if name not in known:
            n_unknown += 1
            is_cheap = n_unknown * len(ordered) <= _MAX_COMPARISONS
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
    if len(names) >= _MIN_BCSS_REGIONS and all(find_tcga_patient(name) for name in names):
        return "bcss" if all(bcss_split(names).parts.values()) else "random"
    return "random"


def _take_declared(regions: RegionSet) -> Split:
    declared = regions.declared_split
    if declared is None:
        fix = "add `split` to dataset.yaml, or choose another kind"
        raise DataError([Finding(str(regions.root), "declares no split", fix)])
    parts = {part: tuple(declared.get(part, ())) for part in PARTS}
    sizes = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    return Split("declared", f"The split that dataset.yaml declares: {sizes} regions.", **parts)


def _draw_split(regions: RegionSet, seed: int, class_presence: Mapping[str, frozenset[int]]) -> Split:
    """Deals whole patients to parts, stratified by class."""
    by_patient = group_by_patient(regions.regions)
    if len(by_patient) < len(PARTS):
        what = f"has {len(by_patient)} patient(s), fewer than 3, so that no part can have its own"
        fix = "add regions of other patients, or declare a split"
        raise DataError([Finding(str(regions.root), what, fix)])
    parts = deal_patients(by_patient, _SHARES, seed, class_presence, _choose_part)
    sizes = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    shared = len(by_patient) < len(regions.regions)
    unit = "by patient" if shared else "by region (none are known to share a patient)"
    description = f"Drawn here with seed {seed}, {unit}, stratified by class: {sizes} regions."
    return Split("random", description, **parts)


def group_by_patient(regions: Iterable[Region]) -> dict[str, list[str]]:
    """Returns patient -> names of the patient's regions, both in the order in which they come."""
    by_patient: defaultdict[str, list[str]] = defaultdict(list)
    for region in regions:
        by_patient[region.patient].append(region.name)
    return dict(by_patient)


def deal_patients(
    by_patient: Mapping[str, Sequence[str]],
    shares: Mapping[str, float],
    seed: int,
    class_presence: Mapping[str, frozenset[int]],
    choose: Callable[[Turn], str],
) -> dict[str, tuple[str, ...]]:
    """Deals whole patients to parts, those of the rarest class first, and among them the largest.

    This is the iterative stratification of Sechidis et al. 2011 ("On the stratification of multi-label data"):
    a region holds several classes, so that no single label could stand for it.

    Args:
        by_patient: Patient -> names of the patient's regions; at least as many patients as parts.
        shares: Part -> share of all regions that it should get.
        seed: Decides between patients that are alike.
        class_presence: Region name -> ids of the classes in its mask.
        choose: Returns the part that gets the next patient, one of ``Turn.allowed``.

    Returns:
        Part -> region names, sorted; no part is empty.
    """
    assert len(by_patient) >= len(shares)
    waiting = sorted(by_patient)
    np.random.default_rng(seed).shuffle(waiting)
    waiting.sort(key=lambda patient: -len(by_patient[patient]))  # stable; the largest while parts have room
    counts = {p: Counter(one for name in names for one in class_presence[name]) for p, names in by_patient.items()}
    total, class_totals = sum(map(len, by_patient.values())), sum(counts.values(), Counter[int]())
    room = {part: share * total for part, share in shares.items()}
    class_room = {part: {c: share * n for c, n in class_totals.items()} for part, share in shares.items()}
    dealt: dict[str, list[str]] = {part: [] for part in shares}
    held: dict[str, set[int]] = {part: set() for part in shares}
    # One queue a class, in the order of `waiting`, so that 100,000 patients are not searched 100,000 times.
    queues = {one: deque(p for p in waiting if one in counts[p]) for one in class_totals}
    left = Counter({one: len(queue) for one, queue in queues.items()})
    everyone, n_waiting, n_regions_left, gone = deque(waiting), len(waiting), total, set[str]()
    while n_waiting:
        rarest = min(left, key=lambda one: (left[one], one), default=None)
        queue = everyone if rarest is None else queues[rarest]
        while (patient := queue.popleft()) in gone:
            pass
        empty = [part for part in shares if not dealt[part]]
        allowed = empty if n_waiting <= len(empty) else list(shares)  # no part may end empty
        gone.add(patient)
        n_waiting -= 1
        n_regions_left -= len(by_patient[patient])
        left = +(left - Counter(counts[patient].keys()))
        part = choose(
            Turn(
                n_regions=len(by_patient[patient]),
                n_regions_after=n_regions_left,
                allowed=allowed,
                lacking=[part for part in allowed if rarest not in held[part]],
                room=room,
                class_room={part: 0.0 if rarest is None else class_room[part][rarest] for part in shares},
            )
        )
        dealt[part].append(patient)
        held[part] |= counts[patient].keys()
        room[part] -= len(by_patient[patient])
        for one, number in counts[patient].items():
            class_room[part][one] -= number
    return {part: tuple(sorted(n for p in patients for n in by_patient[p])) for part, patients in dealt.items()}


def _choose_part(turn: Turn) -> str:
    """Chooses train before val before test while a part lacks the class."""
    if "train" in turn.lacking:
        return "train"  # even beyond its share: what is never trained on cannot be learned
    roomy = [part for part in turn.allowed if turn.room[part] >= 0.5] or turn.allowed
    if wanting := [part for part in turn.lacking if part in roomy]:
        return wanting[0]
    return max(roomy, key=lambda part: (turn.class_room[part], turn.room[part], -PARTS.index(part)))


def _add_remarks(split: Split, regions: RegionSet, class_presence: Mapping[str, frozenset[int]]) -> Split:
    """Adds what a reader of scores must know: regions unused, classes absent."""
    parts = split.parts
    remarks = []
    if unused := len(regions.regions) - sum(map(len, parts.values())):
        remarks.append(f"{unused} region(s) are in no part")
    for part, names in parts.items():
        present = frozenset[int]().union(*(class_presence[name] for name in names))
        if absent := [name for one, name in regions.classes.items() if one not in present]:
            remarks.append(f"{part} has no {', '.join(absent)}")
    return replace(split, description="; ".join([split.description.rstrip("."), *remarks]) + ".")
