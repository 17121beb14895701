from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation import overlay
from trainables.evaluation.candidates import Candidate
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.overlay import (
    BAR_PX,
    COLORS,
    PANEL_PX,
    draw_answer,
    draw_overlays,
    draw_region,
    draw_telling,
)
from trainables.protocol.spec import PROTOCOLS, Protocol

INNER = slice(BAR_PX, BAR_PX + PANEL_PX)


def make_context(store: RegionStore, protocol: Protocol = PROTOCOLS["box"]) -> TrialContext:
    return TrialContext("nano", None, str(store.folder), (), store.names, protocol, 1, 0, {}, 0)


def draw_mask() -> np.ndarray:
    """Tumor on the left, stroma in the upper right quarter, ignored pixels in the lower right one."""
    mask = np.full((64, 64), 9, np.uint8)
    mask[:, :32] = 1
    mask[:32, 32:] = 2
    return mask


@pytest.fixture
def drawn(write_store: Callable[..., RegionStore]) -> RegionStore:
    return write_store({"a": draw_mask()}, {1: "tumor", 2: "stroma"}, ignore=(9,))


def draw(store: RegionStore, protocol: Protocol = PROTOCOLS["box"]) -> np.ndarray:
    regions = EvaluationSet(store, store.names, protocol)
    (plan,) = regions.plans
    mask = regions.store.mask(plan.index)
    answers = {"right": [mask == 1, mask == 2], "nothing": [mask == 0, mask == 0]}
    return draw_region(regions, plan, [draw_answer(regions, plan, *answer) for answer in answers.items()])


def get_panel(picture: np.ndarray, number: int) -> np.ndarray:
    return picture[INNER, number * PANEL_PX : (number + 1) * PANEL_PX].astype(int)


def find_color(panel: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (panel == color).all(axis=-1)


def test_a_region_is_a_row_of_panels_between_titles_and_legend(drawn: RegionStore) -> None:
    picture = draw(drawn)
    assert picture.shape == (BAR_PX + PANEL_PX + BAR_PX, 4 * PANEL_PX, 3) and picture.dtype == np.uint8
    for number in range(4):
        assert (picture[:BAR_PX, number * PANEL_PX : (number + 1) * PANEL_PX] < 100).any()
    for color in COLORS[:2]:
        assert find_color(picture[-BAR_PX:], color).sum() > 100


def test_a_right_answer_looks_like_the_truth_and_an_empty_one_like_tissue(drawn: RegionStore) -> None:
    picture = draw(drawn)
    truth, right, nothing = (get_panel(picture, number) for number in (1, 2, 3))
    assert np.array_equal(truth, right)
    for number, color in enumerate(COLORS[:2]):
        rows, columns = np.nonzero(find_color(truth, color))
        assert rows.min() <= 2 and columns.min() <= 2 + number * PANEL_PX // 2
        assert not find_color(nothing, color).any()


def test_each_class_is_tinted_in_its_own_color(drawn: RegionStore) -> None:
    picture = draw(drawn)
    tinted, plain = get_panel(picture, 1), get_panel(picture, 3)
    for color, where in ((COLORS[0], np.s_[100:280, 40:150]), (COLORS[1], np.s_[40:150, 230:340])):
        expected = 0.75 * plain[where] + 0.25 * np.array(color)
        assert np.abs(tinted[where] - expected).max() <= 1


def test_what_does_not_count_is_paled(drawn: RegionStore) -> None:
    picture = draw(drawn)
    ignored = np.s_[220:360, 220:360]
    tissue, shown = get_panel(picture, 0)[ignored], get_panel(picture, 3)[ignored]
    assert shown.min() >= 0.6 * 255 - 1 and (shown >= tissue).all()


def test_the_first_panel_shows_the_prompts_where_they_are(drawn: RegionStore) -> None:
    panel = get_panel(draw(drawn), 0)
    for color, box in ((COLORS[0], (0, 0, 186, 378)), (COLORS[1], (192, 0, 378, 186))):
        rows, columns = np.nonzero(find_color(panel, color))
        found = (columns.min(), rows.min(), columns.max(), rows.max())
        assert np.abs(np.subtract(found, box)).max() <= 6
    crosses = get_panel(draw(drawn, PROTOCOLS["box-neg"]), 0)
    assert find_color(crosses, COLORS[0]).sum() > find_color(panel, COLORS[0]).sum()
    dots = get_panel(draw(drawn, PROTOCOLS["centroid"]), 0)
    assert find_color(dots, COLORS[0])[189, 93]  # x = 15.5, y = 31.5 of 64


def test_colors_differ_and_do_not_run_out(write_store: Callable[..., RegionStore]) -> None:
    assert len(set(COLORS)) == len(COLORS)
    mask = np.repeat(np.arange(1, 10, dtype=np.uint8), 8)[:, None] * np.ones((1, 72), np.uint8)
    store = write_store({"a": mask}, {number: f"class {number}" for number in range(1, 10)})
    regions = EvaluationSet(store, store.names, PROTOCOLS["box"])
    picture = draw_region(regions, regions.plans[0], [])
    assert picture.shape[1] == 2 * PANEL_PX and picture.shape[0] > PANEL_PX + 2 * BAR_PX  # the legend wraps
    legend = picture[BAR_PX + PANEL_PX :]
    assert find_color(legend, COLORS[0]).any(axis=1).sum() == 2 * 15  # the color of classes 1 and 8: two rows


def test_a_region_without_a_class_to_score_is_drawn_all_the_same(write_store: Callable[..., RegionStore]) -> None:
    specks = np.zeros((64, 64), np.uint8)
    specks[5, 5:9] = 1
    store = write_store({"a": specks}, {1: "tumor"})
    regions = EvaluationSet(store, store.names, PROTOCOLS["components"])
    (plan,) = regions.plans
    picture = draw_region(regions, plan, [draw_answer(regions, plan, "model", [])])
    assert picture.shape[1] == 3 * PANEL_PX


def test_one_png_a_region_is_written(tissue_store: RegionStore, tmp_path: Path) -> None:
    context = make_context(tissue_store, PROTOCOLS["recorded"])
    files = draw_overlays(context, {"zero-shot": Candidate(None)}, ["r3.png", "r1.png"], tmp_path / "new" / "overlays")
    assert [file.name for file in files] == ["r3.png", "r1.png"]
    for file in files:
        picture = cv2.imread(str(file))
        assert picture is not None and picture.shape == (2 * BAR_PX + PANEL_PX, 3 * PANEL_PX, 3)


@pytest.mark.parametrize(
    ("number", "shown"), [(3, ["r2", "r0", "r3"]), (1, ["r2"]), (9, ["r2", "r0", "r1", "r4", "r3"])]
)
def test_regions_on_which_two_candidates_differ_most_are_drawn(
    tissue_store: RegionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, shown: list[str]
) -> None:
    gains = {"r0.png": 0.1, "r1.png": 0.0, "r2.png": 0.3, "r3.png": -0.2, "r4.png": -0.1}

    def score(context: object, checkpoint: Path | None, names: list[str], scale: float) -> SimpleNamespace:
        return SimpleNamespace(compared=[SimpleNamespace(file=name, dice=0.5 + scale * gains[name]) for name in names])

    monkeypatch.setattr(overlay, "score_candidate", score)
    monkeypatch.setattr(overlay, "draw_overlays", lambda context, candidates, names, folder: list(map(Path, names)))
    candidates = {"zero-shot": Candidate(None, 0.0), "winner": Candidate(None, 1.0)}
    found = draw_telling(make_context(tissue_store), candidates, list(gains), tmp_path, number)
    assert [file.stem for file in found] == shown


def test_a_picture_that_cannot_be_written_is_an_error_and_leaves_the_old_one(
    tissue_store: RegionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "r1.png").mkdir()
    with pytest.raises(OSError, match="r1.png"):
        draw_overlays(make_context(tissue_store), {}, ["r1.png"], tmp_path)
    (tmp_path / "r0.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="r0.png cannot be written: No space left"):
        draw_overlays(make_context(tissue_store), {}, ["r0.png"], tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.glob("r0*")] == [("r0.png", b"old")]
