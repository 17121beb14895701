import os
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainables.errors import CheckpointError
from trainables.model.pathology_encoder import (
    ConvStem,
    PathologyEncoder,
    compute_fingerprint,
    find_encoder,
    find_encoder_weights,
    load_encoder,
)

VIT = "test_vit"  # timm's own, for tests: 0.4 M parameters, patches of 16 px


def make_images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def shift_weights(encoder: PathologyEncoder, by: float = 0.01) -> dict[str, Tensor]:
    state = encoder.network.state_dict()
    return {name: value + by if value.is_floating_point() else value.clone() for name, value in state.items()}


@pytest.fixture(scope="module")
def vit() -> PathologyEncoder:
    return load_encoder(VIT, None)


@pytest.mark.parametrize(
    ("name", "side", "wanted"),
    [
        (VIT, 64, (2, 64, 4, 4)),
        (VIT, 72, (2, 64, 4, 4)),  # 72 px are 4.5 patches
        ("test_vit2", 128, (2, 64, 8, 8)),
        ("test_resnet", 64, (2, 96, 2, 2)),
        ("test_convnext", 64, (2, 64, 2, 2)),
        ("swin_tiny_patch4_window7_224", 64, (2, 768, 2, 2)),
        ("ctranspath", 96, (2, 768, 3, 3)),
        ("cait_xxs24_224", 64, (2, 192, 14, 14)),  # takes 224 px and nothing else
        ("crossvit_tiny_240", 240, (2, 192, 14, 14)),  # says that it has 288 channels
    ],
)
def test_every_kind_of_encoder_gives_one_map(name: str, side: int, wanted: tuple[int, ...]) -> None:
    encoder = load_encoder(name, None)
    features = encoder(make_images(side))
    assert features.shape == wanted and encoder.n_channels == wanted[1]
    assert not features.requires_grad and bool(features.isfinite().all())


@pytest.mark.parametrize(
    ("name", "side", "wanted"),
    [
        (VIT, 1024, 1024),
        (VIT, 7, 16),
        ("vit_small_patch14_dinov2", 1024, 1022),
        ("ctranspath", 1024, 1024),
        ("resmlp_12_224", 1024, 224),
    ],
)
def test_regions_keep_sam2_s_size_but_for_what_patches_and_fixed_sizes_ask(name: str, side: int, wanted: int) -> None:
    assert load_encoder(name, None).pick_side(side) == wanted


def test_images_are_normalized_by_the_encoder_s_own_statistics(vit: PathologyEncoder) -> None:
    assert vit.mean.flatten().tolist() == pytest.approx(vit.network.pretrained_cfg["mean"])  # type: ignore[index]
    images = make_images(160)
    mean, std = (torch.tensor(vit.network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))  # type: ignore[index]
    with torch.no_grad():
        tokens = vit.network.forward_features((images - mean) / std)  # type: ignore[operator]
    n_prefix = vit.network.num_prefix_tokens
    assert isinstance(n_prefix, int)
    wanted = tokens[:, n_prefix:].transpose(1, 2).reshape(2, -1, 10, 10)
    torch.testing.assert_close(vit(images), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["uni", "ctranspath"])
def test_encoders_with_names_of_their_own_normalize_by_imagenet(name: str) -> None:
    architecture, options = find_encoder(name)
    with torch.device("meta"):
        config = timm.create_model(architecture, pretrained=False, **options).pretrained_cfg
    assert (config["mean"], config["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_random_weights_are_the_same_every_time(vit: PathologyEncoder) -> None:
    before = torch.get_rng_state()
    again = load_encoder(VIT, None)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.fingerprint == vit.fingerprint == compute_fingerprint(vit.network)
    other = load_encoder(VIT, None)
    other.network.load_state_dict(shift_weights(other))
    assert compute_fingerprint(other.network) != vit.fingerprint


@pytest.mark.parametrize("is_trained", [False, True])
def test_it_stays_in_evaluation_mode_and_is_frozen_unless_trained(is_trained: bool) -> None:
    encoder = load_encoder("test_resnet", None, is_trained).train()
    assert not any(module.training for module in encoder.modules())
    features = encoder(make_images(64))
    assert features.requires_grad == is_trained
    assert all(value.requires_grad == is_trained for value in encoder.parameters())
    with torch.no_grad():
        assert not encoder(make_images(64)).requires_grad


@pytest.mark.parametrize(
    "way", ["safetensors", "torch", "model key", "other key", "module. in front", "with a classifier"]
)
def test_weights_are_read_from_files_as_they_are_published(vit: PathologyEncoder, tmp_path: Path, way: str) -> None:
    state = shift_weights(vit)
    path = tmp_path / ("weights.safetensors" if way == "safetensors" else "weights.pth")
    contents = {
        "torch": state,
        "model key": {"model": state},
        "other key": {"teacher": state},
        "module. in front": {f"module.{name}": value for name, value in state.items()},
        "with a classifier": {**state, "head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)},
    }
    if way == "safetensors":
        save_file(state, path)
    else:
        torch.save(contents[way], path)
    notes: list[str] = []
    loaded = load_encoder(VIT, str(path), notes=notes).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert notes == ["the weights were read from its key 'teacher'"] * (way == "other key")


def test_ctranspath_s_published_layout_is_read(tmp_path: Path) -> None:
    encoder = load_encoder("ctranspath", None)
    stem = encoder.network.patch_embed
    assert isinstance(stem, ConvStem)
    assert [name for name, _ in stem.named_parameters()][:3] == ["proj.0.weight", "proj.1.weight", "proj.1.bias"]
    assert [tuple(layer.weight.shape) for layer in stem.proj if isinstance(layer, nn.Conv2d)] == [
        (12, 3, 3, 3), (24, 12, 3, 3), (96, 24, 1, 1),
    ]  # fmt: skip
    state = shift_weights(encoder)
    # As timm 0.5 wrote it: steps down at the end of a stage, and computed buffers beside the weights.
    old = {re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name): value
           for name, value in state.items()}  # fmt: skip
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save({"model": old}, tmp_path / "ctranspath.pth")
    loaded = load_encoder("ctranspath", str(tmp_path / "ctranspath.pth")).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"norm.weight": None}, "1 weights missing .first: norm.weight"),
        ({"other": torch.zeros(1)}, "1 weights unknown .first: other"),
        ({"norm.weight": torch.zeros(7)}, "1 weights of another shape .first: norm.weight"),
    ],
)
def test_weights_of_another_encoder_are_refused(
    vit: PathologyEncoder, tmp_path: Path, change: dict[str, Tensor | None], text: str
) -> None:
    state = {name: value for name, value in {**vit.network.state_dict(), **change}.items() if value is not None}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=text):
        load_encoder(VIT, str(tmp_path / "weights.pth"))


def test_weights_that_are_not_finite_are_refused(vit: PathologyEncoder, tmp_path: Path) -> None:
    state = dict(vit.network.state_dict()) | {"head.weight": torch.full((2, 2), float("inf"))}  # it is left out
    torch.save(state, tmp_path / "weights.pth")
    load_encoder(VIT, str(tmp_path / "weights.pth"))
    torch.save(state | {"norm.weight": state["norm.weight"] * float("nan")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinite: norm.weight \("):
        load_encoder(VIT, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        *((path, "no such file") for path in ("missing.pth", "no/such/file.safetensors", "word")),
        ("folder", "is a folder, not a file"),
        ("pipe.pth", "not a regular file but a pipe"),
    ],
)
def test_a_path_that_is_no_file_is_not_waited_for_or_taken_for_a_hub_id(
    weights: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    os.mkfifo("pipe.pth")
    with pytest.raises(CheckpointError, match=what):
        load_encoder(VIT, str(find_encoder_weights(VIT, weights)))


@pytest.mark.parametrize("name", ["ctranspat", "hf-hub:MahmoodLab/UNI", "a/b", ""])
def test_an_unknown_encoder_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such encoder") as caught:
        load_encoder(name, None)
    if name == "ctranspat":
        assert "ctranspath" in caught.value.findings[0].fix
