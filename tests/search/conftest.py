"""Fixtures of several test files: recorded scores, and an MLflow store to write to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.tracking import Tracker


@pytest.fixture(scope="session")
def recorded_scores(shared_data: Path) -> Path:
    """Recorded Dice of zero-shot SAM2 under several protocols: 180 (image, class) pairs of 45 patients."""
    return shared_data / "recorded" / "zeroshot_per_image.csv"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes seconds: each test works on a copy."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds a store as MLflow itself would place it there."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tracker(store: Path) -> Tracker:
    return Tracker.connect("lora", None)
