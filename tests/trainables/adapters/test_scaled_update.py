import pytest
import torch
from small_sam2 import build_bare, copy_state, have_same_weights, infer, train

from trainables.adapters.adapted_model import attach_adapters, get_base, merge_adapters
from trainables.adapters.interpolation import interpolate_weights
from trainables.adapters.scaled_update import LINEAR_KINDS, can_scale, scale_update
from trainables.model.class_prompts import attach_class_prompts, start_class_prompts
from trainables.recipe import AdapterRecipe, list_rules

RECIPES = {
    **{kind: AdapterRecipe(kind=kind, rank=4, alpha=8.0) for kind in LINEAR_KINDS},
    "lora-decoder": AdapterRecipe(rank=4, alpha=8.0, train_decoder=True),
    "lora-without-heads": AdapterRecipe(rank=4, alpha=8.0, train_heads=False),
    "full": AdapterRecipe(kind="none", train_decoder=True, train_encoder=True),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_scaled_update_is_what_merged_weights_interpolate_to(recipe: AdapterRecipe) -> None:
    adapted = train(attach_adapters(build_bare(), recipe, seed=0))
    before, whole, found = copy_state(adapted), infer(adapted), {}
    for scale in (0.0, 0.5, 1.25):
        with scale_update(adapted, scale):
            found[scale] = infer(adapted)
        assert have_same_weights(adapted.state_dict(), before)
    bare, base_state, merged = build_bare(), copy_state(build_bare()), merge_adapters(adapted).state_dict()
    for scale, masks in found.items():
        bare.load_state_dict(interpolate_weights(base_state, merged, scale))
        expected = infer(bare)
        torch.testing.assert_close(masks, expected, rtol=0, atol=1e-4)
        assert (whole - expected).abs().max() > 1e-2  # the scale matters


def test_at_scale_1_nothing_is_touched() -> None:
    adapted = train(attach_adapters(build_bare(), AdapterRecipe(rank=4), seed=0))
    whole = infer(adapted)
    with scale_update(adapted, 1.0):
        assert torch.equal(infer(adapted), whole)


def test_a_block_that_fails_leaves_the_update_as_it_was() -> None:
    adapted = train(attach_adapters(build_bare(), AdapterRecipe(rank=4), seed=0))
    before = copy_state(adapted)
    with pytest.raises(ZeroDivisionError), scale_update(adapted, 0.5):
        raise ZeroDivisionError
    assert have_same_weights(adapted.state_dict(), before)


def test_only_kinds_that_are_linear_in_a_factor_are_scaled() -> None:
    kinds = list_rules()["adapter.kind"].choices
    able = {kind for kind in kinds if can_scale(attach_adapters(build_bare(), AdapterRecipe(kind=kind), seed=0))}
    assert able == {"none", "lora", "rslora", "loha", "lokr"}


def test_class_prompts_have_no_zero_shot_end() -> None:
    adapted = attach_adapters(build_bare(), AdapterRecipe(), seed=0)
    base = get_base(adapted)
    attach_class_prompts(base, start_class_prompts(base, 3, 1, seed=0))
    assert not can_scale(adapted)
