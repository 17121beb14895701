"""Divides the CPUs and GPUs of a machine or cluster among trials."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.errors import ConfigError
from trainables.errors import Finding

# So many load 230 regions of 1024 px a second (benchmarks.loading); whether a GPU takes more was not measured.
MAX_WORKERS_PER_TRIAL = 8


@dataclass(frozen=True)
class TrialResources:
    """What one trial is given, cores and GPUs (a fraction where several trials share one), and how many run at once."""

    cpus: int
    gpus: float
    concurrent: int

    @property
    def n_workers(self) -> int:
        """Loader processes beside the one that trains; none where a trial trains on its own cores."""
        return min(self.cpus - 1, MAX_WORKERS_PER_TRIAL) if self.gpus else 0


def list_nodes() -> list[dict[str, float]]:
    """Returns what each node of the cluster has, CPUs and GPUs by Ray's names.

    Ray counts the GPU of an Apple machine, on which this project does not compute.
    """
    import ray  # late: the pre-flight needs no Ray

    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [{**node, "GPU": 0.0} for node in nodes] if sys.platform == "darwin" else nodes


def share_resources(
    nodes: Sequence[Mapping[str, float]], gpus_per_trial: float | None, max_concurrent: int | None
) -> TrialResources:
    """Divides the resources of a machine or a cluster, as :func:`list_nodes` gives them, among trials.

    Every GPU is used, one trial each unless said otherwise (below 1 several trials share one); without GPUs every core
    is, one trial each. Where fewer trials run at once than there are cores, each has several. A trial lives on one
    node.

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
        raise ConfigError.at(f"--gpus-per-trial {gpus:g}", what, "ask for as many as one node has")
    fitting = sum(n_trials for _, n_trials in hosts)
    concurrent = min(fitting, max_concurrent or fitting)
    # Nothing beyond the loaders would use more, and a node's cores need not be in proportion to its GPUs.
    cpus = min(MAX_WORKERS_PER_TRIAL + 1, *(cpus // min(n_trials, concurrent) for cpus, n_trials in hosts))
    return TrialResources(cpus, gpus, concurrent)


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
