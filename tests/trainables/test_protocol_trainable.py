"""A trial without training scores zero-shot under its own protocol, as the evaluator does."""

from dataclasses import replace
from pathlib import Path

import pytest
from ray import tune

from trainables.context import TrialContext
from trainables.evaluation.candidates import score_candidate
from trainables.protocol.spec import PROTOCOLS
from trainables.protocol_trainable import ProtocolTrainable


@pytest.fixture
def context(context: TrialContext) -> TrialContext:
    return replace(context, max_epochs=0, seed=7, fixed={"protocol.keep_largest": False, "protocol.closing_px": 0})


def test_each_trial_has_its_own_protocol_and_the_evaluators_figures(
    context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "ray"))
    trial = tune.with_parameters(ProtocolTrainable, context=context)({"protocol.prompt": "box"})
    first = trial.step()
    assert (first["protocol"], first["protocol_id"]) == ("box", PROTOCOLS["box"].id)
    assert trial.reset_config({"protocol.prompt": "centroid"})
    second = trial.step()
    assert second["protocol_id"] == PROTOCOLS["centroid"].id
    for name, metrics in (("box", first), ("centroid", second)):
        plain = replace(context, protocol=PROTOCOLS[name])
        scores = score_candidate(plain, None, context.val)
        assert (metrics["val_dice"], metrics["val_floor"]) == (scores.dice, scores.floor)
