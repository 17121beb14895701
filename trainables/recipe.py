"""A recipe: every number and choice that one fine-tune is made of, and that a search may vary.

A space file names these fields as ``section.field`` (``adapter.rank``, ``optim.lr``). Each field states its
own limits, so that a space is refused before it costs anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from trainables.errors import Finding, InputError, suggest_name

Scalar = bool | int | float | str
# Kinds of adapters whose update PEFT multiplies by a scale. PiSSA's holds a part of the stock weights as well.
DROPPABLE_KINDS = ("lora", "rslora", "dora", "loha", "lokr")


class RecipeError(InputError):
    """Values that no recipe can have."""


@dataclass(frozen=True)
class FieldRule:
    """What one field may hold.

    Attributes:
        kind: ``bool``, ``int``, ``float`` or ``str``.
        help: One line for ``--help`` and the documentation.
        low: Least value, inclusive; None where there is none.
        high: Greatest value, inclusive; None where there is none.
        choices: The words that a string may be.
    """

    kind: type
    help: str
    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[str, ...] = ()

    def find_fault(self, value: object) -> str | None:
        """Returns the rule that the value breaks, in words, or None."""
        accepted = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            return f"must be {self.kind.__name__}, but got {value!r} ({type(value).__name__})"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, but got {value!r}"
        if isinstance(value, (int, float)) and self.kind is not bool:
            if value != value or value in (float("inf"), float("-inf")):
                return f"must be finite, but got {value!r}"
            if self.low is not None and value < self.low:
                return f"must be at least {self.low:g}, but got {value!r}"
            if self.high is not None and value > self.high:
                return f"must be at most {self.high:g}, but got {value!r}"
        return None


def _rule(
    default: Scalar, help: str, limits: tuple[float | None, float | None] = (None, None), choices: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"rule": FieldRule(type(default), help, *limits, choices)})


@dataclass(frozen=True)
class AdapterRecipe:
    """What is trained: adapters of one kind in chosen layers, and parts of the model in full.

    LoRA: Hu et al. 2021 (arXiv 2106.09685); rsLoRA: 2312.03732; DoRA: 2402.09353; PiSSA: 2404.02948; LoHa: FedPara,
    2108.06098; LoKr: LyCORIS, 2309.14859; bottleneck: Medical SAM Adapter, 2304.12620.
    """

    kind: str = _rule(
        "lora",
        "kind of adapter; none: nothing but the parts that are trained in full; "
        "bottleneck: small MLPs after attentions and beside MLPs, which no stock checkpoint can hold",
        choices=("none", "lora", "rslora", "dora", "pissa", "loha", "lokr", "bottleneck"),
    )
    rank: int = _rule(8, "rank of the update's factors; bottleneck: its width; no effect on none", (1, 256))
    alpha: float = _rule(
        8.0,
        "scale: the update is multiplied by alpha / rank; rslora: by alpha / sqrt(rank); "
        "no effect on none and bottleneck",
        (0.01, 1024),
    )
    dropout: float = _rule(
        0.0, "dropout in front of the update; loha, lokr: of whole rows of it; no effect on none", (0.0, 0.9)
    )
    targets: str = _rule(
        "both",
        "where adapters sit: in the image encoder, in the mask decoder's attention, or both; no effect on none",
        choices=("image_encoder", "mask_decoder", "both"),
    )
    layers: str = _rule(
        "attention",
        "Linear layers of the image encoder's blocks that get an update: qkv or proj of the attention, both "
        "(attention), the MLP, or all; no effect on none, bottleneck and in the mask decoder",
        choices=("qkv", "proj", "attention", "mlp", "all"),
    )
    stages: str = _rule(
        "all",
        "stages of the image encoder that get adapters: early (1 and 2, strides 4 and 8), late (3 and 4) or all; "
        "no effect on none",
        choices=("early", "late", "all"),
    )
    last_blocks: int = _rule(
        0, "only the last n blocks of those stages get adapters; 0 for all; no effect on none", (0, 48)
    )
    train_heads: bool = _rule(True, "whether the mask decoder's output heads are trained in full")
    train_decoder: bool = _rule(
        False, "whether the whole mask decoder is trained in full, heads included, in place of adapters inside it"
    )
    train_encoder: bool = _rule(
        False,
        "whether the whole image encoder is trained in full, in place of adapters inside it; "
        "takes the memory of a second image encoder",
    )


@dataclass(frozen=True)
class OptimRecipe:
    """AdamW, linear warm-up by steps, a schedule, an average of the weights.

    Layer-wise decay: BEiT, Bao et al. 2022 (arXiv 2106.08254); warm-up-stable-decay: MiniCPM, Hu et al. 2024
    (arXiv 2404.06395), Haegele et al. 2024 (arXiv 2405.18392); average: Polyak and Juditsky 1992.
    """

    lr: float = _rule(1e-3, "peak learning rate", (1e-8, 1.0))
    update_lr: float = _rule(
        0.0,
        "peak rate at which the adapters' updates grow: their learning rate is this over their scale (alpha / rank; "
        "rslora: alpha / sqrt(rank)), and optim.lr is that of all else; 0: optim.lr for all; no effect on none and "
        "bottleneck",
        (0.0, 1.0),
    )
    schedule: str = _rule(
        "cosine",
        "learning rate after the warm-up: cosine falls all the time; wsd (warm-up, stable, decay) stays at the peak "
        "and falls at the end; constant stays",
        choices=("cosine", "wsd", "constant"),
    )
    lr_end_fraction: float = _rule(
        0.1, "learning rate at the end, as a fraction of the peak; no effect on constant", (0.0, 1.0)
    )
    decay_fraction: float = _rule(0.2, "wsd: share of all steps in which the learning rate falls", (0.0, 1.0))
    warmup_fraction: float = _rule(
        0.1, "share of all steps that warm up; no effect with warmup_steps or warmup_epochs", (0.0, 0.9)
    )
    warmup_steps: int = _rule(0, "steps that warm up, however many follow; 0 for warmup_fraction", (0, 1_000_000))
    warmup_epochs: float = _rule(0.0, "epochs that warm up; 0 for warmup_fraction", (0.0, 1000.0))
    layer_decay: float = _rule(
        1.0,
        "the learning rate of the image encoder's blocks shrinks by this factor a block, from the last to the first; "
        "1 switches it off",
        (0.01, 1.0),
    )
    weight_decay: float = _rule(0.01, "AdamW's decoupled weight decay", (0.0, 10.0))
    grad_clip: float = _rule(1.0, "greatest norm of the gradient; 0 switches clipping off", (0.0, 1e6))
    batch_size: int = _rule(4, "regions a step", (1, 1024))
    ema_decay: float = _rule(
        0.0,
        "decay a step of a running average of everything that is trained; with it the average is validated, saved and "
        "exported; 0 switches it off",
        (0.0, 0.99999),
    )


@dataclass(frozen=True)
class LossRecipe:
    """Weights of SAM2's loss parts, and how rare classes are weighted up."""

    focal: float = _rule(20.0, "weight of the focal loss", (0.0, 1e4))
    dice: float = _rule(1.0, "weight of the Dice loss", (0.0, 1e4))
    iou: float = _rule(1.0, "weight of the predicted IoU's L1 error", (0.0, 1e4))
    objectness: float = _rule(1.0, "weight of the object score's cross-entropy", (0.0, 1e4))
    focal_gamma: float = _rule(2.0, "focal loss: how far well-classified pixels are played down", (0.0, 10.0))
    class_weight_strength: float = _rule(
        0.0, "0 weighs all objects alike, 1 by the inverse of their class's pixel frequency", (0.0, 1.0)
    )


@dataclass(frozen=True)
class RegulariseRecipe:
    """Terms against forgetting what zero-shot SAM2 can do; all off by default."""

    distill: float = _rule(
        0.0,
        "weight of the cross-entropy to the zero-shot model's masks; it costs a second image encoding a step",
        (0.0, 1e4),
    )
    l2_start: float = _rule(
        0.0, "weight of half the squared distance of all trained parameters to their start", (0.0, 1e4)
    )
    drop: float = _rule(
        0.0,
        "in each training step the adapters' update counts by a random factor between 1 - drop and 1; "
        "for kinds lora, rslora, dora (its direction), loha and lokr",
        (0.0, 1.0),
    )


@dataclass(frozen=True)
class SamplingRecipe:
    """Which windows of the training regions an epoch shows; no effect without tiles."""

    windows: int = _rule(
        0,
        "windows an epoch; 0: as many tiles as the training regions' area holds; no effect without tiles",
        (0, 10_000_000),
    )
    scale_jitter: float = _rule(
        0.0,
        "windows are up to this share larger or smaller than the tiles that are scored; no effect without tiles",
        (0.0, 1.0),
    )
    kind: str = _rule(
        "uniform",
        "uniform: anywhere; balanced: some around a pixel of a class, each class with equal chance; no effect without "
        "tiles",
        choices=("uniform", "balanced"),
    )
    strength: float = _rule(
        0.33, "balanced: share of the windows that are drawn around a class; no effect on uniform", (0.0, 1.0)
    )


@dataclass(frozen=True)
class AugmentRecipe:
    """What is done to training regions."""

    kind: str = _rule(
        "flips",
        "none; flips and quarter turns; flips with color jitter, H&E stain jitter, elastic warps, or all",
        choices=("none", "flips", "color", "stain", "elastic", "all"),
    )
    strength: float = _rule(0.2, "strength of color, stain and elastic changes", (0.0, 1.0))
    hue: float = _rule(
        -1.0,
        "how far color jitter turns the hue at most, as a fraction of the circle; below 0: a quarter of strength",
        (-1.0, 0.5),
    )
    rotation_degrees: float = _rule(
        0.0,
        "regions are also turned by any angle up to this, either way, mirrored beyond their border; no effect on none",
        (0.0, 180.0),
    )
    quarter_turns: bool = _rule(
        True, "whether quarter turns join the flips: without them the tissue's axes stay; no effect on none"
    )


@dataclass(frozen=True)
class PromptRecipe:
    """What training prompts look like. The evaluation's belong to the protocol and are never searched."""

    mix: str = _rule(
        "protocol",
        "the protocol's own prompt; or one kind; or mixed: an equal share of each kind, anew for each object; "
        "or half: a box or the centroid, one as likely as the other, with five negative points",
        choices=("protocol", "box", "box-neg", "centroid", "points", "mixed", "half"),
    )
    box_jitter: float = _rule(0.0, "sides of a box move by up to this fraction of its size", (0.0, 0.5))
    max_objects: int = _rule(5, "objects prompted in one region and step", (1, 64))


@dataclass(frozen=True)
class ClassPromptRecipe:
    """Learned class prompts in place of drawn ones: SAM-Path, Zhang et al. 2023 (arXiv 2307.09570)."""

    tokens: int = _rule(
        0,
        "learned tokens that ask for a class in place of a drawn prompt, for protocol auto; 0 switches them off; "
        "with them every class is asked for in every region, the prompts section and loss.iou have no effect, and the "
        "focal loss is taken over classes",
        (0, 8),
    )


@dataclass(frozen=True)
class FusionRecipe:
    """A second, pathology encoder beside SAM2's own, behind a gate that starts at zero.

    Its weights are no part of a recipe: where they lie is the machine's affair, and the command line says it.
    """

    kind: str = _rule(
        "none",
        "how a pathology encoder's features join SAM2's embedding: concat (resampled, beside it, by a 1 x 1 "
        "convolution) or attention (from each place of SAM2's map to all of the encoder's); no stock checkpoint can "
        "hold either",
        choices=("none", "concat", "attention"),
    )
    encoder: str = _rule("ctranspath", "ctranspath, uni, or the name of any timm model; no effect on kind none")
    train_encoder: bool = _rule(
        False, "whether the pathology encoder is trained too; else it is frozen; no effect on kind none"
    )
    gate: str = _rule(
        "channel",
        "the gate: one number for each channel, or a single scalar; no effect on kind none",
        choices=("channel", "scalar"),
    )


@dataclass(frozen=True)
class Recipe:
    """One whole fine-tune."""

    adapter: AdapterRecipe = AdapterRecipe()
    optim: OptimRecipe = OptimRecipe()
    loss: LossRecipe = LossRecipe()
    regularise: RegulariseRecipe = RegulariseRecipe()
    sampling: SamplingRecipe = SamplingRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    prompts: PromptRecipe = PromptRecipe()
    class_prompts: ClassPromptRecipe = ClassPromptRecipe()
    fusion: FusionRecipe = FusionRecipe()

    @staticmethod
    def from_flat(values: Mapping[str, Scalar]) -> Recipe:
        """Builds a recipe from ``{"adapter.rank": 8, ...}``; what is not named keeps its default.

        Raises:
            RecipeError: With every unknown name and every value out of its limits; or, where each is right by
                itself, with those that contradict each other.
        """
        findings = [finding for name, value in values.items() if (finding := check_value(name, value))]
        if findings:
            raise RecipeError(findings)
        sections: dict[str, dict[str, Scalar]] = {}
        for name, value in values.items():
            section, key = name.split(".")
            kind = list_rules()[name].kind
            sections.setdefault(section, {})[key] = float(value) if kind is float else value
        recipe = Recipe()
        changed = {section: dataclasses.replace(getattr(recipe, section), **keys) for section, keys in sections.items()}
        recipe = dataclasses.replace(recipe, **changed)
        if conflicts := find_conflicts(recipe):
            raise RecipeError(conflicts)
        return recipe

    def to_flat(self) -> dict[str, Scalar]:
        """Returns every field as ``section.field``."""
        return {
            f"{section}.{key}": value
            for section, keys in dataclasses.asdict(self).items()
            for key, value in keys.items()
        }


@cache
def list_rules() -> Mapping[str, FieldRule]:
    """Returns the rule of every field by its ``section.field`` name."""
    sections = get_type_hints(Recipe)
    return {
        f"{section}.{item.name}": item.metadata["rule"]
        for section, kind in sections.items()
        for item in dataclasses.fields(kind)
    }


def check_value(name: str, value: object, rules: Mapping[str, FieldRule] | None = None) -> Finding | None:
    """Returns what is wrong with one value of a recipe, or of what other rules describe; None if nothing is."""
    rules = rules or list_rules()
    if name not in rules:
        return Finding(name, f"unknown recipe field {name!r}", suggest_name(name, rules))
    fault = rules[name].find_fault(value)
    return Finding(name, f"{name} {fault}", rules[name].help) if fault else None


def find_conflicts(recipe: Recipe) -> list[Finding]:
    """Returns which values of a recipe contradict each other; each is right by itself."""
    found, optim = [], recipe.optim
    warmups = {
        # The default does not count: it is what the others take the place of.
        "optim.warmup_fraction": 0.0 if optim.warmup_fraction == OptimRecipe.warmup_fraction else optim.warmup_fraction,
        "optim.warmup_steps": optim.warmup_steps,
        "optim.warmup_epochs": optim.warmup_epochs,
    }
    given = [f"{name} ({value:g})" for name, value in warmups.items() if value]
    if len(given) > 1:
        what = f"the warm-up is given {len(given)} times: {', '.join(given)}"
        found.append(Finding("optim", what, "keep one of them, and leave out the others or set them to 0"))
    adapter, kind = recipe.adapter, recipe.adapter.kind
    in_full = adapter.train_heads or adapter.train_decoder or adapter.train_encoder
    if kind == "none" and not in_full and recipe.fusion.kind == "none" and not recipe.class_prompts.tokens:
        what = "nothing is trained: no adapter, no part of the model, no fusion and no class prompts"
        fix = "set adapter.kind or one of adapter.train_heads, adapter.train_decoder and adapter.train_encoder"
        found.append(Finding("adapter", what, fix))
    if recipe.regularise.drop and kind not in DROPPABLE_KINDS:
        drop = f"regularise.drop ({recipe.regularise.drop:g})"
        what = f"{drop} needs an update that can be scaled, but adapter.kind is {kind}"
        fix = f"set regularise.drop to 0, or adapter.kind to one of {', '.join(DROPPABLE_KINDS)}"
        found.append(Finding("regularise.drop", what, fix))
    if recipe.regularise.distill and recipe.class_prompts.tokens:
        distill = f"regularise.distill ({recipe.regularise.distill:g})"
        what = f"{distill} needs zero-shot masks, and with class_prompts.tokens there are none"
        found.append(Finding("regularise.distill", what, "set regularise.distill or class_prompts.tokens to 0"))
    return found
