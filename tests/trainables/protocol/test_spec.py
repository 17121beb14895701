import dataclasses

import numpy as np
import pytest

from trainables.files.json_reader import build_record
from trainables.protocol.prompts import PromptSpec
from trainables.protocol.spec import (
    PROTOCOLS,
    Protocol,
    ProtocolMismatch,
    add_tiles,
    clean_mask,
    find_components,
    find_valid,
    require_same_protocol,
)
from trainables.protocol.tta import VIEWS
from trainables.tiles.grid import Tiles

RECORDED = PROTOCOLS["recorded"]
CONSTANTS = {"prompt_seed": 0, "multimask": True, "count_outside": False, "score_px": 0}
# For each other field another value than the recorded protocol has.
OTHER_VALUES: dict[str, object] = {
    "prompt": PromptSpec(centroid=True),
    "components": "whole",
    "min_component_px": 7,
    "threshold": 0.5,
    "closing_px": 5,
    "keep_largest": False,
    "averaging": "classes",
    "tta": ("identity", "hflip"),
    "tiles": Tiles(64),
}
OTHER_PROMPTS: dict[str, object] = {
    "box": False,
    "centroid": True,
    "n_positive": 1,
    "n_negative": 4,
    "negative_margin_px": 9.5,
    "box_jitter": 0.1,
}


def test_tiles_make_another_protocol_and_ids_without_them_stay_as_recorded() -> None:
    assert RECORDED.id == "226c7851" and add_tiles(RECORDED, None) is RECORDED
    several = [add_tiles(RECORDED, Tiles(64, *rest)) for rest in ((), (0.5,), (0.5, 0.0))]
    assert len({RECORDED.id, *(each.id for each in several)}) == 4
    assert several[1].name == "recorded+tiles" and "in tiles of 64 px at 0.5 um a pixel" in several[1].describe()


def test_the_name_alone_is_no_difference_and_all_fields_that_differ_are_named() -> None:
    mine = dataclasses.replace(RECORDED, name="mine")
    assert mine.id == RECORDED.id and len(RECORDED.id) == 8 and int(RECORDED.id, 16) >= 0
    require_same_protocol(RECORDED, mine)
    other = dataclasses.replace(RECORDED, closing_px=0, keep_largest=False)
    with pytest.raises(ProtocolMismatch, match=r"closing_px: 7 against 0; keep_largest: True against False"):
        require_same_protocol(RECORDED, other)


def test_every_field_is_tried_below() -> None:
    assert {field.name for field in dataclasses.fields(Protocol)} == {"name", *CONSTANTS, *OTHER_VALUES}
    assert {field.name for field in dataclasses.fields(PromptSpec)} == set(OTHER_PROMPTS)


@pytest.mark.parametrize("field", sorted(OTHER_VALUES))
def test_the_id_changes_with_every_field_and_the_error_names_it(field: str) -> None:
    other = dataclasses.replace(RECORDED, **{field: OTHER_VALUES[field]})
    assert other.id != RECORDED.id
    with pytest.raises(ProtocolMismatch) as caught:
        require_same_protocol(RECORDED, other)
    text = str(caught.value).split("they differ in ")[1]
    assert text.startswith(f"{field}: ") and ";" not in text
    assert RECORDED.id in str(caught.value) and other.id in str(caught.value)


@pytest.mark.parametrize("field", sorted(OTHER_PROMPTS))
def test_the_id_changes_with_every_field_of_the_prompt(field: str) -> None:
    prompt = dataclasses.replace(RECORDED.prompt, centroid=True)  # so that the box can be left out
    before = dataclasses.replace(RECORDED, prompt=prompt)
    value = False if field == "centroid" else OTHER_PROMPTS[field]
    after = dataclasses.replace(RECORDED, prompt=dataclasses.replace(prompt, **{field: value}))
    assert before.id != after.id


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_protocols_survive_json_also_from_before_a_field_was_there(name: str) -> None:
    again = build_record(PROTOCOLS[name].to_dict(), Protocol)
    assert again == PROTOCOLS[name] and again.id == PROTOCOLS[name].id
    fields = {key: value for key, value in RECORDED.to_dict().items() if key not in ("tta", "score_px")}
    assert build_record(fields, Protocol) == RECORDED


@pytest.mark.parametrize(("field", "value"), CONSTANTS.items())
def test_what_never_differs_is_on_record_and_read_with_its_one_value_alone(field: str, value: object) -> None:
    fields = RECORDED.to_dict()
    assert fields[field] == value
    with pytest.raises(ValueError, match=f"(?s){field}.*Input should be {value}"):
        build_record({**fields, field: 256}, Protocol)


def test_equal_protocols_have_equal_ids_however_their_numbers_are_written() -> None:
    whole = dataclasses.replace(RECORDED, prompt=dataclasses.replace(RECORDED.prompt))
    # As a YAML file's 10 would; past the constructor, whose types are checked in some runs.
    object.__setattr__(whole.prompt, "negative_margin_px", 10)
    assert whole == RECORDED and whole.id == RECORDED.id
    require_same_protocol(whole, RECORDED)


CLEANED = "box + 5 negative points 10 px away of the largest component, closing 7 x 7, largest component kept"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("recorded", f"{CLEANED}, mean over pairs"),
        ("recorded-tta", f"{CLEANED}, TTA of identity + rot90 + hflip + vflip, mean over pairs"),
        ("centroid", "centroid of the largest component, mean over pairs"),
        ("components", "box of every component of 16 px or more, mean over pairs"),
        ("auto", "no prompt, every pixel named by a class or as background, mean over pixels"),
    ],
)
def test_a_protocol_describes_itself_in_one_line(name: str, text: str) -> None:
    protocol = PROTOCOLS[name]
    assert protocol.describe() == f"{name} [{protocol.id}]: {text}"


def test_what_is_out_of_the_ordinary_is_described_too() -> None:
    text = dataclasses.replace(RECORDED, threshold=0.5, tta=("hflip",)).describe()
    assert "threshold 0.5, TTA of hflip" in text


@pytest.mark.parametrize(
    ("field", "value"), [("components", "all"), ("averaging", "mean"), *(("closing_px", value) for value in (4, -1))]
)
def test_values_that_no_protocol_has_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .* got {value!r}"):
        dataclasses.replace(RECORDED, **{field: value})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"prompt": PromptSpec(box=True)}, "a prompt"),
        ({"averaging": "pairs"}, "averaging='pairs'"),
        ({"closing_px": 3, "keep_largest": True}, "closing_px=3, keep_largest=True"),
        ({"threshold": 0.5}, "threshold=0.5"),
        ({"components": "largest"}, "a prompt needs a box"),
    ],
)
def test_what_has_no_meaning_without_prompts_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(PROTOCOLS["auto"], **changes)


def test_without_prompts_no_component_is_asked_for_and_the_floor_is_a_constant_answer() -> None:
    auto = PROTOCOLS["auto"]
    assert auto.is_auto and not any(one.is_auto for one in PROTOCOLS.values() if one is not auto)
    assert find_components(np.ones((4, 4), bool), auto) == []
    assert {one.floor_words for one in PROTOCOLS.values()} == {"filled prompt box", "one class everywhere"}


@pytest.mark.parametrize("tta", [(), ("rot45",), ("identity", "hflip", "hflip")])
def test_views_that_are_none_unknown_or_repeated_are_refused(tta: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="tta must be one or more of identity, rot90, .*, each once"):
        dataclasses.replace(RECORDED, tta=tta)


def test_the_order_of_views_is_no_difference() -> None:
    one, other = (dataclasses.replace(RECORDED, tta=views) for views in (VIEWS, VIEWS[::-1]))
    assert one == other and one.id == other.id and one.tta == other.tta == VIEWS


BLOCK, DOT, GAP = np.s_[8:20, 8:20], np.s_[30, 30], np.s_[8:20, 13:16]


def draw_class() -> np.ndarray:
    """A block with a gap 3 pixels wide that cuts it in two, and a dot."""
    mask = np.zeros((40, 40), bool)
    mask[BLOCK] = mask[DOT] = True
    mask[GAP] = False
    return mask


@pytest.mark.parametrize(
    ("components", "min_component_px", "areas"),
    [("largest", 1, [60]), ("every", 1, [60, 48, 1]), ("every", 49, [60]), ("whole", 99, [109])],
)
def test_components_are_found_by_their_kind(components: str, min_component_px: int, areas: list[int]) -> None:
    protocol = dataclasses.replace(RECORDED, components=components, min_component_px=min_component_px)
    assert [int(part.cut_out().sum()) for part in find_components(draw_class(), protocol)] == areas
    assert find_components(np.zeros((4, 4), bool), protocol) == []


@pytest.mark.parametrize(
    ("closing_px", "keep_largest", "area"),
    [(0, False, 109), (0, True, 60), (3, False, 109), (5, True, 144), (7, False, 145), (7, True, 144)],
)
def test_masks_are_closed_first_and_then_cut_to_the_largest(closing_px: int, keep_largest: bool, area: int) -> None:
    protocol = dataclasses.replace(RECORDED, closing_px=closing_px, keep_largest=keep_largest)
    mask = draw_class()
    assert clean_mask(mask, protocol).sum() == area
    assert np.array_equal(mask, draw_class())


def test_closing_neither_moves_a_mask_nor_eats_its_edge() -> None:
    mask = np.zeros((12, 12), bool)
    mask[:5, 4:] = True
    assert np.array_equal(clean_mask(mask, RECORDED), mask)


def test_ignored_ids_do_not_count() -> None:
    mask = np.array([[0, 1, 7]], np.uint8)
    valid = find_valid(mask, (0, 7))
    assert valid is not None and valid.tolist() == [[False, True, False]]
    assert find_valid(mask, ()) is None
