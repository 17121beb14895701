import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from small_sam2 import build_bare

from trainables.demo import pretrain
from trainables.demo.pretrain import (
    LARGE_BOX_PX,
    SPEC_SHARES,
    SPECS,
    SceneBatches,
    Stage,
    edge_loss,
    make_optimizer,
    score_scenes,
    train_step,
)
from trainables.model.weights import load_model

TINY = Stage(side=64, minutes=0.02, regions=2, objects=2, lr=1e-3, decay_share=0.5, compact_share=1.0)


@pytest.fixture
def model() -> SAM2Base:
    return build_bare(side=TINY.side).train()


@pytest.mark.parametrize("stage", [TINY, Stage(256, 30.0, 8, 3, 0.002, 0.6, 0.2)])
def test_a_stage_is_read_as_it_is_written(stage: Stage) -> None:
    assert Stage.parse(":".join(str(value) for value in vars(stage).values())) == stage


@pytest.mark.parametrize("text", ["", "128:18", "128:x:1:1:1:1:1", "128:18:12:3:0.003:0.1", "1:" * 7 + "1"])
def test_what_is_no_stage_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        Stage.parse(text)


def test_batches_follow_from_the_seed_and_have_the_shapes_they_say() -> None:
    first, again, other = (next(iter(SceneBatches(TINY, seed))) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and torch.equal(first.points, again.points)
    assert torch.equal(first.targets, again.targets) and not torch.equal(first.images, other.images)
    n_objects = len(first.region_index)
    assert first.images.shape == (2, 64, 64, 3) and first.images.dtype == torch.uint8
    assert first.targets.shape == (n_objects, 16, 16) and 2 <= n_objects <= 4
    assert first.points.shape == (*first.labels.shape, 2) and len(first.labels) == n_objects
    assert set(first.region_index.tolist()) == {0, 1}
    assert len(SPECS) == len(SPEC_SHARES) and sum(SPEC_SHARES) == pytest.approx(1)
    # At least 20 pixels, and the mean survives the shrinking.
    assert (first.targets.sum(dim=(1, 2)) * 16 > 19.9).all()


def test_compact_objects_are_left_out_as_the_stage_says() -> None:
    def measure_fill(compact_share: float) -> float:
        stage = Stage(64, 1.0, 8, 3, 1e-3, 0.5, compact_share)
        fills = []
        for batch in itertools.islice(SceneBatches(stage, 0), 3):
            actual = batch.targets > 0.5
            box = actual.any(1)[:, None, :] & actual.any(2)[:, :, None]
            large = box.sum((1, 2)) > LARGE_BOX_PX / 12  # sides are shrunk to a quarter, and rounded
            fills += (actual.sum((1, 2)) / box.sum((1, 2)))[large].tolist()
        return sum(fills) / len(fills)

    assert measure_fill(0.0) < measure_fill(1.0)


def test_the_edge_loss_looks_at_the_band_around_the_border_and_the_best_candidate_alone() -> None:
    target = torch.zeros(1, 16, 16)
    target[:, 4:12, 4:12] = 1
    right = 20 * (2 * target[:, None] - 1)
    far, near = right.clone(), right.clone()
    far[..., 0, 0] *= -1
    near[..., 4, 8] *= -1
    assert edge_loss(right, target) < 1e-6 and edge_loss(far, target) < 1e-6 < 0.1 < edge_loss(near, target)
    assert edge_loss(torch.cat([-right, right], 1), target) < 1e-6


def test_one_step_moves_the_promptable_parts_and_leaves_the_video_parts(model: SAM2Base) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = train_step(model, next(iter(SceneBatches(TINY, 0))), make_optimizer(model, TINY.lr))
    assert all(value == value and value >= 0 for value in parts.values())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    for prefix in ("image_encoder.trunk", "image_encoder.neck", "sam_prompt_encoder", "sam_mask_decoder"):
        assert any(name.startswith(prefix) for name in changed), prefix
    assert not any(name.startswith(("memory", "obj_ptr", "mask_downsample")) for name in changed)
    assert all(p.grad is None for p in model.parameters() if p.requires_grad)


def test_scores_are_shares_and_the_model_goes_on_training(model: SAM2Base) -> None:
    dice, floor = score_scenes(model, list(itertools.islice(SceneBatches(TINY, 0), 1)))
    assert 0 <= dice <= 1 and 0 < floor <= 1 and model.training


def test_a_pretraining_writes_weights_that_load_at_nano_s_own_size(tmp_path: Path) -> None:
    path = tmp_path / "nano.safetensors"
    assert pretrain.main(["--out", str(path), "--stages", "64:0.02:2:2:0.001:0.5:1,64:0.02:2:2:0.001:0.5:1"]) == 0
    weights = load_file(path)
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert path.stat().st_size < 6_000_000 and list(tmp_path.iterdir()) == [path]
    loaded = load_model("nano", str(path)).state_dict()
    assert all(torch.equal(loaded[name].half(), value) for name, value in weights.items())
