"""Whether nano's masks follow edges: zero-shot Dice, filled box and boundary F-score of several weights, side by side.

python -m benchmarks.nano_edges --weights old.safetensors --weights new.safetensors
    --data ../shared/data/he_nuclei --data ../shared/data/he_tumour --picture docs/nano_edges.jpg

Prints one row a data set and weights: fresh scenes of the pretraining's kind (one box an object), the demo's
validation regions under ``recorded`` boxes, and data sets under ``components``, whole or their validation part. The
picture shows regions with the truth in white and each weights' masks in color.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from jaxtyping import Bool
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from torch.nn import functional as F

from trainables.data.regions import read_regions
from trainables.data.store import RegionStore
from trainables.demo.shapes import draw_scene
from trainables.demo.tissue import write_demo
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.evaluation.evaluator import predict_masks
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import decode_prompts, encode_images, select_best_mask
from trainables.protocol.components import BoolMask, list_components
from trainables.protocol.overlap import count_overlap
from trainables.protocol.spec import PROTOCOLS

TOLERANCE_PX = 2
SCENE_SEED, N_SCENES, OBJECTS = 987_654, 60, 4
Pair = tuple[BoolMask, BoolMask, float]


def measure_boundary(predicted: BoolMask, actual: BoolMask, tolerance_px: int = TOLERANCE_PX) -> float:
    """Returns the F-score of boundary pixels that lie within the tolerance of the other mask's boundary, in [0, 1].

    The definition is that of Csurka et al. 2013 (BMVC); a mask without boundary matches only another one.
    """
    side = 2 * tolerance_px + 1
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    edges = [_find_boundary(mask) for mask in (predicted, actual)]
    if not all(edge.any() for edge in edges):
        return float(edges[0].any() == edges[1].any())
    precision, recall = (
        (edge & cv2.dilate(other.astype(np.uint8), reach).astype(bool)).sum() / edge.sum()
        for edge, other in (edges, edges[::-1])
    )
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _find_boundary(mask: BoolMask) -> Bool[np.ndarray, "h w"]:
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    found: np.ndarray = mask & (inner == 0)
    return found


def load_nano(weights: Path) -> SAM2Base:
    """Returns nano with these weights, in evaluation mode."""
    model = build_architecture(MODELS["nano"])
    model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return model.eval()


@torch.no_grad()
def segment_scenes(model: SAM2Base) -> Iterator[Pair]:
    """Yields each object's mask from its box, the truth, and the filled box's Dice, on fresh scenes."""
    rng, side = np.random.default_rng(SCENE_SEED), model.image_size
    for _ in range(N_SCENES):
        image, labels = draw_scene(rng, side)
        parts = [part for label in np.unique(labels) for part in list_components(labels == label, 20)]
        parts = [parts[index] for index in rng.permutation(len(parts))[:OBJECTS]]
        parts = [part for part in parts if part.cut_out().sum() < 0.7 * labels.size]
        if not parts:
            continue
        corners = torch.tensor([part.box for part in parts], dtype=torch.float32).reshape(-1, 2, 2)
        features = encode_images(model, torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
        where, kinds = torch.zeros(len(parts), dtype=torch.long), torch.tensor([[2, 3]]).expand(len(parts), 2)
        outputs = decode_prompts(model, features, where, corners, kinds)
        best = select_best_mask(outputs.logits, outputs.iou)
        full = F.interpolate(best[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0] > 0
        for part, predicted in zip(parts, full.numpy(), strict=True):
            actual = part.to_mask()
            yield predicted, actual, 2 * actual.sum() / (part.cut_out().size + actual.sum())


def segment_regions(model: SAM2Base, regions: EvaluationSet) -> Iterator[Pair]:
    """Yields each pair's mask, the truth, and the filled boxes' Dice, as the search scores zero-shot."""
    for plan, masks in predict_masks(model, regions, torch.device("cpu")):
        actual = regions.store.mask(plan.index)
        for pair, mask in zip(plan.pairs, masks, strict=True):
            yield mask, regions.find_class(actual, pair.class_id), pair.floor


def open_regions(folder: Path, protocol: str, cache: Path) -> EvaluationSet:
    """Returns the validation regions of a data set; all of one without a split."""
    store = RegionStore.build(read_regions(folder), MODELS["nano"].side_px, cache)
    split = yaml.safe_load((folder / "dataset.yaml").read_text(encoding="utf-8")).get("split", {})
    return EvaluationSet(store, split.get("val", store.names), PROTOCOLS[protocol])


def describe_pairs(pairs: Iterator[Pair]) -> str:
    """Returns mean Dice, filled box and boundary F-score, and how many pairs were scored."""
    dice, floor, edge = [], [], []
    for predicted, actual, filled in pairs:
        dice.append(count_overlap(predicted, actual).dice)
        floor.append(filled)
        edge.append(measure_boundary(predicted, actual))
    return f"{np.mean(dice):9.3f} {np.mean(floor):10.3f} {np.mean(edge):10.3f} {len(dice):6d}"


def draw_regions(models: Sequence[SAM2Base], sets: Sequence[EvaluationSet], columns: int, out: Path) -> None:
    """Writes one column a region: the truth, then each model's masks, drawn as outlines."""
    shown = []
    for regions in sets:
        answers = [
            {plan.index: masks for plan, masks in predict_masks(model, regions, torch.device("cpu"))}
            for model in models
        ]
        for plan in regions.plans[:columns]:
            actual = regions.store.mask(plan.index)
            truth = [regions.find_class(actual, pair.class_id) for pair in plan.pairs]
            image = regions.store.picture(plan.index)
            masks = [truth, *(answer[plan.index] for answer in answers)]
            shown.append(np.vstack([_outline(image, each) for each in masks]))
    cv2.imwrite(str(out), cv2.cvtColor(np.hstack(shown), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


def _outline(image: np.ndarray, masks: Sequence[BoolMask], side: int = 256) -> np.ndarray:
    picture = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    colors = ((255, 220, 0), (0, 220, 255), (60, 255, 60), (255, 120, 255), (255, 140, 60), (120, 160, 255))
    for mask, color in zip(masks, colors, strict=False):
        large = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (0, 0, 0), 3)
        cv2.drawContours(picture, contours, -1, color, 1)
    return cv2.copyMakeBorder(picture, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line, prints the table and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, action="append", required=True, help="a nano.safetensors")
    parser.add_argument("--data", type=Path, action="append", default=[], help="a data set with dataset.yaml")
    parser.add_argument("--picture", type=Path, help="picture to draw, .jpg or .png")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        demo, cache = Path(folder) / "demo", Path(folder) / "stores"
        write_demo(demo)
        sets = {"demo": open_regions(demo, "box", cache)}
        sets |= {path.name: open_regions(path, "components", cache) for path in arguments.data}
        models = {path.stem: load_nano(path) for path in arguments.weights}
        print(f"{'data':12} {'weights':20} {'Dice':>9} {'filled box':>10} {'boundary F':>10} {'pairs':>6}")
        for name, model in models.items():
            print(f"{'scenes':12} {name:20} {describe_pairs(segment_scenes(model))}", flush=True)
            for data, regions in sets.items():
                print(f"{data:12} {name:20} {describe_pairs(segment_regions(model, regions))}", flush=True)
        if arguments.picture:
            draw_regions(list(models.values()), list(sets.values()), 2, arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
