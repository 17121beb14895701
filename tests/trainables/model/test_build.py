from functools import partial
from pathlib import Path

import pytest
import sam2
import torch
from hydra.core.global_hydra import GlobalHydra
from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2
from sam2.modeling.sam2_base import SAM2Base

from trainables.model.build import ASSETS, MODELS, build_architecture, config_path

STOCK = [name for name, spec in MODELS.items() if not spec.is_demo]


def test_nano_is_a_small_stock_sam2_for_evaluation_and_leaves_the_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAM2's layers would fill their caches on any GPU that they see; where there is none, that would fail here."""

    def see() -> bool:
        return True

    monkeypatch.setattr(torch.cuda, "is_available", see)
    model = build_architecture(MODELS["nano"])
    assert torch.cuda.is_available is see
    assert type(model) is SAM2Base and not model.training
    assert model.image_size == 256 and model.directly_add_no_mem_embed
    assert 2_000_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    assert [name for name, spec in MODELS.items() if spec.is_demo] == ["nano"]
    assert (ASSETS / "nano.safetensors").stat().st_size <= 6_000_000


@pytest.mark.parametrize("name", STOCK)
def test_stock_models_agree_with_sam2_s_own_table(name: str) -> None:
    spec = MODELS[name]
    assert spec.hub_id is not None
    config, filename = HF_MODEL_ID_TO_FILENAMES[spec.hub_id]
    assert config == spec.config and filename == f"sam2.1_hiera_{name}.pt"
    assert (Path(sam2.__file__).parent / config).is_file()


@pytest.mark.usefixtures("no_weights")
def test_tiny_is_what_build_sam2_builds() -> None:
    model, stock = build_architecture(MODELS["tiny"]), build_sam2(MODELS["tiny"].config, device="cpu")
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    assert shapes == {name: value.shape for name, value in stock.state_dict().items()}
    assert model.image_size == stock.image_size == 1024


@pytest.mark.parametrize(("name", "side"), [("nano", 128), ("tiny", 256)])
def test_image_size_can_be_chosen_and_changes_no_weight(name: str, side: int) -> None:
    usual, other = build_architecture(MODELS[name]), build_architecture(MODELS[name], side)
    assert other.image_size == side
    shapes = {key: value.shape for key, value in other.state_dict().items()}
    assert shapes == {key: value.shape for key, value in usual.state_dict().items()}
    with torch.inference_mode():
        features = other.forward_image(torch.zeros(1, 3, side, side))["backbone_fpn"]
    assert [level.shape[-1] for level in features] == [side // 4, side // 8, side // 16]


def test_nano_s_search_path_lasts_only_as_long_as_asked_for() -> None:
    before = GlobalHydra.instance().hydra
    path = partial(config_path, MODELS["nano"])
    with path(), path():
        assert build_sam2("sam2_nano.yaml", device="cpu").image_size == 256
    with pytest.raises(RuntimeError, match="on purpose"), path():
        raise RuntimeError("on purpose")
    assert GlobalHydra.instance().hydra is before
    assert build_architecture(MODELS["tiny"], 256).image_size == 256  # found in sam2's own search path
