"""Known configurations that ended before a stop, and the tags of trials that have a protocol of their own."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from search.stages.session import Session
from search.stages.trials import find_protocol_tags, run_listed
from search.stages.tune_run import TuneRun
from search.study.study_file import StudyFile
from search.study.trial_attributes import RAY_TRIAL_ID, STARTING_POINT, TrialFinder
from trainables.protocol.scores import Scores
from trainables.protocol.spec import PROTOCOLS


@pytest.mark.parametrize(
    ("kept", "going_on", "new"), [((1, 2), [], []), ((1,), ["a"], []), ((1, 2), [], [{"seed": 2}])]
)
def test_only_what_has_not_ended_is_trained(
    session: Session,
    write_trial: Callable[..., Path],
    make_scores: Callable[..., Scores],
    monkeypatch: pytest.MonkeyPatch,
    kept: tuple[int, ...],
    going_on: list[str],
    new: list[dict[str, int]],
) -> None:
    started: list[Any] = []

    def fit(run: TuneRun, trainable: Any, context: Any, searcher: Any, num_samples: int, first: Any) -> None:
        assert not context.patience
        started.append(([each.trial_id for each in first], num_samples))

    monkeypatch.setattr(TuneRun, "fit", fit)
    other = {"seed": 1, "from_trial": "another"}  # was asked for before, and is not now
    for trial_id, ends, config in (("a", kept, {"seed": 1}), ("b", (1,), other)):
        write_trial(session.plan.folder / "confirmation", trial_id, [0.5, 0.6], ends, config)
    patient = dataclasses.replace(session.record.context, patience=1)
    session = dataclasses.replace(session, is_resumed=True, record=dataclasses.replace(session.record, context=patient))
    listed = run_listed(session, make_scores(0), [{"seed": 1}, *new], "confirmation", epochs=2)
    assert [each.config for each in listed] == [{"seed": 1}, other]
    assert started == ([(going_on, len(going_on) + len(new))] if going_on or new else [])


def test_a_trial_with_a_protocol_of_its_own_is_tagged_with_it(tmp_path: Path) -> None:
    study_file, base = StudyFile(tmp_path / "study.journal", "s"), PROTOCOLS["recorded"]
    attrs = {RAY_TRIAL_ID: "a", STARTING_POINT: "flips"}
    distributions = {"protocol.tta": CategoricalDistribution(["none", "flips"])}
    trial = create_trial(value=0.5, params={"protocol.tta": "flips"}, distributions=distributions, user_attrs=attrs)
    study_file.open().add_trial(trial)
    tags = find_protocol_tags(TrialFinder(study_file), base, {}, "a")
    assert tags["starting_point"] == "flips" and tags["protocol_id"] != base.id
    assert set(tags) == {"trial_number", "starting_point", "protocol", "protocol_id"}
    assert find_protocol_tags(TrialFinder(study_file), base, {}, "unknown") == {}
