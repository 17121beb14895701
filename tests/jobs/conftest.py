"""A real browser and MLflow's own UI, for tests that look at what a search shows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, driven by Playwright; skips where one of them is missing."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page that waits a minute for what a slow machine shows; its picture is kept in the folder `screenshots`.

    The folder is in pytest's own (``--basetemp``).
    """
    opened = browser.new_page(viewport={"width": 1600, "height": 1400})
    opened.set_default_timeout(60_000)
    yield opened
    folder = tmp_path_factory.getbasetemp() / "screenshots"
    folder.mkdir(exist_ok=True)
    opened.screenshot(path=folder / f"{request.node.name}.png")
    opened.close()


@pytest.fixture(scope="session")
def serve_ui() -> Callable[[Path], Any]:
    """Serves an MLflow database on loopback while a block runs, and gives its address."""

    @contextmanager
    def serve(database: Path) -> Iterator[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{database}", "--port", str(port)]
        server = subprocess.Popen(
            [sys.executable, *command, "--workers", "1"],
            cwd=database.parent,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # seven processes that nobody asks
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # it has nothing to save
            server.wait(timeout=30)

    return serve


def _wait_for(address: str, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"MLflow's UI did not answer at {address}")
