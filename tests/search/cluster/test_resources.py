"""How a machine's or a cluster's cores and GPUs are shared among trials."""

import pytest

from search.cluster.resources import TrialResources, check_gpus, share_resources
from search.errors import ConfigError


@pytest.mark.parametrize(
    ("cpus", "gpus", "per_trial", "at_most", "expected"),
    [
        # No GPU: a core a trial, several cores where fewer trials run at once.
        (2, 0, None, None, TrialResources(1, 0, 2)),
        (16, 0, None, None, TrialResources(1, 0, 16)),
        (16, 0, None, 4, TrialResources(4, 0, 4)),
        (16, 0, None, 3, TrialResources(5, 0, 3)),
        (2, 0, None, 8, TrialResources(1, 0, 2)),
        (1, 0, 0.0, None, TrialResources(1, 0, 1)),
        # A GPU a trial; cores are split, but no more than a trial's loaders can use.
        (8, 1, None, None, TrialResources(8, 1, 1)),
        (16, 4, None, None, TrialResources(4, 1, 4)),
        (64, 8, None, None, TrialResources(8, 1, 8)),
        (64, 8, None, 2, TrialResources(9, 1, 2)),
        # Shared GPUs hold whole trials.
        (16, 1, 0.5, None, TrialResources(8, 0.5, 2)),
        (16, 4, 0.5, None, TrialResources(2, 0.5, 8)),
        (16, 1, 0.4, None, TrialResources(8, 0.4, 2)),
        (16, 4, 0.25, None, TrialResources(1, 0.25, 16)),
        (16, 2, 0.1, None, TrialResources(1, 0.1, 16)),
        # Several GPUs a trial; what is left over idles.
        (16, 8, 2.0, None, TrialResources(4, 2, 4)),
        (16, 8, 3.0, None, TrialResources(8, 3, 2)),
        (16, 8, 8.0, None, TrialResources(9, 8, 1)),
        # Fewer cores than GPUs: each trial needs one.
        (2, 4, None, None, TrialResources(1, 1, 2)),
        # GPUs may be left alone.
        (4, 2, 0.0, None, TrialResources(1, 0, 4)),
    ],
)
def test_resources_are_shared_out(
    cpus: int, gpus: int, per_trial: float | None, at_most: int | None, expected: TrialResources
) -> None:
    node = {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {}), "node:127.0.0.1": 1.0}
    shared = share_resources([node], per_trial, at_most)
    assert shared == expected
    assert shared.cpus * shared.concurrent <= cpus
    assert shared.gpus * shared.concurrent <= gpus


@pytest.mark.parametrize(
    ("nodes", "per_trial", "at_most", "expected"),
    [
        ([(4, 0)] * 4, None, 1, TrialResources(4, 0, 1)),
        # A head without GPUs has cores for no trial.
        ([(16, 0), *[(4, 1)] * 4], None, None, TrialResources(4, 1, 4)),
        ([(32, 0), (16, 8)], None, None, TrialResources(2, 1, 8)),
        ([(32, 0), (16, 8)], None, 2, TrialResources(8, 1, 2)),
        ([(16, 2), (4, 2)], None, None, TrialResources(2, 1, 4)),
        ([(16, 2), (16, 1)], 2.0, None, TrialResources(9, 2, 1)),
        ([(16, 2), (0, 4)], None, None, TrialResources(8, 1, 2)),
    ],
)
def test_a_trial_is_never_wider_than_a_node(
    nodes: list[tuple[int, int]], per_trial: float | None, at_most: int | None, expected: TrialResources
) -> None:
    assert share_resources([{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes], per_trial, at_most) == expected


@pytest.mark.parametrize(("gpus", "asked"), [(0, 1.0), (0, 0.5), (1, 2.0), (8, 9.0)])
def test_more_gpus_than_there_are_are_refused(gpus: int, asked: float) -> None:
    with pytest.raises(ConfigError, match=f"--gpus-per-trial {asked:g}: {gpus} GPUs? can be seen here"):
        share_resources([{"CPU": 4.0, "GPU": float(gpus)}], asked, None)
    with pytest.raises(ConfigError, match="--gpus-per-trial 2: no node has 2 GPUs"):
        share_resources([{"CPU": 8.0, "GPU": 1.0}] * 4, 2.0, None)
    assert [check_gpus(fits, 2) for fits in (None, 0.0, 0.5, 2.0)] == [[]] * 4


@pytest.mark.parametrize(
    ("cpus", "gpus", "expected"), [(4, 0.0, 0), (1, 1.0, 0), (2, 0.5, 1), (5, 1.0, 4), (16, 1.0, 8)]
)
def test_loaders_run_beside_a_gpu_only(cpus: int, gpus: float, expected: int) -> None:
    assert TrialResources(cpus, gpus, 1).n_workers == expected
