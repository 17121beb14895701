import copy
from pathlib import Path

import pytest
import torch
from damaged_file import damage
from safetensors.torch import load_file, save_file
from small_sam2 import build_bare, copy_state, draw_images, have_same_weights, infer, list_trained, train, train_steps
from torch import Tensor

from trainables.adapters.adapted_model import (
    AdaptedModel,
    adapters_off,
    attach_adapters,
    count_parameters,
    get_base,
    load_adapter_weights,
    merge_adapters,
    name_unmergeable,
    save_adapters,
)
from trainables.errors import CheckpointError, TrainablesError
from trainables.model.forward import encode_images
from trainables.model.fusion import FUSION_FILE, FUSION_WEIGHTS_FILE, PathologyFusion, add_fusion, find_fusion
from trainables.model.pathology_encoder import load_encoder
from trainables.recipe import AdapterRecipe, FusionRecipe

VIT = "test_vit"
NOTHING = AdapterRecipe(kind="none", train_heads=False)
RECIPES = {
    "concat": (NOTHING, FusionRecipe(kind="concat", encoder=VIT)),
    "attention": (NOTHING, FusionRecipe(kind="attention", encoder=VIT)),
    "concat, scalar": (NOTHING, FusionRecipe(kind="concat", encoder=VIT, gate="scalar")),
    "attention, trained": (NOTHING, FusionRecipe(kind="attention", encoder=VIT, train_encoder=True)),
    "concat, resnet": (NOTHING, FusionRecipe(kind="concat", encoder="test_resnet", train_encoder=True)),
    "attention, lora": (AdapterRecipe(rank=4), FusionRecipe(kind="attention", encoder=VIT)),
    "concat, bottleneck": (AdapterRecipe(kind="bottleneck", rank=4), FusionRecipe(kind="concat", encoder=VIT)),
    "attention, decoder": (AdapterRecipe(kind="none", train_decoder=True), FusionRecipe("attention", VIT)),
}
each_recipe = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture(scope="module", params=RECIPES)
def tuned(request: pytest.FixtureRequest) -> tuple[str, AdaptedModel]:
    """The name of each recipe, and its model after training, for evaluation."""
    return request.param, train(fuse(request.param))


def fuse(name: str, seed: int = 0, weights: str | None = None) -> AdaptedModel:
    adapter, fusion = RECIPES[name]
    adapted = attach_adapters(build_bare(), adapter, seed)
    add_fusion(get_base(adapted), fusion, {} if weights is None else {fusion.encoder: weights}, seed)
    return adapted.eval()


def get_fusion(adapted: AdaptedModel) -> PathologyFusion:
    fusion = find_fusion(get_base(adapted))
    assert fusion is not None
    return fusion


@each_recipe
def test_at_first_the_fused_model_equals_its_base_bit_for_bit(name: str) -> None:
    wanted = infer(build_bare())
    assert torch.equal(infer(fuse(name)), wanted)


@each_recipe
def test_steps_reach_all_that_is_trained_and_leave_the_rest_bit_for_bit(name: str) -> None:
    adapted = fuse(name)
    before, trained = copy_state(adapted), list_trained(adapted)
    # What lies behind the gate gets its first gradient in the second step.
    _, _, third = train_steps(adapted, 3)
    # A softmax ignores what is added to all keys alike, and a bias in front of the values' is one with it.
    assert [key for key, slope in third.items() if not slope and not key.endswith("k_proj.bias")] == []
    # What of a vision transformer serves its class token alone is reached by nothing.
    unused = {key for key in trained if key not in third}
    assert all(".encoder.network." in key for key in unused)
    changed = {key for key, value in adapted.state_dict().items() if not torch.equal(value, before[key])}
    assert changed <= set(trained)
    assert {key for key in set(trained) - changed if "k_proj.bias" not in key} <= unused
    assert any(".encoder." in key for key in changed) == RECIPES[name][1].train_encoder


def test_off_is_zero_shot_exactly_and_then_on_again(tuned: tuple[str, AdaptedModel]) -> None:
    adapted = tuned[1]
    zero_shot, before = infer(build_bare()), infer(adapted)
    with pytest.raises(RuntimeError, match="halfway"), adapters_off(adapted) as base:
        assert torch.equal(infer(base), zero_shot)
        raise RuntimeError("halfway")
    assert torch.equal(infer(adapted), before)
    assert (before - zero_shot).abs().max() > 1e-5


def test_saved_fusions_load_exactly(tmp_path: Path, tuned: tuple[str, AdaptedModel]) -> None:
    name, adapted = tuned
    save_adapters(adapted, tmp_path)
    other = fuse(name, seed=99)
    load_adapter_weights(other, tmp_path)
    assert have_same_weights(adapted.state_dict(), other.state_dict())
    assert torch.equal(infer(other), infer(adapted))


@pytest.mark.parametrize("name", ["attention", "attention, trained"])
def test_a_frozen_encoder_is_not_written_into_checkpoints(tmp_path: Path, name: str) -> None:
    save_adapters(fuse(name), tmp_path)
    written = load_file(tmp_path / FUSION_WEIGHTS_FILE)
    assert any(key.startswith("encoder.") for key in written) == RECIPES[name][1].train_encoder


@pytest.mark.parametrize("name", ["concat", "attention, trained"])
def test_an_encoder_with_other_weights_is_refused(tmp_path: Path, name: str) -> None:
    save_adapters(fuse(name), tmp_path / "adapter")
    state = load_encoder(VIT, None).network.state_dict()
    save_file({key: value + 0.01 for key, value in state.items()}, tmp_path / "other.safetensors")
    other = fuse(name, weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="with other weights"):
        load_adapter_weights(other, tmp_path / "adapter")


@pytest.mark.parametrize(
    ("saved", "loaded", "text"),
    [
        ("concat", "attention", "fusion.kind must be attention, but got concat"),
        ("concat", "concat, scalar", "fusion.gate must be scalar, but got channel"),
        ("attention", "attention, trained", "fusion.train_encoder must be True, but got False"),
        ("concat, resnet", "concat", "fusion.encoder must be test_vit, but got test_resnet"),
    ],
)
def test_another_fusion_is_refused_and_nothing_changes(tmp_path: Path, saved: str, loaded: str, text: str) -> None:
    save_adapters(fuse(saved), tmp_path)
    other = fuse(loaded, seed=1)
    before = copy_state(other)
    with pytest.raises(CheckpointError, match=f"of another adapter: {text}"):
        load_adapter_weights(other, tmp_path)
    assert have_same_weights(other.state_dict(), before)


@pytest.mark.parametrize("fused", [True, False])
def test_a_fusion_on_one_side_alone_is_refused(tmp_path: Path, fused: bool) -> None:
    plain = attach_adapters(build_bare(), NOTHING, 0)
    one, other = (plain, fuse("concat")) if fused else (fuse("concat"), plain)
    save_adapters(one, tmp_path)
    with pytest.raises(CheckpointError, match=f"it has {'no' if fused else 'a'} fusion"):
        load_adapter_weights(other, tmp_path)


@pytest.mark.parametrize("name", [FUSION_FILE, FUSION_WEIGHTS_FILE])
def test_a_damaged_file_of_a_fusion_is_named(tmp_path: Path, name: str) -> None:
    adapted = fuse("concat")
    save_adapters(adapted, tmp_path)
    for _ in damage(tmp_path / name):
        # Without fusion.json the folder is an adapter's that has no fusion.
        where = tmp_path / name if (tmp_path / FUSION_FILE).exists() else tmp_path
        with pytest.raises(CheckpointError) as caught:
            load_adapter_weights(adapted, tmp_path)
        assert caught.value.findings[0].where == str(where)
    load_adapter_weights(adapted, tmp_path)


def test_a_fusion_with_weights_of_another_shape_is_refused(tmp_path: Path) -> None:
    adapted = fuse("concat")
    save_adapters(adapted, tmp_path)
    state = load_file(tmp_path / FUSION_WEIGHTS_FILE)
    save_file({**state, "gate": torch.zeros(3)}, tmp_path / FUSION_WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="1 weights of the fusion differ in name or shape .first: gate"):
        load_adapter_weights(adapted, tmp_path)


@pytest.mark.parametrize(("name", "text"), [("attention, lora", "a fusion"), ("concat, bottleneck", "bottleneck and")])
def test_a_fusion_says_that_it_cannot_be_merged(name: str, text: str) -> None:
    adapted = fuse(name)
    assert name_unmergeable(adapted)
    with pytest.raises(TrainablesError, match=f"{text}.*cannot be merged"):
        merge_adapters(adapted)


@pytest.mark.parametrize("gate", ["channel", "scalar"])
@pytest.mark.parametrize("kind", ["concat", "attention"])
def test_parameters_by_hand(kind: str, gate: str) -> None:
    n_bare = sum(value.numel() for value in build_bare().parameters())
    adapted = attach_adapters(build_bare(), NOTHING, 0)
    add_fusion(get_base(adapted), FusionRecipe(kind=kind, encoder=VIT, gate=gate), {}, 0)
    encoder = load_encoder(VIT, None)
    n_encoder, n = sum(value.numel() for value in encoder.parameters()), encoder.n_channels
    # nano's map has 64 channels. Norms have two vectors, linear layers a bias; attention has four of 64 -> 64.
    concat = 2 * n + (64 + n) * 64 + 64
    attention = 2 * 64 + 2 * n + (n * 64 + 64) + 4 * (64 * 64 + 64)
    n_trained = {"concat": concat, "attention": attention}[kind] + (64 if gate == "channel" else 1)
    assert count_parameters(adapted) == (n_trained, n_bare + n_encoder + n_trained)


@pytest.mark.parametrize("name", ["concat", "attention"])
def test_the_second_encoder_sees_the_image_once_a_region_and_as_it_is(name: str) -> None:
    adapted = fuse(name)
    seen: list[Tensor] = []
    get_fusion(adapted).encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    infer(adapted)  # three objects in two regions
    images = draw_images()
    (found,) = seen
    torch.testing.assert_close(found, images, rtol=0, atol=1e-6)
    with adapters_off(adapted) as base:
        infer(base)
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["concat", "attention"])
def test_what_the_other_encoder_sees_comes_to_its_own_place(name: str) -> None:
    adapted = fuse(name)
    fusion, base = get_fusion(adapted), get_base(adapted)
    with torch.no_grad():
        fusion.gate.fill_(1.0)
    image = draw_images(1, seed=2)
    with torch.no_grad():
        embedding = torch.zeros(1, 64, 8, 8)
        features = torch.zeros(1, fusion.encoder.n_channels, 4, 4)
        features[..., 0, 3] = torch.randn(fusion.encoder.n_channels, generator=torch.Generator().manual_seed(3))
        moved = (fusion.mixer(embedding, features) - fusion.mixer(embedding, 0 * features)).abs().sum(1)[0]
        assert fusion.mixer(embedding, features).shape == embedding.shape
        if name == "concat":
            assert moved[:2, 6:].min() > 0 and moved[4:, :4].max() == 0
        assert encode_images(base, image).embedding.shape == (1, 64, 8, 8)


def test_a_copy_of_the_model_uses_the_copy_s_encoder() -> None:
    adapted = train(fuse("concat"))
    before = infer(adapted)
    other = copy.deepcopy(adapted)
    with torch.no_grad():
        get_fusion(adapted).gate.zero_()
    assert torch.equal(infer(other), before)


@pytest.mark.parametrize("name", ["concat", "attention"])
def test_under_autocast_the_embedding_keeps_its_type(name: str) -> None:
    adapted = train(fuse(name))
    image = draw_images(1, seed=2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        on = encode_images(get_base(adapted), image).embedding
        with adapters_off(adapted) as base:
            off = encode_images(base, image).embedding
    assert on.dtype == off.dtype and not torch.equal(on, off)


def test_the_seed_decides_the_mixer_and_kind_none_has_none() -> None:
    before = torch.get_rng_state()
    first, again, other = (fuse("attention", seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    model = build_bare()
    add_fusion(model, FusionRecipe(), {}, 0)
    assert find_fusion(model) is None and list(model.state_dict()) == list(build_bare().state_dict())
