"""Where each class of the synthetic tissue lies: the mask of a region.

Each class grows around a skeleton, a random tree that crosses no other class's tree. A class is therefore
one dominant component that branches through its bounding box rather than filling it, and the box of that
component (the prompt) is a poor answer to where the class is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from trainables.demo.noise import draw_noise

TUMOR, STROMA, LYMPHOCYTE, NECROSIS, VESSEL = 1, 2, 3, 4, 18
SMALL_CLASSES = (NECROSIS, LYMPHOCYTE, VESSEL)
OTHER = 21  # fat and gaps: tissue of no class

# Share of a region's pixels that a class takes where it is present; fat and gaps take what is left.
AREA_SHARE = {TUMOR: 0.325, STROMA: 0.255, LYMPHOCYTE: 0.105, NECROSIS: 0.13, VESSEL: 0.026}
# Length of a class's tree, and radius of the disc in which it explores, in sides of the region.
TREE_SIDES = {TUMOR: 5.0, STROMA: 5.0, LYMPHOCYTE: 2.2, NECROSIS: 2.3, VESSEL: 0.65}
REACH_SIDES = {TUMOR: 0.72, STROMA: 0.75, LYMPHOCYTE: 0.42, NECROSIS: 0.42, VESSEL: 0.2}
GAP_SIDES = 0.04  # least distance between the trees of two classes
# Amplitude of the border's raggedness in pixels; a vessel's wall is smooth, an infiltrate frays.
RAGGED_PX = {TUMOR: 3.5, STROMA: 3.0, LYMPHOCYTE: 4.5, NECROSIS: 4.0, VESSEL: 0.6, OTHER: 2.0}
STEP_PX = 4.0
CORE_PX = 4.5  # least half width of a branch
SATELLITE_SHARE = 0.14  # of a class's dominant component, the most that its smaller ones may add

CombPath = tuple[int, tuple[float, float], tuple[float, float]]  # which comb, from (x, y), to (x, y)


@dataclass(frozen=True)
class Tree:
    """A wriggling tree that explores a disc without touching other trees.

    Attributes:
        center: (x, y) of the disc, in pixels.
        reach: Radius of the disc, in pixels.
        length: Length at which the tree stops growing, in pixels.
        lines: 1 on the tree's one-pixel lines; drawn into while it grows.
        halo: 1 where other trees may not come.
        nodes: The points (x, y) from which new branches start.
    """

    center: tuple[float, float]
    reach: float
    length: float
    lines: UInt8[np.ndarray, "h w"]
    halo: UInt8[np.ndarray, "h w"]
    nodes: list[tuple[float, float]]

    def grow_branch(self, rng: np.random.Generator, blocked: Bool[np.ndarray, "h w"]) -> None:
        """Adds one branch, from the tree's nearest node towards a random point of the disc.

        As in the rapidly exploring random trees of motion planning (LaValle 1998) the branches spread over
        the disc and leave room between them.
        """
        side = blocked.shape[0]
        angle, radius = rng.uniform(0, 2 * math.pi), self.reach * math.sqrt(rng.uniform())
        goal_x = min(max(self.center[0] + radius * math.cos(angle), 1.0), side - 2.0)
        goal_y = min(max(self.center[1] + radius * math.sin(angle), 1.0), side - 2.0)
        if blocked[int(goal_y), int(goal_x)]:
            return
        assert self.nodes, "a tree needs a root"
        distances = np.hypot(*(np.array(self.nodes) - (goal_x, goal_y)).T)
        nearest = int(np.argmin(distances))
        if distances[nearest] < 0.07 * side:
            return
        self.add_path(walk(rng, blocked, self.nodes[nearest], (goal_x, goal_y)))

    def add_path(self, path: list[tuple[float, float]]) -> None:
        """Draws a path and lets branches start from it."""
        self.nodes.extend(path)
        points = np.round(np.array(path)).astype(np.int32)
        cv2.polylines(self.lines, [points], False, 1)
        cv2.polylines(self.halo, [points], False, 1, thickness=2 * round(GAP_SIDES * self.lines.shape[0]) + 1)

    def is_grown(self) -> bool:
        return len(self.nodes) * STEP_PX >= self.length


def walk(
    rng: np.random.Generator, blocked: Bool[np.ndarray, "h w"], start: tuple[float, float], goal: tuple[float, float]
) -> list[tuple[float, float]]:
    """Walks about as far as the goal is away, wriggling towards it and around blocked pixels."""
    side = blocked.shape[0]
    x, y = start
    points = [start]
    drift = float(rng.normal(0, 0.5))
    for _ in range(int(1.15 * math.hypot(goal[0] - x, goal[1] - y) / STEP_PX)):
        drift += float(rng.normal(-0.15 * drift, 0.3))
        heading = math.atan2(goal[1] - y, goal[0] - x) + drift
        for turn in (0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5):
            x_next, y_next = x + STEP_PX * math.cos(heading + turn), y + STEP_PX * math.sin(heading + turn)
            inside = 1 <= x_next < side - 1 and 1 <= y_next < side - 1
            if inside and not blocked[int(y_next), int(x_next)]:
                x, y = x_next, y_next
                points.append((x, y))
                break
        else:
            break
    return points


def plan_trees(rng: np.random.Generator, side_px: int, classes: frozenset[int]) -> dict[int, Tree]:
    """Returns a tree without branches for each class; the small classes' discs lie around the center."""
    small = [class_id for class_id in SMALL_CLASSES if class_id in classes]
    first_angle = float(rng.uniform(0, 2 * math.pi))
    trees: dict[int, Tree] = {}
    for i, class_id in enumerate([*small, *(c for c in (TUMOR, STROMA) if c in classes)]):
        angle = first_angle + 2 * math.pi * i / max(len(small), 1)
        off_center = rng.uniform(0.16, 0.24) * side_px if class_id in small else 0.0
        center = (side_px / 2 + off_center * math.cos(angle), side_px / 2 + off_center * math.sin(angle))
        lines, halo = np.zeros((2, side_px, side_px), np.uint8)
        reach, length = REACH_SIDES[class_id] * side_px, TREE_SIDES[class_id] * side_px
        trees[class_id] = Tree(center, reach, length, lines, halo, [])
    return trees


def grow_trees(rng: np.random.Generator, side_px: int, classes: frozenset[int]) -> dict[int, UInt8[np.ndarray, "h w"]]:
    """Grows one tree a class, tumor and stroma in turns, so that they interlock without crossing.

    Each array is 1 on its tree's one-pixel lines.
    """
    trees = plan_trees(rng, side_px, classes)

    def find_blocked(tree: Tree) -> Bool[np.ndarray, "h w"]:
        return np.asarray(sum(other.halo for other in trees.values()) - tree.halo > 0)

    def follow(tree: Tree, root: tuple[float, float], goal: tuple[float, float]) -> None:
        blocked = find_blocked(tree)
        starts = np.array(tree.nodes) if tree.nodes else np.argwhere(~blocked)[:, ::-1]
        x, y = starts[np.argmin(np.hypot(*(starts - root).T))]
        tree.add_path(walk(rng, blocked, (float(x), float(y)), goal))

    matrix = [trees[class_id] for class_id in (TUMOR, STROMA) if class_id in trees]
    spines, teeth = plan_combs(rng, side_px, len(matrix))
    for k, root, goal in spines:
        follow(matrix[k], root, goal)
    for tree in (trees[class_id] for class_id in SMALL_CLASSES if class_id in trees):
        follow(tree, tree.center, tree.center)  # the root
        for _ in range(90):  # now, while there is room to spread
            if not tree.is_grown():
                tree.grow_branch(rng, find_blocked(tree))
    for k, root, goal in teeth:
        follow(matrix[k], root, goal)
    for _ in range(60):
        for tree in matrix:
            if not tree.is_grown():
                tree.grow_branch(rng, find_blocked(tree))
    return {class_id: tree.lines for class_id, tree in trees.items()}


def plan_combs(rng: np.random.Generator, side_px: int, n_combs: int) -> tuple[list[CombPath], list[CombPath]]:
    """Plans the first paths of tumor and stroma: two combs whose teeth reach between one another.

    Two trees that grow freely wall each other off, and each then fills its half of the region. The spines lie at
    opposite edges; the teeth follow in turns.
    """
    angle = float(rng.uniform(0, 2 * math.pi))
    n_teeth = int(rng.integers(2, 4))

    def place(along: float, across: float) -> tuple[float, float]:
        dx = (along * math.cos(angle) - across * math.sin(angle)) * side_px
        dy = (along * math.sin(angle) + across * math.cos(angle)) * side_px
        return min(max(side_px / 2 + dx, 2.0), side_px - 3.0), min(max(side_px / 2 + dy, 2.0), side_px - 3.0)

    spines, teeth = [], []
    for comb in range(n_combs):
        edge = 0.47 * (2 * comb - 1)
        spines.append((comb, place(edge, -0.55), place(edge, 0.55)))
    for tooth in range(n_teeth):
        for comb in range(n_combs):
            edge = 0.47 * (2 * comb - 1)
            across = (tooth + 0.25 + 0.5 * comb + rng.uniform(-0.12, 0.12)) / n_teeth - 0.5
            teeth.append((comb, place(edge, across), place(-edge * rng.uniform(0.65, 0.9), across)))
    return spines, teeth


def draw_fields(
    rng: np.random.Generator, lines: Mapping[int, UInt8[np.ndarray, "h w"]]
) -> dict[int, Float32[np.ndarray, "h w"]]:
    """Returns for each class the ragged distance to its tree, in pixels."""
    side = next(iter(lines.values())).shape[0]
    distances = {c: cv2.distanceTransform(1 - tree, cv2.DIST_L2, 5) for c, tree in lines.items()}
    fields = dict(distances)
    if TUMOR in fields and NECROSIS in fields:  # a viable rim surrounds the dead tissue
        fields[TUMOR] = np.minimum(fields[TUMOR], fields[NECROSIS] + 3)
    # Fat lies in the pockets between all trees.
    fields[OTHER] = -np.minimum.reduce(list(distances.values())) - 4 * draw_noise(rng, side, 0.25 * side)
    for class_id in fields:
        if class_id not in (VESSEL, OTHER):  # some branches are thick, some thin
            fields[class_id] = fields[class_id] * np.exp(0.25 * draw_noise(rng, side, 0.12 * side))
        ragged = draw_noise(rng, side, 7.0) + 1.6 * draw_noise(rng, side, 18.0) + 0.5 * draw_noise(rng, side, 3.0)
        field = np.asarray(fields[class_id] - RAGGED_PX[class_id] * ragged, np.float32)
        if class_id in lines:  # the trees themselves stay connected, whatever the noise
            core_px = CORE_PX + (0 if class_id == VESSEL else np.clip(ragged, -1, 1))
            field[distances[class_id] < core_px] = -1000
        fields[class_id] = field
    return fields


def compete(rng: np.random.Generator, fields: Mapping[int, Float32[np.ndarray, "h w"]]) -> UInt8[np.ndarray, "h w"]:
    """Gives each pixel to the class with the lowest field; offsets give each about its share of the area."""
    ids = np.array(list(fields), np.uint8)
    stack = np.stack(list(fields.values()))
    wanted = np.array([AREA_SHARE.get(class_id, 0) * rng.uniform(0.8, 1.2) for class_id in fields])
    wanted[ids == OTHER] = max(0.08, 1 - wanted.sum())
    wanted /= wanted.sum()
    offsets = np.where(ids == OTHER, -40, 0).astype(np.float32)
    thinned = np.ascontiguousarray(stack[:, ::2, ::2])  # shares need no more, and it is four times as fast
    for _ in range(24):
        shares = np.bincount(_win(thinned, offsets).ravel(), minlength=len(ids)) / thinned[0].size
        offsets += np.clip(8 * np.log(wanted / np.maximum(shares, 1e-3)), -6, 6).astype(np.float32)
    winner = _win(stack, offsets)
    for _ in range(3):  # what a fragment is given to can become a fragment itself
        fragments = np.zeros(winner.shape, bool)
        for k in range(len(ids)):
            lost = find_fragments(winner == k, math.inf if ids[k] == OTHER else SATELLITE_SHARE)
            stack[k, lost] = 2000
            fragments |= lost
        if not fragments.any():
            break
        winner = _win(stack, offsets)
    return np.asarray(ids[winner], np.uint8)


def find_fragments(mask: Bool[np.ndarray, "h w"], satellite_share: float) -> Bool[np.ndarray, "h w"]:
    """Marks the components beyond the dominant one that are specks or exceed the share of satellites."""
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    lost = np.zeros(n_labels, bool)
    if len(areas) > 1:
        order = np.argsort(-areas, kind="stable")
        satellites = order[1:]
        over = np.cumsum(areas[satellites]) > satellite_share * areas[order[0]]
        lost[1 + satellites[over | (areas[satellites] < 24)]] = True
    return np.asarray(lost[labels])


def make_mask(rng: np.random.Generator, side_px: int, classes: frozenset[int]) -> UInt8[np.ndarray, "h w"]:
    """Makes the mask of a square region that shows some classes; stroma, the matrix of the others, must be among them.

    It holds BCSS class ids, with 21 ("other") for fat and gaps.
    """
    assert STROMA in classes
    lines = grow_trees(rng, side_px, classes)
    return compete(rng, draw_fields(rng, lines))


def _win(stack: Float32[np.ndarray, "k h w"], offsets: Float32[np.ndarray, " k"]) -> Int64[np.ndarray, "h w"]:
    """Returns the index of the class that wins each pixel."""
    return np.asarray(np.argmin(stack - offsets[:, None, None], axis=0))
