from __future__ import annotations

import json

import pytest

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
