"""An export can be loaded and scores what the search's own evaluator gives."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from search.errors import ConfigError
from search.export import main
from search.run_folder.chosen import Chosen
from search.run_folder.search_record import SearchRecord
from search.stages.exporter import TOLERANCE, ExportReport, export_run
from trainables.data.store import RegionStore
from trainables.evaluation.soup_folder import write_soup
from trainables.export.hub_upload import HubUpload
from trainables.export.unmerged import load_unmerged
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.fine_tune import FineTune

Finish = Callable[[str, float], Path]
RECIPES: Mapping[str, Mapping[str, Scalar]] = {
    "lora": {"adapter.rank": 4, "optim.lr": 5e-3, "augment.kind": "none"},
    "bottleneck": {"adapter.kind": "bottleneck", "adapter.rank": 4, "optim.lr": 5e-3, "augment.kind": "none"},
    "fusion": {
        **{"adapter.kind": "none", "fusion.kind": "concat", "fusion.encoder": "test_vit"},
        **{"optim.lr": 5e-3, "augment.kind": "none"},
    },
}


@pytest.fixture(scope="module")
def train(
    small_root: Path,
    small_store: RegionStore,
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., SearchRecord],
) -> Callable[[str], Path]:
    """Makes the folder of a search with a trial of one epoch, once a recipe."""

    @functools.cache
    def make(name: str) -> Path:
        shared = {"store_folder": str(small_store.folder), "train": small_store.names[:1], "seed": 0, "fixed": {}}
        shared |= {"val": small_store.names[1:2], "protocol": PROTOCOLS["box"], "max_epochs": 1}
        record = make_record(shared, data_root=str(small_root), config={"sampler": {"kind": "tpe"}})
        context = record.context
        base, recipe = load_model("nano", None).state_dict(), Recipe.from_flat(RECIPES[name])
        fit = FineTune(context, context.list_folds()[0], base, recipe, torch.device("cpu"))
        fit.train_epoch(0)
        run = tmp_path_factory.mktemp("run")
        (run / "trial").mkdir()
        fit.save(run / "trial")
        record.write(run)
        return run

    return make


@pytest.fixture
def finish(train: Callable[[str], Path], tmp_path: Path, make_chosen: Callable[..., Chosen]) -> Finish:
    """Makes the folder of such a search that has chosen its trial, at a scale."""

    def make(name: str, scale: float) -> Path:
        run = shutil.copytree(train(name), tmp_path / "run")
        chosen = make_chosen(checkpoint="trial", params=RECIPES[name], scale=scale, protocol_id=PROTOCOLS["box"].id)
        chosen.write(run)
        return run

    return make


@pytest.mark.parametrize(
    ("name", "part"), [("bottleneck", "adapters of kind bottleneck"), ("fusion", "a fusion with the encoder test_vit")]
)
def test_what_cannot_be_merged_is_written_as_what_can_be_loaded(
    finish: Finish, tmp_path: Path, name: str, part: str
) -> None:
    report = export_run(finish(name, 1.0), tmp_path / "out")
    assert report.unmergeable == part and abs(report.own_dice - report.stock_dice) <= TOLERANCE
    assert {path.name for path in report.folder.iterdir()} == {"README.md", "adapter", "base.json", "recipe.json"}
    card = (report.folder / "README.md").read_text()
    assert f"There is no `sam2.pt`: {part} cannot be merged" in card
    assert any(f"no sam2.pt: {part}" in line for line in report.to_lines())
    assert load_unmerged(report.folder).image_size == 256


@pytest.mark.parametrize(("name", "scale"), [("lora", 1.0), ("lora", 0.0), ("bottleneck", 0.0), ("fusion", 0.0)])
def test_all_else_is_stock_sam2(finish: Finish, tmp_path: Path, name: str, scale: float) -> None:
    report = export_run(finish(name, scale), tmp_path / "out")
    assert not report.unmergeable and "stock SAM2ImagePredictor" in report.to_lines()[0]
    state = torch.load(report.folder / "sam2.pt", weights_only=True)["model"]
    same = all(torch.equal(value, state[key]) for key, value in load_model("nano", None).state_dict().items())
    assert same == (scale == 0)


def test_a_soup_is_stock_sam2_and_scored_from_its_file(
    finish: Finish, tmp_path: Path, make_chosen: Callable[..., Chosen]
) -> None:
    run = finish("lora", 1.0)
    shutil.copytree(run / "trial", run / "other")
    write_soup(run / "soups" / "seeds", [run / "trial", run / "other"])
    chosen = dataclasses.replace(
        make_chosen(params=RECIPES["lora"], scale=1.25),
        checkpoint="soups/seeds",
        soup="seeds",
        soup_members=("trial abc, seed 1, epoch 1", "trial abc, seed 2, epoch 1"),
    )
    chosen.write(run)
    report = export_run(run, tmp_path / "out")
    assert abs(report.own_dice - report.stock_dice) <= TOLERANCE
    assert {path.name for path in report.folder.iterdir()} >= {"README.md", "adapter", "sam2.pt", "recipe.json"}
    assert json.loads((report.folder / "adapter" / "adapter_config.json").read_text())["r"] == 8
    assert "the mean of the updates of 2 trainings" in (report.folder / "README.md").read_text()


def test_a_folder_that_cannot_be_made_is_found_before_anything_is_computed(
    finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish("lora", 1.0)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("search.stages.exporter._write_model", lambda *_: pytest.fail("it was computed"))
    for name, what in (
        ("file/x", "is no folder"),
        ("/dev/null/x", "is no folder"),
        ("/proc/x", "cannot be made"),
        ("a" * 300, "File name too long"),
        ("\udcff", "surrogates not allowed"),
        ("file", "exists and is no folder"),
        ("run", "exists and is not empty"),
    ):
        assert main(["--run", str(run), "--out", str(tmp_path / name)]) == 2
        assert what in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}


def test_a_format_is_scored_by_its_library_and_what_cannot_hold_the_winner_is_said(
    finish: Finish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish("lora", 1.0)
    assert main(["--run", str(run), "--out", str(tmp_path / "no"), "--format", "qupath", "transformers"]) == 2
    assert "--format qupath" in capsys.readouterr().err and not (tmp_path / "no").exists()
    report = export_run(run, tmp_path / "out", formats=("transformers",))
    assert abs(report.formats["transformers"] - report.stock_dice) <= TOLERANCE
    assert any("transformers/: by Sam2Model of transformers" in line for line in report.to_lines())
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and 'Sam2Model.from_pretrained("transformers")' in card
    with pytest.raises(ConfigError, match="a fusion .* cannot be merged into SAM2's weights"):
        shutil.rmtree(run)
        export_run(finish("fusion", 1.0), tmp_path / "other", formats=("transformers",))


def read_line(answer: str) -> str:
    if answer == "Ctrl-D":
        raise EOFError
    return answer


@pytest.mark.parametrize(
    ("answer", "is_sent"), [("", False), ("no", False), ("Ctrl-D", False), ("y", True), (None, True)]
)
def test_nothing_is_uploaded_without_a_yes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    is_sent: bool,
) -> None:
    sent: list[HubUpload] = []
    monkeypatch.setattr(HubUpload, "send", lambda upload: sent.append(upload) or "https://huggingface.co/ana/tumor")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    (tmp_path / "README.md").write_text("# card")
    report = ExportReport(tmp_path, 0.7, 0.7, "stock SAM2ImagePredictor")
    monkeypatch.setattr("search.export.find_run", lambda *_: tmp_path)
    monkeypatch.setattr("search.stages.exporter.export_run", lambda *_: report)
    monkeypatch.setattr("search.plan.moved_inputs.find_inputs", lambda *_: None)
    command = ["--run", "last", "--out", str(tmp_path), "--push-to-hub", "ana/tumor"]
    if answer is None:
        assert main(command) == 2  # nobody to ask
        assert "add --yes to agree beforehand" in capsys.readouterr().err and not sent
        command.append("--yes")
    else:
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("builtins.input", lambda _: read_line(answer))
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "1 file would be uploaded to ana/tumor" in printed and bool(sent) == is_sent
    assert ("nothing was uploaded" in printed) != is_sent
