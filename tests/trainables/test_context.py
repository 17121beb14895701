from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from trainables.context import TrialContext
from trainables.protocol.spec import PROTOCOLS, Protocol

CONTEXT = TrialContext(
    model="nano",
    checkpoint=None,
    store_folder="stores/one",
    train=("a.png", "b.png"),
    val=("c.png",),
    protocol=PROTOCOLS["recorded"],
    max_epochs=8,
    seed=3,
    fixed={"optim.grad_clip": 1.0, "augment.kind": "flips", "adapter.train_heads": True, "adapter.rank": 4},
    n_workers=2,
    pathology_weights={"uni": "weights/uni.safetensors"},
)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_a_context_survives_json(protocol: Protocol) -> None:
    context = TrialContext(**{**vars(CONTEXT), "protocol": protocol})
    again = TrialContext.from_dict(json.loads(json.dumps(context.to_dict())))
    assert again == context and again.protocol.id == protocol.id


def test_from_dict_leaves_its_argument_as_it_was() -> None:
    fields = CONTEXT.to_dict()
    kept = json.dumps(fields)
    TrialContext.from_dict(fields)
    assert json.dumps(fields) == kept


@pytest.mark.parametrize(
    ("variable", "n_threads"),
    [("1", 1), ("2", 2), ("2,1", 2), (" 2 ", 2), ("0", 1), ("", 1), ("many", 1), (None, 1)],
)
def test_threads_follow_the_variable_that_ray_sets(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, n_threads: int
) -> None:
    if variable is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    CONTEXT.use_share()
    assert torch.get_num_threads() == n_threads
