"""From a command line to a plan: what is filled in, and that everything wrong is reported at once."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search.command_line.options import SearchOptions
from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.run import main
from search.space.config import find_space
from search.tuning.scheduler import make_scheduler

NAMES = tuple(f"r{number}.png" for number in range(6))
PARAMETER = "optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}"
SPLIT = "split: {train: [r0.png, r1.png], val: [r2.png, r3.png], test: [r4.png, r5.png]}\n"
MakePlan = Callable[..., SearchPlan]
Refuse = Callable[..., str]
WriteSpace = Callable[[str], Path]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six sound regions in two classes, without a dataset.yaml's split."""
    root = tmp_path / "data [1]"  # brackets are markup to a careless screen
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(root / "images" / name)
        mask = np.zeros((64, 80), np.uint8)
        mask[10:40, 10:40], mask[40:60, 40:70] = 1, 2
        Image.fromarray(mask).save(root / "masks" / name)
    (root / "dataset.yaml").write_text("name: small\nclasses: {1: a, 2: b}\n")
    return root


def declare(data: Path, text: str) -> None:
    with (data / "dataset.yaml").open("a") as file:
        file.write(text)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where searches go; the working directory is beside it, so that an MLflow store would be seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def make(storage: Path, data: Path) -> MakePlan:
    given: dict[str, Any] = {"space": "lora.yaml", "data": str(data), "storage": str(storage)}
    return lambda **options: make_plan(SearchOptions(**{**given, **options}))


@pytest.fixture
def refuse(make: MakePlan) -> Refuse:
    """Makes a plan that must fail; returns its findings, a line each."""

    def attempt(**options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            make(**options)
        return str(caught.value)

    return attempt


def save_tiny_like(path: Path) -> Path:
    """A checkpoint with what sets Hiera-tiny apart: the width and the depth of its encoder."""
    trunk = "image_encoder.trunk"
    weights = {f"{trunk}.blocks.{index}.norm1.weight": torch.zeros(1) for index in range(12)}
    torch.save({"model": weights | {f"{trunk}.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}}, path)
    return path


def test_a_sound_command_line_becomes_a_plan_that_the_screen_describes(make: MakePlan, storage: Path) -> None:
    plan = make(name="first", num_trials=3, max_epochs=2, seed=5)
    assert (plan.name, plan.folder, plan.options.seed) == ("first", storage / "first", 5)
    assert (plan.config.num_trials, plan.config.max_epochs) == (3, 2)
    assert (plan.places.experiment, plan.protocol.name, plan.model.checkpoint) == ("lora", "recorded", None)
    assert sum(len(names) for names in plan.data.split.parts.values()) == len(NAMES)
    assert not plan.data.is_demo and not plan.folder.exists()
    assert "demo model" in plan.demo_words and "demo data" not in plan.demo_words
    screen = "\n".join(plan.to_lines())
    assert screen.startswith("DEMO: demo model")
    for word in (plan.data.store.fingerprint, plan.protocol.id, "a, b", "seed 5", str(plan.folder)):
        assert word in screen


def test_experiment_and_protocol_may_differ_from_the_space(make: MakePlan, refuse: Refuse, tmp_path: Path) -> None:
    plan = make(experiment="mine", protocol="box")
    assert (plan.places.experiment, plan.protocol.name) == ("mine", "box")
    assert "has 501 characters" in refuse(experiment="x" * 501)
    text = find_space("lora.yaml").read_text()
    (tmp_path / "long.yaml").write_text(text.replace("\nname: lora\n", f"\nname: {'x' * 501}\n"))
    assert f"long.yaml name {'x' * 40}...: has 501 characters" in refuse(space=str(tmp_path / "long.yaml"))


def test_a_space_names_the_search_and_is_cut_to_less(make: MakePlan, write_space: WriteSpace) -> None:
    points = "start_from: [{optim.lr: 1.0e-3}, {optim.lr: 2.0e-3}, {optim.lr: 3.0e-3}]"
    rungs = "max_epochs: 9\nscheduler: {kind: asha, grace_period: 4}"
    space = write_space(f"name: 'Größe / 2: a search'\nspace: {{{PARAMETER}}}\n{points}\n{rungs}\n")
    plan = make(space=str(space), num_trials=1, max_epochs=2)
    assert plan.name.startswith("Gr-e-2-a-search-20") and len(plan.name.rsplit("-", 2)[1]) == 8
    assert (plan.config.num_trials, len(plan.config.start_from)) == (1, 3)
    assert plan.config.scheduler.grace_period == 2
    make_scheduler(plan.config.scheduler, plan.config.max_epochs)


def test_a_second_plan_reuses_the_decoded_regions(make: MakePlan, storage: Path) -> None:
    assert make().data.store.folder == make().data.store.folder
    assert len(list((storage / ".cache").iterdir())) == 1


def test_the_demo_is_taken_where_no_data_is_given(make: MakePlan, storage: Path, small_root: Path) -> None:
    (storage / ".cache").mkdir(parents=True)
    os.symlink(small_root, storage / ".cache" / "demo-tissue")  # to make the demo itself takes half a minute
    plan = make(data=None)
    assert plan.data.is_demo
    assert "demo data (synthetic tissue) and demo model (nano" in plan.to_lines()[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": "lorra.yaml"}, "did you mean lora.yaml?"),
        ({"model": "nanno"}, "did you mean 'nano'?"),
        ({"protocol": "boxes"}, "did you mean 'box'?"),
        ({"model": "tiny"}, "sam2.1_hiera_tiny.pt"),
        ({"checkpoint": "nowhere.pt"}, "no such file"),
        ({"name": "a/b"}, "--name a/b: must be 1 to 100 letters"),
        ({"name": ""}, "--name : must be"),
        ({"gpus_per_trial": 64.0}, "--gpus-per-trial 64"),
        ({"split": "declared"}, "declares no split"),
        ({"split": "bcss"}, "split.test: is empty"),
        ({"data": "nowhere"}, "there is no such folder"),
        ({"retry_failed": True}, "--retry-failed: is for a search that goes on -> add --resume RUN"),
        ({"folds": 1}, "--folds 1: must be at least 2"),
        ({"folds": 99}, "patient(s)"),
        ({"space": "recorded/v2.yaml", "num_trials": 3}, "--num-trials 3: recorded/v2 is a replay"),
        ({"space": "prompts.yaml", "max_epochs": 3}, "--max-epochs 3: has no effect: prompts trains nothing"),
    ],
)
def test_bad_options_are_reported(options: dict[str, Any], words: str, refuse: Refuse) -> None:
    assert words in refuse(**options)


def test_what_is_in_the_place_of_storage_cache_or_search_is_named(refuse: Refuse, storage: Path) -> None:
    storage.write_text("")
    assert "cannot be made: File exists" in refuse()
    assert "Not a directory" in refuse(storage=str(storage / "below"))
    storage.unlink()
    storage.mkdir()
    (storage / ".cache").write_text("")
    assert ".cache: File exists" in refuse()
    (storage / ".cache").unlink()
    (storage / "taken").mkdir()
    assert "exists already" in refuse(name="taken")


def test_data_that_is_a_file_or_holds_no_images(refuse: Refuse, data: Path) -> None:
    assert "is a file, not a folder" in refuse(data=str(data / "dataset.yaml"))
    assert "the layout is images/ and masks/" in refuse(data=str(data / "images"))
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        path.unlink()
    assert "holds no PNG, JPEG or TIFF" in refuse(data=str(data))


def spoil(data: Path) -> None:
    """Makes one region unreadable, one of two sizes, one without any class, and the validation part empty."""
    (data / "images" / "r0.png").write_bytes(b"no image")
    Image.fromarray(np.ones((10, 20), np.uint8)).save(data / "masks" / "r1.png")
    Image.fromarray(np.full((64, 80), 9, np.uint8)).save(data / "masks" / "r2.png")
    declare(data, f"split: {{train: [{', '.join(NAMES[:5])}], val: [], test: [{NAMES[5]}]}}\n")


DATA_FAULTS = ("r0.png", "80 x 64", "holds none of the classes, only ids 9", "split.val: is empty")


@pytest.mark.parametrize("model", ["nano", "nanno"])
def test_all_faults_of_the_data_are_reported_with_and_without_a_model(model: str, refuse: Refuse, data: Path) -> None:
    spoil(data)
    findings = refuse(model=model)
    assert [fault for fault in DATA_FAULTS if fault not in findings] == []


def test_faults_of_the_data_are_reported_where_the_storage_is_wrong(refuse: Refuse, data: Path, storage: Path) -> None:
    spoil(data)
    storage.write_text("")
    findings = refuse(name="a/b")
    assert [fault for fault in (*DATA_FAULTS, "cannot be made", "--name a/b") if fault not in findings] == []


@pytest.mark.usefixtures("ray_stays_off")
def test_the_command_reports_everything_at_once_and_starts_nothing(
    storage: Path, data: Path, tmp_path: Path, write_space: WriteSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(data)
    space = write_space("num_trails: 3\nspace:\n  adapter.rnak: {choice: [4]}\n")
    other = save_tiny_like(tmp_path / "other.pt")
    code = main(
        [
            *("--space", str(space), "--data", str(data), "--storage", str(storage), "--checkpoint", str(other)),
            *("--protocol", "boxes", "--name", "a b", "--gpus-per-trial", "64"),
            *("--warm-start", "earlier"),
        ]
    )
    screen = capsys.readouterr().err
    assert code == 2
    wanted = (
        *("--warm-start earlier", "no such search"),
        *("tiny.yaml:1", "num_trails", "did you mean 'num_trials'?"),
        *("tiny.yaml:3", "adapter.rnak", "did you mean 'adapter.rank'?"),
        *(fault.split(": ")[0] for fault in DATA_FAULTS),
        *("other.pt", "--model tiny", "--protocol boxes", "--name a b", "--gpus-per-trial 64"),
        *("error: 11 problems", "nothing was started"),
    )
    assert [word for word in wanted if word not in screen] == []
    assert not list(tmp_path.rglob("mlflow.db"))
    assert [path.name for path in storage.iterdir() if path.name != ".cache"] == []


def test_a_patient_in_two_parts_stops_the_run_or_becomes_a_caveat(make: MakePlan, refuse: Refuse, data: Path) -> None:
    declare(data, f"{SPLIT}patients: {{r0.png: P, r4.png: P}}\n")
    findings = refuse()
    assert "patient P stands in 2 parts" in findings and "--allow-leak" in findings
    plan = make(allow_leak=True)
    (caveat,) = plan.caveats
    assert "leak allowed by --allow-leak: patient P" in caveat
    assert any(line.startswith("CAVEAT   leak allowed") for line in plan.to_lines())


def test_folds_pool_train_and_val(make: MakePlan) -> None:
    plan = make(folds=2)
    pooled = {*plan.data.split.train, *plan.data.split.val}
    assert len(plan.data.folds) == 2
    assert sorted(name for fold in plan.data.folds for name in fold.val) == sorted(pooled)
    assert any(line.startswith("folds    2-fold") for line in plan.to_lines())


def test_scales_are_the_trials_and_said(make: MakePlan) -> None:
    plan = make(set=("scales=[1.0, 0.25]",))
    assert plan.make_context(0).scales == (1.0, 0.25)
    assert any(line.startswith("scored   after each epoch at scales 1, 0.25") for line in plan.to_lines())
    assert not any(line.startswith("scored") for line in make(set=("scales=[1.0]",)).to_lines())


def test_copies_that_folds_would_part_stop_the_run(refuse: Refuse, data: Path) -> None:
    (data / "images" / "r1.png").write_bytes((data / "images" / "r0.png").read_bytes())
    declare(data, "split: {train: [r0.png, r1.png, r2.png], val: [r3.png], test: [r4.png, r5.png]}\n")
    assert "the same pixels" in refuse(folds=4)  # each of the four is alone in a fold


def test_tiles_make_the_protocol_and_need_the_scale_that_they_are_meant_at(
    make: MakePlan, refuse: Refuse, data: Path
) -> None:
    plan = make(tiles="32")
    assert plan.protocol.name == "recorded+tiles" and plan.data.store.for_tiles
    lines = "\n".join(plan.to_lines())
    assert "tiles    " in lines and "an epoch draws" in lines and "scale    " not in lines
    assert "um_per_px" in refuse(tiles="32,0.5")
    declare(data, "um_per_px: 0.25\n")
    lines = "\n".join(make(tiles="32,0.5").to_lines())
    assert "scale    0.25 um a pixel (from dataset.yaml)" in lines


def test_regions_that_shrink_are_warned_of_without_tiles(make: MakePlan, data: Path) -> None:
    for folder, mode in (("images", "RGB"), ("masks", "L")):
        file = data / folder / "r0.png"
        with Image.open(file) as picture:
            picture.convert(mode).resize((400, 320), Image.Resampling.NEAREST).save(file)
    warned = [each for each in make().warnings if "shrink" in each.what]
    assert len(warned) == 1 and "1 of 6 regions" in warned[0].what and "--tiles 256" in warned[0].fix
    assert not [each for each in make(tiles="64").warnings if "shrink" in each.what]


def test_findings_name_the_preset_and_the_setting_that_cause_them(refuse: Refuse) -> None:
    assert "--preset quick: has no effect: prompts trains nothing" in refuse(
        space="prompts", preset="quick", max_epochs=2
    )
    found = refuse(set=("sampler.kind=gpp", "optim.lr"), seed=0, model="huge")
    assert "--set sampler.kind: must be one of" in found and "--set optim.lr: has no value" in found and "huge" in found
