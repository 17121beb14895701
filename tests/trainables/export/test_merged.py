import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from trainables.context import ADAPTER_FOLDER, TrialContext
from trainables.errors import InputError, TrainablesError
from trainables.evaluation.candidates import load_adapted, load_candidate, score_candidate
from trainables.evaluation.soup_folder import write_soup
from trainables.export.merged import CONFIG_FILE, MERGED_FILE, load_merged, score_merged, write_merged
from trainables.model.forward import decode_prompts, encode_images
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Scalar

Make = Callable[..., Path]
KINDS = ("lora", "rslora", "dora", "pissa", "loha", "lokr")


@pytest.fixture
def context(context: TrialContext) -> TrialContext:
    return replace(context, protocol=PROTOCOLS["box"])


@torch.no_grad()
def predict(model: SAM2Base) -> Tensor:
    """Logits of three candidate masks of two prompts in one image, for a model in evaluation mode."""
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[[40.0, 50], [200, 180]], [[20, 30], [90, 90]]])
    labels = torch.tensor([[2, 3]] * 2, dtype=torch.int32)
    features = encode_images(model.eval(), image)
    return decode_prompts(model, features, torch.tensor([0, 0]), points, labels).logits


@pytest.fixture
def export(context: TrialContext, make_checkpoint: Make, tmp_path: Path) -> Make:
    """Exports such a checkpoint at a scale; returns the folder."""

    def write(kind: str, scale: float = 1.0, **fields: Scalar) -> Path:
        write_merged(context, make_checkpoint(kind, **fields), tmp_path, scale)
        assert (tmp_path / MERGED_FILE).is_file() and (tmp_path / ADAPTER_FOLDER).is_dir()
        assert (tmp_path / CONFIG_FILE).read_text().strip() == "sam2_nano.yaml"
        return tmp_path

    return write


def load_by_peft(folder: Path) -> SAM2Base:
    """The stock base with the exported adapter on it, by PEFT alone, not merged."""
    bare: Any = load_model("nano", None)  # PEFT asks for one of transformers' models, and takes any
    base = PeftModel.from_pretrained(bare, str(folder / ADAPTER_FOLDER)).get_base_model()
    assert isinstance(base, SAM2Base)
    return base


@pytest.mark.parametrize(
    ("kinds", "has_adapter", "scale"),
    [
        (("lora", "rslora"), True, 0.5),
        (("lora", "rslora"), True, 1.0),
        (("none", "none"), False, 0.5),
        (("dora", "lora"), False, 0.5),
        (("pissa", "pissa"), False, 1.0),
    ],
)
def test_a_soup_is_exported_with_one_adapter_where_its_members_can_be_joined(
    context: TrialContext,
    make_checkpoint: Make,
    tmp_path: Path,
    kinds: tuple[str, str],
    has_adapter: bool,
    scale: float,
) -> None:
    members = [make_checkpoint(kind, name=f"m{i}", seed=i, rank=4 + 4 * i, alpha=6.0) for i, kind in enumerate(kinds)]
    write_soup(tmp_path / "soup", members)
    out = tmp_path / "out"
    out.mkdir()
    write_merged(context, tmp_path / "soup", out, scale)
    merged = load_merged(context, out)
    assert same_bits(read_merged(out), load_candidate(context, tmp_path / "soup", scale).state_dict())
    one, two = (load_candidate(context, member, 0.5).state_dict() for member in members)
    if scale == 1:  # the mean of two updates is the sum of their halves
        base = load_model("nano", None).state_dict()
        for name, value in merged.state_dict().items():
            torch.testing.assert_close(value, one[name] + two[name] - base[name], rtol=1e-4, atol=1e-5)
    if has_adapter:
        by_peft, wanted = predict(load_by_peft(out)), predict(merged)
        torch.testing.assert_close(by_peft, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    has_folder = has_adapter or kinds == ("none", "none")
    assert (out / ADAPTER_FOLDER).is_dir() == has_folder


def same_bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return set(left) == set(right) and all(torch.equal(left[name], right[name]) for name in left)


def read_merged(folder: Path) -> dict[str, Tensor]:
    content = torch.load(folder / MERGED_FILE, weights_only=True)
    assert set(content) == {"model"}
    return dict(content["model"])


@pytest.mark.parametrize(
    ("kind", "scale"),
    [*((kind, 0.5) for kind in KINDS), ("lora", 0.0), ("lora", 1.0), *((k, 1.25) for k in ("lora", "dora", "pissa"))],
)
def test_peft_makes_the_merged_model_of_the_base(context: TrialContext, export: Make, kind: str, scale: float) -> None:
    folder = export(kind, scale)
    merged, by_peft = predict(load_merged(context, folder)), predict(load_by_peft(folder))
    reach = float(merged.abs().max())
    torch.testing.assert_close(by_peft / reach, merged / reach, rtol=0, atol=1e-5)
    moved = float((merged - predict(load_model("nano", None))).abs().max())
    assert moved == 0 if scale == 0 else moved > 0.01 * reach


@pytest.mark.parametrize(("kind", "scale"), [("pissa", 0.5), ("pissa", 1.0), ("dora", 0.5), ("loha", 0.5)])
def test_a_rank_above_a_layer_s_smaller_side_is_exported_all_the_same(
    context: TrialContext, export: Make, kind: str, scale: float
) -> None:
    folder = export(kind, scale, rank=64)
    merged, by_peft = predict(load_merged(context, folder)), predict(load_by_peft(folder))
    torch.testing.assert_close(by_peft, merged, rtol=0, atol=1e-5 * float(merged.abs().max()))


@pytest.mark.parametrize(
    ("spoil", "text"), [(lambda value: value[:1], "PEFT cannot load"), (lambda value: 2 * value, "another model")]
)
def test_an_adapter_that_peft_does_not_make_the_merged_model_of_is_not_exported(
    export: Make, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor], text: str
) -> None:
    monkeypatch.setattr(
        "trainables.export.merged.interpolate_adapter",
        lambda state, config, *_: ({name: spoil(value) for name, value in state.items()}, config),
    )
    with pytest.raises(TrainablesError, match=text):
        export("lora", 0.5)


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_files_may_be_read_by_whom_the_umask_allows(export: Make, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = export("lora", 0.5)
    finally:
        os.umask(before)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}


@pytest.mark.parametrize("part", ["train_heads", "train_decoder", "train_encoder"])
def test_parts_that_were_trained_in_full_are_interpolated(context: TrialContext, export: Make, part: str) -> None:
    folder = export("lora", 0.5, **{part: part != "train_heads"})
    merged, by_peft = predict(load_merged(context, folder)), predict(load_by_peft(folder))
    torch.testing.assert_close(by_peft, merged, rtol=1e-5, atol=1e-5 * float(merged.abs().max()))


@pytest.mark.parametrize("kind", ["lora", "pissa", "none"])
def test_scale_0_writes_the_zero_shot_weights_bit_for_bit(export: Make, kind: str) -> None:
    assert same_bits(read_merged(export(kind, 0.0)), load_model("nano", None).state_dict())


def test_the_file_holds_what_is_scored(context: TrialContext, export: Make, tmp_path: Path) -> None:
    merged = read_merged(export("lora", 0.75))
    assert same_bits(merged, load_candidate(context, tmp_path / "checkpoint", 0.75).cpu().state_dict())


def test_at_scale_1_the_adapter_is_the_trial_s_own(export: Make, tmp_path: Path) -> None:
    for file in (export("pissa") / ADAPTER_FOLDER).iterdir():
        assert file.read_bytes() == (tmp_path / "checkpoint" / ADAPTER_FOLDER / file.name).read_bytes()


def test_without_adapters_the_folder_holds_the_interpolated_parts(export: Make) -> None:
    folder = export("none", 0.5)
    parts, merged = load_file(folder / ADAPTER_FOLDER / "adapter_model.safetensors"), read_merged(folder)
    assert parts and all(torch.equal(value, merged[name]) for name, value in parts.items())


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_the_adapter_beside_the_weights_is_the_merged_model_but_for_rounding(
    context: TrialContext, make_checkpoint: Make, kind: str
) -> None:
    checkpoint = make_checkpoint(kind)
    beside = predict(load_candidate(context, checkpoint).cpu())
    merged = predict(load_candidate(context, checkpoint, 1 + 1e-9).cpu())
    reach = float(beside.abs().max())
    torch.testing.assert_close(merged / reach, beside / reach, rtol=0, atol=1e-5)


def test_stock_sam2_scores_the_file_as_the_candidate(context: TrialContext, export: Make, tissue_root: Path) -> None:
    folder = export("lora", 0.5)
    own = score_candidate(context, folder / "checkpoint", context.val, 0.5)
    assert score_merged(context, folder, tissue_root).dice == pytest.approx(own.dice, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "scale", "words"),
    [
        ("lora", -0.5, "0 <= scale"),
        ("bottleneck", 0.5, "bottleneck cannot be merged"),
        ("bottleneck", 1.0, "bottleneck cannot be merged"),
    ],
)
def test_a_scale_below_0_and_what_cannot_be_merged_are_refused(
    context: TrialContext, make_checkpoint: Make, tmp_path: Path, kind: str, scale: float, words: str
) -> None:
    checkpoint = make_checkpoint(kind)
    with pytest.raises((InputError, TrainablesError), match=words):
        write_merged(context, checkpoint, tmp_path, scale)
    assert kind == "bottleneck" or [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
    assert load_adapted(context, checkpoint).recipe.kind == kind
