import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_sam2 import build_bare
from torch import Tensor

from trainables.errors import CheckpointError
from trainables.model.build import MODELS, build_architecture
from trainables.model.weights import (
    NANO_WEIGHTS,
    find_model,
    find_weights,
    guess_model,
    load_model,
    load_strictly,
    read_weights,
)

TINY_ID = "facebook/sam2.1-hiera-tiny"
FORMS = ["model key", "bare", "old format", "safetensors"]
State = dict[str, Tensor]


class Intruder:
    """Unpickled, it would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def nano_state() -> State:
    return dict(build_bare().state_dict())


def write(folder: Path, content: object, form: str = "bare") -> Path:
    path = folder / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(content, path)
    else:
        whole = content if form == "bare" else {"model": content}
        torch.save(whole, path, _use_new_zipfile_serialization=form != "old format")
    return path


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    assert find_model("tiny") is MODELS["tiny"]
    with pytest.raises(CheckpointError, match="--model tinny: no such model -> did you mean 'tiny'"):
        find_model("tinny")


def test_nano_needs_no_checkpoint_and_loads_strictly() -> None:
    assert find_weights(MODELS["nano"], None) == NANO_WEIGHTS
    model = load_model("nano", None)
    assert not model.training
    shipped = read_weights(NANO_WEIGHTS)
    assert all(torch.equal(value, shipped[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if not spec.is_demo])
def test_a_stock_model_without_weights_says_where_to_get_them(name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"sam2\.1_hiera_{re.escape(name)}\.pt .*{MODELS[name].hub_id}"):
        find_weights(MODELS[name], None)


@pytest.mark.parametrize("given", ["missing.pt", "facebook/sam2.1-hiera-gigantic", "missing/"])
def test_what_is_neither_file_nor_hub_id_is_refused(given: str) -> None:
    with pytest.raises(CheckpointError, match=f"{given}: no such file, and not a SAM2 hub id"):
        find_weights(MODELS["tiny"], given)


def test_a_path_may_be_relative_or_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("weights.pt", "~/weights.pt", str(tmp_path / "weights.pt")):
        assert find_weights(MODELS["nano"], given) == (tmp_path / "weights.pt").resolve()


@pytest.mark.parametrize("form", FORMS)
def test_weights_come_back_exactly(nano_state: State, tmp_path: Path, form: str) -> None:
    loaded = load_model("nano", str(write(tmp_path, nano_state, form))).state_dict()
    assert list(loaded) == list(nano_state)
    assert all(torch.equal(loaded[name], nano_state[name]) for name in nano_state)
    half = read_weights(write(tmp_path, {"a": torch.ones(3, dtype=torch.bfloat16)}, form))
    assert half["a"].dtype == torch.float32 and half["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("n_bytes", [0, 1, 60, 5_000, -1])
@pytest.mark.parametrize("form", FORMS[1:])
def test_truncated_files_are_refused(tmp_path: Path, form: str, n_bytes: int) -> None:
    path = write(tmp_path, {"weight": torch.randn(64, 64)}, form)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match="cannot be read as weights|is not a checkpoint") as caught:
        read_weights(path)
    assert caught.value.findings[0].where == str(path)
    if n_bytes == 0:
        assert re.search(r"\(0 bytes; truncated\?\): \S.* -> download it again", str(caught.value))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path, {"a": torch.zeros(40)}, "old format")
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(40):
        damaged = bytearray(whole)
        for position in torch.randint(len(whole), (3,), generator=generator).tolist():
            damaged[position] = int(torch.randint(256, (1,), generator=generator))
        path.write_bytes(damaged)
        try:
            assert all(isinstance(value, Tensor) for value in read_weights(path).values())
        except CheckpointError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ""])
def test_a_web_page_saved_by_mistake_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(CheckpointError, match="is not a checkpoint|cannot be read"):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w\.pt: no such file"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_weights(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["model key", "old format", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, content = tmp_path / "w.pt", {"a": Intruder(tmp_path / "mark")}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": content}))
    else:
        write(tmp_path, content, form)
    with pytest.raises(CheckpointError, match=r"holds more than weights.*\b(getattr|use a file you trust)"):
        load_model("nano", str(path))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"model": {}},
        {"model": 3},
        {"model": {"a": 1.0}},
        {"model": {1: torch.ones(1)}},
        [torch.ones(1)],
        torch.ones(1),
    ],
)
def test_a_file_without_state_dictionary_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(CheckpointError, match="holds no state dictionary"):
        read_weights(write(tmp_path, content))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("name", list(MODELS))
def test_weights_show_their_model(name: str) -> None:
    assert guess_model(build_architecture(MODELS[name]).state_dict()) == name


@pytest.mark.parametrize("name", ["image_encoder.trunk.patch_embed.proj.weight", "other"])
def test_strange_weights_are_nobody_s(name: str) -> None:
    assert guess_model({name: torch.zeros(48, 3, 7, 7)}) is None


@pytest.mark.usefixtures("no_weights")
def test_a_checkpoint_of_another_size_names_the_model_that_fits(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit the model 'tiny'.*pass --model nano") as caught:
        load_model("tiny", str(NANO_WEIGHTS))
    assert all(f"weights {what} (first: " in str(caught.value) for what in ("missing", "of another shape"))
    small, tiny = (build_architecture(MODELS[name]) for name in ("small", "tiny"))  # they differ in depth alone
    with pytest.raises(CheckpointError, match="weights unknown .* -> it looks like small: pass --model small"):
        load_strictly(tiny, small.state_dict(), MODELS["tiny"], tmp_path / "w.pt")


def test_an_older_checkpoint_does_not_suggest_the_model_in_use(nano_state: State, tmp_path: Path) -> None:
    older = {name: value for name, value in nano_state.items() if not name.startswith("obj_ptr_tpos_proj")}
    with pytest.raises(CheckpointError, match=r"2 weights missing \(first: obj_ptr_tpos_proj") as caught:
        load_model("nano", str(write(tmp_path, older)))
    assert "SAM2.0" in str(caught.value) and "pass --model" not in str(caught.value)


@pytest.mark.usefixtures("offline_hub")
def test_a_hub_id_without_a_connection_fails_within_seconds() -> None:
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match=f"{TINY_ID}: could not be fetched .* pass their path"):
        load_model("tiny", TINY_ID)
    assert time.perf_counter() - start < 5


def test_a_hub_id_is_found_in_the_local_cache(offline_hub: Callable[[str], Path]) -> None:
    (offline_hub(TINY_ID) / "sam2.1_hiera_tiny.pt").write_bytes(b"weights")
    assert find_weights(MODELS["tiny"], TINY_ID).read_bytes() == b"weights"


@pytest.mark.usefixtures("offline_hub")
@pytest.mark.parametrize(
    ("name", "hub_id", "text"),
    [
        ("tiny", "facebook/sam2.1-hiera-large", "holds large weights, not those of tiny -> pass --model large"),
        ("nano", TINY_ID, "holds tiny weights, not those of nano -> pass --model tiny"),
        ("tiny", "facebook/sam2-hiera-tiny", f"holds SAM2.0 weights, .* -> pass --checkpoint {TINY_ID}"),
    ],
)
def test_another_model_s_hub_id_is_not_downloaded(name: str, hub_id: str, text: str) -> None:
    with pytest.raises(CheckpointError, match=text):
        find_weights(MODELS[name], hub_id)
