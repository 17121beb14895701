"""The main job as a user runs it, in a process of its own, on the demo, cut off from every network."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

import search.export
from search.command_line.options import SearchOptions
from search.mlflow_pages.addresses import LOCAL_UI
from search.plan.data_inputs import DEMO_FOLDER
from search.python_call import read_outcome
from search.run_folder.summary import Summary
from trainables.demo.tissue import write_demo

GUARD = Path(__file__).parent / "network_guard"
NUM_TRIALS, MAX_EPOCHS = 3, 2
N_CONFIRM, N_SEEDS = 1, 2


@dataclass(frozen=True)
class FinishedJob:
    """A search that has run to its end, and what it printed."""

    folder: Path
    code: int
    screen: str
    guard_log: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "job"

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.run / "summary.json").read_text())
        return summary


def _cut_off_network() -> list[str]:
    """A command prefix that gives a process loopback alone, where the kernel and our rights allow it."""
    prefix = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    if shutil.which("unshare") and shutil.which("ip"):
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            return prefix
    return []


def run_python(folder: Path, *arguments: str) -> tuple[int, str, Path]:
    """Runs Python in a folder under the guard; returns exit code, output and the guard's log."""
    log = folder / "guard.log"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(GUARD), os.environ.get("PYTHONPATH", "")]),
        "NETWORK_GUARD_LOG": str(log),
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [*_cut_off_network(), sys.executable, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
    )
    return done.returncode, done.stdout, log


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> FinishedJob:
    """The main job on a small demo, with few trials of few epochs."""
    folder = tmp_path_factory.mktemp("main job")  # with a space in its name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.demo.tissue.DEMO_COUNTS", {"train": 3, "val": 4, "test": 14})
        write_demo(folder / "runs" / ".cache" / DEMO_FOLDER, side_px=160)
    code, screen, log = run_python(
        folder,
        *("-m", "search.run", "--space", "lora.yaml", "--name", "job", "--json"),
        *("--num-trials", str(NUM_TRIALS), "--max-epochs", str(MAX_EPOCHS), "--max-concurrent", "1"),
        *("--confirm", str(N_CONFIRM), "--confirm-seeds", str(N_SEEDS)),
        *("--on-end", 'echo "$SAM2_SEARCH_STATE $SAM2_SEARCH_VERDICT $SAM2_SEARCH_SUMMARY" > ended.txt'),
    )
    assert code == 0, screen
    return FinishedJob(folder, code, screen, log)


def test_guard_sees_a_connection(tmp_path: Path) -> None:
    code, _, log = run_python(tmp_path, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)")
    assert code == 1
    assert "192.0.2.1" in log.read_text()


def test_nothing_leaves_the_machine(job: FinishedJob) -> None:
    assert not job.guard_log.exists(), job.guard_log.read_text()


def test_screen_says_demo_and_where_the_bar_was_measured(job: FinishedJob) -> None:
    assert "DEMO" in job.screen
    assert "synthetic tissue" in job.screen
    assert "zero-shot Dice" in job.screen
    assert "0.517 was measured elsewhere" in job.screen


def test_json_is_the_last_line_and_equals_the_summary(job: FinishedJob) -> None:
    assert json.loads(job.screen.strip().splitlines()[-1]) == job.summary


def test_the_command_for_the_end_was_called(job: FinishedJob) -> None:
    found = f"finished {job.summary['verdict']} {job.run.resolve() / 'summary.json'}\n"
    assert (job.folder / "ended.txt").read_text() == found


def test_the_printed_command_shows_the_store_of_the_search(job: FinishedJob) -> None:
    (line,) = {line.partition("run  ")[2] for line in job.screen.splitlines() if "mlflow ui" in line}
    uri = shlex.split(line)[-1]
    assert line.startswith("mlflow ui --backend-store-uri ")
    assert MlflowClient(uri).get_run(job.summary["parent_run_id"]).info.run_name == "job"


def test_summary_holds_what_scripts_rely_on(job: FinishedJob) -> None:
    summary = job.summary
    assert summary["search_id"] == "job"
    assert sum(summary["trials"].values()) == NUM_TRIALS
    assert set(summary["trials"]) <= {"complete", "stopped", "failed"}
    assert 0 < summary["val_dice"] < summary["val_ceiling"] <= 1
    assert 0 < summary["zeroshot_val_dice"] < 1
    assert summary["bar_recorded"] == 0.517
    assert Path(summary["export"]).is_dir()
    assert summary["wall_seconds"] > 0
    assert summary["best_params"]["adapter.rank"] in (4, 8, 16, 32)


def test_export_is_scored_alike_by_the_stock_predictor(job: FinishedJob) -> None:
    assert job.summary["export_val_dice"] == pytest.approx(job.summary["val_dice"], abs=0.001)


def test_the_winner_was_confirmed_and_is_no_worse_than_zeroshot_on_validation(job: FinishedJob) -> None:
    finalists = json.loads((job.run / "confirmation.json").read_text())["finalists"]
    assert [len(each["runs"]) for each in finalists] == [N_SEEDS] * N_CONFIRM
    by_scale = finalists[0]["runs"][0]["by_scale"]
    assert by_scale["0.0"] == job.summary["zeroshot_val_dice"]  # the very same figure
    assert set(by_scale) == {"0.0", "0.25", "0.5", "0.75", "1.0", "1.25"}
    seeds = {run["seed"] for run in finalists[0]["runs"]}
    assert job.summary["seed"] not in seeds and job.summary["best_seed"] in seeds
    assert job.summary["val_dice"] >= job.summary["zeroshot_val_dice"]


def test_the_soup_of_its_seeds_was_a_contender_and_the_best_one_was_exported(job: FinishedJob) -> None:
    contenders = json.loads((job.run / "confirmation.json").read_text())["contenders"]
    assert [each["kind"] for each in contenders][:2] == ["single", "seeds"] and len(contenders[1]["members"]) == N_SEEDS
    assert (job.run / contenders[1]["checkpoint"] / "soup.json").is_file()
    chosen = json.loads((job.run / "chosen.json").read_text())
    assert chosen["checkpoint"] in [each["checkpoint"] for each in contenders]
    assert job.summary["val_dice"] >= contenders[0]["val_dice"]  # the search's objective is the Dice
    assert bool(job.summary["soup"]) == chosen["checkpoint"].startswith("soups/")
    assert len(job.summary["soup_members"]) == (N_SEEDS if job.summary["soup"] else 0)


def test_the_test_set_was_opened_once(job: FinishedJob) -> None:
    assert len(json.loads((job.run / "test_openings.json").read_text())) == 1
    rows = (job.run / "scores_test.csv").read_text().splitlines()
    assert rows[0].endswith(",test_opening,caveats")
    assert all(row.endswith(",1,") for row in rows[1:])


def test_export_loads_strictly_in_stock_sam2(job: FinishedJob) -> None:
    from sam2.build_sam import build_sam2

    from trainables.model.build import MODELS, config_path
    from trainables.model.weights import load_model

    merged = job.run / "export" / "sam2.pt"
    state = torch.load(merged, weights_only=True)["model"]
    base = load_model("nano", None)
    assert set(state) == set(base.state_dict())
    with config_path(MODELS["nano"]):
        model = build_sam2(MODELS["nano"].config, str(merged), device="cpu")
    changed = [name for name, value in model.state_dict().items() if not value.equal(base.state_dict()[name])]
    assert bool(changed) == (job.summary["best_scale"] > 0)
    assert all(name.startswith(("image_encoder.trunk.blocks.", "sam_mask_decoder.")) for name in changed)


def test_export_holds_adapter_recipe_and_card(job: FinishedJob) -> None:
    export = job.run / "export"
    assert (export / "adapter" / "adapter_model.safetensors").is_file()
    assert json.loads((export / "recipe.json").read_text()) == job.summary["best_params"]
    card = (export / "README.md").read_text()
    assert job.summary["data_fingerprint"] in card
    assert "demo" in card
    assert f"{job.summary['val_dice']:.4f}" in card


def test_the_export_command_does_it_again(job: FinishedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(job.folder)
    assert search.export.main(["--run", "job", "--out", "again"]) == 0
    first = torch.load(job.run / "export" / "sam2.pt", weights_only=True)["model"]
    second = torch.load(job.folder / "again" / "sam2.pt", weights_only=True)["model"]
    assert all(first[name].equal(second[name]) for name in first)


def test_overlays_are_pictures(job: FinishedJob) -> None:
    import cv2

    pictures = sorted((job.run / "overlays").glob("*.png"))
    assert len(pictures) == 4
    for path in pictures:
        picture = cv2.imread(str(path))
        assert picture is not None and np.ptp(picture) > 200


@pytest.fixture(scope="module")
def runs(job: FinishedJob) -> list[Any]:
    """All MLflow runs in the job's default store, read back by MLflow's own client."""
    client = MlflowClient(f"sqlite:///{job.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lora")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def _of_kind(runs: list[Any], kind: str) -> list[Any]:
    return [run for run in runs if run.data.tags["run_kind"] == kind]


def test_mlflow_holds_one_search_its_bars_and_its_trials(job: FinishedJob, runs: list[Any]) -> None:
    kinds = ("search", "zeroshot", "recorded", "trial", "confirmation")
    counts = {kind: len(_of_kind(runs, kind)) for kind in kinds}
    confirmations = N_CONFIRM * N_SEEDS
    assert counts == {"search": 1, "zeroshot": 1, "recorded": 1, "trial": NUM_TRIALS, "confirmation": confirmations}
    parent = _of_kind(runs, "search")[0].info.run_id
    nested = [run for run in runs if run.data.tags["run_kind"] != "search"]
    assert all(run.data.tags["mlflow.parentRunId"] == parent for run in nested)
    assert all(run.info.status == "FINISHED" for run in runs)


def test_every_trial_carries_the_bar_and_its_metrics(job: FinishedJob, runs: list[Any]) -> None:
    for run in _of_kind(runs, "trial"):
        metrics, tags = run.data.metrics, run.data.tags
        assert metrics["bar_recorded"] == 0.517
        assert metrics["bar_zeroshot"] == pytest.approx(job.summary["zeroshot_val_dice"])
        gain = metrics["val_dice"] - metrics["bar_zeroshot"]
        assert metrics["dice_minus_zeroshot"] == pytest.approx(gain)
        named = ("val_iou", "val_dice/tumor", "train_loss", "train_loss/focal", "lr", "images_per_s")
        assert all(math.isfinite(metrics[name]) for name in named)
        for tag in ("trainable", "space", "data_fingerprint", "protocol", "git_commit", "seed", "demo"):
            assert tags[tag], tag
        assert "optim.lr" in run.data.params


def test_the_recorded_bar_says_where_it_was_measured(runs: list[Any]) -> None:
    recorded = _of_kind(runs, "recorded")[0]
    assert recorded.data.metrics["test_dice"] == 0.517
    assert recorded.data.metrics["test_iou"] == 0.374
    wanted = {"dataset": "BCSS", "protocol": "recorded", "split": "test"}
    assert {key: recorded.data.tags[key] for key in wanted} == wanted


def test_the_starting_point_is_tried_and_named(runs: list[Any]) -> None:
    named = [run.data.tags.get("starting_point") for run in _of_kind(runs, "trial")]
    assert [name for name in named if name] == ["dice-led"]


def test_trials_have_names_that_say_what_they_are(runs: list[Any]) -> None:
    names = {run.info.run_name for run in _of_kind(runs, "trial")}
    plain = {name.removeprefix("winner · ") for name in names}
    assert {name[:8] for name in plain} == {f"trial 0{number}" for number in range(NUM_TRIALS)}
    assert sum(name.startswith("winner · ") for name in names) == 1 and all(" · lr " in name for name in names)
    for run in _of_kind(runs, "trial"):
        assert (" · stopped at " in run.info.run_name) == (run.data.tags["stopped"] == "early")
        assert [each.dataset.digest for each in run.inputs.dataset_inputs] == [run.data.tags["data_fingerprint"]]
    (seed, *_) = (run.info.run_name for run in _of_kind(runs, "confirmation"))
    assert seed.startswith("confirmation · trial 0") and " · seed " in seed


def test_the_search_s_run_names_the_outcome(job: FinishedJob, runs: list[Any]) -> None:
    tags = _of_kind(runs, "search")[0].data.tags
    assert tags["mlflow.note.content"].startswith(f"## Zero-shot is {job.summary['verdict']}")
    assert f"MLflow model: {tags['registered_model']}" in job.screen
    assert all(run.data.tags["search_run"] == job.summary["parent_run_id"] for run in runs)
    assert not list(job.run.glob("*.rejected.jsonl"))


@pytest.fixture(scope="module")
def ui(job: FinishedJob, browser: Any, serve_ui: Callable[[Path], Any]) -> Iterator[str]:
    """The address of MLflow's UI on the job's store; only where there is a browser to look at it."""
    with serve_ui(job.folder / "mlflow.db") as address:
        yield address


def test_the_search_unfolds_into_trials_with_readable_names(runs: list[Any], ui: str, page: Any) -> None:
    page.goto(f"{ui}/#/experiments/{runs[0].info.experiment_id}/runs?workflowType=machine_learning")
    row = page.locator(".ag-row", has_text="job").first
    row.locator("button").first.click()
    for run in runs:
        page.locator(".ag-row", has_text=run.info.run_name).first.wait_for()
    assert page.locator("[role=gridcell][col-id='attributes.`Run Name`']").count() == len(runs)


def test_the_printed_link_opens_the_dice_and_both_bars_in_one_chart(job: FinishedJob, ui: str, page: Any) -> None:
    (link,) = {line.split()[-1] for line in job.screen.splitlines() if "compareRunsMode" in line}
    page.goto(link.replace(LOCAL_UI, ui))
    page.get_by_text("val_dice vs bar_zeroshot vs bar_recorded").first.wait_for()
    for metric in ("val_dice", "bar_zeroshot", "bar_recorded"):
        page.get_by_text(f"({metric})").first.wait_for()
    rows = page.locator(".ag-center-cols-container, .ag-pinned-left-cols-container").first
    names = [line for line in rows.inner_text().splitlines() if " · " in line or line in ("job", "zeroshot")]
    assert names[0].startswith("winner · trial") and names[1] == "job"


def test_three_trials_compare_by_their_searched_parameters(runs: list[Any], ui: str, page: Any) -> None:
    trials = _of_kind(runs, "trial")[:3]
    query = {
        "runs": json.dumps([run.info.run_id for run in trials]),
        "experiments": json.dumps([runs[0].info.experiment_id]),
    }
    page.goto(f"{ui}/#/compare-runs?{urlencode(query)}")
    page.get_by_text("Comparing 3 Runs").first.wait_for()
    page.locator(".js-plotly-plot .parcoords").first.wait_for(state="attached")
    drawn = page.locator(".js-plotly-plot .axis-title").all_text_contents()
    assert set(drawn) & set(trials[0].data.params)
    for run in trials:
        page.get_by_text(run.info.run_name, exact=True).first.wait_for()


def test_an_overlay_opens_as_a_picture(job: FinishedJob, runs: list[Any], ui: str, page: Any) -> None:
    (parent,) = _of_kind(runs, "search")
    name = min(path.name for path in (job.run / "overlays").glob("*.png"))
    page.goto(f"{ui}/#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/overlays/{name}")
    page.get_by_text(f"overlays/{name}").first.wait_for()
    page.wait_for_function("Array.from(document.images).some(image => image.naturalWidth > 300)")


def test_the_registered_model_s_page_shows_its_signature(ui: str, page: Any) -> None:
    page.goto(f"{ui}/#/models/sam2-lora/versions/1")
    page.get_by_text("Inputs (2)").click()
    page.get_by_text("boxes").first.wait_for()


def test_the_report_loads_its_pictures_and_asks_nothing_of_anyone(job: FinishedJob, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((job.run / "report.html").as_uri())
    widths = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
    assert len(widths) > 4 and all(widths)
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"} and "http" not in " ".join(asked)


def test_python_reads_what_the_search_found(job: FinishedJob) -> None:
    found = Summary.read(job.run)
    assert found is not None
    outcome = read_outcome(SearchOptions(storage=str(job.folder / "runs")), found)
    assert (outcome.folder, outcome.report, outcome.export) == (
        job.run.resolve(),
        job.run.resolve() / "report.html",
        job.run.resolve() / "export",
    )
    assert len(outcome.trials) == NUM_TRIALS and {"adapter.rank", "optim.lr", "val_dice"} <= set(outcome.trials)
    assert outcome.trials["val_dice"].max() == pytest.approx(found.search_val_dice)
    by_split = outcome.pairs.groupby("split")
    assert by_split.get_group("test")["winner"].mean() == pytest.approx(found.test.dice, abs=1e-5)
    assert by_split.get_group("val")["zeroshot"].mean() == pytest.approx(found.bar.dice, abs=1e-5)
