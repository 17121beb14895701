"""The one differentiable, promptable forward pass of SAM2: image encoder -> prompt encoder -> mask decoder.

Training, validation, the zero-shot bar and the export check all go through these two functions. They follow
``SAM2ImagePredictor`` (sam2 1.1.0) step for step, without its ``no_grad`` and with several objects of several
images in one batch.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFeatures(NamedTuple):
    """The image encoder's output for a batch of regions, ready for the mask decoder.

    Attributes:
        embedding: The lowest level, stride 16.
        high_res: The levels at stride 4 and 8, already projected for the mask decoder.
    """

    embedding: Float[Tensor, "regions channels h w"]
    high_res: tuple[Float[Tensor, "regions c0 h0 w0"], Float[Tensor, "regions c1 h1 w1"]]

    def take(self, region_index: Int[Tensor, " objects"]) -> "ImageFeatures":
        """Returns the features of each object's region, channels last in memory, as the mask decoder goes on."""
        levels = (self.embedding, *self.high_res)
        taken = [level.contiguous(memory_format=torch.channels_last)[region_index] for level in levels]
        return ImageFeatures(taken[0], (taken[1], taken[2]))


class MaskOutputs(NamedTuple):
    """The mask decoder's answers for a batch of objects.

    Attributes:
        logits: Mask logits at a quarter of the model's image size, one map for each candidate mask.
        iou: The model's own estimate of each candidate's IoU, in [0, 1].
        objectness: Logit that the prompt shows an object at all.
    """

    logits: Float[Tensor, "objects masks h4 w4"]
    iou: Float[Tensor, "objects masks"]
    objectness: Float[Tensor, "objects 1"]


def normalize_images(images: Float[Tensor, "regions 3 s s"]) -> Float[Tensor, "regions 3 s s"]:
    """Normalizes RGB in [0, 1] by ImageNet's mean and standard deviation, as SAM2 was trained."""
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def encode_images(model: SAM2Base, images: Float[Tensor, "regions 3 s s"]) -> ImageFeatures:
    """Runs the image encoder once a region, of RGB in [0, 1], with or without adapters inside.

    Raises:
        ValueError: If the images are not of the model's image size.
    """
    side = model.image_size
    if images.shape[-2:] != (side, side):
        raise ValueError(f"images must be {side} x {side}, but got {tuple(images.shape[-2:])}")
    backbone_out = model.forward_image(normalize_images(images))
    _, levels, _, sizes = model._prepare_backbone_features(backbone_out)
    maps = [
        level.permute(1, 2, 0).reshape(images.shape[0], -1, height, width)
        for level, (height, width) in zip(levels, sizes, strict=True)
    ]
    embedding = maps[-1]
    if model.directly_add_no_mem_embed:
        # Out of place: the encoder's output is still needed by the backward pass.
        embedding = embedding + model.no_mem_embed.view(1, -1, 1, 1)
    return ImageFeatures(embedding, (maps[0], maps[1]))


def decode_prompts(
    model: SAM2Base,
    features: ImageFeatures,
    region_index: Int[Tensor, " objects"],
    points: Float[Tensor, "objects points 2"],
    labels: Int[Tensor, "objects points"],
) -> MaskOutputs:
    """Segments one object for each prompt by three candidate masks (SAM's answer to ambiguity).

    Objects may belong to different regions of the batch.

    Args:
        model: The model that made the features.
        features: From :func:`encode_images`.
        region_index: For each object, its region in the batch.
        points: x, y in pixels of the model's image size. A box is its two corners, in front.
        labels: 1 positive, 0 negative, 2 and 3 the corners of a box, -1 padding.
    """
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=None)
    embedding, high_res = features.take(region_index)
    logits, iou, _, objectness = model.sam_mask_decoder(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
        repeat_image=False,
        high_res_features=list(high_res),
    )
    return MaskOutputs(logits, iou, objectness)


def select_best_mask(
    logits: Float[Tensor, "objects masks h w"], iou: Float[Tensor, "objects masks"]
) -> Float[Tensor, "objects h w"]:
    """Returns the candidate of each object for which the model predicts the greatest IoU."""
    best = iou.argmax(dim=1)
    return logits[torch.arange(len(best), device=best.device), best]
