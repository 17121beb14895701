"""Deals whole patients to the parts of a split or to folds, stratified by class."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class Dealer:
    """Deals whole patients to parts, those of the rarest class first, and among them the largest.

    This is the iterative stratification of Sechidis et al. 2011 ("On the stratification of multi-label data"):
    a region holds several classes, so no single label could stand for it.
    """

    def __init__(
        self,
        by_patient: Mapping[str, Sequence[str]],
        shares: Mapping[str, float],
        seed: int,
        class_presence: Mapping[str, frozenset[int]],
    ) -> None:
        """Shuffles the patients, at least as many as parts; the seed decides between those alike.

        ``shares`` has the share of all regions that each part should get, ``class_presence`` the ids of the classes in
        each region's mask.
        """
        assert len(by_patient) >= len(shares)
        order = sorted(by_patient)
        np.random.default_rng(seed).shuffle(order)
        order.sort(key=lambda patient: -len(by_patient[patient]))  # stable; the largest while parts have room
        self._by_patient = by_patient
        self._counts = {p: Counter(c for name in by_patient[p] for c in class_presence[name]) for p in by_patient}
        self._n_regions_left = sum(map(len, by_patient.values()))
        totals = sum(self._counts.values(), Counter[int]())
        self._room = {part: share * self._n_regions_left for part, share in shares.items()}
        self._class_room = {part: {c: share * n for c, n in totals.items()} for part, share in shares.items()}
        self._dealt: dict[str, list[str]] = {part: [] for part in shares}
        self._held: dict[str, set[int | None]] = {part: set() for part in shares}
        # One queue per class, so that 100,000 patients are not searched 100,000 times; None is that of all patients.
        self._queues: dict[int | None, deque[str]] = {None: deque(order)}
        self._queues |= {c: deque(p for p in order if c in self._counts[p]) for c in totals}
        self._left = Counter({c: len(self._queues[c]) for c in totals})

    def deal(self, choose: Callable[[Turn], str]) -> dict[str, tuple[str, ...]]:
        """Deals all patients, once, each to the part among ``Turn.allowed`` that ``choose`` returns.

        Returns:
            Part -> region names, sorted; no part is empty.
        """
        for n_waiting, patient, rarest in self._take_patients():
            part = choose(self._describe_turn(n_waiting, patient, rarest))
            self._dealt[part].append(patient)
            self._held[part] |= self._counts[patient].keys()
            self._room[part] -= len(self._by_patient[patient])
            for one, number in self._counts[patient].items():
                self._class_room[part][one] -= number
        return {
            part: tuple(sorted(name for patient in patients for name in self._by_patient[patient]))
            for part, patients in self._dealt.items()
        }

    def _take_patients(self) -> Iterator[tuple[int, str, int | None]]:
        """Yields how many patients wait, the next of them, and the rarest class that waits, which the patient has."""
        gone = set[str]()
        for n_waiting in range(len(self._by_patient), 0, -1):
            rarest = min(self._left, key=lambda one: (self._left[one], one), default=None)
            while (patient := self._queues[rarest].popleft()) in gone:
                pass
            gone.add(patient)
            self._n_regions_left -= len(self._by_patient[patient])
            self._left = +(self._left - Counter(self._counts[patient].keys()))
            yield n_waiting, patient, rarest

    def _describe_turn(self, n_waiting: int, patient: str, rarest: int | None) -> Turn:
        empty = [part for part, patients in self._dealt.items() if not patients]
        allowed = empty if n_waiting <= len(empty) else list(self._dealt)  # no part may end empty
        return Turn(
            n_regions=len(self._by_patient[patient]),
            n_regions_after=self._n_regions_left,
            allowed=allowed,
            lacking=[part for part in allowed if rarest is not None and rarest not in self._held[part]],
            room=self._room,
            class_room={part: 0.0 if rarest is None else room[rarest] for part, room in self._class_room.items()},
        )
