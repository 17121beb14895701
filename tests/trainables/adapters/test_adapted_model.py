import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from damaged_file import damage
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from small_sam2 import SIDE, build_bare, copy_state, have_same_weights, infer, list_trained, predict, train, train_steps
from torch import Tensor, nn

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
from trainables.adapters.peft_config import PEFT_KINDS
from trainables.adapters.placement import list_layers, list_output_heads
from trainables.errors import CheckpointError, TrainablesError
from trainables.model.build import MODELS, config_path
from trainables.recipe import AdapterRecipe, list_rules

KINDS = list_rules()["adapter.kind"].choices
RECIPE = AdapterRecipe(rank=4, alpha=8.0, train_heads=True)
RECIPES = {
    **{f"{kind}-heads": AdapterRecipe(kind=kind, rank=4, alpha=8.0) for kind in KINDS},
    **{kind: AdapterRecipe(kind=kind, rank=4, alpha=8.0, train_heads=False) for kind in KINDS if kind != "none"},
    "lora-all-late": AdapterRecipe(rank=4, alpha=8.0, layers="all", stages="late", last_blocks=2),
    "lora-decoder": AdapterRecipe(rank=4, alpha=8.0, train_decoder=True),
    "bottleneck-decoder": AdapterRecipe(kind="bottleneck", train_decoder=True),
    "decoder": AdapterRecipe(kind="none", train_decoder=True),
    "full": AdapterRecipe(kind="none", train_decoder=True, train_encoder=True),
}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@pytest.fixture
def bare() -> SAM2Base:
    return build_bare()


@pytest.fixture(scope="module", params=RECIPES.values(), ids=RECIPES)
def tuned(request: pytest.FixtureRequest) -> AdaptedModel:
    """A trained model of each recipe, with an alpha and a dropout that are not the defaults, for evaluation."""
    return train(attach(dataclasses.replace(request.param, alpha=6.5, dropout=0.3)))


@pytest.fixture(scope="module")
def stock() -> SAM2Base:
    """What sam2's own builder makes, to be loaded with checkpoints."""
    with config_path(MODELS["nano"]):
        return build_sam2("sam2_nano.yaml", device="cpu", hydra_overrides_extra=[f"model.image_size={SIDE}"])


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def attach(recipe: AdapterRecipe, seed: int = 0) -> AdaptedModel:
    return attach_adapters(build_bare(), recipe, seed)


@each_recipe
def test_at_first_the_adapted_model_equals_its_base(bare: SAM2Base, recipe: AdapterRecipe) -> None:
    before = infer(bare)
    after = infer(get_base(attach_adapters(bare, recipe, seed=0).eval()))
    if recipe.kind == "pissa":  # it splits each weight in two, whose sum rounds
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    else:
        assert torch.equal(after, before)


@each_recipe
def test_steps_reach_all_that_is_trained_and_leave_the_rest_bit_for_bit(bare: SAM2Base, recipe: AdapterRecipe) -> None:
    adapted = attach_adapters(bare, recipe, seed=0)
    before, trained = copy_state(adapted), list_trained(adapted)
    # Factors behind one that starts at zero get their first gradient in the second step.
    _, second, _ = train_steps(adapted, 3)
    assert set(second) == set(trained)
    # A softmax ignores what is added to all keys alike: a key's own bias has no gradient, but for rounding.
    unreached = [name for name, slope in second.items() if not slope and not name.endswith("k_proj.bias")]
    assert trained and not unreached
    changed = {name for name, value in adapted.state_dict().items() if not torch.equal(value, before[name])}
    assert changed - set(trained) == set()
    assert all(name.endswith("k_proj.bias") for name in set(trained) - changed)


def test_adapters_off_is_zero_shot_exactly_and_then_on_again(bare: SAM2Base, tuned: AdaptedModel) -> None:
    zero_shot, trained, before = infer(bare), list(list_trained(tuned)), infer(tuned)
    with adapters_off(tuned) as base:
        assert torch.equal(infer(base), zero_shot)
    assert torch.equal(infer(tuned), before)
    assert (before - zero_shot).abs().max() > 1e-4
    assert list(list_trained(tuned)) == trained


@pytest.mark.parametrize("name", ["lora-heads", "pissa", "bottleneck-heads", "full"])
def test_a_backward_pass_may_span_a_look_at_zero_shot(name: str) -> None:
    def compute_gradients(look: bool) -> list[Tensor]:
        adapted = train(attach(RECIPES[name]), 1)
        adapted.zero_grad()
        loss = predict(get_base(adapted)).square().mean()
        if look:
            with adapters_off(adapted) as base:
                infer(base)
        loss.backward()
        return [value.grad for value in list_trained(adapted).values() if value.grad is not None]

    plain, spanning = compute_gradients(look=False), compute_gradients(look=True)
    assert plain and all(torch.equal(one, other) for one, other in zip(plain, spanning, strict=True))


def test_adapters_off_under_autocast_is_not_served_from_the_cache(bare: SAM2Base) -> None:
    adapted = attach_adapters(bare, RECIPES["decoder"], seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        zero_shot = infer(adapted)
    train(adapted)
    with torch.autocast("cpu", torch.bfloat16):
        predict(get_base(adapted))
        with adapters_off(adapted) as base:
            assert torch.equal(infer(base), zero_shot)


def test_saved_adapters_load_exactly_also_into_peft_itself(tmp_path: Path, tuned: AdaptedModel) -> None:
    save_adapters(tuned, tmp_path)
    other, wanted = attach(tuned.recipe, seed=99).eval(), infer(tuned)
    load_adapter_weights(other, tmp_path)
    assert have_same_weights(tuned.state_dict(), other.state_dict())
    assert torch.equal(infer(other), wanted)
    assert list(list_trained(other)) == list(list_trained(tuned))
    if tuned.recipe.kind in PEFT_KINDS:
        loaded = PeftModel.from_pretrained(build_bare(), str(tmp_path)).eval()
        assert torch.equal(infer(loaded.get_base_model()), wanted)


def test_the_saved_file_of_a_trained_part_has_stock_names(tmp_path: Path) -> None:
    adapted = train(attach(RECIPES["decoder"]))
    save_adapters(adapted, tmp_path)
    stock = build_bare()
    assert not stock.load_state_dict(load_file(tmp_path / "adapter_model.safetensors"), strict=False).unexpected_keys
    assert torch.equal(infer(stock), infer(adapted))


@pytest.mark.parametrize(
    ("saved", "changes", "text"),
    [
        ("lora", {"rank": 8}, "r must be 8, but got 4"),
        ("lora", {"alpha": 16.0}, "lora_alpha must be 16.0, but got 8.0"),
        ("lora", {"targets": "mask_decoder"}, "weights differ in name"),
        ("lora", {"targets": "image_encoder"}, "weights differ in name"),
        ("lora", {"layers": "qkv"}, "weights differ in name"),
        ("lora", {"train_heads": False}, "weights differ in name"),
        ("lora", {"train_decoder": True}, "weights differ in name"),
        ("lora", {"kind": "none"}, "weights differ in name"),
        ("lora", {"kind": "dora"}, "weights differ in name"),
        ("lora", {"kind": "bottleneck"}, "weights differ in name"),
        ("lora", {"kind": "rslora"}, "use_rslora must be True, but got False"),
        ("lora", {"kind": "pissa"}, "init_lora_weights must be pissa, but got True"),
        ("bottleneck", {"rank": 8}, "rank must be 8, but got 4"),
    ],
)
def test_adapters_of_another_recipe_are_refused(tmp_path: Path, saved: str, changes: dict[str, str], text: str) -> None:
    recipe = dataclasses.replace(RECIPE, kind=saved)
    save_adapters(attach(recipe), tmp_path)
    adapted = attach(dataclasses.replace(recipe, **changes), seed=1)
    before = copy_state(adapted)
    with pytest.raises(CheckpointError, match=f"of another adapter.*{text}"):
        load_adapter_weights(adapted, tmp_path)
    assert have_same_weights(adapted.state_dict(), before)


@pytest.mark.parametrize("kind", ["lora", "bottleneck"])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_file_of_an_adapter_is_named(tmp_path: Path, name: str, kind: str) -> None:
    adapted = attach(AdapterRecipe(kind=kind))
    save_adapters(adapted, tmp_path)
    before = copy_state(adapted)
    for _ in damage(tmp_path / name):
        with pytest.raises(CheckpointError) as caught:
            load_adapter_weights(adapted, tmp_path)
        assert caught.value.findings[0].where == str(tmp_path / name)
    assert have_same_weights(adapted.state_dict(), before)


@pytest.mark.parametrize("kind", ["lora", "bottleneck"])
def test_weights_of_another_shape_are_refused(tmp_path: Path, kind: str) -> None:
    adapted = attach(AdapterRecipe(kind=kind))
    save_adapters(adapted, tmp_path)
    before, path = copy_state(adapted), tmp_path / "adapter_model.safetensors"
    state = load_file(path)
    last = sorted(state)[-1]
    save_file({**state, last: torch.zeros(*state[last].shape, 2)}, path)
    with pytest.raises(CheckpointError, match=f"of another adapter: 1 weights differ in shape .first: {last}"):
        load_adapter_weights(adapted, tmp_path)
    assert have_same_weights(adapted.state_dict(), before)


def test_merged_equals_unmerged_and_loads_strictly_as_a_stock_checkpoint(
    bare: SAM2Base, stock: SAM2Base, tmp_path: Path, tuned: AdaptedModel
) -> None:
    unmerged = infer(tuned)
    if tuned.recipe.kind == "bottleneck":
        assert name_unmergeable(tuned)
        with pytest.raises(TrainablesError, match="kind bottleneck cannot be merged"):
            merge_adapters(tuned)
        assert torch.equal(infer(tuned), unmerged)
        return
    assert not name_unmergeable(tuned)
    adapted = copy.deepcopy(tuned).train()  # whoever merges right after training gets no dropout into the weights
    merged = merge_adapters(adapted).eval()
    torch.testing.assert_close(infer(merged), unmerged, rtol=1e-5, atol=1e-5)
    assert list(merged.state_dict()) == list(bare.state_dict())
    torch.save({"model": merged.state_dict()}, tmp_path / "sam2.pt")
    stock.load_state_dict(torch.load(tmp_path / "sam2.pt", weights_only=True)["model"])
    assert torch.equal(infer(stock), infer(merged))
    assert (infer(stock) - infer(bare)).abs().max() > 1e-4  # it had learned something


@pytest.mark.parametrize("train_heads", [True, False])
def test_lora_s_parameters_by_hand(bare: SAM2Base, train_heads: bool) -> None:
    recipe = AdapterRecipe(rank=3, targets="image_encoder", layers="qkv", train_heads=train_heads)
    n_bare = count(bare)
    # nano's blocks, width in -> out: 32 -> 32; 32 -> 64, 64 -> 64; 64 -> 128, 128 -> 128 twice; 128 -> 256.
    widths = [(32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 256)]
    n_lora = sum(3 * (n_in + 3 * n_out) for n_in, n_out in widths)
    # Four hypernetworks 64-64-64-8, IoU head 64-256-256-4 (its hidden width is SAM's own), object score 64-64-64-1.
    hypernetwork, score = 2 * (64 * 64 + 64) + 64 * 8 + 8, 2 * (64 * 64 + 64) + 64 + 1
    iou = (64 * 256 + 256) + (256 * 256 + 256) + (256 * 4 + 4)
    n_heads = (4 * hypernetwork + iou + score) * train_heads
    adapted = attach_adapters(bare, recipe, seed=0)
    assert count_parameters(adapted) == (n_lora + n_heads, n_bare + n_lora + n_heads)


def test_a_bottleneck_s_parameters_by_hand(bare: SAM2Base) -> None:
    recipe = AdapterRecipe(
        kind="bottleneck", rank=5, targets="image_encoder", stages="early", last_blocks=2, train_heads=False
    )
    n_bare = count(bare)
    # Both blocks of stage 2 are 64 wide; two adapters each, of 64 -> 5 -> 64 with biases.
    n_trained = 2 * 2 * ((64 * 5 + 5) + (5 * 64 + 64))
    assert count_parameters(attach_adapters(bare, recipe, seed=0)) == (n_trained, n_bare + n_trained)


def test_parts_trained_in_full_are_kept_twice_and_with_none_the_model_is_the_bare_one(bare: SAM2Base) -> None:
    n_bare, n_trained = count(bare), count(bare.image_encoder) + count(bare.sam_mask_decoder)
    assert count_parameters(attach(RECIPES["full"])) == (n_trained, n_bare + n_trained)
    adapted = attach_adapters(bare, AdapterRecipe(kind="none", train_heads=False), seed=0)
    assert count_parameters(adapted) == (0, n_bare)
    assert get_base(adapted) is bare and merge_adapters(adapted) is bare


def test_updates_sit_where_the_recipe_says_and_nowhere_else(bare: SAM2Base) -> None:
    recipe = AdapterRecipe(rank=3, layers="all", stages="late", last_blocks=3)
    wanted, heads = set(list_layers(bare, recipe)), set(list_output_heads(bare))
    adapted = attach_adapters(bare, recipe, seed=0)
    trained = [name for name, value in get_base(adapted).named_parameters() if value.requires_grad]
    assert {name.split(".lora_")[0] for name in trained if ".lora_" in name} == wanted
    assert all(name.startswith(tuple(heads)) for name in trained if ".lora_" not in name)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "bottleneck"])
def test_the_seed_decides_the_first_weights(kind: str) -> None:
    before = torch.get_rng_state()
    recipe = dataclasses.replace(RECIPE, kind=kind)
    first, again, other = (attach(recipe, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", PEFT_KINDS)
def test_a_rank_above_a_layer_s_width_is_accepted(tmp_path: Path, kind: str) -> None:
    recipe = AdapterRecipe(kind=kind, rank=256, targets="image_encoder", stages="early", train_heads=False)
    adapted = train(attach(recipe), 1)
    save_adapters(adapted, tmp_path)
    other = attach(recipe, seed=1).eval()
    load_adapter_weights(other, tmp_path)
    assert torch.equal(infer(other), infer(adapted))
