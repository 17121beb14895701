from pathlib import Path

import pytest
import torch
from sam2.build_sam import build_sam2

from trainables.export.qupath_file import SAMAPI_TYPES, keep_old_weights, load_qupath, write_qupath
from trainables.model.build import MODELS, build_architecture


def test_samapi_s_own_steps_load_it(tmp_path: Path) -> None:
    """By torch.hub, whose function samapi's loader extends, then strictly into SAM 2.0's config."""
    model = build_architecture(MODELS["tiny"])
    write_qupath(model, tmp_path / "sam2-search.pt")
    address = (tmp_path / "sam2-search.pt").as_uri()
    saved = torch.hub.load_state_dict_from_url(address, str(tmp_path / "samapi"), map_location="cpu", progress=False)
    assert set(saved) == {"model"}
    theirs = load_qupath(tmp_path / "samapi" / "sam2-search.pt", "tiny")
    assert all(torch.equal(value, model.state_dict()[each]) for each, value in theirs.state_dict().items())


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", sorted(SAMAPI_TYPES))
def test_every_size_is_that_of_sam_2_0_for_images(name: str) -> None:
    model = build_architecture(MODELS[name])
    theirs = build_sam2(SAMAPI_TYPES[name][1], device="cpu")
    ours = {each: value.shape for each, value in keep_old_weights(model).items()}
    assert ours == {each: value.shape for each, value in theirs.state_dict().items()}
    for part in ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder"):
        assert repr(getattr(theirs, part)) == repr(getattr(model, part))
    for setting in ("image_size", "num_feature_levels", "use_high_res_features_in_sam", "directly_add_no_mem_embed"):
        assert getattr(theirs, setting) == getattr(model, setting)


@pytest.mark.usefixtures("no_weights")
def test_a_file_of_sam_2_1_itself_is_refused_there(tmp_path: Path) -> None:
    torch.save({"model": build_architecture(MODELS["tiny"]).state_dict()}, tmp_path / "sam2.pt")
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_qupath(tmp_path / "sam2.pt", "tiny")
