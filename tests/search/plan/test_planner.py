"""From a command line to a plan: what is filled in, and that everything in the way is reported at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search.command_line.options import SearchOptions, make_parser, parse_options
from search.errors import ConfigError
from search.plan.planner import make_plan
from search.plan.search_plan import SearchPlan
from search.run import main
from search.space.config import find_space
from search.tuning.scheduler import make_scheduler
from trainables.errors import Finding

NAMES = tuple(f"r{number}.png" for number in range(6))
PARAMETER = "optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}"


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


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where searches go; the working directory is beside it, so that an MLflow store would be seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def plan(storage: Path, data: Path) -> Callable[..., SearchPlan]:
    def make(*options: str) -> SearchPlan:
        given = {"--space": "lora.yaml", "--data": str(data), "--storage": str(storage)}
        given |= dict(zip(options[::2], options[1::2], strict=True))
        return make_plan(parse_options(make_parser(), [word for pair in given.items() for word in pair]))

    return make


@pytest.fixture
def refuse(plan: Callable[..., SearchPlan]) -> Callable[..., str]:
    """Makes a plan that must fail; returns its findings, a line each."""

    def make(*options: str) -> str:
        with pytest.raises(ConfigError) as caught:
            plan(*options)
        return str(caught.value)

    return make


def write_space(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def save_tiny_like(path: Path) -> Path:
    """A checkpoint with what sets Hiera-tiny apart: the width and the depth of its encoder."""
    trunk = "image_encoder.trunk"
    weights = {f"{trunk}.blocks.{index}.norm1.weight": torch.zeros(1) for index in range(12)}
    torch.save({"model": weights | {f"{trunk}.patch_embed.proj.weight": torch.zeros(96, 3, 7, 7)}}, path)
    return path


def test_a_sound_command_line_becomes_a_plan(plan: Callable[..., SearchPlan], storage: Path) -> None:
    made = plan("--name", "first", "--num-trials", "3", "--max-epochs", "2", "--seed", "5", "--time-budget", "2m")
    assert made.folder == storage / "first"
    assert (made.config.num_trials, made.config.max_epochs) == (3, 2)
    assert (made.options.seed, made.options.time_budget) == (5, 120)
    assert (made.places.experiment, made.protocol.name, made.model.checkpoint) == ("lora", "recorded", None)
    assert sum(len(names) for names in made.data.split.parts.values()) == len(NAMES)
    assert not made.data.is_demo
    assert "demo model" in made.demo_words and "demo data" not in made.demo_words
    assert not made.folder.exists()


def test_the_screen_says_what_was_read(plan: Callable[..., SearchPlan], data: Path) -> None:
    made = plan("--name", "first")
    said = "\n".join(made.to_lines())
    assert said.startswith("DEMO: demo model")
    for word in (made.data.store.fingerprint, made.protocol.id, "a, b", "seed 0", str(made.folder)):
        assert word in said


def test_experiment_and_protocol_may_differ_from_the_space(plan: Callable[..., SearchPlan], tmp_path: Path) -> None:
    made = plan("--experiment", "mine", "--protocol", "box")
    assert (made.places.experiment, made.protocol.name) == ("mine", "box")
    with pytest.raises(ConfigError, match="has 501 characters"):
        plan("--experiment", "x" * 501)
    text = find_space("lora.yaml").read_text()
    (tmp_path / "long.yaml").write_text(text.replace("\nname: lora\n", f"\nname: {'x' * 501}\n"))
    with pytest.raises(ConfigError, match=r"long.yaml name x{40}\.\.\.: has 501 characters"):
        plan("--space", str(tmp_path / "long.yaml"))


def test_names_without_name_are_made_from_space_and_time(
    plan: Callable[..., SearchPlan], tmp_path: Path
) -> None:
    space = write_space(tmp_path, f"name: 'Größe / 2: a search'\nspace: {{{PARAMETER}}}\n")
    name = plan("--space", space).name
    assert name.startswith("Gr-e-2-a-search-20")
    assert len(name.rsplit("-", 2)[1]) == 8


def test_the_grace_period_is_clipped_to_fewer_epochs(plan: Callable[..., SearchPlan], tmp_path: Path) -> None:
    text = f"max_epochs: 9\nscheduler: {{kind: asha, grace_period: 4}}\nspace: {{{PARAMETER}}}\n"
    config = plan("--space", write_space(tmp_path, text), "--max-epochs", "2").config
    assert config.scheduler.grace_period == 2
    make_scheduler("asha", config.max_epochs, config.scheduler.grace_period)


def test_more_starting_points_than_trials_are_no_error(plan: Callable[..., SearchPlan], tmp_path: Path) -> None:
    points = "start_from: [{optim.lr: 1.0e-3}, {optim.lr: 2.0e-3}, {optim.lr: 3.0e-3}]"
    config = plan("--space", write_space(tmp_path, f"space: {{{PARAMETER}}}\n{points}\n"), "--num-trials", "1").config
    assert (config.num_trials, len(config.start_from)) == (1, 3)


def test_a_second_plan_reuses_the_decoded_regions(plan: Callable[..., SearchPlan], storage: Path) -> None:
    first, second = plan(), plan()
    assert first.data.store.folder == second.data.store.folder
    assert len(list((storage / ".cache").iterdir())) == 1


def test_the_demo_is_made_where_no_data_is_given(storage: Path, demo_root: Path) -> None:
    (storage / ".cache").mkdir(parents=True)
    os.symlink(demo_root, storage / ".cache" / "demo-tissue")  # made once a test session: it takes seconds
    made = make_plan(SearchOptions(space="lora", storage=str(storage)))
    assert made.data.is_demo
    assert "demo data (synthetic tissue) and demo model (nano" in made.to_lines()[0]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--space", "lorra.yaml"), "did you mean lora.yaml?"),
        (("--model", "nanno"), "did you mean 'nano'?"),
        (("--protocol", "boxes"), "did you mean 'box'?"),
        (("--model", "tiny"), "sam2.1_hiera_tiny.pt"),
        (("--checkpoint", "nowhere.pt"), "no such file"),
        (("--name", "a/b"), "--name a/b: must be 1 to 100 letters"),
        (("--name", ".."), "--name ..: must be"),
        (("--name", ""), "--name : must be"),
        (("--name", "x" * 101), "must be 1 to 100"),
        (("--gpus-per-trial", "64"), "--gpus-per-trial 64"),
        (("--split", "declared"), "declares no split"),
        (("--split", "bcss"), "split.test: is empty"),
        (("--data", "nowhere"), "there is no such folder"),
    ],
)
def test_bad_options_are_reported(options: tuple[str, str], found: str, refuse: Callable[..., str]) -> None:
    assert found in refuse(*options)


def test_a_taken_name_is_refused(refuse: Callable[..., str], storage: Path) -> None:
    (storage / "taken").mkdir(parents=True)
    assert "exists already" in refuse("--name", "taken")


def test_a_file_in_the_place_of_the_storage(refuse: Callable[..., str], storage: Path) -> None:
    storage.write_text("")
    assert "cannot be made: File exists" in refuse()
    assert "Not a directory" in refuse("--storage", str(storage / "below"))


def test_a_file_in_the_place_of_the_cache(refuse: Callable[..., str], storage: Path) -> None:
    storage.mkdir()
    (storage / ".cache").write_text("")
    assert ".cache: File exists" in refuse()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_storage_that_cannot_be_written(refuse: Callable[..., str], storage: Path) -> None:
    storage.mkdir(mode=0o500)
    assert "cannot be written to" in refuse()


def test_data_that_is_a_file_or_holds_no_images(refuse: Callable[..., str], data: Path, tmp_path: Path) -> None:
    assert "is a file, not a folder" in refuse("--data", str(data / "dataset.yaml"))
    assert "the layout is images/ and masks/" in refuse("--data", str(data / "images"))
    for path in [*(data / "images").iterdir(), *(data / "masks").iterdir()]:
        path.unlink()
    assert "holds no PNG, JPEG or TIFF" in refuse("--data", str(data))


def test_a_truncated_checkpoint(refuse: Callable[..., str], tmp_path: Path) -> None:
    path = save_tiny_like(tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated?" in refuse("--checkpoint", str(path))


def spoil(data: Path) -> None:
    """Makes one region unreadable, one of two sizes, one without any class, and the validation part empty."""
    (data / "images" / "r0.png").write_bytes(b"no image")
    Image.fromarray(np.ones((10, 20), np.uint8)).save(data / "masks" / "r1.png")
    Image.fromarray(np.full((64, 80), 9, np.uint8)).save(data / "masks" / "r2.png")
    split = f"split: {{train: [{', '.join(NAMES[:5])}], val: [], test: [{NAMES[5]}]}}\n"
    with (data / "dataset.yaml").open("a") as file:
        file.write(split)


DATA_FAULTS = ("r0.png", "80 x 64", "holds none of the classes, only ids 9", "split.val: is empty")


@pytest.mark.parametrize("model", ["nano", "nanno"])
def test_all_faults_of_the_data_are_reported_with_and_without_a_model(
    model: str, refuse: Callable[..., str], data: Path
) -> None:
    spoil(data)
    said = refuse("--model", model)
    assert [fault for fault in DATA_FAULTS if fault not in said] == []


def test_faults_of_the_data_are_reported_where_the_storage_is_wrong_too(
    refuse: Callable[..., str], data: Path, storage: Path
) -> None:
    spoil(data)
    storage.write_text("")
    said = refuse("--name", "a/b")
    assert [fault for fault in (*DATA_FAULTS, "cannot be made", "--name a/b") if fault not in said] == []


def test_the_command_reports_everything_at_once_and_starts_nothing(
    storage: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_stays_off: None
) -> None:
    spoil(data)
    space = write_space(tmp_path, "num_trails: 3\nspace:\n  adapter.rnak: {choice: [4]}\n")
    other = save_tiny_like(tmp_path / "other.pt")
    code = main(
        [
            *("--space", space, "--data", str(data), "--storage", str(storage), "--checkpoint", str(other)),
            *("--protocol", "boxes", "--name", "a b", "--gpus-per-trial", "64"),
        ]
    )
    said = capsys.readouterr().err
    assert code == 2
    wanted = (
        *("mine.yaml:1", "num_trails", "did you mean 'num_trials'?"),
        *("mine.yaml:3", "adapter.rnak", "did you mean 'adapter.rank'?"),
        *(fault.split(": ")[0] for fault in DATA_FAULTS),
        *("other.pt", "--model tiny", "--protocol boxes", "--name a b", "--gpus-per-trial 64"),
        *("error: 10 problems", "nothing was started"),
    )
    assert [word for word in wanted if word not in said] == []
    assert not list(tmp_path.rglob("mlflow.db"))
    assert [path.name for path in storage.iterdir() if path.name != ".cache"] == []


def test_every_finding_says_what_to_do(plan: Callable[..., SearchPlan], data: Path) -> None:
    spoil(data)
    with pytest.raises(ConfigError) as caught:
        plan("--name", "a b", "--model", "nanno")
    assert all(isinstance(each, Finding) and each.where and each.what and each.fix for each in caught.value.findings)


def leak_patient(data: Path) -> None:
    """Splits one patient's two regions between training and test."""
    split = "split: {train: [r0.png, r1.png], val: [r2.png, r3.png], test: [r4.png, r5.png]}\n"
    patients = "patients: {r0.png: P, r4.png: P}\n"
    (data / "dataset.yaml").write_text(f"name: small\nclasses: {{1: a, 2: b}}\n{split}{patients}")


def test_a_patient_in_two_parts_stops_the_run(refuse: Callable[..., str], data: Path) -> None:
    leak_patient(data)
    said = refuse()
    assert "patient P stands in 2 parts" in said
    assert "--allow-leak" in said


def test_the_same_pixels_under_two_names_stop_the_run_too(refuse: Callable[..., str], data: Path) -> None:
    (data / "images" / "r4.png").write_bytes((data / "images" / "r0.png").read_bytes())
    split = "split: {train: [r0.png, r1.png], val: [r2.png, r3.png], test: [r4.png, r5.png]}\n"
    (data / "dataset.yaml").write_text(f"name: small\nclasses: {{1: a, 2: b}}\n{split}")
    assert "the same pixels" in refuse()


def test_an_allowed_leak_becomes_a_caveat_of_every_artifact(
    storage: Path, data: Path, plan: Callable[..., SearchPlan]
) -> None:
    leak_patient(data)
    made = make_plan(SearchOptions(space="lora.yaml", data=str(data), storage=str(storage), allow_leak=True))
    assert len(made.caveats) == 1
    assert "leak allowed by --allow-leak: patient P" in made.caveats[0]
    assert any(line.startswith("CAVEAT   leak allowed") for line in made.to_lines())


def test_folds_pool_train_and_val(plan: Callable[..., SearchPlan]) -> None:
    made = plan("--folds", "2", "--name", "folded")
    pooled = {*made.data.split.train, *made.data.split.val}
    assert len(made.data.folds) == 2
    assert sorted(name for fold in made.data.folds for name in fold.val) == sorted(pooled)
    assert any(line.startswith("folds    2-fold") for line in made.to_lines())


@pytest.mark.parametrize(("folds", "words"), [("1", "at least 2"), ("99", "patient(s)")])
def test_folds_that_cannot_be_are_refused(refuse: Callable[..., str], folds: str, words: str) -> None:
    said = refuse("--folds", folds)
    assert f"--folds {folds}" in said
    assert words in said


@pytest.mark.parametrize(
    ("space", "option", "value", "words"),
    [
        ("recorded/v2.yaml", "--num-trials", "3", "is a replay"),
        ("prompts.yaml", "--max-epochs", "3", "trains nothing"),
    ],
)
def test_effort_that_a_space_cannot_use_is_refused(
    refuse: Callable[..., str], space: str, option: str, value: str, words: str
) -> None:
    said = refuse("--space", space, option, value)
    assert f"{option} {value}" in said
    assert words in said


def test_copies_that_folds_would_part_stop_the_run(refuse: Callable[..., str], data: Path) -> None:
    (data / "images" / "r1.png").write_bytes((data / "images" / "r0.png").read_bytes())
    split = "split: {train: [r0.png, r1.png, r2.png], val: [r3.png], test: [r4.png, r5.png]}\n"
    (data / "dataset.yaml").write_text(f"name: small\nclasses: {{1: a, 2: b}}\n{split}")
    assert "the same pixels" in refuse("--folds", "4")  # each of the four is alone in a fold
