"""Draws a region beside its true classes and the candidates' masks, for eyes and for MLflow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.candidates import Candidate, load_candidate, open_regions, score_candidate
from trainables.evaluation.evaluation_set import EvaluationSet, PairPlan, RegionPlan
from trainables.evaluation.evaluator import predict_masks
from trainables.files.whole_file import write_whole
from trainables.model.device import pick_device
from trainables.protocol.background import BACKGROUND_ID
from trainables.protocol.components import BoolMask
from trainables.protocol.overlap import count_overlap
from trainables.protocol.prompts import BOX_TOP_LEFT, NEGATIVE, POSITIVE
from trainables.protocol.spec import find_valid

# Named apart from the axes of masks: those have the region's own size.
Image = UInt8[np.ndarray, "height width 3"]
PANEL_PX = 384
BAR_PX = 28  # height of titles and of each row of the legend
# Okabe and Ito's colors: color-blind readers can distinguish them, and they differ from pink and purple.
COLORS = ((0, 158, 115), (240, 228, 66), (0, 114, 178), (230, 159, 0), (86, 180, 233), (213, 94, 0), (0, 0, 0))


def draw_telling(
    context: TrialContext, candidates: Mapping[str, Candidate], names: Sequence[str], folder: Path, number: int
) -> list[Path]:
    """Draws those of the regions on which two candidates differ most; see :func:`draw_overlays`.

    In half of them the second candidate's Dice is higher than the first's by most, in the others it is lower by most,
    or higher by least.
    """
    dice: dict[str, list[float]] = {}
    for sign, each in zip((-1, 1), candidates.values(), strict=True):
        for pair in score_candidate(context, each.checkpoint, names, each.scale).compared:
            dice.setdefault(pair.file, []).append(sign * pair.dice)
    ranked = sorted(dice, key=lambda name: -float(np.mean(dice[name])))
    n_better = min(len(ranked), (number + 1) // 2)
    shown = [*ranked[:n_better], *ranked[max(n_better, len(ranked) - number // 2) :]]
    return draw_overlays(context, candidates, shown, folder)


def draw_overlays(
    context: TrialContext, candidates: Mapping[str, Candidate], names: Sequence[str], folder: Path
) -> list[Path]:
    """Writes one PNG per region: the tissue, the truth, and each candidate's masks with their Dice.

    Args:
        context: What the trials of the search share.
        candidates: What to draw, by the name to print above it.
        names: Which regions.
        folder: Where to; made if missing.

    Returns:
        The files, in the order of the names.

    Raises:
        OSError: If a file cannot be written; its old content stays.
    """
    regions = open_regions(context, names)
    # Panels are kept, which are small, and not the masks of all candidates.
    panels: dict[int, list[Image]] = {plan.index: [] for plan in regions.plans}
    for title, each in candidates.items():
        model = load_candidate(context, each.checkpoint, each.scale)
        for plan, masks in predict_masks(model, regions, pick_device()):
            panels[plan.index].append(draw_answer(regions, plan, title, masks))
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for plan in regions.plans:
        files.append(folder / f"{Path(regions.store.names[plan.index]).stem}.png")
        _write_picture(files[-1], draw_region(regions, plan, panels[plan.index]))
    return files


def _write_picture(file: Path, picture: Image) -> None:
    """Writes a PNG as a whole: a report that is written meanwhile never sees half of it."""
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    try:
        write_whole(file, encoded.tobytes())
    except OSError as error:
        raise OSError(f"{file} cannot be written: {error.strerror}") from error


def draw_region(regions: EvaluationSet, plan: RegionPlan, answers: Sequence[Image]) -> Image:
    """Draws one region as a row of titled panels above a legend: the prompts, the truth, and the candidates' answers.

    Pixels that do not count are paled in all but the first.
    """
    store = regions.store
    pointed = _draw_prompts(_draw_tissue(plan, store), plan, store, regions.store.size(plan.index))
    prompts = _title(pointed, store.names[plan.index])
    truth, valid = _find_truth(regions, plan)
    row = [prompts, _title(_outline(_draw_tissue(plan, store, valid), truth, plan.pairs, store), "truth"), *answers]
    return np.vstack([np.hstack(row), _legend(plan.pairs, store, PANEL_PX * len(row))])


def draw_answer(regions: EvaluationSet, plan: RegionPlan, title: str, masks: Sequence[BoolMask]) -> Image:
    """Draws a candidate's masks, one for each pair of the plan, below their mean Dice."""
    truth, valid = _find_truth(regions, plan)
    # Without prompts, classes are planned that the region does not show: they have no Dice here.
    dice = [count_overlap(mask, true, valid).dice for mask, true in zip(masks, truth, strict=True) if true.any()]
    heading = f"{title}: Dice {np.mean(dice):.3f}" if dice else f"{title}: no class to score"
    paled = _draw_tissue(plan, regions.store, valid)
    return _title(_outline(paled, masks, plan.pairs, regions.store), heading)


def _find_truth(regions: EvaluationSet, plan: RegionPlan) -> tuple[list[BoolMask], BoolMask | None]:
    """Returns the true mask of each pair, and which pixels count."""
    actual = regions.store.mask(plan.index)
    truth = [regions.find_class(actual, pair.class_id) for pair in plan.pairs]
    return truth, find_valid(actual, regions.store.ignore_ids)


def _draw_tissue(plan: RegionPlan, store: RegionStore, valid: BoolMask | None = None) -> Image:
    """Returns the region in the size of a panel; pixels that do not count are paled."""
    small = np.ascontiguousarray(store.picture(plan.index))
    tissue: Image = cv2.resize(small, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_CUBIC)
    if valid is not None:
        outside = _enlarge(~valid)
        tissue[outside] = (0.4 * tissue[outside] + 0.6 * 255).astype(np.uint8)
    return tissue


def _draw_prompts(picture: Image, plan: RegionPlan, store: RegionStore, size: tuple[int, int]) -> Image:
    """Draws boxes and positive points (dots) in their class's color, negative points as crosses; in place."""
    height, width = size
    drawn = [(part.tile.window, item) for part in plan.tiles for item in part.objects]
    for window, item in drawn:
        color = _color_of(plan.pairs[item.pair].class_id, store)
        points = item.prompt.points + (window.left, window.top)
        places = np.round(points * (PANEL_PX / width, PANEL_PX / height)).astype(int)
        labels = item.prompt.labels
        for place in places[labels == POSITIVE].tolist():
            cv2.circle(picture, place, 4, color, -1, cv2.LINE_AA)
        for place in places[labels == NEGATIVE].tolist():
            cv2.drawMarker(picture, place, color, cv2.MARKER_TILTED_CROSS, 8, 2)
        corners = places[labels >= BOX_TOP_LEFT].tolist()
        if corners:
            cv2.rectangle(picture, corners[0], corners[1], color, 2)
    return picture


def _enlarge(mask: BoolMask) -> Bool[np.ndarray, "height width"]:
    large: np.ndarray = cv2.resize(mask.astype(np.uint8), (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_NEAREST)
    return large > 0


def _outline(picture: Image, masks: Sequence[BoolMask], pairs: Sequence[PairPlan], store: RegionStore) -> Image:
    """Tints each class a little and draws its outline, in place; returns the picture."""
    for mask, pair in zip(masks, pairs, strict=True):
        if pair.class_id == BACKGROUND_ID:  # stays plain
            continue
        color, large = _color_of(pair.class_id, store), _enlarge(mask)
        picture[large] = (0.75 * picture[large] + 0.25 * np.asarray(color)).astype(np.uint8)
        contours, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, color, 2, cv2.LINE_AA)
    return picture


def _title(picture: Image, text: str) -> UInt8[np.ndarray, "titled width 3"]:
    bar = np.full((BAR_PX, PANEL_PX, 3), 255, np.uint8)
    _write(bar, text[:44], 6)
    framed = np.vstack([bar, picture])
    framed[:, -3:] = 255
    return framed


def _legend(pairs: Sequence[PairPlan], store: RegionStore, width: int) -> Image:
    """Names the classes' colors, in as many rows as they need."""
    bar = np.full((BAR_PX, width, 3), 255, np.uint8)
    bars, x = [bar], 6
    for pair in pairs:
        if pair.class_id == BACKGROUND_ID:
            continue
        name = store.classes[pair.class_id]
        step = 40 + 10 * len(name)
        if x + step > width and x > 6:
            bars.append(np.full_like(bar, 255))
            x = 6
        cv2.rectangle(bars[-1], (x, 7), (x + 14, 21), _color_of(pair.class_id, store), -1)
        _write(bars[-1], name, x + 20)
        x += step
    return np.vstack(bars)


def _write(bar: Image, text: str, x: int) -> None:
    """Writes into a bar, in place."""
    cv2.putText(bar, text, (x, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.48, (30, 30, 30), 1, cv2.LINE_AA)


def _color_of(class_id: int, store: RegionStore) -> tuple[int, int, int]:
    return COLORS[list(store.classes).index(class_id) % len(COLORS)]
