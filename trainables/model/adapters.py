"""Puts LoRA adapters into a SAM2 model through PEFT, takes them off, merges them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from trainables.recipe import AdapterRecipe


def list_attention_layers(model: SAM2Base, targets: str) -> list[str]:
    """Names every attention projection that an adapter can sit on.

    Full names, never suffixes: Hiera's ``attn.proj`` and a block's own ``proj`` end alike.

    Args:
        model: The bare model.
        targets: ``image_encoder`` (fused qkv and output projection of each Hiera block), ``mask_decoder`` (q,
            k, v and output projections of its two-way transformer) or ``both``.
    """
    encoder = [
        f"image_encoder.trunk.blocks.{index}.attn.{layer}"
        for index in range(len(model.image_encoder.trunk.blocks))
        for layer in ("qkv", "proj")
    ]
    prefix = "sam_mask_decoder.transformer."
    decoder = [
        name
        for name, module in model.named_modules()
        if name.startswith(prefix)
        and isinstance(module, nn.Linear)
        and name.rsplit(".", 1)[-1] in ("q_proj", "k_proj", "v_proj", "out_proj")
    ]
    return {"image_encoder": encoder, "mask_decoder": decoder, "both": encoder + decoder}[targets]


def list_output_heads(model: SAM2Base) -> list[str]:
    """Names the mask decoder's output heads: hypernetwork MLPs, IoU head, object-score head."""
    decoder = "sam_mask_decoder"
    count = len(model.sam_mask_decoder.output_hypernetworks_mlps)
    heads = [f"{decoder}.output_hypernetworks_mlps.{index}" for index in range(count)]
    return [*heads, f"{decoder}.iou_prediction_head", f"{decoder}.pred_obj_score_head"]


def attach_adapters(model: SAM2Base, recipe: AdapterRecipe, seed: int) -> PeftModel:
    """Wraps the model's attention in LoRA; all else is frozen, but for the heads where the recipe says so.

    At first the adapted model equals the base exactly, as each update's second factor is zero.

    Args:
        model: The bare model; it is changed in place.
        recipe: Rank, alpha, dropout, targets, heads.
        seed: Of the updates' random first factors; PyTorch's global generator is left as it was.
    """
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]  # PEFT only ever divides it by the rank
        lora_dropout=recipe.dropout,
        target_modules=list_attention_layers(model, recipe.targets),
        modules_to_save=list_output_heads(model) if recipe.train_heads else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
        adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    return adapted


def get_base(adapted: PeftModel) -> SAM2Base:
    """Returns the SAM2 model inside, adapters and all: what the forward pass takes."""
    base = adapted.get_base_model()
    assert isinstance(base, SAM2Base)
    return base


@contextmanager
def adapters_off(adapted: PeftModel) -> Iterator[SAM2Base]:
    """While this lasts the model is the zero-shot one again, trained heads included."""
    with adapted.disable_adapter():
        yield get_base(adapted)


def merge_adapters(adapted: PeftModel) -> SAM2Base:
    """Adds the updates to the weights; returns a stock model with stock keys. The adapted one is used up."""
    merged = adapted.merge_and_unload()
    assert isinstance(merged, SAM2Base)
    return merged


def save_adapters(adapted: PeftModel, folder: Path) -> None:
    """Writes PEFT's folder: ``adapter_config.json`` and ``adapter_model.safetensors``."""
    adapted.save_pretrained(str(folder), safe_serialization=True)


def load_adapter_weights(adapted: PeftModel, folder: Path) -> None:
    """Puts the weights of a saved adapter into a model that is wrapped by the same recipe.

    Only safetensors are read: a folder from a stranger cannot run code.

    Raises:
        FileNotFoundError: If the folder holds no ``adapter_model.safetensors`` or ``adapter_config.json``.
        ValueError: If the saved adapter has weights that this one lacks, or the other way round, or has
            another rank or alpha (which its weights do not tell).
    """
    state = load_file(folder / "adapter_model.safetensors")
    expected = get_peft_model_state_dict(adapted)
    wrong = f"{folder} is of another adapter"
    if set(state) != set(expected):
        odd = sorted(set(state) ^ set(expected))
        raise ValueError(f"{wrong}: {len(odd)} weights differ in name (first: {odd[0]})")
    saved = json.loads((folder / "adapter_config.json").read_text())
    config = adapted.active_peft_config
    assert isinstance(config, LoraConfig)
    for key, mine in (("r", config.r), ("lora_alpha", config.lora_alpha)):
        if saved[key] != mine:
            raise ValueError(f"{wrong}: {key} must be {mine}, but got {saved[key]}")
    set_peft_model_state_dict(adapted, state)


def count_parameters(adapted: PeftModel) -> tuple[int, int]:
    """Returns how many parameters are trained, and how many there are (adapters and heads' copies too)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in adapted.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
