"""Figures are well-formed drawings, the same again from the same figures, whatever the names are."""

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import matplotlib
import pytest

from search.reporting.plots import (
    _name_finalist,
    draw_classes,
    draw_importance,
    draw_protocols,
    draw_scales,
    draw_seeds,
)
from search.run_folder.finalists import Finalist, SeedRun
from search.run_folder.protocol_table import ProtocolRow
from search.run_folder.score_table import PairMeans
from search.space.objective import Objective

ODD = "$x_{ & <b>"
ROW = {"winner": 0.7, "zeroshot": 0.6, "floor": 0.4, "ceiling": 0.95}
FINALIST = Finalist("t", 0.7, {}, (SeedRun(1, "/c", 1, 0.7, by_scale={0.0: 0.6, 1.0: 0.7}),))
PROTOCOL_ROW = ProtocolRow("t", ODD, "box", "id", dice=0.5, iou=0.4, floor=0.3, ceiling=0.9)
LED = dataclasses.replace(FINALIST, trial_id="l", starting_point=ODD, out="out after 1 of 3 seeds")
SEEDS: Any = SimpleNamespace(
    finalists=(FINALIST, LED), chosen=SimpleNamespace(trial_id="t"), objective=Objective(), bar=0.5
)
DRAWN: dict[str, Callable[[], str]] = {
    "importance": lambda: draw_importance({ODD: 0.7, "optim.lr": 0.3}),
    "importance of one": lambda: draw_importance({"optim.lr": 1.0}),
    "classes": lambda: draw_classes(PairMeans(ROW, {ODD: ROW}, 4), ODD, "filled prompt box"),
    "classes of zero-shot": lambda: draw_classes(
        PairMeans({"zeroshot": 0.6, "floor": 0.4, "ceiling": 0.9}, {}, 4), "winner", "box"
    ),
    "seeds": lambda: draw_seeds(SEEDS),
    "scales": lambda: draw_scales(FINALIST, 1.0, "val Dice"),
    "scales, another chosen": lambda: draw_scales(FINALIST, 0.5, "val Dice"),
    "protocols": lambda: draw_protocols([PROTOCOL_ROW, PROTOCOL_ROW]),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_whole_and_repeatable(name: str) -> None:
    before = dict(matplotlib.rcParams)
    svg = DRAWN[name]()
    assert ElementTree.fromstring(svg.encode()).tag.endswith("svg")
    assert DRAWN[name]() == svg
    assert dict(matplotlib.rcParams) == before  # nobody else's figures change


def test_finalists_are_named_with_what_they_are() -> None:
    assert [_name_finalist(each, SEEDS) for each in (FINALIST, LED)] == [
        "trial t (chosen)",
        f"trial l ({ODD}, out early)",
    ]
