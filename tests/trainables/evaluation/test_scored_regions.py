from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.scored_regions import describe_missed, describe_unscored, find_scored
from trainables.protocol.spec import PROTOCOLS, add_tiles
from trainables.tiles.grid import Tiles

NAMES = ("normal.png", "specks.png", "tissue.png", "tumor.png")


@pytest.fixture
def store(write_store: Callable[..., RegionStore]) -> RegionStore:
    """Normal tissue, many specks of 9 px, a component of 16 px, and a plain one."""
    masks = {name.removesuffix(".png"): np.zeros((64, 64), np.uint8) for name in NAMES}
    for x, y in itertools.product(range(0, 60, 5), range(0, 60, 5)):
        masks["specks"][y : y + 3, x : x + 3] = 1
    masks["tissue"][:4, :4] = 2
    masks["tumor"][8:56, 8:56] = 1
    return write_store(masks, {1: "tumor", 2: "stroma"})


@pytest.mark.parametrize(("name", "scored"), [("auto", NAMES), ("recorded", NAMES[1:]), ("components", NAMES[2:])])
def test_regions_with_something_to_score_are_found(store: RegionStore, name: str, scored: tuple[str, ...]) -> None:
    protocol = PROTOCOLS[name]
    assert find_scored(store, protocol) == set(scored)
    plans = EvaluationSet(store, NAMES, protocol).plans
    assert tuple(store.names[plan.index] for plan in plans if plan.pairs) == scored
    (warning,) = describe_unscored(Path("d"), store, scored, protocol)
    assert f"{1 if name == 'auto' else 4 - len(scored)} of 4 regions (normal.png" in warning.what
    assert describe_unscored(Path("d"), store, NAMES[1:], PROTOCOLS["recorded"])[0].what.startswith("1 of 4")


def test_many_objects_of_a_class_are_a_warning_where_one_is_prompted(store: RegionStore) -> None:
    recorded = PROTOCOLS["recorded"]
    (warning,) = describe_missed(Path("d"), store, ["specks.png"], recorded)
    assert "here 1% of its pixels" in warning.what and "--protocol components" in warning.fix
    for names, protocol in (
        (["specks.png"], PROTOCOLS["components"]),
        (["specks.png"], add_tiles(recorded, Tiles(64))),
        (["tissue.png", "tumor.png"], recorded),
        (["normal.png"], recorded),
    ):
        assert describe_missed(Path("d"), store, names, protocol) == []


def test_data_without_normal_tissue_needs_no_warning(tissue_store: RegionStore) -> None:
    for name in ("auto", "box"):
        scored = find_scored(tissue_store, PROTOCOLS[name])
        assert scored == set(tissue_store.names)
        assert describe_unscored(Path("d"), tissue_store, scored, PROTOCOLS[name]) == []
