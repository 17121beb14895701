"""The one evaluator: scores a model on regions under a protocol, with one encoder pass per region and view."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import DataError
from trainables.evaluation.evaluation_set import EvaluationSet, ObjectPlan, RegionPlan, TilePlan
from trainables.evaluation.semantic_masks import name_pixels, segment_classes
from trainables.files.progress import follow
from trainables.model.forward import ImageFeatures, decode_prompts, select_best_mask
from trainables.model.frozen_prefix import FrozenPrefix, encode_reusing
from trainables.protocol.components import BoolMask
from trainables.protocol.overlap import count_overlap
from trainables.protocol.prompts import stack_prompts
from trainables.protocol.scores import PairScore, Scores
from trainables.protocol.spec import clean_mask, find_valid
from trainables.protocol.tta import average_views, restore_maps, transform_maps, transform_pair, transform_prompt
from trainables.tiles.grid import Window

TILES_PER_PASS = 4  # regions or tiles that are encoded at once
# Objects decoded at once; bounds memory if a region has hundreds of components.
MAX_OBJECTS_PER_PASS = 64

# Called with a region, a tile and a logit map of each of its pairs, "pairs h4 w4": above 0 where the mask would be.
OnLogits = Callable[[RegionPlan, TilePlan, Tensor], None]


def evaluate(
    model: SAM2Base,
    regions: EvaluationSet,
    device: torch.device,
    on_logits: OnLogits | None = None,
    prefix: FrozenPrefix | None = None,
) -> Scores:
    """Scores a model on every (region, class) pair; see :func:`predict_masks`."""
    return collect_scores(regions, predict_masks(model, regions, device, on_logits=on_logits, prefix=prefix))


def collect_scores(regions: EvaluationSet, predictions: Iterable[tuple[RegionPlan, list[BoolMask]]]) -> Scores:
    """Counts the overlap of each region's predicted masks, one per planned class, with its classes.

    Raises:
        DataError: If no region shows a class that the protocol prompts: there is nothing to score.
    """
    store, protocol = regions.store, regions.protocol
    scores = []
    for plan, masks in follow(predictions, len(regions.plans), "regions scored"):
        actual = regions.store.mask(plan.index)
        valid = find_valid(actual, store.ignore_ids)
        for pair, mask in zip(plan.pairs, masks, strict=True):
            scores.append(
                PairScore(
                    store.names[plan.index],
                    regions.find_name(pair.class_id),
                    store.patients[plan.index],
                    count_overlap(mask, regions.find_class(actual, pair.class_id), valid),
                    pair.ceiling,
                    pair.floor,
                )
            )
    found = Scores(protocol, tuple(scores))
    if not found.compared:
        what = "no region to score shows a class in components that the protocol prompts"
        raise DataError.at(store.folder, what, "check the classes and the split")
    return found


@torch.no_grad()
def predict_masks(
    model: SAM2Base,
    regions: EvaluationSet,
    device: torch.device,
    regions_per_pass: int = TILES_PER_PASS,
    on_logits: OnLogits | None = None,
    prefix: FrozenPrefix | None = None,
) -> Iterator[tuple[RegionPlan, list[BoolMask]]]:
    """Yields each region's plan and its cleaned masks, one per class, at the scored size.

    ``on_logits`` is called with what the masks were made from, before each region is yielded; ``prefix`` is that of
    the model's frozen blocks.

    The encoder takes so many regions, or tiles, at once, and sees each once under each view of the protocol's test-time
    augmentation. The model, on the device, is in evaluation mode while this runs; its former mode is then restored. It
    has class prompts if the protocol prompts nothing.
    """
    was_training = model.training
    model.eval()
    try:
        answers = _predict_tiles(model, regions, device, regions_per_pass, on_logits, prefix)
        for plan in regions.plans:
            yield plan, regions.join(plan, answers)
    finally:
        model.train(was_training)


def _predict_tiles(
    model: SAM2Base,
    regions: EvaluationSet,
    device: torch.device,
    tiles_per_pass: int,
    on_logits: OnLogits | None,
    prefix: FrozenPrefix | None,
) -> Iterator[list[BoolMask]]:
    """Yields the cleaned masks of each tile of each region, in their order, one for each of the region's pairs."""
    todo = [(plan, part) for plan in regions.plans for part in plan.tiles]
    for start in range(0, len(todo), tiles_per_pass):
        some = todo[start : start + tiles_per_pass]
        seen = [regions.store.image(plan.index, part.tile.window) for plan, part in some]
        images = torch.from_numpy(np.stack(seen)).to(device)
        with autocast(device):
            features = {
                view: encode_reusing(
                    prefix,
                    model,
                    transform_maps(images, view),
                    [_name_view(plan.index, part.tile.window, view) for plan, part in some],
                )
                for view in regions.protocol.tta
            }
        for position, (plan, part) in enumerate(some):
            yield _predict_tile(model, regions, plan, part, features, position, on_logits)


def _name_view(index: int, window: Window, view: str) -> str:
    """Names what a model sees: no other view of a window of a region of the store has the name."""
    return "-".join(map(str, (index, *window, view)))


def autocast(device: torch.device) -> torch.autocast:
    """Returns bfloat16 autocast on CUDA devices that have it, else full precision: emulation is slower and larger."""
    usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=usable)


def _predict_tile(
    model: SAM2Base,
    regions: EvaluationSet,
    plan: RegionPlan,
    part: TilePlan,
    features: Mapping[str, ImageFeatures],
    position: int,
    on_logits: OnLogits | None,
) -> list[BoolMask]:
    window, protocol = part.tile.window, regions.protocol
    # What lies beyond the region is seen and not answered.
    inside = window.clip_size(regions.store.size(plan.index))
    if protocol.is_auto:
        with autocast(features[protocol.tta[0]].embedding.device):
            by_name = segment_classes(model, features, position)
        if on_logits is not None:
            on_logits(plan, part, _contrast(torch.from_numpy(by_name)))
        named = name_pixels(by_name, window.size)[: inside[0], : inside[1]]
        return [named == order for order in range(len(plan.pairs))]
    united = np.zeros((len(plan.pairs), *inside), bool)
    maps: dict[int, Tensor] = {}
    for objects in _group_objects(part.objects):
        logits = select_best_mask(*decode_objects(model, objects, features, position, window.size))
        for item, small in zip(objects, logits, strict=True):
            if on_logits is not None:
                maps[item.pair] = torch.maximum(maps[item.pair], small) if item.pair in maps else small
            # One at a time: at full size the masks of a whole pass could fill a GPU.
            full = F.interpolate(small[None, None], window.size, mode="bilinear", align_corners=False)[0, 0]
            united[item.pair] |= (full[: inside[0], : inside[1]] > protocol.threshold).cpu().numpy()
    if on_logits is not None and maps:
        on_logits(plan, part, torch.stack([maps[pair] for pair in part.pairs]))
    return [clean_mask(mask, protocol) for mask in united]


def _contrast(logits: Float[Tensor, "names h4 w4"]) -> Float[Tensor, "names h4 w4"]:
    """Returns, for each name, the logit of its softmax probability: its own against those of all others together."""
    others = [torch.cat([logits[:name], logits[name + 1 :]]) for name in range(len(logits))]
    return logits - torch.stack([other.logsumexp(0) for other in others])


def _group_objects(objects: Sequence[ObjectPlan]) -> Iterator[list[ObjectPlan]]:
    """Groups objects of equally many points: padding would change what the decoder sees."""
    groups: dict[int, list[ObjectPlan]] = defaultdict(list)
    for item in objects:
        groups[len(item.prompt.labels)].append(item)
    for group in groups.values():
        for start in range(0, len(group), MAX_OBJECTS_PER_PASS):
            yield group[start : start + MAX_OBJECTS_PER_PASS]


def decode_objects(
    model: SAM2Base,
    objects: Sequence[ObjectPlan],
    features: Mapping[str, ImageFeatures],
    position: int,
    size: tuple[int, int],
) -> tuple[Float[Tensor, "objects masks h4 w4"], Float[Tensor, "objects masks"]]:
    """Returns logits and predicted IoU of one region's objects, upright, averaged over the views.

    The decoder's n-th candidate under one view is averaged with its n-th under the others.

    Args:
        model: The model that made the features.
        objects: With prompts of equally many points, in pixels of the scored mask.
        features: View -> features of the regions as seen under it.
        position: Index of the region among those that were encoded together.
        size: Height and width of the scored mask.
    """

    def decode(view: str) -> tuple[Tensor, Tensor]:
        seen = features[view]
        device = seen.embedding.device
        batch = stack_prompts(
            [transform_prompt(item.prompt, size, view) for item in objects],
            [transform_pair(item.scale, view) for item in objects],
        )
        region_index = torch.full((len(objects),), position, device=device)
        with autocast(device):
            outputs = decode_prompts(model, seen, region_index, batch.points.to(device), batch.labels.to(device))
        return restore_maps(outputs.logits.float(), view), outputs.iou.float()

    return average_views(features, decode)
