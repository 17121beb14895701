from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sam2.modeling.sam2_base import SAM2Base
from small_sam2 import build_bare
from stock_masks import measure_distance

from trainables.context import TrialContext
from trainables.evaluation.candidates import score_candidate
from trainables.export.library_scores import score_by_library
from trainables.export.transformers_folder import describe_model, load_transformers, write_transformers
from trainables.model.build import MODELS, build_architecture
from trainables.model.weight_names import name_for_transformers
from trainables.model.weights import load_model, load_with_notes
from trainables.protocol.spec import PROTOCOLS


def build(name: str) -> SAM2Base:
    """nano as shipped, or another model with random weights at nano's image size."""
    return load_model("nano", None) if name == "nano" else build_bare(name, 256)


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_transformers_gives_the_masks_of_stock_sam2(name: str, tmp_path: Path) -> None:
    model = build(name)
    write_transformers(model, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("config.json", "model.safetensors", "processor_config.json")
    }
    exported = load_transformers(tmp_path / "out")
    off, changed = measure_distance(model, exported)
    assert off < 0.02 and changed < 0.005  # its processor rounds the resized image to whole numbers


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", ["small", "base_plus", "large"])
def test_every_size_has_the_weights_that_transformers_wants(name: str) -> None:
    from transformers import Sam2Config, Sam2Model

    model = build_architecture(MODELS[name])
    with torch.device("meta"):
        theirs = Sam2Model(Sam2Config(**describe_model(model))).state_dict()
    ours = name_for_transformers(model.state_dict())
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_what_is_written_is_read_back_by_this_project(tmp_path: Path) -> None:
    model = build("nano")
    write_transformers(model, tmp_path / "out")
    again = load_with_notes(MODELS["nano"], tmp_path / "out" / "model.safetensors")[0].state_dict()
    same = {name for name, value in model.state_dict().items() if torch.equal(value, again[name])}
    assert same >= {name for name in again if name.startswith(("image_encoder.", "sam_", "no_mem_embed"))}


@pytest.mark.parametrize("protocol", ["recorded-tta", "points"])
def test_the_dice_is_that_of_the_search(
    context: TrialContext, tissue_root: Path, tmp_path: Path, make_checkpoint: Callable[..., Path], protocol: str
) -> None:
    context = replace(context, protocol=PROTOCOLS[protocol])
    write_transformers(load_model("nano", None), tmp_path / "out")
    found = score_by_library(context, load_transformers(tmp_path / "out"), tissue_root).dice
    assert found == pytest.approx(score_candidate(context, None, context.val).dice, abs=1e-3)
