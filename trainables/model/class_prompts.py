"""Learned class prompts: tokens that ask SAM2's mask decoder for a class, in place of a box drawn from the truth.

SAM-Path (Zhang et al. 2023, arXiv 2307.09570): a few learned tokens for each class, and for background, go where the
prompt encoder's embeddings of points and boxes would. The decoder answers each with a map of logits, and the class
with the greatest logit names the pixel.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from trainables.errors import CheckpointError
from trainables.files.weight_file import check_finite, load_saved, save_weights
from trainables.model.forward import ImageFeatures

CLASS_PROMPTS_FILE = "class_prompts.safetensors"
_ATTRIBUTE = "class_prompts"
_KEY = "tokens"
# How far tokens differ at first, in standard deviations of the embedding that all of them start from.
_START_NOISE = 0.5


class ClassPrompts(nn.Module):
    """The tokens of all classes, background as the last: a parameter, ``[names, tokens, channels]``."""

    def __init__(self, tokens: Float[Tensor, "names tokens channels"]) -> None:
        super().__init__()
        self.tokens = nn.Parameter(tokens)


class ClassOutputs(NamedTuple):
    """The mask decoder's answers for every class in a batch of regions.

    Attributes:
        logits: At a quarter of the model's image size; the greatest names a pixel.
        objectness: Logit that the region shows the class at all.
    """

    logits: Float[Tensor, "regions names h4 w4"]
    objectness: Float[Tensor, "regions names"]


def start_class_prompts(model: SAM2Base, n_classes: int, n_tokens: int, seed: int) -> ClassPrompts:
    """Returns tokens near the prompt encoder's embedding of a positive point, which the decoder knows.

    There are as many for background as for each class. The seed is that of the noise by which they differ.
    """
    positive = model.sam_prompt_encoder.point_embeddings[1].weight.detach()[0]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_classes + 1, n_tokens, len(positive), generator=generator).to(positive)
    return ClassPrompts(positive + _START_NOISE * positive.std() * noise)


def attach_class_prompts(model: SAM2Base, prompts: ClassPrompts) -> None:
    """Adds the tokens to the model, in place: they move, train and count with it."""
    model.add_module(_ATTRIBUTE, prompts.to(model.device))


def find_class_prompts(model: SAM2Base) -> ClassPrompts | None:
    """Returns the model's tokens, or None where it has none."""
    found = getattr(model, _ATTRIBUTE, None)
    assert found is None or isinstance(found, ClassPrompts)
    return found


def detach_class_prompts(model: SAM2Base) -> ClassPrompts | None:
    """Removes the tokens, so that all weights have stock names; returns them, or None where there are none."""
    found = find_class_prompts(model)
    if found is not None:
        delattr(model, _ATTRIBUTE)
    return found


def decode_classes(model: SAM2Base, features: ImageFeatures) -> ClassOutputs:
    """Segments every class in every region, by the tokens of the model that encoded the images."""
    prompts = find_class_prompts(model)
    assert prompts is not None, "the model has no class prompts"
    n_regions, n_names = len(features.embedding), len(prompts.tokens)
    index = torch.arange(n_regions, device=features.embedding.device).repeat_interleave(n_names)
    _, dense = model.sam_prompt_encoder(points=None, boxes=None, masks=None)
    embedding, high_res = features.take(index)
    # Not the decoder's forward: in evaluation it may answer from other mask tokens than in training.
    logits, _, _, objectness = model.sam_mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=prompts.tokens.repeat(n_regions, 1, 1),
        dense_prompt_embeddings=dense.expand(len(index), -1, -1, -1),
        repeat_image=False,
        high_res_features=list(high_res),
    )
    single = logits[:, 0]
    return ClassOutputs(single.reshape(n_regions, n_names, *single.shape[-2:]), objectness.reshape(n_regions, n_names))


def save_class_prompts(prompts: ClassPrompts, folder: Path) -> None:
    """Writes ``class_prompts.safetensors``."""
    save_weights({_KEY: prompts.tokens.detach().cpu().contiguous()}, folder / CLASS_PROMPTS_FILE)


def load_class_prompts(folder: Path) -> ClassPrompts:
    """Reads ``class_prompts.safetensors``, as 32-bit floats.

    Raises:
        CheckpointError: If the file is missing, or holds no tokens, or any that are not finite.
    """
    path = folder / CLASS_PROMPTS_FILE
    tokens = load_saved(path).get(_KEY)
    if tokens is None or tokens.ndim != 3 or not tokens.numel() or not tokens.is_floating_point():
        found = "nothing" if tokens is None else f"{tokens.dtype} {tuple(tokens.shape)}"
        what = f"holds {found} in place of tokens [classes, tokens, channels]"
        raise CheckpointError.at(path, what, "export the search again")
    tokens = tokens.float()
    check_finite({_KEY: tokens}, path)
    return ClassPrompts(tokens)
