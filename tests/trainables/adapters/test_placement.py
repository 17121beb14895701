import pytest
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from trainables.adapters.placement import (
    list_bottleneck_sites,
    list_encoder_blocks,
    list_layers,
    list_output_heads,
    list_trained_parts,
)
from trainables.model.build import MODELS, build_architecture
from trainables.recipe import AdapterRecipe

N_DECODER_ATTENTIONS = 3 * 2 + 1  # three in each of two layers, and the final one
# nano has stages of 1, 2, 3 and 1 blocks; blocks 1, 3 and 6 double the width and have a shortcut projection.
BLOCK = "image_encoder.trunk.blocks."


@pytest.mark.parametrize(
    ("stages", "last_blocks", "expected"),
    [
        ("all", 0, [0, 1, 2, 3, 4, 5, 6]),
        ("all", 1, [6]),
        ("all", 7, [0, 1, 2, 3, 4, 5, 6]),
        ("all", 48, [0, 1, 2, 3, 4, 5, 6]),
        ("early", 0, [0, 1, 2]),
        ("early", 2, [1, 2]),
        ("late", 0, [3, 4, 5, 6]),
        ("late", 3, [4, 5, 6]),
    ],
)
def test_blocks_of_stages_and_the_last_ones(nano: SAM2Base, stages: str, last_blocks: int, expected: list[int]) -> None:
    blocks = list_encoder_blocks(nano, stages, last_blocks)
    assert blocks == [f"{BLOCK}{index}" for index in expected]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", ["tiny", "small", "base_plus"])
def test_late_stages_of_stock_models_run_at_strides_16_and_32(name: str) -> None:
    model = build_architecture(MODELS[name])
    blocks = list_encoder_blocks(model, "late", 0)
    assert model.get_submodule(blocks[0]).q_stride == (2, 2)  # it pools from stride 8 to 16
    assert len([block for block in blocks if model.get_submodule(block).q_stride]) == 2
    assert len(list_encoder_blocks(model, "early", 0)) + len(blocks) == len(model.image_encoder.trunk.blocks)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("qkv", ["5.attn.qkv", "6.attn.qkv"]),
        ("proj", ["5.attn.proj", "6.attn.proj"]),
        ("attention", ["5.attn.qkv", "5.attn.proj", "6.attn.qkv", "6.attn.proj"]),
        ("mlp", ["5.mlp.layers.0", "5.mlp.layers.1", "6.mlp.layers.0", "6.mlp.layers.1"]),
    ],
)
def test_layers_of_the_encoder(nano: SAM2Base, layers: str, expected: list[str]) -> None:
    recipe = AdapterRecipe(targets="image_encoder", layers=layers, last_blocks=2)
    assert list_layers(nano, recipe) == [f"{BLOCK}{layer}" for layer in expected]


def test_all_layers_are_every_linear_of_the_trunk_and_both_add_the_decoder_s(nano: SAM2Base) -> None:
    trunk = nano.image_encoder.trunk
    linears = {f"image_encoder.trunk.{name}" for name, module in trunk.named_modules() if isinstance(module, nn.Linear)}
    layers = list_layers(nano, AdapterRecipe(targets="image_encoder", layers="all"))
    assert set(layers) == linears and len(layers) == len(linears)
    encoder, decoder, both = (
        list_layers(nano, AdapterRecipe(targets=targets)) for targets in ("image_encoder", "mask_decoder", "both")
    )
    assert both == encoder + decoder


@pytest.mark.parametrize("layers", ["qkv", "all"])
def test_the_decoder_s_attention_is_always_adapted_whole(nano: SAM2Base, layers: str) -> None:
    names = list_layers(nano, AdapterRecipe(targets="mask_decoder", layers=layers, last_blocks=1))
    assert len(names) == 4 * N_DECODER_ATTENTIONS
    assert all(isinstance(nano.get_submodule(name), nn.Linear) for name in names)


def test_bottlenecks_sit_at_every_attention_and_mlp(nano: SAM2Base) -> None:
    recipe = AdapterRecipe(kind="bottleneck", layers="qkv", last_blocks=1)
    sites = list_bottleneck_sites(nano, recipe)
    assert sites[:2] == [f"{BLOCK}6.attn", f"{BLOCK}6.mlp"]
    assert len(sites) == 2 + N_DECODER_ATTENTIONS + 2


@pytest.mark.parametrize("listing", [list_layers, list_bottleneck_sites])
def test_no_adapter_lies_inside_a_part_that_is_trained_in_full(nano: SAM2Base, listing) -> None:  # type: ignore[no-untyped-def]
    everywhere = listing(nano, AdapterRecipe())
    encoder = [name for name in everywhere if name.startswith("image_encoder.")]
    decoder = [name for name in everywhere if name.startswith("sam_mask_decoder.")]
    assert encoder and decoder and len(everywhere) == len(encoder) + len(decoder)
    assert listing(nano, AdapterRecipe(train_decoder=True)) == encoder
    assert listing(nano, AdapterRecipe(train_encoder=True)) == decoder
    assert listing(nano, AdapterRecipe(train_encoder=True, train_decoder=True)) == []


@pytest.mark.parametrize("train_encoder", [True, False])
@pytest.mark.parametrize("train_decoder", [True, False])
@pytest.mark.parametrize("train_heads", [True, False])
def test_parts_never_overlap(nano: SAM2Base, train_heads: bool, train_decoder: bool, train_encoder: bool) -> None:
    recipe = AdapterRecipe(train_heads=train_heads, train_decoder=train_decoder, train_encoder=train_encoder)
    parts, heads = list_trained_parts(nano, recipe), list_output_heads(nano)
    assert len(heads) == 6 and all(list(nano.get_submodule(head).parameters()) for head in heads)
    assert ("image_encoder" in parts) == train_encoder and ("sam_mask_decoder" in parts) == train_decoder
    assert len(parts) == train_encoder + (1 if train_decoder else 6 * train_heads)
