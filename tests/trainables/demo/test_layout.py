import numpy as np
import pytest

from trainables.demo.layout import OTHER, find_fragments, grow_trees, make_mask, walk


@pytest.mark.parametrize("side_px", [128, 320])
@pytest.mark.parametrize("classes", [{2, 18}, {1, 2}, {2, 3, 4}, {1, 2, 3, 4, 18}])
def test_a_mask_shows_the_asked_classes_and_fat(classes: set[int], side_px: int) -> None:
    for seed in range(4):
        mask = make_mask(np.random.default_rng(seed), side_px, frozenset(classes))
        assert classes <= set(np.unique(mask).tolist()) <= classes | {OTHER}


def test_trees_cross_no_other_tree() -> None:
    for seed in range(4):
        trees = grow_trees(np.random.default_rng(seed), 320, frozenset({1, 2, 3, 4, 18}))
        assert all(tree.any() for tree in trees.values())
        assert sum(trees.values()).max() == 1


def test_a_walk_nears_its_goal_keeps_out_of_blocked_pixels_and_stays_where_walled_in() -> None:
    blocked = np.zeros((100, 100), bool)
    blocked[:70, 48:56] = True
    for seed in range(10):
        points = np.array(walk(np.random.default_rng(seed), blocked, (10.0, 80.0), (90.0, 80.0)))
        assert points.min() >= 1 and points.max() < 99
        assert not blocked[points[:, 1].astype(int), points[:, 0].astype(int)].any()
        assert np.hypot(*(points - (90, 80)).T).min() < 40
    assert walk(np.random.default_rng(0), np.ones((50, 50), bool), (25.0, 25.0), (45.0, 25.0)) == [(25.0, 25.0)]


def test_fragments_are_specks_and_what_exceeds_the_share() -> None:
    mask = np.zeros((100, 100), bool)
    mask[:40, :40] = True  # 1600: dominant
    mask[50:60, :12] = True  # 120: the first satellite
    mask[70:80, :11] = True  # 110: too much together with the first at a share of 0.1
    mask[90:92, 90:92] = True  # 4: a speck
    lost = find_fragments(mask, 0.1)
    assert lost.sum() == 114 and lost[75, 5] and lost[90, 90] and not lost[55, 5]
    assert find_fragments(mask, np.inf).sum() == 4
    assert not find_fragments(np.zeros((8, 8), bool), 0.1).any()
