"""A real browser and MLflow's own UI, for tests that look at what a search shows."""

from __future__ import annotations

import shutil
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
    """Serves a database `mlflow.db` on loopback while a block runs, and gives its address."""
    from mlflow_server import MlflowServer

    @contextmanager
    def serve(database: Path) -> Iterator[str]:
        server = MlflowServer(database.parent)
        try:
            server.start()
            yield server.uri
        finally:
            server.kill()  # it has nothing to save

    return serve
