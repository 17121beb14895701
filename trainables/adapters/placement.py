"""Where in a SAM2 model adapters sit, and which of its parts are trained in full.

Where adapters sit matters more than their kind (PEFT-SAM, arXiv 2502.00418). All names are full, never suffixes:
Hiera's ``attn.proj`` and a block's own ``proj`` end alike.
"""

from collections.abc import Sequence

from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from trainables.recipe import AdapterRecipe

ENCODER = "image_encoder"
DECODER = "sam_mask_decoder"
# Names within a Hiera block; the block's own proj is the shortcut where the width doubles.
ENCODER_LAYERS = {
    "qkv": ("attn.qkv",),
    "proj": ("attn.proj",),
    "attention": ("attn.qkv", "attn.proj"),
    "mlp": ("mlp.layers.0", "mlp.layers.1"),
    "all": ("attn.qkv", "attn.proj", "mlp.layers.0", "mlp.layers.1", "proj"),
}
DECODER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj")


def list_encoder_blocks(model: SAM2Base, stages: str, last_blocks: int) -> list[str]:
    """Names Hiera blocks, in the order in which an image passes them: the last ones (all for 0) of some stages.

    The stages are ``early`` (1 and 2, strides 4 and 8), ``late`` (3 and 4, strides 16 and 32) or ``all``.
    """
    trunk = model.image_encoder.trunk
    first_late = trunk.stage_ends[1] + 1
    n_blocks = len(trunk.blocks)
    indices = {"early": range(first_late), "late": range(first_late, n_blocks), "all": range(n_blocks)}[stages]
    return [f"{ENCODER}.trunk.blocks.{index}" for index in indices[-last_blocks:]]


def list_layers(model: SAM2Base, recipe: AdapterRecipe) -> list[str]:
    """Names every Linear layer that gets an update: the recipe's, without those that are trained in full.

    In the mask decoder updates sit on the q, k, v and output projections of the two-way transformer, whatever
    ``layers`` says.
    """
    encoder = [
        f"{block}.{layer}"
        for block in list_encoder_blocks(model, recipe.stages, recipe.last_blocks)
        for layer in ENCODER_LAYERS[recipe.layers]
        if layer != "proj" or isinstance(getattr(model.get_submodule(block), "proj", None), nn.Linear)
    ]
    parts = model.sam_mask_decoder.transformer.named_modules(prefix=f"{DECODER}.transformer")
    decoder = [
        name for name, part in parts if isinstance(part, nn.Linear) and name.rsplit(".", 1)[-1] in DECODER_LAYERS
    ]
    return _choose(encoder, decoder, model, recipe)


def list_bottleneck_sites(model: SAM2Base, recipe: AdapterRecipe) -> list[str]:
    """Names every attention and MLP of the chosen blocks: where bottleneck adapters sit, whatever ``layers`` says.

    In the mask decoder all attentions and MLPs of the two-way transformer get adapters.
    """
    blocks = list_encoder_blocks(model, recipe.stages, recipe.last_blocks)
    encoder = [f"{block}.{module}" for block in blocks for module in ("attn", "mlp")]
    parts = model.sam_mask_decoder.transformer.named_modules(prefix=f"{DECODER}.transformer")
    decoder = [name for name, part in parts if isinstance(part, Attention) or name.endswith(".mlp")]
    return _choose(encoder, decoder, model, recipe)


def list_output_heads(model: SAM2Base) -> list[str]:
    """Names the mask decoder's output heads: hypernetwork MLPs, IoU head, object-score head."""
    count = len(model.sam_mask_decoder.output_hypernetworks_mlps)
    heads = [f"{DECODER}.output_hypernetworks_mlps.{index}" for index in range(count)]
    return [*heads, f"{DECODER}.iou_prediction_head", f"{DECODER}.pred_obj_score_head"]


def list_trained_parts(model: SAM2Base, recipe: AdapterRecipe) -> list[str]:
    """Names the modules that are trained in full; none lies inside another."""
    parts = [ENCODER] if recipe.train_encoder else []
    if recipe.train_decoder:
        return [*parts, DECODER]
    return [*parts, *list_output_heads(model)] if recipe.train_heads else parts


def _choose(encoder: Sequence[str], decoder: Sequence[str], model: SAM2Base, recipe: AdapterRecipe) -> list[str]:
    """Returns the names that the recipe's targets include and no part that is trained in full contains."""
    names = {"image_encoder": encoder, "mask_decoder": decoder, "both": [*encoder, *decoder]}[recipe.targets]
    parts = tuple(f"{part}." for part in list_trained_parts(model, recipe))
    return [name for name in names if not name.startswith(parts)]
