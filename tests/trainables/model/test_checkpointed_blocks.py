import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import attach_adapters, get_base
from trainables.model.checkpointed_blocks import checkpoint_blocks
from trainables.model.forward import encode_images
from trainables.model.weights import load_model
from trainables.recipe import AdapterRecipe

KINDS = {
    "lora": AdapterRecipe(dropout=0.3),
    "dora": AdapterRecipe(kind="dora"),
    "bottleneck": AdapterRecipe(kind="bottleneck", dropout=0.3),
    "full": AdapterRecipe(kind="none", train_encoder=True),
}


def take_gradients(model: SAM2Base) -> tuple[dict[str, Tensor], int]:
    """Returns the gradients of a step by name, and how many bytes were kept for the backward pass."""
    model.zero_grad()
    torch.manual_seed(1)
    images, kept = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)), [0]

    def count(tensor: Tensor) -> Tensor:
        kept[0] += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = encode_images(model, images).embedding.square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, kept[0]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_bit_for_bit_from_less_memory(kind: str) -> None:
    model = get_base(attach_adapters(load_model("nano", None), KINDS[kind], seed=0).train())
    with torch.no_grad():  # else LoRA's first factors would get no gradient
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    names = set(model.state_dict())
    expected, all_bytes = take_gradients(model)
    checkpoint_blocks(model)
    gradients, some_bytes = take_gradients(model)
    assert expected and gradients.keys() == expected.keys()
    assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients.items())
    assert some_bytes < all_bytes / 2
    assert set(model.state_dict()) == names


def test_a_pass_without_gradients_stays_as_it_is(nano: SAM2Base) -> None:
    model, images = load_model("nano", None), torch.rand(1, 3, 256, 256)
    checkpoint_blocks(model)
    with torch.no_grad():
        assert torch.equal(encode_images(model, images).embedding, encode_images(nano, images).embedding)
