"""CLIP by open_clip's own loading code, with a tiny architecture and random weights."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from trainables.clip.model import CONFIG_FILE, check_clip_name, find_clip, load_clip
from trainables.errors import CheckpointError

CPU = torch.device("cpu")


@pytest.fixture
def named_tiny(tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tiny architecture as one of open_clip's names, forgotten after the test."""
    config = json.loads((tiny_clip / CONFIG_FILE).read_text())["model_cfg"]
    (tmp_path / "tiny-test-clip.json").write_text(json.dumps(config))
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(tmp_path / "tiny-test-clip.json")
    yield "tiny-test-clip"


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_clip(None, str(folder), CPU).network.state_dict())


def refuse(name: str | None, weights: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_clip(name, str(weights), CPU)
    return str(caught.value)


def test_a_folder_says_what_its_weights_are(tiny_clip: Path) -> None:
    clip = load_clip(None, str(tiny_clip), CPU)
    assert clip.name == tiny_clip.name
    assert clip.mean == (0.5, 0.25, 0.75)  # of the folder's own configuration
    assert not clip.network.training
    assert not any(parameter.requires_grad for parameter in clip.network.parameters())


@pytest.mark.parametrize("kind", [".safetensors", ".pt", "training checkpoint"])
def test_all_kinds_of_file_give_the_same_features(tiny_clip: Path, named_tiny: str, tmp_path: Path, kind: str) -> None:
    state = read_state(tiny_clip)
    if kind == ".safetensors":
        path = tmp_path / "clip.safetensors"
        save_file(state, path)
    else:
        path = tmp_path / "clip.pt"
        torch.save(state if kind == ".pt" else {"epoch": 3, "state_dict": state}, path)
    clip = load_clip(named_tiny, str(path), CPU)
    assert (clip.name, clip.network.visual.preprocess_cfg["size"]) == (named_tiny, (32, 32))
    assert all(torch.equal(value, state[key]) for key, value in clip.network.state_dict().items())
    tokens, pixels = clip.tokenize(["a text"]), torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    reference = load_clip(None, str(tiny_clip), CPU)
    assert torch.equal(clip.network.encode_image(pixels), reference.network.encode_image(pixels))
    assert torch.equal(clip.network.encode_text(tokens), reference.network.encode_text(reference.tokenize(["a text"])))


def test_pictures_are_prepared_as_open_clip_knows_for_an_architecture() -> None:
    from trainables.clip.model import _find_preprocessing

    assert _find_preprocessing("ViT-B-16-SigLIP")["image_mean"] == (0.5, 0.5, 0.5)
    assert _find_preprocessing("ViT-B-32")["image_mean"] == open_clip.OPENAI_DATASET_MEAN
    assert _find_preprocessing("ViT-L-14") == {}  # its weights differ: nothing is assumed of an unknown file


class RunsOnOpening:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
def test_code_in_a_file_never_runs(tiny_clip: Path, named_tiny: str, tmp_path: Path, suffix: str) -> None:
    trap, weights = tmp_path / "ran", tmp_path / f"clip{suffix}"
    torch.save({"state_dict": RunsOnOpening(trap)}, weights)
    assert "it was not opened" in refuse(named_tiny, weights)
    weights.write_bytes(pickle.dumps(RunsOnOpening(trap)))
    assert "it was not opened" in refuse(named_tiny, weights)
    shutil.copy(tiny_clip / CONFIG_FILE, tmp_path)
    torch.save(RunsOnOpening(trap), tmp_path / "open_clip_pytorch_model.bin")
    assert "it was not opened" in refuse(None, tmp_path)
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_torchscript_archive_is_refused(named_tiny: str, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "clip.pt")
    assert "TorchScript" in refuse(named_tiny, tmp_path / "clip.pt")


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused(named_tiny: str, tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    said = refuse(named_tiny, path)
    assert str(path) in said and "->" in said


@pytest.mark.parametrize("form", ["file", "folder"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("pipe", "not a regular file but a pipe"),
        ("flipped byte", "the checksum does not fit"),
        ("nan", "NaN or infinite: visual.proj (1 of"),
    ],
)
def test_files_that_loaders_wait_for_or_misread_are_refused(
    tiny_clip: Path, named_tiny: str, tmp_path: Path, form: str, fault: str, words: str
) -> None:
    state = read_state(tiny_clip)
    shutil.copy(tiny_clip / CONFIG_FILE, tmp_path)
    path = tmp_path / "open_clip_pytorch_model.bin"
    if fault == "nan":
        state["visual.proj"].view(-1)[3] = float("nan")
    torch.save(state, path)
    if fault == "flipped byte":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif fault == "pipe":
        path.unlink()
        os.mkfifo(path)
    assert words in (refuse(named_tiny, path) if form == "file" else refuse(None, tmp_path))


@pytest.mark.parametrize("change", ["missing", "surplus", "reshaped"])
def test_weights_must_all_fit(tiny_clip: Path, named_tiny: str, tmp_path: Path, change: str) -> None:
    state = read_state(tiny_clip)
    if change == "missing":
        del state["visual.proj"]
    elif change == "surplus":
        state["visual.more"] = torch.zeros(1)
    else:
        state["visual.proj"] = state["visual.proj"][1:]
    save_file(state, tmp_path / "open_clip_model.safetensors")
    error = refuse(named_tiny, tmp_path / "open_clip_model.safetensors")
    assert f"does not fit the model {named_tiny}" in error and "--clip-model" in error
    shutil.copy(tiny_clip / CONFIG_FILE, tmp_path)
    assert "visual." in refuse(None, tmp_path)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(CheckpointError, match=r"ViT-B32.*did you mean 'ViT-B-32'"):
        check_clip_name("ViT-B32")


@pytest.mark.parametrize("weights", ["missing.pt", "models/clip.pt", "models/clip.safetensors", "a/b/c", "", "word"])
def test_what_is_no_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    monkeypatch.chdir(tmp_path)
    said = refuse(None, weights)
    assert "no such file" in said or "holds no" in said  # "" is the folder one stands in


def test_a_folder_s_own_architecture_may_be_named_and_no_other(tiny_clip: Path, named_tiny: str) -> None:
    assert load_clip(named_tiny, str(tiny_clip), CPU).name == named_tiny
    said = refuse("ViT-B-32", tiny_clip)
    assert "another model than ViT-B-32" in said and "leave --clip-model out" in said


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_cfg": []}', "[" * 100_000])
def test_a_folder_without_configuration_or_weights_is_refused(
    tiny_clip: Path, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / CONFIG_FILE).write_text(content)
    assert CONFIG_FILE in refuse(None, tmp_path)
    shutil.copy(tiny_clip / CONFIG_FILE, tmp_path)
    assert "holds no .safetensors" in refuse(None, tmp_path)


def test_a_file_is_of_vit_b_32_unless_said_and_refused_where_its_texts_need_the_hub(tmp_path: Path) -> None:
    path = tmp_path / "clip.pt"
    path.write_bytes(b"never read")
    assert find_clip(None, str(path)).architecture == "ViT-B-32"
    for name in ("ViT-B-16-SigLIP", "roberta-ViT-B-32"):
        assert "would have to be fetched" in refuse(name, path)


def test_a_hub_id_is_found_in_the_local_cache_or_refused(tiny_clip: Path, offline_hub: Callable[[str], Path]) -> None:
    shutil.copytree(tiny_clip, offline_hub("lab/clip"), dirs_exist_ok=True)
    for hub_id in ("lab/clip", "hf-hub:lab/clip"):
        assert load_clip(None, hub_id, CPU).name == "lab/clip"
    said = refuse(None, "lab/other")
    assert "--clip-weights lab/other" in said and "not in the local cache" in said
