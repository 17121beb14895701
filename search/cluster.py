"""Starts or joins Ray, and shares its CPUs and GPUs out among trials."""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.command import DEFAULT_STORAGE
from search.errors import ConfigError, SearchError
from search.failures import describe_ray_error
from search.quiet import silence_telemetry
from search.reachable import connect_once
from trainables.device import find_gpu_fault
from trainables.errors import Finding, TrainablesError

T = TypeVar("T")
# More loaders than this feed no GPU faster: one core augments about 30 regions a second.
MAX_WORKERS_PER_TRIAL = 4
OVERRIDE_ON_ZERO = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
# Of a socket's path of at most 107 bytes, /ray/session_TIME_PROCESS/sockets/plasma_store takes 68.
MAX_TEMPORARY_BYTES = 39


@dataclass(frozen=True)
class TrialResources:
    """What one trial is given.

    Attributes:
        cpus: Cores.
        gpus: GPUs; a fraction where several trials share one.
        concurrent: Trials at once.
    """

    cpus: int
    gpus: float
    concurrent: int

    @property
    def n_workers(self) -> int:
        """Loader processes beside the one that trains; none where a trial trains on its own cores."""
        return min(self.cpus - 1, MAX_WORKERS_PER_TRIAL) if self.gpus else 0


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


def check_shared_storage(storage: str, folder: Path) -> None:
    """Demands that a search on several nodes be told where all of them can write, and that they see what lies there.

    Args:
        storage: As it was given.
        folder: Of all searches, as an absolute path; it exists.

    Raises:
        ConfigError: If there are several nodes, and the storage is the default, or some do not see the folder.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    if storage == DEFAULT_STORAGE:
        what = f"{len(nodes)} nodes train, and checkpoints would be looked for in {DEFAULT_STORAGE}/ of each"
        fix = f"give a folder that all nodes share (if this one is: --storage {folder})"
        raise ConfigError([Finding("--storage", what, fix)])
    probe = folder / f".shared-{uuid.uuid4().hex}"
    probe.touch()
    try:
        blind = _list_blind_nodes([node["NodeID"] for node in nodes], probe)
    finally:
        probe.unlink(missing_ok=True)
    if blind:
        names = ", ".join(node["NodeManagerHostname"] for node in nodes if node["NodeID"] in blind)
        what = f"{folder}, with decoded regions and the searches' own files, is not the same folder on {names}"
        raise ConfigError([Finding("--storage", what, "give a folder that all nodes share (by a URL: work in one)")])


def _list_blind_nodes(node_ids: Sequence[str], file: Path) -> list[str]:
    """Returns the nodes on which a file is not there."""
    look = ray.remote(num_cpus=0)(os.path.exists)
    on_node = [NodeAffinitySchedulingStrategy(node_id, soft=False) for node_id in node_ids]
    seen: list[bool] = ray.get([look.options(scheduling_strategy=each).remote(str(file)) for each in on_node])
    return [node_id for node_id, is_there in zip(node_ids, seen, strict=True) if not is_there]


def list_nodes() -> list[dict[str, float]]:
    """Returns what each node of the cluster has, CPUs and GPUs by Ray's names.

    Ray counts the GPU of an Apple machine, on which this project does not compute.
    """
    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [{**node, "GPU": 0.0} for node in nodes] if sys.platform == "darwin" else nodes


def share_resources(
    nodes: Sequence[Mapping[str, float]], gpus_per_trial: float | None, max_concurrent: int | None
) -> TrialResources:
    """Shares a machine's or a cluster's resources out.

    Every GPU is used, one trial each unless said otherwise; without GPUs every core is, one trial each. Where
    fewer trials run at once than there are cores, each has several.

    Args:
        nodes: From :func:`list_nodes`: a trial lives on one of them.
        gpus_per_trial: Above 0; below 1 several trials share a GPU. None is 1 where there are GPUs.
        max_concurrent: Trials at once, at most; None for as many as fit.

    Raises:
        ConfigError: If a trial asks for more GPUs than there are, or than a node has.
    """
    total_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    gpus = gpus_per_trial if gpus_per_trial is not None else float(total_gpus >= 1)
    if findings := check_gpus(gpus, total_gpus):
        raise ConfigError(findings)
    if not gpus:
        total_cpus = max(1, sum(int(node.get("CPU", 0)) for node in nodes))
        concurrent = max(1, min(total_cpus, max_concurrent or total_cpus))
        # What is left over on other nodes is no use to a trial.
        return TrialResources(max(1, min(total_cpus // concurrent, total_cpus // max(1, len(nodes)))), gpus, concurrent)
    hosts = [(int(node.get("CPU", 0)), _count_fitting(node, gpus)) for node in nodes]
    hosts = [(cpus, n_trials) for cpus, n_trials in hosts if n_trials]
    if not hosts:
        what = f"no node has {gpus:g} GPU{'' if gpus == 1 else 's'} and a core beside"
        raise ConfigError([Finding(f"--gpus-per-trial {gpus:g}", what, "ask for as many as one node has")])
    fitting = sum(n_trials for _, n_trials in hosts)
    concurrent = min(fitting, max_concurrent or fitting)
    # Nothing beyond the loaders would use more, and a node's cores need not be in proportion to its GPUs.
    cpus = min(MAX_WORKERS_PER_TRIAL + 1, *(cpus // min(n_trials, concurrent) for cpus, n_trials in hosts))
    return TrialResources(cpus, gpus, concurrent)


def check_gpus_compute(resources: TrialResources) -> None:
    """Lets a worker compute on the GPU that it is given.

    Ray counts what the driver tells; PyTorch may be built for none, for newer drivers or for other GPUs, and would
    compute on the CPU without a word.

    Raises:
        ConfigError: With PyTorch's reason, if it cannot.
    """
    if not resources.gpus:
        return
    if why := call_with_resources(resources, "a look at the GPUs", find_gpu_fault):
        fix = "update the driver, install a PyTorch for it, or leave the GPUs alone with --gpus-per-trial 0"
        raise ConfigError([Finding("GPUs", f"Ray counts them, and PyTorch cannot use them: {why}", fix)])


def check_gpus(gpus_per_trial: float | None, total_gpus: float) -> list[Finding]:
    """Returns what is wrong with the GPUs that are asked for."""
    if gpus_per_trial is None or gpus_per_trial <= total_gpus:
        return []
    what = f"{total_gpus:g} GPU{'' if total_gpus == 1 else 's'} can be seen here"
    fix = "ask for fewer, leave the option out, or join a cluster with --address"
    return [Finding(f"--gpus-per-trial {gpus_per_trial:g}", what, fix)]


def _count_fitting(node: Mapping[str, float], gpus: float) -> int:
    """Returns how many trials with GPUs fit a node."""
    n_gpus = node.get("GPU", 0.0)
    # A GPU is shared by whole trials: 0.4 of a GPU lets two in, not two and a half.
    fitting = int(n_gpus) * int(1 / gpus) if gpus < 1 else int(n_gpus / gpus)
    return min(fitting, int(node.get("CPU", 0)))


def call_with_resources(resources: TrialResources, what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Runs a function in a worker that is given what a trial is given, and waits for its answer.

    Args:
        resources: Of the worker.
        what: Names what is computed, for errors.
        function: See above.
        arguments: Of the function.

    Raises:
        SearchError: Likewise TrainablesError, if the function raised it; also if the worker died or the GPU's memory
            ran out. Anything else is Ray's own: of a bug its RayTaskError, of a disk what
            :func:`~search.failures.to_storage_error` knows.
    """
    return map_with_resources(resources, what, function, [arguments])[0]


def map_with_resources(
    resources: TrialResources, what: str, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]
) -> list[T]:
    """Runs a function once for each tuple of arguments, as many at once as trials would; answers in order.

    Raises:
        SearchError: As :func:`call_with_resources`.
    """
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(function)
    try:
        answers: list[T] = ray.get([task.remote(*arguments) for arguments in calls])
    except RayError as error:
        # Ray's own text is the worker's traceback; errors raised on purpose say all in a line.
        if isinstance(error, RayTaskError) and isinstance(error.cause, (SearchError, TrainablesError)):
            raise error.cause from error
        if why := describe_ray_error(error):
            raise SearchError(f"{what} could not be completed: {why}") from error
        raise
    return answers
