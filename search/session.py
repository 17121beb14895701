"""A search that has begun: its plan, what its trials share, its place in MLflow and on disk."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console

from search.checkpoint_storage import CheckpointStorage
from search.cluster import TrialResources
from search.config import find_space
from search.errors import ConfigError, SearchError
from search.mlflow_limits import fit_params
from search.place import find_taken
from search.plan import SearchPlan
from search.provenance import describe_environment
from search.record import RECORD_FILE, SearchRecord
from search.resume import ResumedSearch, keep_arguments
from search.tracking import Tracker
from search.tracking_errors import TrackingError
from search.tune_callback import TrackingCallback
from trainables.context import TrialContext
from trainables.sam2_trainable import SAM2Trainable


@dataclass(frozen=True)
class Session:
    """What the stages of a running search hand to each other.

    Attributes:
        plan: What was asked for.
        record: What was written down of it.
        context: What all trials share.
        resources: What a trial is given.
        tracker: The MLflow experiment.
        tags: MLflow's tags of every run of this search.
        console: Where progress is told.
        is_resumed: Whether it goes on with what an earlier process began.
    """

    plan: SearchPlan
    record: SearchRecord
    context: TrialContext
    resources: TrialResources
    tracker: Tracker
    tags: dict[str, str]
    console: Console
    is_resumed: bool = False

    @property
    def checkpoints(self) -> CheckpointStorage:
        """Where the trials' checkpoints go."""
        return CheckpointStorage(self.plan.folder, self.plan.checkpoint_url)

    def say(self, text: str) -> None:
        """Prints a line as it is: no markup in names or paths, no wrapping of links."""
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def open_outbox(self) -> TrackingCallback:
        """Returns what delivers the records of the trials, for those of the search itself; not while trials run."""
        parent, max_epochs = self.record.parent_run_id, self.plan.config.max_epochs
        return TrackingCallback(self.tracker, parent, None, max_epochs, [], {}, self.plan.folder)

    def track(self, write: Callable[[], object]) -> None:
        """Writes to MLflow what will be written again; an outage is told and does not stop the search."""
        try:
            write()
        except TrackingError as error:
            self.say(f"MLflow: {error}")


def open_session(
    plan: SearchPlan, resources: TrialResources, tracker: Tracker, console: Console
) -> Session:
    """Makes the search's folder, opens its parent run and writes its record.

    Raises:
        ConfigError: If another search has just taken the name that was asked for.
        SearchError: If the folder cannot be made, or MLflow fails.
    """
    plan = _make_folder(plan)
    context = TrialContext(
        model=plan.model,
        checkpoint=plan.checkpoint,
        store_folder=str(plan.store.folder),
        train=plan.split.train,
        val=plan.split.val,
        protocol=plan.protocol,
        max_epochs=plan.config.max_epochs,
        seed=plan.seed,
        fixed=dict(plan.config.fixed),
        n_workers=resources.n_workers,
        folds=plan.folds,
        pathology_weights=dict(plan.pathology_weights),
    )
    environment = describe_environment()
    tags = _make_tags(plan, environment)
    left_out = ("space", "start_from")  # they fill pages; search.json holds them
    settings = {key: value for key, value in plan.config.to_dict().items() if key not in left_out}
    try:
        parent = tracker.start_search(plan.name, tags)
    except TrackingError:
        plan.folder.rmdir()  # still empty: the name stays free for a second try
        raise
    space = find_space(plan.arguments.space)
    (plan.folder / space.name).write_bytes(space.read_bytes())
    record = SearchRecord(
        search_id=plan.name,
        experiment=plan.experiment,
        parent_run_id=parent,
        data_root=str(plan.regions.root),
        split={part: list(names) for part, names in plan.split.parts.items()},
        split_description=plan.split.description,
        data_fingerprint=plan.store.fingerprint,
        demo=plan.demo_words,
        config=plan.config.to_dict(),
        context=context.to_dict(),
        environment=environment,
        caveats=list(plan.caveats),
        arguments=keep_arguments(plan.arguments, space),
        tracking_uri="" if "@" in tracker.uri else tracker.uri,
        checkpoint_url=plan.checkpoint_url,
    )
    record.write(plan.folder)
    session = Session(plan, record, context, resources, tracker, tags, console)
    # Not together with the run: where they cannot be written, it would be left behind by a search that did not begin.
    session.open_outbox().post_search("params", params=fit_params(settings))
    session.track(lambda: tracker.log_artifact(parent, plan.folder / RECORD_FILE))
    return session


def reopen_session(
    resumed: ResumedSearch, resources: TrialResources, tracker: Tracker, console: Console
) -> Session:
    """Takes up a search that stopped: the same parent run, the same record, with the number of trials as it is now.

    Raises:
        SearchError: If the parent run cannot be opened again.
    """
    plan, record = resumed.plan, resumed.record
    context = dataclasses.replace(
        record.make_context(), store_folder=str(plan.store.folder), n_workers=resources.n_workers
    )
    tracker.reopen(record.parent_run_id)
    record = dataclasses.replace(record, config={**record.config, "num_trials": plan.config.num_trials})
    record.write(plan.folder)
    tags = _make_tags(plan, describe_environment())
    return Session(plan, record, context, resources, tracker, tags, console, is_resumed=True)


def _make_tags(plan: SearchPlan, environment: Mapping[str, object]) -> dict[str, str]:
    tags = {
        "trainable": SAM2Trainable.__name__,
        "space": plan.config.name,
        "model": plan.model,
        "data": plan.regions.name,
        "data_fingerprint": plan.store.fingerprint,
        "protocol": plan.protocol.name,
        "protocol_id": plan.protocol.id,
        "git_commit": str(environment["git_commit"]),
        "seed": str(plan.seed),
        "demo": plan.demo_words or "no",
    }
    if plan.caveats:
        tags["caveats"] = "; ".join(plan.caveats)
    return tags


def _make_folder(plan: SearchPlan) -> SearchPlan:
    """Makes the search's folder; a name that nobody chose gets a number where another search has just taken it."""
    storage, name = plan.folder.parent, plan.name
    for number in itertools.count(2):
        try:
            (storage / name).mkdir(parents=True)
            return dataclasses.replace(plan, name=name, folder=storage / name)
        except FileExistsError as error:
            if plan.arguments.name is not None:
                raise ConfigError(find_taken(storage, name)) from error
            name = f"{plan.name}-{number}"
        except OSError as error:
            raise SearchError(f"the search's folder {storage / name} cannot be made: {error.strerror}") from error
    raise AssertionError("there are enough numbers")
