"""Checkpoints under a URL: a search whose checkpoints go to an S3 server on this machine, killed and resumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer
from searches import SMALL, count_rows, describe_search, find_free_port, read_screen, start_search, wait_for_rows

from search.cluster.checkpoint_storage import check_url
from search.errors import ConfigError

pytestmark = pytest.mark.slow

BUCKET = "histology"
URL = f"s3://{BUCKET}/our searches"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """An S3 server with one bucket, to which the environment points every client."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=find_free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "any"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    connect().makedirs(BUCKET, exist_ok=True)
    if keys := list_keys():  # what servers hold lives as long as the process
        connect().rm(keys)
    yield server
    server.stop()


def connect() -> Any:
    return fsspec.filesystem("s3", skip_instance_cache=True)


def list_keys() -> list[str]:
    return [str(key) for key in connect().find(BUCKET)]


def test_a_search_goes_on_from_checkpoints_in_a_bucket_that_went_away(
    server: ThreadedMotoServer, undisturbed: Path, work_folder: Path
) -> None:
    process = start_search(work_folder, *SMALL, "--name", "job", "--storage", URL)
    wait_for_rows(work_folder, process, 2)
    process.kill()
    process.wait()
    run = work_folder / "runs" / "job"
    assert any("/checkpoint_" in key for key in list_keys())
    assert not list(run.glob("trials/*/checkpoint_*")), "they lie in the bucket alone"
    # Going on without the copies that the search's folder may have: those in the bucket count.
    process = start_search(work_folder, "--resume", "job")
    wait_for_rows(work_folder, process, count_rows(run) + 1)
    host, port = server.get_host_and_port()
    server.stop()
    assert process.wait() == 1, read_screen(work_folder)
    said = " ".join(read_screen(work_folder).split())
    assert f"{URL} cannot be written: Could not connect to the endpoint URL" in said
    assert start_search(work_folder, "--resume", "job").wait() == 2, read_screen(work_folder)
    server = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
    server.start()
    try:
        assert start_search(work_folder, "--resume", "job").wait() == 0, read_screen(work_folder)
        assert "Traceback" not in read_screen(work_folder)
        assert describe_search(work_folder, "job") == describe_search(undisturbed, "job")
        kept = {key.removeprefix(f"{BUCKET}/our searches/job/") for key in list_keys() if "/checkpoint_" in key}
        files = (path for path in run.glob("*/trial-*/checkpoint_*/**/*") if path.is_file())
        assert {path.relative_to(run).as_posix() for path in files} == kept
        # What is in the bucket belongs to this search.
        (work_folder / "elsewhere").mkdir()
        (work_folder / "elsewhere" / "data").symlink_to(work_folder / "data")
        other = start_search(work_folder / "elsewhere", *SMALL, "--name", "job", "--storage", URL)
        assert other.wait() == 2
        assert "holds checkpoints of another search" in read_screen(work_folder / "elsewhere")
        assert not [key for key in list_keys() if "images" in key or key.endswith((".png", ".npy", ".dat"))]
    finally:
        server.stop()


@pytest.mark.usefixtures("server")
def test_a_bucket_that_is_not_there_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        check_url("s3://no-such-bucket/searches", "job")
    (finding,) = caught.value.findings
    assert finding.where == "--storage s3://no-such-bucket/searches"
    assert finding.what.startswith("cannot be written: no-such-bucket does not exist")
