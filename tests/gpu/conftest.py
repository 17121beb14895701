"""Fixtures of tests for a GPU: the device, and a few regions at nano's size.

Most of them also run on a CPU, marked slow, so that their code is tried where no GPU is.
"""

from collections.abc import Callable

import pytest
import torch

from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.data.store import RegionStore
from trainables.model.weights import load_model
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, Scalar
from trainables.training.fine_tune import FineTune


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The GPU, or the test is skipped."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that a trial picks for itself: the GPU; or the CPU, where there is no other."""
    if request.param == "cuda":
        found: torch.device = request.getfixturevalue("gpu")
        return found
    if torch.cuda.is_available():
        pytest.skip("trials on this machine use its GPU")
    return torch.device("cpu")


@pytest.fixture(scope="session")
def context(small_store: RegionStore) -> TrialContext:
    """Two epochs of nano under ``box``, on four regions, with two to validate."""
    return TrialContext(
        model="nano",
        checkpoint=None,
        store_folder=str(small_store.folder),
        train=small_store.names[:4],
        val=small_store.names[4:6],
        protocol=PROTOCOLS["box"],
        max_epochs=2,
        seed=0,
        fixed={},
        n_workers=0,
    )


@pytest.fixture
def start() -> Callable[..., FineTune]:
    """Starts fine-tunes of a context on a device; other values by the recipe's field, with ``__`` for its dot."""

    def begin(context: TrialContext, device: torch.device, **values: Scalar) -> FineTune:
        flat: dict[str, Scalar] = {"optim.batch_size": 2, "optim.lr": 3e-3}
        recipe = Recipe.from_flat({**flat, **{name.replace("__", "."): value for name, value in values.items()}})
        base = load_model(context.model, context.checkpoint).state_dict()
        return FineTune(context, Fold(context.train, context.val), base, recipe, device)

    return begin
