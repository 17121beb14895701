import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import nn

from trainables.adapters.adapted_model import AdaptedModel, adapters_off, attach_adapters, get_base
from trainables.adapters.scaled_update import list_scaled_layers, scale_adapters
from trainables.model.forward import encode_images
from trainables.model.weights import load_model
from trainables.recipe import DROPPABLE_KINDS, AdapterRecipe, Recipe, RecipeError, RegulariseRecipe, list_rules
from trainables.training.batches import Batch
from trainables.training.engine import segment_batch, segment_zero_shot
from trainables.training.regularisers import distillation_loss, draw_scale, measure_distance, start_regularisers

CPU = torch.device("cpu")
KINDS = list_rules()["adapter.kind"].choices
LN3 = math.log(3)


def make_adapted(kind: str, seed: int = 0, **fields: object) -> AdaptedModel:
    """Nano with adapters that have moved: every trained parameter is a little off its start."""
    recipe = AdapterRecipe(kind=kind, rank=4, alpha=8.0, **fields)  # type: ignore[arg-type]
    adapted = attach_adapters(load_model("nano", None), recipe, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return adapted


def test_distillation_equals_its_definition_by_hand() -> None:
    # Zero-shot probabilities 3/4 and 1/2, the student's 1/2 and 3/4:
    # -(3/4 ln 1/2 + 1/4 ln 1/2) = ln 2, and -(1/2 ln 3/4 + 1/2 ln 1/4) = (ln 4/3 + ln 4) / 2.
    zero_shot, logits = torch.tensor([[[[LN3, 0.0]]]]), torch.tensor([[[[0.0, LN3]]]])
    expected = (math.log(2) + (math.log(4 / 3) + math.log(4)) / 2) / 2
    assert float(distillation_loss(logits, zero_shot)) == pytest.approx(expected, rel=1e-6)


def test_distillation_pulls_towards_zero_shot_and_nowhere_once_there() -> None:
    zero_shot = torch.tensor([[[[LN3, -1.0]]]], requires_grad=True)
    for shift, sign in ((0.0, 0), (0.5, 1), (-0.5, -1)):
        logits = (zero_shot.detach() + shift).requires_grad_(True)
        distillation_loss(logits, zero_shot).backward()
        assert logits.grad is not None
        assert logits.grad.abs().max() < 1e-7 if sign == 0 else bool((logits.grad.sign() == sign).all())
    assert zero_shot.grad is None


def test_distance_is_half_the_sum_of_squares_by_hand() -> None:
    model = nn.Linear(2, 1)
    regularisers = start_regularisers(model, RegulariseRecipe(l2_start=1.0), seed=0)
    with torch.no_grad():
        model.weight += torch.tensor([[3.0, 0.0]])
        model.bias += 4.0
    found = measure_distance(model, regularisers.start)
    assert float(found.detach()) == pytest.approx((9 + 16) / 2)
    found.backward()
    assert model.weight.grad is not None and model.weight.grad.tolist() == [[3.0, 0.0]]  # the way back to the start


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_holds_what_is_trained_and_nothing_else(kind: str) -> None:
    adapted = make_adapted(kind)
    regularisers = start_regularisers(adapted, RegulariseRecipe(l2_start=0.1), seed=0)
    assert set(regularisers.start) == {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert float(measure_distance(adapted, regularisers.start).detach()) == 0
    without = start_regularisers(adapted, RegulariseRecipe(), seed=0)
    assert not without.start and without.compute_penalties(adapted, torch.zeros(1, 1, 2, 2), None) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_shot_pass_leaves_no_trace(draw_batches: Callable[..., list[Batch]], nano: SAM2Base, kind: str) -> None:
    adapted = make_adapted(kind, dropout=0.3, train_decoder=True, targets="image_encoder").train()
    (batch,) = draw_batches(Recipe(), n_regions=1)
    before = [(id(p), p.requires_grad, p.detach().clone()) for p in adapted.parameters()]
    generator = torch.get_rng_state()
    found = segment_zero_shot(adapted, batch, CPU)
    assert torch.equal(torch.get_rng_state(), generator) and adapted.training and not found.logits.requires_grad
    for (key, requires_grad, value), after in zip(before, adapted.parameters(), strict=True):
        assert id(after) == key and after.requires_grad == requires_grad and torch.equal(after, value)
    with torch.no_grad():
        expected = segment_batch(nano, batch, CPU)
    assert torch.equal(found.logits, expected.logits)


def test_scales_are_even_over_their_range_and_known_from_seed_and_step() -> None:
    scales = np.array([draw_scale(0.4, 7, step) for step in range(2000)])
    assert 0.6 <= scales.min() < 0.61 and 0.99 < scales.max() <= 1.0
    assert scales.mean() == pytest.approx(0.8, abs=0.01)
    assert draw_scale(0.4, 7, 11) == scales[11] != draw_scale(0.4, 8, 11)
    assert draw_scale(0.0, 7, 11) == 1


@pytest.mark.parametrize("kind", DROPPABLE_KINDS)
def test_scaling_changes_the_output_and_is_undone_exactly(kind: str) -> None:
    adapted, images = (
        make_adapted(kind, train_heads=False).eval(),
        torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(3)),
    )
    base = get_base(adapted)
    with torch.no_grad():
        whole = encode_images(base, images).embedding
        with scale_adapters(adapted, 0.3):
            part = encode_images(base, images).embedding
        with scale_adapters(adapted, 0.0):
            none = encode_images(base, images).embedding
        again = encode_images(base, images).embedding
        with adapters_off(adapted):
            zero_shot = encode_images(base, images).embedding
    assert torch.equal(again, whole) and not torch.equal(part, whole)
    if kind != "dora":  # its magnitudes are left
        assert torch.allclose(none, zero_shot, atol=1e-5)
        assert (part - zero_shot).norm() < (whole - zero_shot).norm()


def test_each_step_is_dropped_by_its_own_scale_and_scaling_is_undone_after_an_error() -> None:
    adapted = make_adapted("lora")
    regularisers = start_regularisers(adapted, RegulariseRecipe(drop=0.5), seed=7)
    layers = list_scaled_layers(adapted)
    for step in (0, 1, 5):
        with regularisers.drop_updates(adapted, step):
            assert layers[0].scaling["default"] == 2 * draw_scale(0.5, 7, step)
        assert layers[0].scaling["default"] == 2
    with pytest.raises(RuntimeError, match="on purpose"), scale_adapters(adapted, 0.3):
        assert all(layer.scaling["default"] == 0.3 * 2 for layer in layers)
        raise RuntimeError("on purpose")
    assert layers and all(layer.scaling["default"] == 2 for layer in layers)


def test_drop_without_any_adapter_is_refused() -> None:
    adapted = make_adapted("lora", targets="mask_decoder", train_decoder=True)
    with pytest.raises(RecipeError, match="finds no adapter"):
        start_regularisers(adapted, RegulariseRecipe(drop=0.5), seed=0)
