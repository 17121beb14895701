"""Runs functions in Ray workers that have the resources of a trial."""

import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.cluster.failures import describe_ray_error
from search.cluster.resources import TrialResources
from search.command_line.paths import DEFAULT_STORAGE
from search.errors import ConfigError, SearchError
from trainables.errors import TrainablesError
from trainables.model.device import find_gpu_fault

T = TypeVar("T")


def check_shared_storage(storage: str, folder: Path) -> None:
    """Checks that a search on several nodes has a storage that was chosen for it, and that all nodes see.

    The folder of all searches is an absolute path and exists.

    Raises:
        ConfigError: If there are several nodes, and the storage is the default, or some do not see the folder.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    if storage == DEFAULT_STORAGE:
        what = f"{len(nodes)} nodes train, and checkpoints would be looked for in {DEFAULT_STORAGE}/ of each"
        fix = f"give a folder that all nodes share (if this one is: --storage {folder})"
        raise ConfigError.at("--storage", what, fix)
    probe = folder / f".shared-{uuid.uuid4().hex}"
    probe.touch()
    try:
        blind = _list_blind_nodes([node["NodeID"] for node in nodes], probe)
    finally:
        probe.unlink(missing_ok=True)
    if blind:
        names = ", ".join(node["NodeManagerHostname"] for node in nodes if node["NodeID"] in blind)
        what = f"{folder}, with decoded regions and the searches' own files, is not the same folder on {names}"
        raise ConfigError.at("--storage", what, "give a folder that all nodes share (by a URL: work in one)")


def _list_blind_nodes(node_ids: Sequence[str], file: Path) -> list[str]:
    """Returns the nodes on which a file is not there."""
    look = ray.remote(num_cpus=0)(os.path.exists)
    on_node = [NodeAffinitySchedulingStrategy(node_id, soft=False) for node_id in node_ids]
    seen: list[bool] = ray.get([look.options(scheduling_strategy=each).remote(str(file)) for each in on_node])
    return [node_id for node_id, is_there in zip(node_ids, seen, strict=True) if not is_there]


def check_gpus_compute(resources: TrialResources) -> None:
    """Computes something in a worker on the GPU that it is given.

    Ray counts the driver's GPUs; PyTorch may be built for none, for newer drivers or for other GPUs, and would silently
    compute on the CPU.

    Raises:
        ConfigError: With PyTorch's reason, if it cannot.
    """
    if not resources.gpus:
        return
    if why := call_with_resources(resources, "a look at the GPUs", find_gpu_fault):
        fix = "update the driver, install a PyTorch for it, or leave the GPUs alone with --gpus-per-trial 0"
        raise ConfigError.at("GPUs", f"Ray counts them, and PyTorch cannot use them: {why}", fix)


def call_with_resources(resources: TrialResources, what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Returns what a function returns in a worker that has a trial's resources; errors name ``what`` it computes.

    The function travels to the worker by value.

    Raises:
        SearchError: If the worker died or the GPU's memory ran out; this and any other TrainablesError also if the
            function raised it.
        RayError: If the function raised anything else; :func:`~search.cluster.disk.to_storage_error` knows a disk's.
    """
    return map_with_resources(resources, what, function, [arguments])[0]


def map_with_resources(
    resources: TrialResources, what: str, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]
) -> list[T]:
    """Returns what a function returns for each tuple of arguments, in order; as many run at once as trials would.

    Raises:
        SearchError: As :func:`call_with_resources`.
    """
    task = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(function)
    try:
        answers: list[T] = ray.get([task.remote(*arguments) for arguments in calls])
    except RayError as error:
        # Ray's own text is the worker's traceback; errors raised on purpose say all in a line.
        if isinstance(error, RayTaskError) and isinstance(error.cause, TrainablesError):
            raise error.cause from error
        if why := describe_ray_error(error):
            raise SearchError(f"{what} could not be completed: {why}") from error
        raise
    return answers
