"""Exports a merged model as a folder that ``Sam2Model`` and ``Sam2Processor`` of the package transformers load."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.evaluation.stock_predictor import PromptedModel
from trainables.model.device import pick_device
from trainables.model.weight_names import name_for_transformers
from trainables.protocol.prompts import BOX_TOP_LEFT, Prompt


def describe_model(model: SAM2Base) -> dict[str, Any]:
    """Returns a model's sizes as the arguments of transformers' ``Sam2Config``."""
    trunk, neck, side = model.image_encoder.trunk, model.image_encoder.neck, model.image_size
    firsts = [0, *(end + 1 for end in trunk.stage_ends[:-1])]
    widths = [int(width) for width in reversed(trunk.channel_list)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": widths[0],
        "num_attention_heads": trunk.blocks[0].attn.num_heads,
        "image_size": [side, side],
        "window_positional_embedding_background_size": list(trunk.window_pos_embed_bkg_spatial_size),
        "num_query_pool_stages": len(trunk.q_pool_blocks),
        "blocks_per_stage": [end + 1 - first for first, end in zip(firsts, trunk.stage_ends, strict=True)],
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [trunk.blocks[end].attn.num_heads for end in trunk.stage_ends],
        "window_size_per_stage": list(trunk.window_spec),
        "global_attention_blocks": list(trunk.global_att_blocks),
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": widths[::-1],
        "backbone_feature_sizes": [[side // stride] * 2 for stride in (4, 8, 16)],
        "fpn_hidden_size": neck.d_model,
        "fpn_top_down_levels": list(neck.fpn_top_down_levels),
    }
    width = model.sam_prompt_encoder.embed_dim
    prompts = {"hidden_size": width, "image_size": side}
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": {"hidden_size": width}}


def write_transformers(model: SAM2Base, folder: Path) -> None:
    """Writes ``config.json``, ``model.safetensors`` and the processor's file into a new folder."""
    import transformers as library  # late: a second

    theirs = library.Sam2Model(library.Sam2Config(**describe_model(model)))
    theirs.load_state_dict(name_for_transformers(model.state_dict()))
    size, mask_size = (dict.fromkeys(("height", "width"), side) for side in (model.image_size, model.image_size // 4))
    processor = library.Sam2Processor(library.Sam2ImageProcessor(size=size, mask_size=mask_size))
    with _quiet():
        theirs.save_pretrained(folder)
        processor.save_pretrained(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Draws no progress bars inside the block, where transformers takes a second or two."""
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if before:
            logging.enable_progress_bar()


def load_transformers(folder: Path) -> PromptedModel[list[Tensor]]:
    """Returns the model of a folder as its users load it: by transformers alone, on this process's device."""
    import transformers as library  # late: a second

    device = pick_device()
    # Files of this machine alone: nothing is asked of the hub.
    with _quiet():
        model = library.Sam2Model.from_pretrained(folder, local_files_only=True).to(device).eval()
    processor = library.Sam2Processor.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def encode(image: UInt8[np.ndarray, "h w 3"]) -> list[Tensor]:
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        return list(model.get_image_embeddings(pixels.to(device)))

    @torch.inference_mode()
    def decode(features: list[Tensor], prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        inputs = processor(**_compose_inputs(prompt), original_sizes=[list(size)], return_tensors="pt")
        del inputs["original_sizes"]
        found = model(**inputs.to(device), image_embeddings=features, multimask_output=True)
        (masks,) = processor.post_process_masks(found.pred_masks.cpu(), [list(size)], binarize=False)
        return masks[0], found.iou_scores[0, 0].cpu()

    return PromptedModel(encode, decode)


def _compose_inputs(prompt: Prompt) -> Mapping[str, Any]:
    """Returns a prompt as the processor takes it: a box and points by themselves, of one object in one image."""
    n_corners = 2 if prompt.labels[0] == BOX_TOP_LEFT else 0
    inputs: dict[str, Any] = {}
    if n_corners:
        inputs["input_boxes"] = [[prompt.points[:2].reshape(4).tolist()]]
    if len(prompt.points) > n_corners:
        inputs["input_points"] = [[prompt.points[n_corners:].tolist()]]
        inputs["input_labels"] = [[prompt.labels[n_corners:].tolist()]]
    return inputs
