from __future__ import annotations

import json
from dataclasses import replace

import pytest

from trainables.context import TrialContext
from trainables.data.folds import Fold
from trainables.protocol.spec import PROTOCOLS, Protocol


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_a_context_survives_json(context: TrialContext, protocol: Protocol) -> None:
    fixed = {"optim.grad_clip": 1.0, "augment.kind": "flips", "adapter.train_heads": True, "adapter.rank": 4}
    folds, weights = (Fold(context.train, context.val),), {"uni": "weights/uni.safetensors"}
    context = replace(context, protocol=protocol, fixed=fixed, folds=folds, pathology_weights=weights)
    fields = context.to_dict()
    kept = json.dumps(fields)
    again = TrialContext.from_dict(json.loads(kept))
    assert again == context and again.protocol.id == protocol.id
    assert TrialContext.from_dict(fields) == context and json.dumps(fields) == kept  # left as it was
