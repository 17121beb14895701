import dataclasses

import cv2
import numpy as np
import pytest

from trainables.protocol.components import take_whole
from trainables.protocol.prompts import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    NEGATIVE,
    PADDING,
    POSITIVE,
    PROMPT_KINDS,
    Prompt,
    PromptSpec,
    draw_prompt,
    find_negative_room,
    stack_prompts,
)


def draw_alone(mask: np.ndarray, spec: PromptSpec, rng: np.random.Generator) -> Prompt:
    """The prompt of an object that is the only one of its class."""
    return draw_prompt(take_whole(mask), find_negative_room(mask, spec), spec, rng)


def draw_ring() -> np.ndarray:
    """A ring of radius 10 to 16 around x = 40, y = 30: concave, its centroid lies in the hole."""
    y, x = np.mgrid[:64, :80]
    distance = np.hypot(x - 40, y - 30)
    return (distance >= 10) & (distance <= 16)


def measure_distances(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Each point's distance to the nearest pixel of the mask, by brute force."""
    rows, columns = np.nonzero(mask)
    return np.array([np.hypot(columns - x, rows - y).min() for x, y in points])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_box_is_exact_and_the_centroid_may_lie_outside_a_concave_object(rng: np.random.Generator) -> None:
    box, centroid = (draw_alone(draw_ring(), PROMPT_KINDS[kind], rng) for kind in ("box", "centroid"))
    assert box.points.tolist() == [[24, 14], [56, 46]]
    assert box.labels.tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    assert centroid.points.tolist() == [[40, 30]] and centroid.labels.tolist() == [POSITIVE]
    assert not draw_ring()[30, 40]


def test_the_centroid_is_the_mean_of_the_pixels_and_not_the_box_center(rng: np.random.Generator) -> None:
    mask = np.zeros((10, 10), bool)
    mask[2, 2:6] = mask[3, 2] = True
    prompt = draw_alone(mask, PromptSpec(centroid=True), rng)
    assert prompt.points[0] == pytest.approx([(2 + 3 + 4 + 5 + 2) / 5, (2 * 4 + 3) / 5])


def test_positive_points_lie_inside_the_component_and_differ(rng: np.random.Generator) -> None:
    component = draw_ring()
    prompt = draw_alone(component, PromptSpec(n_positive=50), rng)
    x, y = prompt.points.astype(int).T
    assert component[y, x].all() and (prompt.labels == POSITIVE).all()
    assert len(set(zip(x.tolist(), y.tolist(), strict=True))) == 50
    small = np.zeros((8, 8), bool)
    small[3, 3:5] = True  # fewer pixels than points
    assert sorted(draw_alone(small, PromptSpec(n_positive=3), rng).points.tolist()) == [[3, 3], [4, 3]]


@pytest.mark.parametrize("margin", [0.0, 1.0, 3.5, 10.0])
def test_negative_points_keep_their_margin_from_the_whole_class(rng: np.random.Generator, margin: float) -> None:
    ring = draw_ring()
    satellite = np.zeros_like(ring)
    satellite[5:9, 5:9] = True
    spec = PromptSpec(box=True, n_negative=200, negative_margin_px=margin)
    prompt = draw_prompt(take_whole(ring), find_negative_room(ring | satellite, spec), spec, rng)
    negatives = prompt.points[prompt.labels == NEGATIVE]
    assert len(negatives) == 200
    assert measure_distances(negatives, ring | satellite).min() >= max(margin, 1)


def test_points_are_those_that_earlier_searches_drew(rng: np.random.Generator) -> None:
    prompt = draw_alone(draw_ring(), PromptSpec(n_positive=3, n_negative=3, negative_margin_px=5.12), rng)
    assert prompt.points.tolist() == [[53, 35], [55, 30], [43, 41], [62, 0], [46, 3], [75, 1]]
    assert prompt.labels.tolist() == [POSITIVE] * 3 + [NEGATIVE] * 3


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5, 5.12, 10.0, 34.13, 90.0])
def test_negative_points_may_lie_wherever_the_class_is_far_enough(rng: np.random.Generator, margin: float) -> None:
    spec = PromptSpec(box=True, n_negative=10**6, negative_margin_px=margin)
    for shape, density in (((70, 120), 0.001), ((70, 120), 0.02), ((1, 300), 0.005), ((300, 1), 0.005)):
        mask = rng.random(shape) < density
        mask[0, 0] = True
        far = cv2.distanceTransform(255 - 255 * mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        prompt = draw_alone(mask, spec, rng)
        columns, rows = prompt.points[prompt.labels == NEGATIVE].astype(int).T
        drawn = np.zeros_like(mask)
        drawn[rows, columns] = True
        assert drawn.sum() == len(rows) and np.array_equal(drawn, far >= max(margin, 1.0))  # each once


@pytest.mark.parametrize(("columns", "number"), [(20, 0), (10, 0), (9, 2), (8, 4)])
def test_there_are_fewer_negative_points_where_no_room_is(rng: np.random.Generator, columns: int, number: int) -> None:
    mask = np.zeros((2, 20), bool)
    mask[:, 20 - columns :] = True
    spec = PromptSpec(box=True, n_negative=5, negative_margin_px=11.0)
    prompt = draw_alone(mask, spec, rng)
    assert (prompt.labels == NEGATIVE).sum() == max(0, min(5, 2 * (20 - columns - 10))) == number


@pytest.mark.parametrize("kind", sorted(PROMPT_KINDS))
def test_the_same_generator_state_gives_the_same_prompt(kind: str) -> None:
    spec = dataclasses.replace(PROMPT_KINDS[kind], box_jitter=0.2)
    first, again, other = (draw_alone(draw_ring(), spec, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.points, again.points) and np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.points, other.points) == (kind == "centroid")


@pytest.mark.parametrize("kind", ["box", "centroid"])
def test_nothing_is_drawn_where_nothing_is_left_to_chance(kind: str, rng: np.random.Generator) -> None:
    before = rng.bit_generator.state
    draw_alone(draw_ring(), PROMPT_KINDS[kind], rng)
    assert rng.bit_generator.state == before


def test_jitter_moves_each_side_by_at_most_its_fraction_and_stays_in_the_picture() -> None:
    mask = np.zeros((60, 100), bool)
    mask[1:41, 30:50] = True  # 20 wide, 40 high, near the upper edge
    boxes = np.array(
        [
            draw_alone(mask, PromptSpec(box=True, box_jitter=0.1), np.random.default_rng(seed)).points
            for seed in range(200)
        ]
    ).reshape(200, 4)
    moved = boxes - (30, 1, 49, 40)
    assert np.abs(moved).max(axis=0) == pytest.approx([2, 4, 2, 4], rel=0.1)
    assert (np.abs(moved) <= [2, 4, 2, 4]).all() and boxes[:, 1].min() == 0


def test_jitter_never_turns_a_box_around() -> None:
    mask = np.zeros((8, 8), bool)
    mask[4, 4] = True
    spec = PromptSpec(box=True, box_jitter=0.5)
    for seed in range(50):
        (left, top), (right, bottom) = draw_alone(mask, spec, np.random.default_rng(seed)).points
        assert left <= right and top <= bottom


def test_prompts_are_padded_behind_and_scaled_by_axis() -> None:
    box = Prompt(np.array([[1, 2], [3, 4]], np.float32), np.array([2, 3], np.int32))
    point = Prompt(np.array([[5, 6]], np.float32), np.array([1], np.int32))
    batch = stack_prompts([box, point], [(2.0, 0.5), (1.0, 3.0)])
    assert batch.points.tolist() == [[[2, 1], [6, 2]], [[5, 18], [0, 0]]]
    assert batch.labels.tolist() == [[2, 3], [1, PADDING]]
    assert box.points.tolist() == [[1, 2], [3, 4]]


def test_an_empty_specification_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a box"):
        PromptSpec(n_negative=5)
