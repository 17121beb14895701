"""Starts Ray on this machine, or joins a cluster."""

import atexit
import functools
import logging
import os
import resource
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from search.cluster.limits import count_cpus, count_memory
from search.command_line.telemetry import silence_telemetry
from search.errors import ConfigError, SearchError

OVERRIDE_ON_ZERO = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
# Of a socket's path of at most 107 bytes, /ray-NAME/s/session_TIME_PROCESS/sockets/plasma_store takes 79.
MAX_TEMPORARY_BYTES = 28
# Addresses that a process of Ray and PyTorch reserves, most of them without using them.
MIN_ADDRESSES_GB = 16
CONNECT_TIMEOUT_S = 5.0


def start_ray(address: str | None) -> None:
    """Starts Ray on this machine, or joins a cluster; SIGTERM then interrupts the main thread as Ctrl-C does.

    Raises:
        ConfigError: If this process uses Ray already, no cluster answers at the address, or this machine lacks what Ray
            needs.
        SearchError: If Ray does not start here.
    """
    import ray  # late: the pre-flight only looks whether an address answers

    if ray.is_initialized():  # as in a notebook: what runs there would end with the search
        fix = "end it first, with ray.shutdown(), or search in another process"
        raise ConfigError.at("Ray", "this process has a session of its own, and a search starts one", fix)
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
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        check_machine()
        _start_here(options | _limit_resources())
    else:
        check_address(address)
        with _name_in_errors(address):
            ray.init(address, runtime_env={"env_vars": environment}, **options)
    # Ray's own handler ends the process at once; a batch system sends SIGTERM when a job's time is over.
    if threading.current_thread() is threading.main_thread():  # no other may set one
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def check_machine() -> None:
    """Checks what Ray needs to start here: a folder for its sockets, and memory addresses.

    Raises:
        ConfigError: With what is missing.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= limit < MIN_ADDRESSES_GB * 2**30:
        what = f"leaves a process {limit / 2**30:.0f} GB of addresses, and Ray and PyTorch reserve {MIN_ADDRESSES_GB}"
        raise ConfigError.at("ulimit -v", what, "lift it with `ulimit -v unlimited`, or ask for more memory")
    try:
        probe = _make_ray_folder(os.getpid()) / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(probe))
        probe.unlink()
    except OSError as error:
        what = f"cannot hold the sockets of Ray: {error.strerror or error}"
        raise ConfigError.at(
            f"TMPDIR {_choose_parent()}", what, "set RAY_TMPDIR to another folder with a short name"
        ) from error


def _choose_parent() -> str:
    """Returns where Ray's folder goes: where the user wants temporary files, if sockets' paths fit there."""
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return chosen if len(os.fsencode(chosen)) <= MAX_TEMPORARY_BYTES else "/tmp"


@functools.cache
def _make_ray_folder(process: int) -> Path:
    """Makes the folder of Ray's files and of its home, which no other user can read and which goes with this process.

    One for all starts of this process, as Ray keeps the access token that it found first in its home.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=_choose_parent()))
    atexit.register(_remove_folder, folder, process)
    # Even with its usage reports off, Ray asks the network which cloud it is in, unless the cluster's configuration
    # lies in the home directory (seen in ray 2.60, get_cluster_config_to_report): an empty one is enough.
    (folder / "ray_bootstrap_config.yaml").write_text("{}\n")
    return folder


def _remove_folder(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not at the end of a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


def _limit_resources() -> dict[str, int]:
    """Returns Ray's options for the CPUs that may be used, and for its share of memory where that is limited."""
    options, memory = {"num_cpus": count_cpus()}, count_memory()
    if memory < psutil.virtual_memory().total and os.path.isdir("/dev/shm"):
        # As Ray would do with all memory: 30 % of it, if the shared memory has room for that; at least what Ray takes.
        options["object_store_memory"] = max(
            80 * 2**20, int(min(0.3 * memory, 0.95 * shutil.disk_usage("/dev/shm").free))
        )
    return options


@contextmanager
def _live_in(folder: Path) -> Iterator[None]:
    """Makes a folder the home of what is started, and hides what a job was submitted with, which a new Ray lacks."""
    before = {name: os.environ.pop(name, None) for name in ("HOME", "RAY_JOB_CONFIG_JSON_ENV_VAR")}
    os.environ["HOME"] = str(folder)
    try:
        yield
    finally:
        del os.environ["HOME"]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _start_here(options: dict[str, Any]) -> None:
    """Starts Ray on this machine; once more where its server did not answer in time, as on a machine that stalls.

    Raises:
        SearchError: If it did not come up at the second time either.
    """
    import ray
    from ray.job_config import JobConfig

    folder = _make_ray_folder(os.getpid())
    own = JobConfig()
    own._client_job = True  # else Ray puts the working directory before all others in the workers' search path
    for is_last in (False, True):
        try:
            with _live_in(folder):
                # "local", as without an address Ray would join whatever RAY_ADDRESS names. Ray opens its folder to all.
                ray.init(
                    "local",
                    include_dashboard=False,
                    job_config=own,
                    _node_ip_address="127.0.0.1",
                    _skip_env_hook=True,
                    _temp_dir=str(folder / "s"),
                    **options,
                )
            return
        except (Exception, SystemExit) as error:  # Ray raises it where a node times out, and a RuntimeError elsewhere
            ray.shutdown()
            if is_last or "imed out" not in str(error):
                atexit.unregister(_remove_folder)
                words = " ".join(str(error).split())[:300] or type(error).__name__
                what = f"Ray did not start on this machine: {words}; its logs are in {folder}/s"
                fix = "free memory, processes or room on that disk, or set RAY_TMPDIR to another folder"
                raise SearchError(f"{what}; {fix}") from error


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
        socket.create_connection((place.hostname, place.port), timeout=CONNECT_TIMEOUT_S).close()


@contextmanager
def _name_in_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        what = f"no Ray cluster answers there ({reason})"
        fix = "start one with `ray start --head`, or leave the option out to run on this machine"
        raise ConfigError.at(f"--address {address}".strip(), what, fix) from error
