"""The main job: the bar, the trials, the choice on validation, the test, the export, the report, the record."""

import dataclasses
import importlib
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import ray
from optuna.trial import FrozenTrial
from rich.console import Console

from search.cluster.disk import to_storage_error
from search.cluster.gpu_share import measure_share
from search.cluster.resources import TrialResources, list_nodes, share_resources
from search.cluster.start import start_ray
from search.cluster.workers import call_with_resources, check_gpus_compute, check_shared_storage, map_with_resources
from search.command_line.end_command import call_at_end
from search.command_line.numbers import AUTO
from search.errors import SearchError
from search.judging.openings import describe_openings, locate_test_scores
from search.judging.test_set import HeldOutResult, score_on_test
from search.judging.verdict import Verdict, read_verdict
from search.mlflow_pages.addresses import compose_table_url
from search.mlflow_pages.notes import RECORDED_VIEW_KEY
from search.mlflow_pages.outcome import LEADERBOARD_FILE, make_leaderboard
from search.plan.class_prompt_checks import NO_ZERO_SHOT
from search.plan.resume import ResumedSearch
from search.plan.search_plan import SearchPlan
from search.run_folder.chosen import Chosen
from search.run_folder.finalists import Confirmation
from search.run_folder.layout import SUMMARY_FILE, TRIALS_FOLDER, hold_search, put_aside
from search.run_folder.protocol_table import PROTOCOLS_DIFFER, ProtocolTable
from search.run_folder.score_table import write_scores
from search.run_folder.summary import Bar, HeldOut, Summary
from search.served_model.registry import URI_TAG
from search.space.recorded_experiments import RECORDED_BAR
from search.stages.clip_naming import name_masks_of
from search.stages.closing import draw_winner, finish_tracking, list_last_records, write_final_report
from search.stages.confirmation import choose_on_validation
from search.stages.exporter import export_run
from search.stages.protocol_comparison import compare_protocols
from search.stages.session import Session, claim_folder, close_early, give_back, open_session, reopen_session
from search.stages.trials import run_trials
from search.study.ranking import (
    RankedTrial,
    describe_pareto,
    find_pareto,
    pick_winner,
    read_chosen,
    read_ranked,
    write_pareto,
)
from search.study.trial_attributes import RAY_TRIAL_ID, count_states
from search.tracking.bar_runs import RecordedBar, ZeroshotBar
from search.tracking.page_records import Table
from search.tracking.recorded_runs import log_recorded_experiments
from search.tracking.search_queue import count_waiting
from search.tracking.tracker import Tracker
from trainables.evaluation.candidates import Candidate, score_candidate
from trainables.protocol.scores import Scores, flatten_scores, flatten_with_limits

Outcome = Summary | ProtocolTable
# What the verdict needs; packages that the export needs are those of the trials, which fail at once without them.
_LATE_MODULE = "statsmodels.stats.multitest"


def run_search(plan: SearchPlan, console: Console, resumed: ResumedSearch | None = None) -> Outcome:
    """Runs a search, or one that is resumed, to its end and returns its outcome, which is also in its folder.

    Raises:
        ConfigError: If more GPUs are asked for than there are, or several nodes would each write to their own disk.
        SearchError: If MLflow cannot be reached at the start, no trial left a checkpoint, or files cannot be written.
    """
    started = time.monotonic()
    if resumed is not None and (outcome := _find_end(resumed)) is not None:
        resumed.record.write(plan.folder)  # with the places of what was moved
        console.print(f"{plan.name} is finished: nothing to go on with; a larger --num-trials adds trials")
        return outcome
    _import_late_module()
    start_ray(plan.options.address)
    try:
        check_shared_storage(plan.places.checkpoint_url or plan.options.storage, plan.folder.parent)
        resources = _share_resources(plan, console)
        tracker = Tracker.connect(plan.places.experiment, default_uri=resumed.record.tracking_uri if resumed else "")
        if resumed is None:
            plan = claim_folder(plan)
        ended = call_at_end(plan.options.on_end, plan.folder / SUMMARY_FILE, console.print)
        with ended, give_back(plan.folder), hold_search(plan.folder):
            session = (
                open_session(plan, resources, tracker, console)
                if resumed is None
                else reopen_session(resumed, resources, tracker, console)
            )
            gpus = session.tracker.watch_machine(session.record.parent_run_id) if resources.gpus else nullcontext()
            with close_early(session), gpus:
                return _run_stages(session, started)
    except Exception as error:
        if not isinstance(error, SearchError) and (storage_error := to_storage_error(error, str(plan.folder))):
            raise storage_error from error
        raise
    finally:
        ray.shutdown()


def _share_resources(plan: SearchPlan, console: Console) -> TrialResources:
    """Divides CPUs and GPUs among trials; tries a step of the largest recipe where the GPUs' parts are left to that."""
    options, nodes = plan.options, list_nodes()
    asked = None if options.gpus_per_trial == AUTO else options.gpus_per_trial
    resources = share_resources(nodes, asked, options.max_concurrent)
    check_gpus_compute(resources)
    if options.gpus_per_trial != AUTO or not plan.config.train:
        return resources
    if not resources.gpus:
        console.print("GPUs     none can be seen: trials share the cores")
        return resources
    console.print("measuring a training step of the largest recipe on a GPU ...")
    share, line = measure_share(plan.config, plan.make_context(0), resources)
    console.print(line, soft_wrap=True)
    return share_resources(nodes, share, options.max_concurrent)


def _import_late_module() -> None:
    """Imports what is first needed after hours of training, so that what cannot be imported stops nothing then."""
    try:
        importlib.import_module(_LATE_MODULE)
    except ImportError as error:
        raise SearchError(f"{_LATE_MODULE} cannot be imported: {error}; install the project again") from error


def _find_end(resumed: ResumedSearch) -> Outcome | None:
    """Returns the outcome of a search that has come to its end, in MLflow too; None where there is still work."""
    folder = resumed.plan.folder
    outcome: Outcome | None = Summary.read(folder) if resumed.plan.config.train else ProtocolTable.read(folder)
    has_ended = bool(outcome.export) if isinstance(outcome, Summary) else outcome is not None
    if not has_ended or resumed.adds_trials or count_waiting(folder):
        return None
    tracker = Tracker.connect(resumed.plan.places.experiment, default_uri=resumed.record.tracking_uri)
    return outcome if tracker.get_run(resumed.record.parent_run_id).info.status == "FINISHED" else None


def _run_stages(session: Session, started: float) -> Outcome:
    plan, folder = session.plan, session.plan.folder
    for number, line in enumerate(session.describe_charts()):
        session.say(f"{'' if number else 'MLflow':9}{line}")
    summary = Summary.read(folder) if session.is_resumed and plan.config.train else None
    if summary is not None and summary.export:
        return _deliver(session, summary)
    zeroshot = _measure_bar(session)
    recorded = session.track(lambda: log_recorded_experiments(session.tracker))
    naming = name_masks_of(session, "val", session.context.scored)
    if not plan.config.train:
        session.say(PROTOCOLS_DIFFER)
        run_trials(session, None)
        return compare_protocols(session, naming)
    run_trials(session, zeroshot)
    trials, ranked = read_ranked(folder, session.record)
    chosen = choose_on_validation(session, _pick_best(session, ranked, trials, zeroshot), zeroshot)
    result = _score_on_test(session, chosen)
    naming |= name_masks_of(session, "test", plan.data.split.test)
    opening, bar_value = result.opening, flatten_scores(zeroshot, "val")[plan.config.objective.metric]
    summary = Summary(
        search_id=plan.name,
        parent_run_id=session.record.parent_run_id,
        origin=dataclasses.replace(plan.origin, caveats=(*plan.caveats, *filter(None, [describe_openings(opening)]))),
        trials=count_states(trials),
        search_val_dice=max(each.val_dice for each in ranked),
        chosen=chosen,
        bar=Bar(zeroshot.dice, zeroshot.floor, zeroshot.ceiling, bar_value),
        test=HeldOut(result.candidate_dice, result.zeroshot_dice, result.verdict.word, opening, opening, result.floor),
        wall_seconds=_count_seconds(started),
        bar_recorded_comparable=_is_recorded_setting(plan),
        objective=list(plan.config.objective.metrics),
        naming=naming,
        arithmetic_share=session.slot_time.arithmetic_share,
        prefix_reused=session.slot_time.prefix_reused,
    )
    summary.write(folder)
    _export(session)
    overlays = draw_winner(session, chosen)
    summary = dataclasses.replace(Summary.read(folder) or summary, wall_seconds=_count_seconds(started))
    summary.write(folder)
    return _close(session, summary, result.verdict, overlays, recorded, _list_leaders(session, summary, trials, ranked))


def _deliver(session: Session, summary: Summary) -> Summary:
    """Gives MLflow what it lacks of a search that has ended; the search stays as it is."""
    folder, is_auto = session.plan.folder, session.plan.protocol.is_auto
    verdict = read_verdict(locate_test_scores(folder, summary.test.opening), is_auto, summary.origin.caveats)
    overlays = draw_winner(session, read_chosen(folder, session.record))
    leaders = _list_leaders(session, summary, *read_ranked(folder, session.record))
    recorded = session.track(lambda: log_recorded_experiments(session.tracker))
    return _close(session, summary, verdict, overlays, recorded, leaders)


def _close(
    session: Session, summary: Summary, verdict: Verdict, overlays: Path | None, recorded: str | None, leaders: Table
) -> Summary:
    """Writes the report, delivers the last records and prints the outcome, which it returns."""
    report = write_final_report(session)
    finish_tracking(session, list_last_records(session, summary, verdict, overlays, leaders))
    _print_end(session, [*summary.to_lines(verdict.reason), f"  export: {summary.export}"], report, recorded)
    return summary


def _list_leaders(
    session: Session, summary: Summary, trials: Sequence[FrozenTrial], ranked: Sequence[RankedTrial]
) -> Table:
    numbers = {str(trial.user_attrs.get(RAY_TRIAL_ID)): number for number, trial in enumerate(trials)}
    finalists, parameters = Confirmation.read(session.plan.folder).finalists, list(session.plan.config.space)
    return Table(LEADERBOARD_FILE, *make_leaderboard(ranked, numbers, finalists, summary.bar.dice, parameters))


def _measure_bar(session: Session) -> Scores:
    """Scores zero-shot on validation, before any trial, and logs it beside the recorded figure."""
    plan, context = session.plan, session.context
    session.say("measuring the zero-shot bar on validation ...")
    scores = call_with_resources(session.resources, "the zero-shot bar", score_candidate, context, None, context.scored)
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
    queue, max_epochs = session.open_queue(), plan.config.max_epochs
    queue.post(RecordedBar(max_epochs))
    queue.post(ZeroshotBar(flatten_with_limits(scores, "val"), tags, max_epochs))
    return scores


def _pick_best(
    session: Session, ranked: Sequence[RankedTrial], trials: Sequence[FrozenTrial], zeroshot: Scores
) -> Sequence[RankedTrial]:
    """Returns the ranked trials, with two objectives only those that no other beats, which the screen lists.

    Raises:
        SearchError: If no trial left a checkpoint.
    """
    plan, trials_folder = session.plan, session.plan.folder / TRIALS_FOLDER
    pick_winner(ranked, trials, trials_folder)
    if not plan.config.objective.is_pair:
        return ranked
    members = find_pareto(ranked)
    write_pareto(plan.folder, members, plan.protocol.id)
    for line in describe_pareto(members, zeroshot.dice):
        session.say(line)
    return members


def _score_on_test(session: Session, chosen: Chosen) -> HeldOutResult:
    """Scores the chosen model and zero-shot on the test regions, and compares them pair by pair."""
    session.say("scoring the winner and zero-shot on the test regions ...")
    folder = session.plan.folder
    return score_on_test(
        folder,
        session.record,
        Candidate(chosen.locate(folder), chosen.scale),
        chosen.describe(),
        lambda calls: map_with_resources(session.resources, "scores on test", score_candidate, calls),
        session.is_resumed,
    )


def _count_seconds(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _is_recorded_setting(plan: SearchPlan) -> bool:
    """Whether the test figures of this search are of the recorded images, classes, model and protocol."""
    data = plan.data
    return (
        data.split.kind == "bcss"
        and data.regions.is_bcss
        and data.regions.ignore_ids == (0,)
        and len(data.split.test) == 45
        and plan.model.name == "large"
        and plan.protocol.name == RECORDED_BAR.protocol
    )


def _export(session: Session) -> None:
    """Exports the winner, in place of the export of an earlier end."""
    session.say("exporting the winner, which is scored once more from its files ...")
    folder, out = session.plan.folder, session.plan.folder / "export"
    put_aside(out)
    for line in call_with_resources(session.resources, "the export", export_run, folder, out).to_lines():
        session.say(line)


def _print_end(session: Session, outcome: Sequence[str], report: Path | None, recorded: str | None) -> None:
    """Prints the outcome, and where report and trials are, and the recorded experiments if MLflow has them."""
    tracker, parent = session.tracker, session.record.parent_run_id
    lines = [
        *outcome,
        *([f"  report: {report}"] if report else []),
        "  compare the trials in MLflow:",
        *(f"    {line}" for line in session.describe_charts()),
    ]
    if model := session.track(lambda: tracker.get_run(parent).data.tags.get(URI_TAG)):
        lines.append(f"  the winner as an MLflow model: {model}")
    if recorded:
        lines.append("  the recorded experiments, each under its own protocol:")
        lines.append(f"    open {compose_table_url(tracker.uri, recorded, RECORDED_VIEW_KEY)}")
    for line in lines:
        session.say(line)
