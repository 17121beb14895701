"""The recorded experiments on BCSS, each with the protocol under which its Dice was measured.

Source: the experiment log of the project that segments H&E breast-cancer tissue with SAM2 (BCSS, the 45 test
images of the split `bcss`, Dice as the mean over (image, class) pairs). A figure says nothing without its
protocol: zero-shot SAM2 scores 0.517 with a box, negative points and a cleaned-up mask, and about 0.335 with
a single centroid point on the same images. So two figures are compared only under one protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CLASS_NAMES = ("tumor", "stroma", "lymphocyte", "necrosis", "blood_vessel")


@dataclass(frozen=True)
class RecordedExperiment:
    """One row of the experiment log.

    Attributes:
        name: Its name in the log and of its space under `spaces/recorded/`.
        description: What was done, and what is odd about its figure.
        protocol: How it was scored: `recorded` (box and negative points, mask cleaned up), `centroid` (one
            centroid point), `box-neg+tta` (box and negative points, flips and rotations averaged) or
            `unknown` (the log does not say).
        overall_dice: Mean Dice over (image, class) pairs in [0, 1]; None where the log holds no figure.
        overall_iou: The same for IoU.
        per_class: Dice by class name in [0, 1]; empty where the log gives none.
        parameters: What the log states of its configuration, by the log's own terms.
        split: The images it was scored on.
        dataset: The data set it was scored on.
    """

    name: str
    description: str
    protocol: str = "unknown"
    overall_dice: float | None = None
    overall_iou: float | None = None
    per_class: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, float | str] = field(default_factory=dict)
    split: str = "test"
    dataset: str = "BCSS"

    def compute_gain(self) -> float | None:
        """Returns overall Dice minus zero-shot's under the same protocol, None where either is not known."""
        bar = _ZEROSHOT_DICE_BY_PROTOCOL.get(self.protocol)
        if bar is None or self.overall_dice is None:
            return None
        return round(self.overall_dice - bar, 6)  # the figures have three digits


def _per_class(*dice: float) -> dict[str, float]:
    return dict(zip(CLASS_NAMES, dice, strict=True))


RECORDED_BAR = RecordedExperiment(
    name="zeroshot",
    description="SAM2.1 Hiera-L without training; CLIP names the region",
    protocol="recorded",
    overall_dice=0.517,
    overall_iou=0.374,
    parameters={"model": "large"},
)

# Zero-shot again, under the other protocols that it was measured with: each protocol has its own bar.
RECORDED_BARS: tuple[RecordedExperiment, ...] = (
    RECORDED_BAR,
    RecordedExperiment(
        name="zeroshot-centroid",
        description="SAM2.1 Hiera-L without training, prompted by one centroid point; Dice known to about 0.005",
        protocol="centroid",
        overall_dice=0.335,
        parameters={"model": "large"},
    ),
    RecordedExperiment(
        name="zeroshot-tta",
        description="SAM2.1 Hiera-L without training, by box and negative points; flips and rotations averaged",
        protocol="box-neg+tta",
        overall_dice=0.566,
        parameters={"model": "large"},
    ),
)

_ZEROSHOT_DICE_BY_PROTOCOL = {bar.protocol: bar.overall_dice for bar in RECORDED_BARS}

RECORDED_EXPERIMENTS: tuple[RecordedExperiment, ...] = (
    RECORDED_BAR,
    RecordedExperiment(
        name="v1",
        description="Fine-tune without warm-up; collapsed at epoch 50, where the Dice is from",
        overall_dice=0.07,
        parameters={"lr": 2e-5, "lr_warmup_steps": 0, "epochs": 150, "loss_mask_dice_iou_class": "20:1:1:1"},
    ),
    RecordedExperiment(
        name="v2",
        description="Decoder fine-tune, frozen encoder, cosine schedule; half boxes, half centroids",
        overall_dice=0.42,
        per_class=_per_class(0.54, 0.43, 0.20, 0.45, 0.03),
        parameters={
            "lr": 6e-5,
            "lr_min": 6e-6,
            "lr_warmup_steps": 175,
            "epochs": 100,
            "batch_size": 6,
            "loss_mask_dice_iou_class": "5:2:1:1",
            "weight_decay": 0.01,
            "gradient_clip": 0.1,
            "color_jitter": 0.2,
            "hue_jitter": 0.05,
            "rotation_degrees": 90,
            "n_negative_points": 5,
            "max_objects_per_image": 3,
        },
    ),
    RecordedExperiment(
        name="v3",
        description="As v2 with a higher learning rate, more color jitter, a longer warm-up and fewer epochs",
        overall_dice=0.404,
        parameters={"lr": 8e-5, "lr_warmup_steps": 250, "epochs": 40, "color_jitter": 0.3},
    ),
    RecordedExperiment(
        name="path-sam2",
        description="SAM2's encoder fused with CTransPath by attention or concatenation; focal + Dice",
        overall_dice=0.366,
        per_class=_per_class(0.345, 0.388, 0.330, 0.530, 0.283),
    ),
    RecordedExperiment(
        name="lora-light",
        description="Decoder only, light augmentation",
        protocol="centroid",
        overall_dice=0.355,
        per_class=_per_class(0.320, 0.394, 0.265, 0.498, 0.350),
        parameters={
            "lr": 5e-6,
            "epochs": 30,
            "batch_size": 4,
            "lr_warmup_share": 0.25,
            "color_jitter": 0.1,
            "hue_jitter": 0.02,
        },
    ),
    RecordedExperiment(
        name="box-focal",
        description="Trained with boxes only, class weights, scored at epoch 15",
        protocol="centroid",
        overall_dice=0.372,
        per_class=_per_class(0.386, 0.386, 0.301, 0.478, 0.335),
        parameters={"lr": 3e-5, "epochs": 50, "focal_gamma": 2.0},
    ),
    RecordedExperiment(
        name="lora-r8",
        description="LoRA on the image encoder's attention, output heads trainable",
        parameters={
            "rank": 8,
            "alpha": 8,
            "dropout": 0.1,
            "lr": 1e-4,
            "lr_min": 1e-6,
            "epochs": 20,
            "batch_size": 4,
            "lr_warmup_epochs": 2,
        },
    ),
    RecordedExperiment(name="tta", description="Flips and quarter turns at inference, averaged, without training"),
    RecordedExperiment(name="prompts", description="Box, centroid, several or negative points, without training"),
)
