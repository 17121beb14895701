import numpy as np
import pytest

from trainables.demo.nuclei import NucleusLayer, draw_fibers, place_points


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_points_lie_inside_apart_and_as_dense_as_asked(share: float) -> None:
    where = np.zeros((200, 200), bool)
    where[50:150, 20:180] = True
    points = place_points(np.random.default_rng(0), where, 10.0, share)
    columns, rows = points.astype(int).T
    assert where[rows, columns].all()
    expected = share * where.sum() / (10 * 10 * np.sqrt(3) / 2)
    assert abs(len(points) - expected) <= 0.2 * expected
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)) + 99 * np.eye(len(points))
    assert gaps.min(initial=99) > 1


@pytest.mark.parametrize(("angle", "along"), [(0.0, 1), (np.pi / 2, 0)])
def test_fibers_run_along_the_angle(angle: float, along: int) -> None:
    fibers = draw_fibers(np.random.default_rng(0), np.full((128, 128), angle, np.float32))
    changes = [float(np.abs(np.diff(fibers, axis=axis)).mean()) for axis in (0, 1)]
    assert changes[along] < 0.5 * changes[1 - along]


def test_a_nucleus_has_its_place_size_and_amount_within_what_a_layer_can_hold() -> None:
    layer = NucleusLayer(64)
    layer.draw(20.0, 40.0, (6.0, 3.0), 0.0, 1.0)
    amounts = layer.amounts()
    assert amounts[40, 20] == pytest.approx(1, abs=0.01)
    assert amounts.sum() == pytest.approx(np.pi * 6.5 * 3.5, rel=0.1)  # OpenCV draws the rim, too
    assert amounts[40, 25] > 0.5 > amounts[45, 20]
    for at, amount in ((10, 99.0), (55, -1.0)):
        layer.draw(float(at), float(at), (4.0, 4.0), 0.0, amount)
    assert (layer.levels[10, 10], layer.levels[55, 55]) == (255, 0)
