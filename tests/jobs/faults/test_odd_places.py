"""A search among names with spaces, other alphabets and links, on a screen that knows ASCII alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from searches import LIMIT_S, read_screen

import search.export
import search.report
import search.run
from search.run_folder.search_record import SearchRecord

pytestmark = pytest.mark.slow

EFFORT = ("--num-trials", "2", "--max-epochs", "1", "--confirm", "0", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_root: Path) -> Path:
    """A working directory in which a search has run: odd names everywhere, data and storage behind links."""
    root = tmp_path_factory.mktemp("odd")
    place = root / "Größe 50% (größer) 病理"
    (root / "far away" / "Läufe").mkdir(parents=True)
    place.mkdir()
    (place / "my runs").symlink_to(root / "far away" / "Läufe", target_is_directory=True)
    shutil.copytree(small_root, root / "far away" / "Präparate #1")
    (place / "slides ü").symlink_to(Path("..") / "far away" / "Präparate #1", target_is_directory=True)
    (place / "spaces of mine").mkdir()
    space = place / "spaces of mine" / "mein Raum.yaml"
    space.write_bytes((Path(__file__).parents[3] / "spaces" / "lora.yaml").read_bytes())
    given = ("--space", "spaces of mine/mein Raum.yaml", "--data", "slides ü", "--storage", "my runs")
    command = [sys.executable, "-m", "search.run", *given, *EFFORT, "--name", "job"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with (place / "screen.log").open("w") as screen:
        done = subprocess.run(command, cwd=place, env=environment, stdout=screen, stderr=screen, timeout=LIMIT_S)
    assert done.returncode == 0, read_screen(place)
    return place


def test_nothing_lies_where_nobody_asked_for_it(place: Path) -> None:
    root = place.parent
    assert {path.name for path in root.iterdir()} == {place.name, "far away"}
    assert {path.name for path in (root / "far away").iterdir()} == {"Läufe", "Präparate #1"}
    assert {path.name for path in (root / "far away" / "Läufe").iterdir()} == {"job", ".cache"}
    inside = {path.name for path in place.iterdir()}
    assert inside == {"my runs", "slides ü", "spaces of mine", "mlflow.db", "mlruns", "screen.log"}


def test_what_the_screen_cannot_show_is_escaped(place: Path) -> None:
    screen = read_screen(place)
    assert "Traceback" not in screen
    assert "Gr\\xf6\\xdfe" in screen


def test_mlflow_finds_runs_and_their_files(place: Path) -> None:
    record = SearchRecord.read(place / "my runs" / "job")
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    parent = client.get_run(record.parent_run_id)
    assert parent.info.status == "FINISHED"
    assert {"search.json", "report.html"} <= {each.path for each in client.list_artifacts(record.parent_run_id)}
    assert Path(client.download_artifacts(record.parent_run_id, "search.json")).is_file()


def test_other_commands_work_from_another_directory(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = place / "my runs" / "job"
    assert search.run.main(["--resume", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["search_id"] == "job"
    assert list(tmp_path.iterdir()) == []
    assert search.export.main(["--run", str(folder), "--out", "ö ut"]) == 0
    assert (tmp_path / "ö ut" / "sam2.pt").is_file()
    assert search.report.main(["--run", "job", "--storage", str(place / "my runs"), "--out", "b ö.html"]) == 0
    assert (tmp_path / "b ö.html").is_file()
