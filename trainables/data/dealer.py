"""Deals whole patients to the parts of a split or to folds, stratified by class."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.regions import Region


@dataclass(frozen=True)
class Turn:
    """What the choice of a part for the next patient depends on; read-only.

    Attributes:
        n_regions: Of the patient.
        n_regions_after: Of all patients who still wait.
        allowed: Parts to choose from.
        lacking: Those of them without a region of the rarest class that waits, which the patient has; none if no
            class waits.
        room: Part -> regions still wanted there.
        class_room: Part -> regions of that class still wanted there; 0 if no class waits.
    """

    n_regions: int
    n_regions_after: int
    allowed: Sequence[str]
    lacking: Sequence[str]
    room: Mapping[str, float]
    class_room: Mapping[str, float]


def group_by_patient(regions: Iterable[Region]) -> dict[str, list[str]]:
    """Returns patient -> names of the patient's regions, both in the given order."""
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
    a region holds several classes, so no single label could stand for it.

    Args:
        by_patient: Patient -> region names; at least as many patients as parts.
        shares: Part -> the share of all regions that it should get.
        seed: Decides between patients that are alike.
        class_presence: Region -> ids of the classes in its mask.
        choose: Returns one of ``Turn.allowed``, to which the patient goes.

    Returns:
        Part -> region names, sorted; no part is empty.
    """
    assert len(by_patient) >= len(shares)
    order = sorted(by_patient)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda patient: -len(by_patient[patient]))  # stable; the largest while parts have room
    counts = {p: Counter(c for name in by_patient[p] for c in class_presence[name]) for p in by_patient}
    n_regions_left = sum(map(len, by_patient.values()))
    totals = sum(counts.values(), Counter[int]())
    room = {part: share * n_regions_left for part, share in shares.items()}
    class_room = {part: {c: share * n for c, n in totals.items()} for part, share in shares.items()}
    dealt: dict[str, list[str]] = {part: [] for part in shares}
    held: dict[str, set[int]] = {part: set() for part in shares}
    # One queue per class, so that 100,000 patients are not searched 100,000 times; None is that of all patients.
    queues: dict[int | None, deque[str]] = {None: deque(order)}
    queues |= {c: deque(p for p in order if c in counts[p]) for c in totals}
    waiting = Counter({c: len(queues[c]) for c in totals})
    gone = set[str]()
    for n_waiting in range(len(by_patient), 0, -1):
        rarest = min(waiting, key=lambda one: (waiting[one], one), default=None)
        while (patient := queues[rarest].popleft()) in gone:
            pass
        gone.add(patient)
        n_regions_left -= len(by_patient[patient])
        waiting = +(waiting - Counter(counts[patient].keys()))
        empty = [part for part, patients in dealt.items() if not patients]
        allowed = empty if n_waiting <= len(empty) else list(dealt)  # no part may end empty
        turn = Turn(
            n_regions=len(by_patient[patient]),
            n_regions_after=n_regions_left,
            allowed=allowed,
            lacking=[part for part in allowed if rarest is not None and rarest not in held[part]],
            room=room,
            class_room={part: 0.0 if rarest is None else wanted[rarest] for part, wanted in class_room.items()},
        )
        part = choose(turn)
        dealt[part].append(patient)
        held[part] |= counts[patient].keys()
        room[part] -= len(by_patient[patient])
        for one, number in counts[patient].items():
            class_room[part][one] -= number
    return {
        part: tuple(sorted(name for patient in patients for name in by_patient[patient]))
        for part, patients in dealt.items()
    }
