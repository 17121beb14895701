"""What holds for all tests: no usage reports, one thread a library, and data that several folders need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from search.quiet import silence_telemetry

silence_telemetry()  # before a test file imports ray, mlflow or albumentations
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; tests gain nothing from more


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that may lie beside the project; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, which is not beside the project")
    return folder


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as users get it (seed 0, 60 regions of 320 px), made once: to be read, not changed."""
    from trainables.data.tissue import write_demo

    root = tmp_path_factory.mktemp("data") / "demo"
    write_demo(root)
    return root
