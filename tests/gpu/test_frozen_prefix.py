"""A model that is large enough for a GPU to read its frozen blocks: what is read is what was computed."""

from pathlib import Path

import pytest
import torch

from trainables.evaluation.evaluator import autocast
from trainables.model.build import MODELS, build_architecture
from trainables.model.forward import encode_images
from trainables.model.frozen_prefix import find_prefix

BOUND = 0.02  # of the greatest value: bfloat16 has eight bits, and a batch of one may round otherwise


@pytest.mark.gpu
def test_features_that_are_read_equal_those_that_are_computed(gpu: torch.device, tmp_path: Path) -> None:
    model = build_architecture(MODELS["base_plus"]).requires_grad_(False).to(gpu)
    prefix, images = find_prefix(model, tmp_path, gpu), torch.rand(2, 3, 1024, 1024, device=gpu)
    assert prefix is not None
    with torch.no_grad(), autocast(gpu):
        plain = encode_images(model, images)
        computed, read = (prefix.encode(model, images, ("a", "b")) for _ in range(2))
    assert prefix.take_share() == 0.5
    pairs = zip([plain.embedding, *plain.high_res], [computed.embedding, *computed.high_res], strict=True)
    assert all((one - other).abs().max() <= BOUND * one.abs().max() for one, other in pairs)
    assert torch.equal(computed.embedding, read.embedding)
