"""Ray's workers, forked from a process that has imported what a trial needs: they begin in a second, not in ten."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# All but Ray, which reads the environment of a worker when it is imported.
MODULES = (
    "search.stages.exporter",
    "trainables.training.fine_tune",
    "trainables.export.merged",
    "albumentations",
    "jsonschema",
    "msgpack",
    "pandas",
    "pyarrow",
    "pydantic",
    "requests",
    "rich",
)

# In place of Python where Ray starts its processes: workers are left to the server below.
_CLIENT = """#!{python} -ISB
import json, os, socket, sys
if not sys.argv[1].endswith("_worker.py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({place!r})
    request = [sys.argv[1:], os.getcwd(), dict(os.environ), os.nice(0)]
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    server.recv(1)
"""


@functools.cache
def start_server() -> str:
    """Starts the process that forks workers, which ends with this one; returns what stands for ``sys.executable``."""
    folder = Path(tempfile.mkdtemp(prefix="workers-", dir="/tmp"))
    client, place = folder / "python", str(folder / "socket")
    client.write_text(_CLIENT.format(python=sys.executable, place=place))
    client.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen(64)
        command = [sys.executable, __file__, str(listener.fileno()), str(os.getpid())]
        root = str(Path(__file__).parents[3])
        subprocess.Popen(command, cwd=root, pass_fds=[listener.fileno()], start_new_session=True)
    return str(client)


@contextlib.contextmanager
def instead_of_python(client: str) -> Iterator[None]:
    """Lets Ray, where it starts in this block, have its workers forked."""
    real, sys.executable = sys.executable, client
    try:
        yield
    finally:
        sys.executable = real


def serve(listener: socket.socket, parent: int) -> None:
    """Forks a worker for each client, until the process that started this one is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no dead worker waits for this process
    listener.settimeout(5)
    while os.getppid() == parent:
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        with client:
            request, streams, _, _ = socket.recv_fds(client, 2**20, 3)
            if os.fork() == 0:
                listener.close()
                _become_worker(json.loads(request), streams)
            for stream in streams:
                os.close(stream)
    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)


def _become_worker(request: tuple[list[str], str, dict[str, str], int], streams: list[int]) -> NoReturn:
    """Does what the command of a worker does in a new process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv, folder, environment, niceness = request
    os.setpgid(0, 0)  # Ray ends whole groups
    os.nice(niceness - os.nice(0))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)

    from ray._private.runtime_env.context import RuntimeEnvContext

    def run(context: RuntimeEnvContext, arguments: list[str], _: object) -> None:
        os.environ.update(context.env_vars)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")

    RuntimeEnvContext.exec_worker = run  # type: ignore[method-assign,assignment]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        os._exit(1)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    import search  # noqa: F401  (switches usage reports off)

    for name in MODULES:
        __import__(name)
    gc.freeze()  # no worker looks through all that was imported when it collects garbage
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
