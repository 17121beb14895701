"""A search that has begun: its plan, what its trials share, its place in MLflow and on disk."""

import contextlib
import dataclasses
import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from search.cluster.checkpoint_storage import CheckpointStorage
from search.cluster.resources import TrialResources
from search.command_line.paths import has_password
from search.errors import ConfigError, SearchError, describe_findings
from search.mlflow_pages.addresses import compose_table_url, describe_view
from search.mlflow_pages.views import SearchView
from search.plan.moved_inputs import hash_files, list_input_files
from search.plan.places import find_taken
from search.plan.resume import ResumedSearch, record_options
from search.plan.search_plan import SearchPlan
from search.run_folder.chosen import discard_choice
from search.run_folder.layout import LOCK_FILE, RECORD_FILE, describe_resume
from search.run_folder.search_record import SearchRecord
from search.run_folder.slot_time import SlotTime
from search.space.config import find_space
from search.stages.provenance import describe_environment
from search.study.study_file import make_study_file
from search.tracking.errors import TrackingError
from search.tracking.limits import fit_params
from search.tracking.page_records import Data, View
from search.tracking.records import Params
from search.tracking.search_queue import SearchQueue, await_deliveries
from search.tracking.tracker import Dataset, RunStatus, Tracker
from trainables.context import TrialContext
from trainables.errors import InputError
from trainables.files.whole_file import write_whole
from trainables.sam2_trainable import SAM2Trainable

RUN_KEY_TAG = "search_key"
T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """What the stages of a running search hand to each other.

    The record is what was written down of the plan; the tags are MLflow's, of every run of the search.
    """

    plan: SearchPlan
    record: SearchRecord
    context: TrialContext
    resources: TrialResources
    tracker: Tracker
    tags: dict[str, str]
    console: Console
    is_resumed: bool = False
    slot_time: SlotTime = field(default_factory=SlotTime)

    @property
    def checkpoints(self) -> CheckpointStorage:
        """Where the trials' checkpoints go."""
        return CheckpointStorage(self.plan.folder, self.plan.places.checkpoint_url)

    @property
    def dataset(self) -> Dataset:
        """The data as MLflow names them: by their fingerprint."""
        data = self.plan.data
        counts = {part: len(names) for part, names in data.split.parts.items()}
        profile = {"regions": counts, "classes": list(data.store.classes.values())}
        return Dataset(data.regions.name, data.store.fingerprint, str(data.regions.root), profile)

    @property
    def view(self) -> SearchView:
        """The saved view of MLflow's page of runs."""
        config, classes = self.plan.config, tuple(self.plan.data.store.classes.values())
        return SearchView(self.plan.name, config.max_epochs, classes, tuple(config.space), trains=config.train)

    def say(self, text: str) -> None:
        """Prints a line as it is: no markup in names or paths, no wrapping of links."""
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def describe_charts(self) -> list[str]:
        """Returns what to do to see the search's runs in MLflow, also while they run."""
        uri, experiment_id = self.tracker.uri, self.tracker.experiment_id
        # MLflow's own landing page shows a search as one folded row, whose charts stay empty until it is unfolded.
        charts = compose_table_url(uri, experiment_id, self.record.parent_run_id, compareRunsMode="CHART")
        return describe_view(uri, charts)

    def open_queue(self) -> SearchQueue:
        """Returns the queue of records for MLflow; not to be used while trials run."""
        return SearchQueue(self.tracker, self.record.parent_run_id, self.plan.folder)

    def track(self, call: Callable[[], T]) -> T | None:
        """Asks MLflow, or writes what will be written again; an outage is shown, stops nothing and returns None."""
        try:
            return call()
        except TrackingError as error:
            self.say(f"MLflow: {error}")
            return None


def claim_folder(plan: SearchPlan) -> SearchPlan:
    """Makes the search's folder; a name that nobody chose gets a number where another search has just taken it.

    Raises:
        ConfigError: If another search has just taken the name that was asked for.
        SearchError: If the folder cannot be made.
    """
    storage, name = plan.folder.parent, plan.name
    for number in itertools.count(2):
        try:
            (storage / name).mkdir(parents=True)
            places = dataclasses.replace(plan.places, name=name, folder=storage / name)
            return dataclasses.replace(plan, places=places)
        except FileExistsError as error:
            if plan.options.name is not None:
                raise ConfigError(find_taken(storage, name)) from error
            name = f"{plan.name}-{number}"
        except OSError as error:
            raise SearchError(f"the search's folder {storage / name} cannot be made: {error.strerror}") from error
    raise AssertionError("there are enough numbers")


@contextmanager
def give_back(folder: Path) -> Iterator[None]:
    """Removes the folder of a search that stops before anything is in it: its name stays free for a second try."""
    try:
        yield
    finally:
        if {path.name for path in folder.glob("*")} <= {LOCK_FILE}:
            with contextlib.suppress(OSError):
                (folder / LOCK_FILE).unlink(missing_ok=True)
                folder.rmdir()  # which removes nothing else


def open_session(plan: SearchPlan, resources: TrialResources, tracker: Tracker, console: Console) -> Session:
    """Writes the record of a search whose folder is claimed, and opens its parent run; without one removes the folder.

    Raises:
        OSError: If the record cannot be written.
        TrackingError: If MLflow fails.
    """
    record = _make_record(plan, resources, tracker)
    tags = _make_tags(plan, record.environment)
    session = Session(plan, record, record.context, resources, tracker, tags, console)
    try:
        write_whole(plan.folder / record.arguments["space"], _copy_space(plan))
        # Before the record: a search that has one can be resumed without those that it learns from.
        if plan.warm_start.notes:
            plan.warm_start.give_to(make_study_file(plan.folder, record), plan.config.num_trials)
        record.write(plan.folder)
        parent = _find_or_open_run(session)
    except (OSError, TrackingError):
        shutil.rmtree(plan.folder, ignore_errors=True)  # nothing has been done: the name stays free for a second try
        raise
    return _enter_run(session, parent)


def _make_record(plan: SearchPlan, resources: TrialResources, tracker: Tracker) -> SearchRecord:
    data = plan.data
    return SearchRecord(
        search_id=plan.name,
        experiment=plan.places.experiment,
        parent_run_id="",
        data_root=str(data.regions.root),
        split={part: list(names) for part, names in data.split.parts.items()},
        split_description=data.split.description,
        data_fingerprint=data.store.fingerprint,
        demo=plan.demo_words,
        config=plan.config.to_dict(),
        context=plan.make_context(resources.n_workers),
        environment=describe_environment(),
        caveats=list(plan.caveats),
        arguments=record_options(plan.options),
        tracking_uri="" if has_password(tracker.uri) else tracker.uri,
        checkpoint_url=plan.places.checkpoint_url,
        run_key=uuid.uuid4().hex,
        input_hashes=hash_files(list_input_files(plan)),
        warm_start=list(plan.warm_start.notes),
    )


def _copy_space(plan: SearchPlan) -> bytes:
    """Returns the space file as it was given; with what it extends and settings resolved, where there are any."""
    is_alone = len(plan.config.layers) == 1
    return find_space(plan.options.space).read_bytes() if is_alone else plan.config.to_yaml().encode()


def _find_or_open_run(session: Session) -> str:
    """Returns the parent run's id: of a new run, or of the one that a process has opened and was killed."""
    key = {RUN_KEY_TAG: session.record.run_key}
    found = session.tracker.find_runs(key, max_results=1) if session.is_resumed else []
    if found:
        return str(found[0].info.run_id)
    return session.tracker.start_run(session.plan.name, "search", {**session.tags, **key})


def _enter_run(session: Session, parent: str) -> Session:
    """Writes a new parent run's id down, and into the run what the search is."""
    folder = session.plan.folder
    session = dataclasses.replace(session, record=dataclasses.replace(session.record, parent_run_id=parent))
    left_out = ("space", "start_from")  # they fill pages; search.json holds them
    settings = {key: value for key, value in session.record.config.items() if key not in left_out}
    with close_early(session):
        # Not together with the run: where they cannot be written, it would be left behind by a search without a record.
        queue = session.open_queue()
        for record in (Params(fit_params(settings)), Data(session.dataset), View(session.view)):
            queue.post(record)
        session.record.write(folder)
    session.track(lambda: session.tracker.log_artifact(parent, folder / RECORD_FILE))
    return session


def reopen_session(resumed: ResumedSearch, resources: TrialResources, tracker: Tracker, console: Console) -> Session:
    """Takes up a search that stopped: the same parent run, the same record, with the number of trials as it is now.

    Where trials are added, what was chosen is forgotten: once the parent run is open, as a resume that is refused
    takes nothing, and before the record says that they are no longer to be added.

    Raises:
        OSError: If the record cannot be written.
        TrackingError: If the parent run cannot be opened again.
    """
    plan, record = resumed.plan, resumed.record
    context = dataclasses.replace(record.context, n_workers=resources.n_workers)
    tags = _make_tags(plan, describe_environment())
    session = Session(plan, record, context, resources, tracker, tags, console, is_resumed=True)
    if not record.parent_run_id:
        session = _enter_run(session, _find_or_open_run(session))
    tracker.reopen(session.record.parent_run_id)
    config = {**record.config, "num_trials": plan.config.num_trials}
    session = dataclasses.replace(session, record=dataclasses.replace(session.record, config=config))
    with close_early(session):
        if resumed.adds_trials:
            discard_choice(plan.folder)
        session.record.write(plan.folder)
    return session


@contextmanager
def close_early(session: Session) -> Iterator[None]:
    """Closes the parent run of a search that stops within, and says how it goes on.

    Raises:
        SearchError: With all findings, where wrong input is found within: by then it is no longer true that nothing
            was started. All else passes as it is.
    """
    try:
        yield
    except BaseException as error:
        is_stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
        status: RunStatus = "KILLED" if is_stopped else "FAILED"
        await_deliveries()
        session.track(lambda: session.tracker.finish(session.record.parent_run_id, status))
        session.say("the search stopped; everything up to the last epoch's checkpoint is kept. To go on:")
        session.say(f"  {describe_resume(session.plan.folder)}")
        if isinstance(error, InputError):
            raise SearchError(describe_findings(error.findings)) from error
        raise


def _make_tags(plan: SearchPlan, environment: Mapping[str, object]) -> dict[str, str]:
    return {
        **plan.origin.to_tags(),
        "trainable": SAM2Trainable.__name__,
        "space": plan.config.name,
        "git_commit": str(environment["git_commit"]),
    }
