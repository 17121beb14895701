"""Starts Ray on this machine, or joins a cluster."""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray

from search.command_line.telemetry import silence_telemetry
from search.errors import ConfigError, SearchError
from trainables.errors import Finding

OVERRIDE_ON_ZERO = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
# Of a socket's path of at most 107 bytes, /ray/session_TIME_PROCESS/sockets/plasma_store takes 68.
MAX_TEMPORARY_BYTES = 39

CONNECT_TIMEOUT_S = 5.0


@contextmanager
def _home_without_cloud() -> Iterator[None]:
    """Keeps Ray's processes from asking the network which cloud they are in.

    Ray does so even with its usage reports off, unless the cluster's configuration lies in the home directory
    (seen in ray 2.60, ``get_cluster_config_to_report``): an empty one is enough, in a home of its own.
    """
    home = os.environ.get("HOME")
    private = _make_temporary("ray-home-")
    (private / "ray_bootstrap_config.yaml").write_text("{}\n")
    (private / ".ray").symlink_to(_find_token_folder())
    os.environ["HOME"] = str(private)
    try:
        yield
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home


@functools.cache
def _find_token_folder() -> Path:
    """Returns where Ray's access token lies: a process that starts Ray twice must find the same one."""
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except (OSError, RuntimeError):  # a container's user may have no home, or one that cannot be written
        return _make_temporary("ray-token-")


def _make_temporary(prefix: str, above: str | None = None) -> Path:
    """Makes a folder that goes with this process."""
    folder = tempfile.mkdtemp(prefix=prefix, dir=above)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _find_session_folder() -> str | None:
    """Returns where Ray is to put its sockets; None for its own choice, if that leaves their paths short enough."""
    # As Ray 2.60 chooses it (ray._common.utils.get_user_temp_dir).
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(chosen)) <= MAX_TEMPORARY_BYTES:
        return None
    try:
        return str(_make_temporary("ray-", "/tmp"))
    except OSError as error:
        what = f"is too long for Ray, whose sockets lie there, and /tmp cannot be written ({error.strerror})"
        raise ConfigError([Finding(f"TMPDIR {chosen}", what, "set RAY_TMPDIR to a shorter folder")]) from error


def start_ray(address: str | None) -> None:
    """Starts Ray on this machine, on loopback alone, or joins a cluster; SIGTERM then interrupts as Ctrl-C does.

    Raises:
        ConfigError: If no cluster answers at the address.
        SearchError: If Ray does not start here.
    """
    environment = silence_telemetry()
    # Relative paths of a user mean the folder that the command was given in, also inside workers.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    # Workers without a GPU of their own see none, as for years; Ray 2.60 would show them all.
    os.environ.setdefault(OVERRIDE_ON_ZERO, "1")
    environment = {**environment, OVERRIDE_ON_ZERO: os.environ[OVERRIDE_ON_ZERO]}
    # The newer reporter prints a banner even when told to be quiet.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would end the trials and return as if all were well; an interrupted search must not go on to the test.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # It would print every failure of a trial with the worker's traceback; the screen has the reason in a line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    _connect(address, environment)
    # Ray's own handler ends the process at once; a batch system sends SIGTERM when a job's time is over.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _connect(address: str | None, environment: Mapping[str, str]) -> None:
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        if (session := _find_session_folder()) is not None:
            options["_temp_dir"] = session
        with _home_without_cloud():
            _start_here(options)
        return
    check_address(address)
    with _telling_of(address):
        ray.init(address, runtime_env={"env_vars": environment}, **options)


def _start_here(options: Mapping[str, Any]) -> None:
    """Starts Ray on this machine; once more where its server did not answer in time, as on a machine that stalls.

    Raises:
        SearchError: If it did not come up at the second time either.
    """
    for is_last in (False, True):
        try:
            # "local", as without an address Ray would join whatever RAY_ADDRESS names.
            ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            return
        except RuntimeError as error:
            ray.shutdown()
            if is_last or "imed out" not in str(error):
                raise SearchError(f"Ray did not start on this machine: {error}") from error


def check_address(address: str) -> None:
    """Tries to connect to a cluster: to a host that is down, Ray would try for ten minutes.

    Raises:
        ConfigError: If nothing listens at the address, or it is none.
    """
    with _telling_of(address):
        if address in ("auto", "local"):
            return
        place = urlsplit(address if "://" in address else f"//{address}")
        if place.scheme not in ("", "ray") and _has_client(place.scheme):
            return  # only that client can tell
        if place.scheme not in ("", "ray") or not (place.hostname and place.port):
            raise ValueError("must be auto, local, HOST:PORT or ray://HOST:PORT")
        connect_once(place.hostname, place.port)


def _has_client(name: str) -> bool:
    """Whether a module connects to clusters of its own kind; Ray looks for it likewise."""
    try:
        return hasattr(importlib.import_module(name), "ClientBuilder")
    except ImportError:
        return False


@contextmanager
def _telling_of(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        what = f"no Ray cluster answers there ({reason})"
        fix = "start one with `ray start --head`, or leave the option out to run on this machine"
        raise ConfigError([Finding(f"--address {address}".strip(), what, fix)]) from error


def connect_once(host: str, port: int) -> None:
    """Connects, and hangs up.

    Raises:
        OSError: If nothing listens there, or nothing answers within ``CONNECT_TIMEOUT_S``.
    """
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
