"""A SAM2 with random weights, by default nano at 128 px: built, prompted and trained for a few steps."""

from collections.abc import Iterator

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.adapters.adapted_model import AdaptedModel, get_base
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import encode_images

SIDE = 128  # half of nano's own image size: the weights are the same, the steps four times as fast


def build_bare(name: str = "nano", side: int = SIDE) -> SAM2Base:
    """Builds the same random weights each time: no test may depend on what nano has learned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_architecture(MODELS[name], side)


def draw_images(n: int = 2, seed: int = 1) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def predict(model: SAM2Base) -> Tensor:
    """Returns logits, IoU estimates and object scores of three prompts in two images, in one row.

    Of all masks: three candidates, and the single one, which class prompts use and which has an output head of its own.
    """
    points = torch.tensor([[[20.0, 25], [100, 90]], [[10, 15], [45, 45]], [[0, 0], [127, 127]]])
    labels = torch.tensor([[2, 3]] * 3, dtype=torch.int32)
    features = encode_images(model, draw_images())
    of_region = torch.tensor([0, 1, 1])
    sparse, dense = model.sam_prompt_encoder(points=(points, labels), boxes=None, masks=None)
    logits, iou, _, objectness = model.sam_mask_decoder.predict_masks(
        image_embeddings=features.embedding[of_region],
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=[level[of_region] for level in features.high_res],
    )
    return torch.cat([part.flatten() for part in (logits, iou, objectness)])


def infer(model: SAM2Base | AdaptedModel) -> Tensor:
    with torch.no_grad():
        return predict(get_base(model) if isinstance(model, AdaptedModel) else model)


def list_trained(adapted: AdaptedModel) -> dict[str, Tensor]:
    return {name: value for name, value in adapted.named_parameters() if value.requires_grad}


def copy_state(adapted: AdaptedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in adapted.state_dict().items()}


def have_same_weights(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(state) == list(other) and all(torch.equal(value, other[name]) for name, value in state.items())


def train_steps(adapted: AdaptedModel, n_steps: int) -> Iterator[dict[str, float]]:
    """Takes AdamW steps and yields, for each, the greatest gradient of every trained parameter."""
    trained = list_trained(adapted)
    adapted.train()
    optimizer = torch.optim.AdamW(trained.values(), lr=2e-3, weight_decay=0.0)
    for _ in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        predict(get_base(adapted)).square().mean().backward()
        slopes = {name: float(value.grad.abs().max()) for name, value in trained.items() if value.grad is not None}
        optimizer.step()
        yield slopes


def train(adapted: AdaptedModel, n_steps: int = 2) -> AdaptedModel:
    for _ in train_steps(adapted, n_steps):
        pass
    return adapted.eval()
