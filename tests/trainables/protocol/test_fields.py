"""A trial's values make a protocol of the search's own."""

import dataclasses

import pytest

from trainables.protocol.fields import PROTOCOL_RULES, TTA_SETS, change_protocol
from trainables.protocol.prompts import PROMPT_KINDS
from trainables.protocol.spec import PROTOCOLS
from trainables.protocol.tta import IDENTITY, VIEWS
from trainables.recipe import Scalar

RECORDED = PROTOCOLS["recorded"]


@pytest.mark.parametrize("base", PROTOCOLS.values(), ids=lambda one: one.name)
def test_no_change_is_the_very_protocol(base: object) -> None:
    assert change_protocol(base, {}) == base  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"protocol.prompt": "box-neg"}, "recorded"),
        ({"protocol.tta": "none"}, "recorded"),
        ({"protocol.tta": "recorded"}, "recorded-tta"),
        ({"protocol.closing_px": 0, "protocol.keep_largest": False}, "box-neg"),
        ({"protocol.prompt": "centroid", "protocol.closing_px": 0, "protocol.keep_largest": False}, "centroid"),
        ({"protocol.tta": "all"}, "recorded+tta=all"),
        ({"protocol.prompt": "points", "protocol.n_negative": 7}, "recorded+prompt=points,n_negative=7"),
    ],
)
def test_what_equals_a_named_protocol_bears_its_name(values: dict[str, Scalar], name: str) -> None:
    changed = change_protocol(RECORDED, values)
    assert changed.name == name
    assert (changed.id == RECORDED.id) == (name == "recorded")
    if name in PROTOCOLS:
        assert changed == PROTOCOLS[name]


def test_points_take_the_place_of_the_kinds_own() -> None:
    changed = change_protocol(RECORDED, {"protocol.n_negative": 0})
    assert changed.prompt == PROMPT_KINDS["box"]
    both = change_protocol(RECORDED, {"protocol.prompt": "points", "protocol.n_positive": 9})
    assert both.prompt == dataclasses.replace(PROMPT_KINDS["points"], n_positive=9)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"protocol.closing_px": 4}, "closing_px must be 0 or odd"),
        ({"protocol.prompt": "points", "protocol.n_positive": 0}, "at least one positive point"),
    ],
)
def test_refuses_what_no_protocol_can_be(values: dict[str, Scalar], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change_protocol(RECORDED, values)


def test_every_word_makes_a_protocol_of_its_own() -> None:
    for name, rule in PROTOCOL_RULES.items():
        made = [change_protocol(RECORDED, {name: word}) for word in rule.choices]
        assert len({one.id for one in made}) == len(made)
    assert all(IDENTITY in views and set(views) <= set(VIEWS) for views in TTA_SETS.values())
