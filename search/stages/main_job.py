"""The main job, stage by stage: the bar, the trials, the test set opened once, the export, the record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import ray
from optuna.trial import FrozenTrial
from rich.console import Console

from search.cluster.disk import to_storage_error
from search.cluster.resources import list_nodes, share_resources
from search.cluster.start import start_ray
from search.cluster.workers import call_with_resources, check_gpus_compute, check_shared_storage, map_with_resources
from search.errors import SearchError
from search.judging.openings import describe_openings
from search.judging.test_set import HeldOutResult, open_test
from search.plan.class_prompt_checks import NO_ZERO_SHOT
from search.plan.resume import ResumedSearch
from search.plan.search_plan import SearchPlan
from search.run_folder.chosen import Chosen
from search.run_folder.layout import NAMING_FOLDER, TRIALS_FOLDER, hold_search, put_aside
from search.run_folder.protocol_table import PROTOCOLS_DIFFER, ProtocolTable
from search.run_folder.score_table import write_scores
from search.run_folder.summary import Bar, HeldOut, Summary
from search.space.recorded_experiments import RECORDED_BAR
from search.stages.clip_naming import flatten_naming, name_regions, write_naming
from search.stages.closing import CLOSING_FILE, draw_best, finish_tracking, list_last_records, write_final_report
from search.stages.confirmation import choose_on_validation
from search.stages.exporter import export_run
from search.stages.protocol_comparison import compare_protocols
from search.stages.session import Session, claim_folder, close_early, open_session, reopen_session
from search.stages.trials import run_protocols, run_trials
from search.study.ranking import RankedTrial, describe_pareto, find_pareto, pick_winner, rank_trials, write_pareto
from search.study.study_file import make_study_file
from search.study.trial_attributes import count_states, read_trials
from search.tracking.callback import OUTBOX_FILE
from search.tracking.outbox import count_waiting
from search.tracking.pages import compose_charts_url, compose_recorded_url
from search.tracking.recorded_runs import log_recorded_experiments
from search.tracking.tracker import Tracker
from trainables.evaluation.candidates import score_candidate
from trainables.protocol.scores import Scores, flatten_scores, flatten_with_limits


def run_search(
    plan: SearchPlan,
    console: Console,
    resumed: ResumedSearch | None = None,
) -> Summary | ProtocolTable:
    """Runs a search to its end and returns its outcome, which also lies in its folder.

    Args:
        plan: From :func:`search.plan.planner.make_plan`.
        console: Where progress is told.
        resumed: The search that goes on, whose plan it is; None for a new one.

    Raises:
        ConfigError: If more GPUs are asked for than there are, or several nodes would each write to their own disk.
        SearchError: If MLflow cannot be reached at the start, no trial left a checkpoint, or files cannot be written.
    """
    started = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if resumed is not None and (outcome := _find_end(resumed)) is not None:
        console.print(f"{plan.name} is finished: nothing to go on with; a larger --num-trials adds trials")
        return outcome
    options = plan.options
    start_ray(options.address)
    try:
        check_shared_storage(plan.places.checkpoint_url or options.storage, plan.folder.parent)
        resources = share_resources(list_nodes(), options.gpus_per_trial, options.max_concurrent)
        check_gpus_compute(resources)
        tracker = Tracker.connect(plan.places.experiment, default_uri=resumed.record.tracking_uri if resumed else "")
        if resumed is None:
            plan = claim_folder(plan)
            with hold_search(plan.folder):
                session = open_session(plan, resources, tracker, console)
                with close_early(session):
                    return _run_stages(session, started)
        with hold_search(plan.folder):
            session = reopen_session(resumed, resources, tracker, console)
            with close_early(session):
                return _run_stages(session, started)
    except Exception as error:
        if not isinstance(error, SearchError) and (told := to_storage_error(error, str(plan.folder))):
            raise told from error
        raise
    finally:
        ray.shutdown()


def _find_end(resumed: ResumedSearch) -> Summary | ProtocolTable | None:
    """Returns the outcome of a search that has come to its end, in MLflow too; None where there is still work."""
    outcome: Summary | ProtocolTable | None
    if resumed.plan.config.train:
        outcome = Summary.read(resumed.plan.folder)
        has_ended = outcome is not None and bool(outcome.export)
    else:
        outcome = ProtocolTable.read(resumed.plan.folder)
        has_ended = outcome is not None
    if not has_ended or resumed.adds_trials:
        return None
    if any(count_waiting(resumed.plan.folder / name) for name in (OUTBOX_FILE, CLOSING_FILE)):
        return None
    tracker = Tracker.connect(resumed.plan.places.experiment, default_uri=resumed.record.tracking_uri)
    status = tracker.read_status(resumed.record.parent_run_id)
    return outcome if status == "FINISHED" else None


def _run_stages(session: Session, started: float) -> Summary | ProtocolTable:
    folder = session.plan.folder
    zeroshot = _measure_bar(session)
    recorded = _log_recorded(session)
    naming = _name_masks(session, "val", session.context.scored)
    if not session.plan.config.train:
        session.say(PROTOCOLS_DIFFER)
        run_protocols(session)
        return compare_protocols(session, naming)
    run_trials(session, zeroshot)
    trials = read_trials(make_study_file(folder, session.record))
    objective = session.plan.config.objective
    ranked = rank_trials(trials, folder / TRIALS_FOLDER, objective)
    winner = pick_winner(ranked, trials, folder / TRIALS_FOLDER)
    if objective.is_pair:
        ranked = _tell_pareto(session, ranked, zeroshot)
    chosen = choose_on_validation(session, ranked, zeroshot)
    result = _open_test(session, chosen)
    naming |= _name_masks(session, "test", session.plan.data.split.test)
    summary = _summarize(session, trials, winner, chosen, zeroshot, result, naming, started)
    summary.write(folder)
    session.say("exporting the winner, which is scored once more from its files ...")
    put_aside(folder / "export")
    for line in call_with_resources(session.resources, "the export", export_run, folder, folder / "export").to_lines():
        session.say(line)
    overlays = draw_best(session, chosen, ranked)
    summary = dataclasses.replace(
        Summary.read(folder) or summary, wall_seconds=round(time.monotonic() - started, 1)
    )
    summary.write(folder)
    report = write_final_report(session)
    finish_tracking(session, list_last_records(session, summary, result.verdict, overlays))
    for line in summary.to_lines(result.verdict.reason):
        session.say(line)
    tracker, parent = session.tracker, session.record.parent_run_id
    session.say(f"  export: {summary.export}")
    if report:
        session.say(f"  report: {report}")
    session.say(f"  compare the trials: run `mlflow ui` in {Path.cwd()} and open")
    session.say(f"  {compose_charts_url(tracker.uri, tracker.experiment_id, parent)}")
    if recorded:
        session.say("  the recorded experiments, each under its own protocol:")
        session.say(f"  {compose_recorded_url(tracker.uri, recorded)}")
    return summary


def _measure_bar(session: Session) -> Scores:
    """Scores zero-shot on validation, before any trial, and logs it beside the recorded figure."""
    plan = session.plan
    session.say("measuring the zero-shot bar on validation ...")
    context = session.context
    scores = call_with_resources(
        session.resources, "the zero-shot bar", score_candidate, context, None, context.scored
    )
    write_scores(plan.folder / "scores_val_zeroshot.csv", {"zeroshot": scores})
    session.say(
        f"  zero-shot Dice {scores.dice:.3f} (IoU {scores.iou:.3f}), {plan.protocol.floor_words} {scores.floor:.3f}, "
        f"ceiling {scores.ceiling:.3f}"
    )
    if plan.protocol.is_auto:
        session.say(f"  {NO_ZERO_SHOT}")
    elif scores.dice < scores.floor:
        session.say("  below the filled box: here the zero-shot model adds nothing to its prompt")
    tags = {**session.tags, "split": "val"}
    outbox, max_epochs = session.open_outbox(), plan.config.max_epochs
    outbox.post_search("recorded bar", max_epochs=max_epochs)
    outbox.post_search("zero-shot bar", figures=flatten_with_limits(scores, "val"), tags=tags, max_epochs=max_epochs)
    return scores


def _tell_pareto(session: Session, ranked: Sequence[RankedTrial], zeroshot: Scores) -> list[RankedTrial]:
    """Returns the trials that no other beats in both objectives, and writes them down."""
    members = find_pareto(ranked)
    write_pareto(session.plan.folder, members, session.plan.protocol.id)
    for line in describe_pareto(members, zeroshot.dice):
        session.say(line)
    return members


def _log_recorded(session: Session) -> str:
    """Lists the recorded experiments in MLflow; returns their experiment's id, empty where MLflow failed."""
    found: list[str] = []
    session.track(lambda: found.append(log_recorded_experiments(session.tracker)))
    return found[0] if found else ""


def _name_masks(session: Session, part: str, names: Sequence[str]) -> dict[str, float]:
    """Lets CLIP and a probe name the zero-shot masks of some regions, where there are weights for it."""
    settings = session.plan.model.naming
    if isinstance(settings, str):
        if part == "val":
            session.say(settings)
        return {}
    session.say(f"naming the zero-shot masks on {part} ...")
    report = call_with_resources(
        session.resources, f"names of the masks on {part}", name_regions, session.context, settings, tuple(names)
    )
    write_naming(report, session.plan.folder / NAMING_FOLDER, part)
    session.say(report.to_text())
    return flatten_naming(report, part)


def _open_test(session: Session, chosen: Chosen) -> HeldOutResult:
    """Scores the chosen model and zero-shot on the test regions, and compares them pair by pair."""
    session.say("scoring the winner and zero-shot on the test regions ...")
    folder = session.plan.folder
    return open_test(
        folder,
        session.record,
        chosen.locate(folder),
        chosen.scale,
        chosen.describe(),
        lambda calls: map_with_resources(session.resources, "scores on test", score_candidate, calls),
        session.is_resumed,
    )


def _summarize(
    session: Session,
    trials: list[FrozenTrial],
    winner: RankedTrial,
    chosen: Chosen,
    zeroshot: Scores,
    result: HeldOutResult,
    naming: dict[str, float],
    started: float,
) -> Summary:
    plan, opening = session.plan, result.opening
    objective = plan.config.objective
    caveats = (*plan.origin.caveats, *filter(None, [describe_openings(opening)]))
    return Summary(
        search_id=plan.name,
        parent_run_id=session.record.parent_run_id,
        origin=dataclasses.replace(plan.origin, caveats=caveats),
        trials=count_states(trials),
        search_val_dice=winner.val_dice,
        chosen=chosen,
        bar=Bar(zeroshot.dice, zeroshot.floor, zeroshot.ceiling, flatten_scores(zeroshot, "val")[objective.metric]),
        test=HeldOut(result.candidate_dice, result.zeroshot_dice, result.verdict.word, opening, opening),
        wall_seconds=round(time.monotonic() - started, 1),
        bar_recorded_comparable=_is_recorded_setting(plan),
        objective=list(objective.metrics),
        naming=naming,
    )


def _is_recorded_setting(plan: SearchPlan) -> bool:
    """Whether test figures of this search stand on the recorded images, classes, model and protocol."""
    return (
        plan.data.split.kind == "bcss"
        and plan.data.regions.is_bcss
        and plan.data.regions.ignore_ids == (0,)
        and len(plan.data.split.test) == 45
        and plan.model.name == "large"
        and plan.protocol.name == RECORDED_BAR.protocol
    )
