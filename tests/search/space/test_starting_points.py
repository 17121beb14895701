"""A starting point gives values only to parameters that apply with its other values."""

from collections.abc import Callable

import pytest

from search.space.config import SearchConfig

ListFaults = Callable[[str], list[tuple[str, str]]]
SPACE = """\
fixed: {prompts.mix: box}
space:
  augment.kind: {choice: [flips, color, all]}
  augment.strength: {low: 0.05, high: 0.5, when: {augment.kind: [color, all], prompts.mix: box}}
  adapter.rank: {low: 4, high: 8, when: {augment.kind: all, optim.batch_size: 4}}
  optim.batch_size: {choice: [2, 4], when: {augment.kind: [flips, all]}}
start_from:
- """


@pytest.mark.parametrize(
    "point",
    [
        "{augment.kind: flips}",
        "{augment.kind: color, augment.strength: 0.5}",
        "{augment.strength: 0.05, augment.kind: all}",
        "{augment.kind: all, augment.strength: 0.1, adapter.rank: 8, optim.batch_size: 4}",
        "{augment.kind: flips, optim.batch_size: 2}",
    ],
)
def test_accepts_what_applies(load_space: Callable[[str], SearchConfig], point: str) -> None:
    (start,) = load_space(f"{SPACE}{point}\n").start_from
    assert start.name == "start-1" and "augment.kind" in start.values


@pytest.mark.parametrize(
    ("point", "where", "words"),
    [
        (
            "{augment.kind: flips, augment.strength: 0.1}",
            "augment.strength",
            "augment.strength applies only with augment.kind: [color, all], but the point has augment.kind: flips "
            "-> leave augment.strength out, or change augment.kind",
        ),
        (
            "{augment.strength: 0.1}",
            "augment.strength",
            "applies only with augment.kind: [color, all], which the point does not say -> add augment.kind",
        ),
        # Its parent does not apply: reported there.
        (
            "{augment.kind: color, optim.batch_size: 2}",
            "optim.batch_size",
            "optim.batch_size applies only with augment.kind: [flips, all]",
        ),
        ("{augment.kind: all, adapter.rank: 4}", "adapter.rank", "applies only with optim.batch_size: 4, which"),
        ("{augment.kind: flipz, augment.strength: 0.1}", "augment.kind", "must be one of none"),
    ],
)
def test_one_finding_for_what_does_not_apply(list_faults: ListFaults, point: str, where: str, words: str) -> None:
    ((place, found),) = list_faults(f"{SPACE}{point}\n")
    assert place == f"8 start_from[0].{where}" and words in found


def test_all_conditions_that_do_not_hold_are_reported(list_faults: ListFaults) -> None:
    point = "{augment.kind: color, augment.strength: 0.1, adapter.rank: 4, optim.batch_size: 2}"
    places = [where.split(".")[-1] for where, _ in list_faults(f"{SPACE}{point}\n")]
    assert places == ["rank", "rank", "batch_size"]
