import json
from dataclasses import asdict, replace

import pytest

from trainables.context import TrialContext
from trainables.data.splits import Fold
from trainables.files.json_reader import build_record
from trainables.protocol.spec import PROTOCOLS, Protocol


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_a_context_survives_json(context: TrialContext, protocol: Protocol) -> None:
    fixed = {"optim.grad_clip": 1.0, "augment.kind": "flips", "adapter.train_heads": True, "adapter.rank": 4}
    folds, weights = (Fold(context.train, context.val),), {"uni": "weights/uni.safetensors"}
    context = replace(context, protocol=protocol, fixed=fixed, folds=folds, pathology_weights=weights)
    again = build_record(json.loads(json.dumps(asdict(context))), TrialContext)
    assert again == context and again.protocol.id == protocol.id
