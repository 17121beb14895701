"""The frozen blocks of nano: which they are, and that reading what they gave changes nothing."""

from pathlib import Path

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import DropPath
from torch import Tensor

from trainables.adapters.adapted_model import attach_adapters, get_base
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import ImageFeatures, encode_images
from trainables.model.frozen_prefix import FOLDER, FrozenPrefix, encode_reusing, find_prefix
from trainables.model.fusion import add_fusion
from trainables.model.weights import load_model
from trainables.recipe import AdapterRecipe, FusionRecipe

CPU = torch.device("cpu")
N_BLOCKS = 7
LATE = AdapterRecipe(targets="image_encoder", stages="late", last_blocks=2)
RECIPES = {
    "heads": (AdapterRecipe(kind="none"), N_BLOCKS, True),
    "decoder lora": (AdapterRecipe(targets="mask_decoder"), N_BLOCKS, True),
    "whole decoder": (AdapterRecipe(kind="none", train_decoder=True), N_BLOCKS, False),
    "late lora": (LATE, 5, False),
    "late stages": (AdapterRecipe(stages="late"), 3, False),
    "late bottlenecks": (AdapterRecipe(kind="bottleneck", stages="late", last_blocks=1), 6, False),
}


def adapt(recipe: AdapterRecipe) -> SAM2Base:
    base = get_base(attach_adapters(load_model("nano", None), recipe, seed=0))
    base.train()
    return base


def find(model: SAM2Base, folder: Path) -> FrozenPrefix:
    prefix = find_prefix(model, folder, CPU)
    assert prefix is not None
    return prefix


def list_maps(features: ImageFeatures) -> list[Tensor]:
    return [features.embedding, *features.high_res]


@pytest.mark.parametrize("name", RECIPES)
def test_features_that_are_read_equal_those_that_are_computed(name: str, tmp_path: Path) -> None:
    recipe, n_blocks, is_whole = RECIPES[name]
    model, images = adapt(recipe), torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    prefix = find(model, tmp_path)
    assert (prefix.n_blocks, prefix.is_whole) == (n_blocks, is_whole)
    plain = list_maps(encode_images(model, images))
    computed = list_maps(prefix.encode(model, images, ("a", "b")))
    assert prefix.take_share() == 0
    read = list_maps(find(model, tmp_path).encode(model, images, ("a", "b")))
    halfway = list_maps(prefix.encode(model, images.flip(0), ("b", "c")))
    assert prefix.take_share() == pytest.approx(n_blocks / N_BLOCKS / 2)
    for one, other, expected, mixed in zip(computed, read, plain, halfway, strict=True):
        assert torch.equal(one, other) and torch.equal(mixed[0], other[1])
        assert torch.allclose(one, expected, rtol=1e-4, atol=1e-4)
        assert one.requires_grad == expected.requires_grad


def test_gradients_are_those_of_the_whole_encoder(tmp_path: Path) -> None:
    model, images = adapt(LATE), torch.rand(2, 3, 256, 256)
    prefix, found = find(model, tmp_path), []
    for own in (None, prefix, prefix):
        model.zero_grad()
        sum(each.square().mean() for each in list_maps(encode_reusing(own, model, images, ("a", "b")))).backward()
        found.append([value.grad for value in model.image_encoder.parameters() if value.grad is not None])
    assert len(found[0]) > 0
    for plain, computed, read in zip(*found, strict=True):
        assert torch.equal(computed, read) and torch.allclose(plain, read, rtol=1e-3, atol=1e-6)


def test_pictures_without_a_name_go_through_the_whole_encoder_and_leave_nothing(tmp_path: Path) -> None:
    model, images = adapt(AdapterRecipe(kind="none")), torch.rand(2, 3, 256, 256)
    prefix = find(model, tmp_path)
    for own in (prefix, None):
        assert torch.equal(encode_reusing(own, model, images, ()).embedding, encode_images(model, images).embedding)
    assert prefix.take_share() == 0 and not (tmp_path / FOLDER).exists()


@pytest.mark.parametrize("recipe", [AdapterRecipe(), AdapterRecipe(kind="none", train_encoder=True)])
def test_nothing_is_read_where_the_first_block_is_trained(recipe: AdapterRecipe, tmp_path: Path) -> None:
    assert find_prefix(adapt(recipe), tmp_path, CPU) is None


def test_a_block_that_draws_in_training_ends_the_prefix(tmp_path: Path) -> None:
    model = adapt(AdapterRecipe(kind="none"))
    model.image_encoder.trunk.blocks[4].drop_path = DropPath(0.1)
    prefix = find(model, tmp_path)
    assert (prefix.n_blocks, prefix.is_whole) == (4, False)


def test_other_weights_or_blocks_read_nothing_of_these_and_equal_ones_do(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 256, 256)
    find(adapt(AdapterRecipe(kind="none")), tmp_path).encode(adapt(AdapterRecipe(kind="none")), image, ("a",))
    other = adapt(AdapterRecipe(kind="none"))
    with torch.no_grad():
        other.image_encoder.trunk.blocks[6].mlp.layers[0].bias[0] += 1
    zero_shot = load_model("nano", None).requires_grad_(False)
    for model, expected in ((other, 0.0), (adapt(LATE), 0.0), (zero_shot, 1.0)):
        prefix = find(model, tmp_path)
        prefix.encode(model, image, ("a",))
        assert prefix.take_share() == expected


def test_a_fusion_joins_features_that_were_read(tmp_path: Path) -> None:
    model, images = adapt(AdapterRecipe(kind="none")), torch.rand(1, 3, 256, 256)
    add_fusion(model, FusionRecipe("concat", "test_vit"), {}, seed=0)
    model.pathology_fusion.gate.data.fill_(1.0)
    model.eval()
    prefix, expected = find(model, tmp_path), encode_images(model, images).embedding
    assert not prefix.is_whole
    for _ in range(2):
        assert torch.allclose(prefix.encode(model, images, ("a",)).embedding, expected, rtol=1e-4, atol=1e-4)
    assert prefix.take_share() == 0.5


def test_on_a_gpu_a_small_model_computes_what_it_would_read_no_faster(tmp_path: Path) -> None:
    small, large = (build_architecture(MODELS[name]).requires_grad_(False) for name in ("nano", "base_plus"))
    cuda = torch.device("cuda")
    assert find_prefix(small, tmp_path, cuda) is None and find_prefix(large, tmp_path, cuda) is not None
