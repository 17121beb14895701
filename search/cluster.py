"""Starts or joins Ray, and shares its CPUs and GPUs out among trials."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray

from search.errors import ConfigError
from search.quiet import silence_telemetry
from trainables.errors import Finding

T = TypeVar("T")
# More loaders than this feed no GPU faster: one core augments about 30 regions a second.
MAX_WORKERS_PER_TRIAL = 4


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
    private = tempfile.mkdtemp(prefix="ray-home-")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    (Path(private) / "ray_bootstrap_config.yaml").write_text("{}\n")
    os.environ["HOME"] = private
    try:
        yield
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home


def start_ray(address: str | None) -> None:
    """Starts Ray on this machine, on loopback alone, or joins a cluster."""
    environment = silence_telemetry()
    # Relative paths of a user mean the folder that the command was given in, also inside workers.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer reporter prints a banner even when told to be quiet
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        with _home_without_cloud():
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **options)
    else:
        ray.init(address=address, runtime_env={"env_vars": environment}, **options)


def share_resources(
    available: Mapping[str, float], gpus_per_trial: float | None, max_concurrent: int | None
) -> TrialResources:
    """Shares a machine's or a cluster's resources out.

    Every GPU is used, one trial each unless said otherwise; without GPUs every core is, one trial each.

    Args:
        available: From ``ray.cluster_resources()``.
        gpus_per_trial: Above 0; below 1 several trials share a GPU. None is 1 where there are GPUs.
        max_concurrent: Trials at once, at most; None for as many as fit.

    Raises:
        ConfigError: If a trial asks for more GPUs than there are.
    """
    total_cpus, total_gpus = int(available.get("CPU", 1)), available.get("GPU", 0.0)
    gpus = gpus_per_trial if gpus_per_trial is not None else float(total_gpus >= 1)
    if gpus > total_gpus:
        raise ConfigError(
            [
                Finding(
                    f"--gpus-per-trial {gpus:g}",
                    f"{total_gpus:g} GPUs are here",
                    "ask for fewer, leave the option out, or join a cluster with --address",
                )
            ]
        )
    # A GPU is shared by whole trials: 0.4 of a GPU lets two in, not two and a half.
    fitting = int(total_gpus) * int(1 / gpus) if 0 < gpus < 1 else int(total_gpus / gpus) if gpus else total_cpus
    concurrent = max(1, min(fitting, total_cpus, max_concurrent or fitting))
    return TrialResources(max(1, total_cpus // concurrent) if gpus else 1, gpus, concurrent)


def call_with_resources(resources: TrialResources, function: Callable[..., T], *arguments: Any) -> T:
    """Runs a function in a worker that is given what a trial is given, and waits for its answer."""
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(function)
    answer: T = ray.get(task.remote(*arguments))
    return answer
