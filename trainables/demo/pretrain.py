"""Pretrains nano on generic shapes and textures: ``python -m trainables.demo.pretrain --out FILE``.

Small images come first, where a step is cheap and the mask decoder learns what a prompt means, then nano's own
size. An auxiliary loss makes features alike inside an object and different around it; without it the mask decoder
waits a thousand steps for features worth attending to.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from trainables.demo.shapes import draw_scene
from trainables.files.whole_file import write_whole
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import decode_prompts, encode_images, select_best_mask
from trainables.protocol.components import BoolMask, Component, list_components
from trainables.protocol.prompts import PromptSpec, draw_prompt, find_negative_room
from trainables.recipe import LossRecipe
from trainables.training.batches import Batch, Sample, collate_samples, shrink_mask
from trainables.training.losses import compute_loss, dice_loss
from trainables.training.optim import set_lr

SPECS = (
    PromptSpec(box=True, box_jitter=0.05),
    PromptSpec(box=True, n_negative=5, negative_margin_px=4.0),
    PromptSpec(box=True, n_positive=1, n_negative=2, negative_margin_px=2.0, box_jitter=0.03),
    PromptSpec(n_positive=3, n_negative=2, negative_margin_px=2.0),
    PromptSpec(n_positive=1),
)
# Objects of fewer pixels are not prompted: at a quarter of the side little more than one pixel is left of them.
MIN_AREA_PX = 20
# Objects that fill more of their box than this are compact, if the box is large enough to have an inside.
COMPACT_FILL = 0.45
LARGE_BOX_PX = 900
SPEC_SHARES = (0.3, 0.4, 0.15, 0.1, 0.05)
WEIGHTS = LossRecipe(focal=4.0, dice=1.0, iou=1.5, objectness=0.05, focal_gamma=0.0)
# Weight of a Dice loss over all candidate masks, not the best alone: without it, candidates that are not trained on
# an object drift so far that an error of the IoU head costs 0.2 of Dice.
ALL_MASKS_WEIGHT = 0.3
# Weight of the cross-entropy in the band around an object's border alone. Few pixels lie there: without it, masks stay
# on the grid of the lowest features, 16 px wide, and the finer levels are hardly used.
EDGE_WEIGHT = 0.7


@dataclass(frozen=True)
class Stage:
    """One stage of pretraining.

    Attributes:
        side: Side of the scenes, in pixels.
        minutes: How long it lasts.
        regions: Scenes a batch.
        objects: Objects a scene, at most.
        lr: Peak learning rate.
        decay_share: Share of the stage, at its end, over which the learning rate falls linearly.
        compact_share: Share of compact objects that is kept: with 1 the filled box is nearly an answer, with less
            the model has to look at the texture inside.
    """

    side: int
    minutes: float
    regions: int
    objects: int
    lr: float
    decay_share: float
    compact_share: float

    @staticmethod
    def parse(text: str) -> Stage:
        """Reads the attributes in their order, separated by colons."""
        side, minutes, regions, objects, *rates = text.split(":")
        return Stage(int(side), float(minutes), int(regions), int(objects), *map(float, rates))


class SceneBatches(IterableDataset[Batch]):
    """An endless stream of batches of random scenes, whose objects are all of one class."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.seed = stage, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, self.stage.side, worker.id if worker else 0))
        while True:
            batch = collate_samples([self._draw_sample(rng) for _ in range(self.stage.regions)])
            assert batch is not None, "each scene has an object"
            yield batch

    def _draw_sample(self, rng: np.random.Generator) -> Sample:
        drawn: list[tuple[Component, BoolMask]] = []
        while not drawn:
            image, labels = draw_scene(rng, self.stage.side)
            drawn = self._draw_objects(rng, labels)
        prompts, targets = [], []
        for component, class_mask in drawn:
            spec = SPECS[rng.choice(len(SPECS), p=SPEC_SHARES)]
            prompts.append(draw_prompt(component, find_negative_room(class_mask, spec), spec, rng))
            targets.append(shrink_mask(component.to_mask()))
        return Sample(
            torch.from_numpy(image), tuple(prompts), tuple(targets), torch.ones_like(targets[0]), (0,) * len(drawn)
        )

    def _draw_objects(self, rng: np.random.Generator, labels: np.ndarray) -> list[tuple[Component, BoolMask]]:
        """Returns up to ``objects`` components of one scene's areas, each with its whole area."""
        found = []
        for label in np.unique(labels):
            class_mask = labels == label
            components = list_components(class_mask, MIN_AREA_PX)
            # Large ones more often: scraps of an area outnumber it, and say little of its texture.
            order = rng.gumbel(size=len(components)) + [np.log(one.cut_out().sum()) / 2 for one in components]
            for position in np.argsort(-order)[: self.stage.objects]:
                component = components[position]
                pixels = component.cut_out()
                if pixels.sum() > 0.7 * class_mask.size:
                    continue
                is_compact = pixels.size > LARGE_BOX_PX and pixels.sum() > COMPACT_FILL * pixels.size
                if not is_compact or rng.random() < self.stage.compact_share:
                    found.append((component, class_mask))
        return [found[position] for position in rng.permutation(len(found))[: self.stage.objects]]


def group_pixels_loss(maps: list[Tensor], batch: Batch) -> Tensor:
    """Returns a loss that is least where pixels resemble the mean feature of their own object alone."""
    size = batch.targets.shape[-2:]
    feature = sum(F.interpolate(level, size, mode="bilinear") for level in maps)
    assert isinstance(feature, Tensor)
    feature = F.normalize(feature, dim=1)[batch.region_index]
    mask = batch.targets[:, None]
    prototype = F.normalize((feature * mask).sum((2, 3)) / mask.sum((2, 3)).clamp_min(1e-3), dim=1)
    similarity = torch.einsum("ochw,oc->ohw", feature, prototype)
    logits = 10 * (similarity - 0.6)
    entropy = F.binary_cross_entropy_with_logits(logits, batch.targets, reduction="none").mean((1, 2))
    return (entropy + dice_loss(logits, batch.targets)).mean()


def edge_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy of each object's best candidate, averaged over the band around its border.

    Args:
        logits: [objects, candidates, h, w].
        targets: [objects, h, w], in [0, 1]; the band is one pixel to either side of where they change.
    """
    padded = F.pad(targets[:, None], (1, 1, 1, 1), mode="replicate")
    band = (F.max_pool2d(padded, 3, 1) + F.max_pool2d(-padded, 3, 1))[:, 0] > 0.05
    repeated = targets[:, None].expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, repeated, reduction="none") * band[:, None]
    by_candidate = entropy.sum((2, 3)) / band.sum((1, 2)).clamp_min(1)[:, None]
    best = dice_loss(logits.detach(), repeated).argmin(1, keepdim=True)
    return by_candidate.gather(1, best).mean()


def make_optimizer(model: SAM2Base, lr: float) -> torch.optim.Optimizer:
    """Returns AdamW over all that serves single images; what serves videos alone is frozen."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(("memory", "obj_ptr", "mask_downsample")))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=lr, weight_decay=0.01, betas=(0.9, 0.98), foreach=True)


def train_step(model: SAM2Base, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Takes one step; returns the loss parts."""
    captured: dict[str, list[Tensor]] = {}
    hook = model.image_encoder.register_forward_hook(
        lambda module, args, out: captured.update(maps=list(out["backbone_fpn"]))
    )
    features = encode_images(model, batch.scale_images())
    outputs = decode_prompts(model, features, batch.region_index, batch.points, batch.labels)
    hook.remove()
    loss = compute_loss(outputs, batch.targets, torch.ones(len(batch.targets)), WEIGHTS, focal_alpha=0.5)
    maps = [level.float() for level in captured["maps"]]
    # The finest level by itself, too: in the sum the lowest could do it all.
    grouping = (group_pixels_loss(maps, batch) + group_pixels_loss(maps[:1], batch)) / 2
    edges = edge_loss(outputs.logits, batch.targets)
    all_masks = dice_loss(outputs.logits, batch.targets[:, None].expand_as(outputs.logits)).mean()
    torch.autograd.backward(loss["total"] + ALL_MASKS_WEIGHT * all_masks + EDGE_WEIGHT * edges + 0.5 * grouping)
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    parts = {
        "focal": loss["focal"],
        "dice": loss["dice"],
        "all": all_masks,
        "edges": edges,
        "iou": loss["iou"],
        "grouping": grouping,
    }
    return {name: float(value.detach()) for name, value in parts.items()}


@torch.no_grad()
def score_scenes(model: SAM2Base, batches: list[Batch]) -> tuple[float, float]:
    """Returns the mean Dice of the model's masks and of the targets' filled boxes."""
    model.eval()
    dice: list[float] = []
    floor: list[float] = []
    for batch in batches:
        features = encode_images(model, batch.scale_images())
        outputs = decode_prompts(model, features, batch.region_index, batch.points, batch.labels)
        predicted = select_best_mask(outputs.logits, outputs.iou) > 0
        actual = batch.targets > 0.5
        box = actual.any(1)[:, None, :] & actual.any(2)[:, :, None]
        for mask, scores in ((predicted, dice), (box, floor)):
            overlap = 2 * (mask & actual).sum((1, 2)) / (mask.sum((1, 2)) + actual.sum((1, 2))).clamp_min(1)
            scores += overlap.tolist()
    model.train()
    return float(np.mean(dice)), float(np.mean(floor))


def run_stage(model: SAM2Base, stage: Stage, seed: int, out: Path) -> None:
    """Trains for the stage's minutes; every hundred steps writes weights and scores on scenes of another seed."""
    data, optimizer = SceneBatches(stage, seed), make_optimizer(model, stage.lr)
    fresh = list(itertools.islice(SceneBatches(stage, seed + 1_000_003), 6))
    loader = DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4)
    start, smooth = time.monotonic(), dict[str, float]()
    for step, batch in enumerate(loader):
        elapsed = (time.monotonic() - start) / 60
        progress = elapsed / stage.minutes
        if progress >= 1:
            break
        factor = min(1.0, (step + 1) / 100) * min(1.0, max(0.02, (1 - progress) / stage.decay_share))
        set_lr(optimizer, stage.lr * factor)
        for name, value in train_step(model, batch, optimizer).items():
            smooth[name] = value if name not in smooth else 0.98 * smooth[name] + 0.02 * value
        if step % 100 == 0:
            dice, floor = score_scenes(model, fresh)
            parts = " ".join(f"{name} {value:.3f}" for name, value in smooth.items())
            print(
                f"{stage.side} px {elapsed:6.1f} of {stage.minutes:g} min step {step:5d} {parts} dice {dice:.3f} "
                f"box {floor:.3f}",
                flush=True,
            )
            save_weights(model, out)
    save_weights(model, out)


def save_weights(model: SAM2Base, path: Path) -> None:
    """Writes all weights in half precision, atomically."""
    state = {name: value.to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    write_whole(path, save(state, metadata={"made_by": "trainables.demo.pretrain"}))


def pretrain(stages: Sequence[Stage], seed: int, start_from: Path | None, out: Path) -> None:
    """Runs the stages, each from the weights of the one before, and writes the weights."""
    torch.manual_seed(seed)
    weights = load_file(start_from) if start_from else None
    for number, stage in enumerate(stages):
        model = build_architecture(MODELS["nano"], image_size=stage.side).train()
        if weights:
            model.load_state_dict({name: value.float() for name, value in weights.items()})
        print(json.dumps({"stage": number, **vars(stage)}), flush=True)
        run_stage(model, stage, seed + 17 * number, out)
        weights = {name: value.clone() for name, value in model.state_dict().items()}


def parse_stages(text: str) -> list[Stage]:
    """Reads stages that are separated by commas."""
    return [Stage.parse(each) for each in text.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and pretrains; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--start-from", type=Path, help="weights to start from, also those of a run that stopped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stages",
        type=parse_stages,
        default="128:15:12:3:0.003:0.1:1,256:30:8:3:0.002:0.6:0.2,256:38:8:3:0.0015:0.8:0.2,256:24:8:3:0.001:0.9:0.2,"
        "128:22:16:4:0.0015:0.1:0.5,256:9:8:5:0.0012:1:0.4,256:38:6:4:0.0012:0.7:0.3,256:24:6:4:0.0008:0.95:0.2",
        help="comma-separated side:minutes:regions:objects:lr:decay_share:compact_share (see Stage)",
    )
    arguments = parser.parse_args(argv)
    pretrain(arguments.stages, arguments.seed, arguments.start_from, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
