"""Starting Ray on this machine, and addresses of clusters."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from search.cluster import start
from search.cluster.start import check_address, check_machine, start_ray
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


def test_a_session_of_the_users_is_left_alone(monkeypatch: pytest.MonkeyPatch, ray_stays_off: None) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("Ray was shut down"))
    with pytest.raises(ConfigError, match=r"this process has a session of its own.* end it first, with ray\.shutdown"):
        start_ray(None)


def test_ray_can_be_started_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    with ThreadPoolExecutor() as pool:
        pool.submit(start_ray, "local").result()


@pytest.mark.parametrize("address", ["auto", "local"])
def test_words_are_left_to_ray(address: str) -> None:
    check_address(address)


SURROUNDINGS = """
import os
from pathlib import Path
import search
import ray
from search.cluster.resources import list_nodes
from search.cluster.start import start_ray

def look():
    import colorsys
    return colorsys.__file__, os.getcwd()

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(2):
    start_ray(None)
    module, folder = ray.get(ray.remote(look).remote())
    (node,) = list_nodes()
    print(node["CPU"], folder == os.getcwd(), Path(module).parent == Path(os.__file__).parent)
    (own,) = Path(os.environ["TMPDIR"]).glob("ray-*")
    print(oct(own.stat().st_mode & 0o777), *[path for path in own.rglob("*") if path.name.startswith("slide")])
    ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_what_is_around_a_search_stays_there(tmp_path: Path) -> None:
    """Under `uv run`, with one CPU of several, in a submitted job, without a home that can be written.

    In a process of its own, as Ray keeps the token that it found first.
    """
    (temporary := Path(tempfile.mkdtemp(dir="/tmp", prefix="t"))).chmod(0o700)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "slide.svs").write_bytes(bytes(1000))
    (tmp_path / "colorsys.py").write_text("raise ImportError('a file of the user')")
    (tmp_path / "uv").symlink_to("/bin/sh")  # what Ray takes for uv: the parent's command line is `uv run ...`
    (tmp_path / "run").write_text(f"cd {tmp_path}; {sys.executable} -P {tmp_path}/around.py; true")
    (tmp_path / "around.py").write_text(SURROUNDINGS)
    job = json.dumps({"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}, "metadata": {}})
    changes = {"HOME": "/proc/none", "TMPDIR": str(temporary), "RAY_JOB_CONFIG_JSON_ENV_VAR": job}
    environment = {**os.environ, **changes, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("RAY_TMPDIR", None)
    done = subprocess.run(["uv", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "1.0 True True\n0o700\n" * 2, done.stdout + done.stderr
    assert not list(temporary.iterdir())
    temporary.rmdir()


def test_what_ray_lacks_on_this_machine_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/proc/none")
    monkeypatch.setattr(start, "_make_ray_folder", start._make_ray_folder.__wrapped__)
    with pytest.raises(ConfigError, match="TMPDIR /proc/none: cannot hold the sockets of Ray: .* set RAY_TMPDIR"):
        check_machine()
    monkeypatch.setattr("resource.getrlimit", lambda _: (6 * 2**30, -1))
    with pytest.raises(ConfigError, match="ulimit -v: leaves a process 6 GB of addresses"):
        check_machine()


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
