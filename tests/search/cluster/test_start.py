"""Starting Ray on this machine, and addresses of clusters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
import ray

from search.cluster import start
from search.cluster.start import check_address, start_ray
from search.errors import ConfigError, SearchError


@pytest.mark.parametrize("call", [check_address, start_ray])
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "127.0.0.1:{}0000"])
def test_a_cluster_that_does_not_answer_is_a_finding(
    call: Callable[[str], None], form: str, ray_stays_off: None
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = form.format(unused.getsockname()[1])
        with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers there"):
            call(address)


@pytest.mark.parametrize("address", ["", " ", "ray://", "somewhere", "host:", "nope://a:1", "http://127.0.0.1:8265"])
def test_an_address_that_is_none_is_a_finding(address: str) -> None:
    with pytest.raises(ConfigError, match="must be auto, local, HOST:PORT or ray://HOST:PORT"):
        check_address(address)


@pytest.mark.parametrize("address", ["auto", "local"])
def test_words_are_left_to_ray(address: str) -> None:
    check_address(address)


WITHOUT_HOME = """
import ray
from search.cluster.start import start_ray
for _ in range(2):
    start_ray(None)
    print(ray.get(ray.remote(lambda: "answered").remote()))
    ray.shutdown()
"""


@pytest.mark.slow
def test_ray_starts_twice_where_the_home_folder_cannot_be_written() -> None:
    """As users of containers have it; in a process of its own, as Ray keeps the token that it found first."""
    environment = {**os.environ, "HOME": "/proc/none"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_HOME], env=environment, capture_output=True, text=True)
    assert done.stdout == "answered\nanswered\n", done.stderr


@pytest.mark.parametrize(
    ("errors", "n_calls", "said"),
    [
        ([RuntimeError("Timed out waiting for file gcs_server_port")], 2, None),
        ([Exception("The current node timed out during startup")], 2, None),
        ([RuntimeError("Timed out waiting for file gcs_server_port")] * 2, 2, "Timed out waiting"),
        ([RuntimeError("no such option")], 1, "no such option"),
    ],
)
def test_ray_is_started_once_more_where_it_did_not_come_up_in_time(
    errors: list[Exception], n_calls: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, left = [], list(errors)

    def init(*_: object, **options: object) -> None:
        calls.append(options)
        if left:
            raise left.pop(0)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    if said is None:
        start._start_here({})
    else:
        with pytest.raises(SearchError, match=f"^Ray did not start on this machine: {said}"):
            start._start_here({})
    assert len(calls) == n_calls
