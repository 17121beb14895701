"""Starts Ray on this machine, or joins a cluster."""

import atexit
import functools
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from search.command_line.telemetry import silence_telemetry
from search.errors import ConfigError, SearchError

OVERRIDE_ON_ZERO = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
# Of a socket's path of at most 107 bytes, /ray/session_TIME_PROCESS/sockets/plasma_store takes 68.
MAX_TEMPORARY_BYTES = 39
CONNECT_TIMEOUT_S = 5.0


def start_ray(address: str | None) -> None:
    """Starts Ray on this machine, or joins a cluster; SIGTERM then interrupts as Ctrl-C does.

    Raises:
        ConfigError: If no cluster answers at the address.
        SearchError: If Ray does not start here.
    """
    import ray  # late: the pre-flight only looks whether an address answers

    environment = silence_telemetry()
    # Relative paths of a user mean the folder that the command was given in, also inside workers.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    # Workers without a GPU of their own see none, as for years; Ray 2.60 would show them all.
    environment = {**environment, OVERRIDE_ON_ZERO: os.environ.setdefault(OVERRIDE_ON_ZERO, "1")}
    # The newer reporter prints a banner even when asked to be quiet.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would end the trials and return as if all were well; an interrupted search must not go on to the test.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # It would print every failure of a trial with the worker's traceback; the screen has the reason in a line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        with _home_without_cloud():
            _start_here(options | _choose_session_folder())
    else:
        check_address(address)
        with _name_in_errors(address):
            ray.init(address, runtime_env={"env_vars": environment}, **options)
    # Ray's own handler ends the process at once; a batch system sends SIGTERM when a job's time is over.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def _home_without_cloud() -> Iterator[None]:
    """Keeps Ray's processes from asking the network which cloud they are in.

    Ray does so even with its usage reports off, unless the cluster's configuration lies in the home directory
    (seen in ray 2.60, ``get_cluster_config_to_report``): an empty one is enough, in a home of its own.
    """
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(_make_home())
    try:
        yield
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home


@functools.cache
def _make_home() -> Path:
    """Makes Ray's home; one for all starts of this process, as Ray keeps the access token that it found there first."""
    home = _make_temporary("ray-home-")
    (home / "ray_bootstrap_config.yaml").write_text("{}\n")
    return home


def _choose_session_folder() -> dict[str, str]:
    """Returns Ray's option for the folder of its sockets; none where its own choice leaves their paths short enough."""
    # As Ray 2.60 chooses it (ray._common.utils.get_user_temp_dir).
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(chosen)) <= MAX_TEMPORARY_BYTES:
        return {}
    try:
        return {"_temp_dir": str(_make_temporary("ray-", "/tmp"))}
    except OSError as error:
        what = f"is too long for Ray, whose sockets lie there, and /tmp cannot be written ({error.strerror})"
        raise ConfigError.at(f"TMPDIR {chosen}", what, "set RAY_TMPDIR to a shorter folder") from error


def _make_temporary(prefix: str, above: str | None = None) -> Path:
    """Makes a folder that goes with this process."""
    folder = tempfile.mkdtemp(prefix=prefix, dir=above)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _start_here(options: Mapping[str, Any]) -> None:
    """Starts Ray on this machine; once more where its server did not answer in time, as on a machine that stalls.

    Raises:
        SearchError: If it did not come up at the second time either.
    """
    import ray

    for is_last in (False, True):
        try:
            # "local", as without an address Ray would join whatever RAY_ADDRESS names.
            ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            return
        except Exception as error:  # Ray raises it where a node times out, and a RuntimeError elsewhere
            ray.shutdown()
            if is_last or "imed out" not in str(error):
                raise SearchError(f"Ray did not start on this machine: {error}") from error


def check_address(address: str) -> None:
    """Tries to connect to a cluster: to a host that is down, Ray would try for ten minutes.

    Raises:
        ConfigError: If nothing listens at the address, or it is none.
    """
    if address in ("auto", "local"):
        return
    with _name_in_errors(address):
        place = urlsplit(address if "://" in address else f"ray://{address}")
        if place.scheme != "ray" or not (place.hostname and place.port):
            raise ValueError("must be auto, local, HOST:PORT or ray://HOST:PORT")
        connect_once(place.hostname, place.port)


@contextmanager
def _name_in_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        what = f"no Ray cluster answers there ({reason})"
        fix = "start one with `ray start --head`, or leave the option out to run on this machine"
        raise ConfigError.at(f"--address {address}".strip(), what, fix) from error


def connect_once(host: str, port: int) -> None:
    """Connects, and hangs up.

    Raises:
        OSError: If nothing listens there, or nothing answers within ``CONNECT_TIMEOUT_S``.
    """
    socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
