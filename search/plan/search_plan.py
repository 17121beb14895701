"""A search that can start: its inputs, read and checked, and what the screen says of them."""

from dataclasses import dataclass
from pathlib import Path

from search.command_line.options import SearchOptions, compose_command
from search.plan.data_inputs import DataInputs
from search.plan.model_inputs import ModelInputs
from search.plan.places import Places
from search.run_folder.origin import Origin
from search.space.config import SearchConfig
from search.study.warm_start import WarmStart
from trainables.context import TrialContext
from trainables.errors import Finding, count_things
from trainables.protocol.spec import Protocol
from trainables.tiles.draws import count_windows
from trainables.tiles.um_per_px import describe_scales

# Remarks on the screen of a search: in a data set of 100,000 regions there may be as many.
MAX_NOTES = 12


@dataclass(frozen=True)
class SearchPlan:
    """A search that can start: every input has been read and fits.

    ``config`` is the space file with the command line's changes; the warnings are about the data: copies, weak parts.
    """

    options: SearchOptions
    config: SearchConfig
    protocol: Protocol
    places: Places
    model: ModelInputs
    data: DataInputs
    warnings: tuple[Finding, ...]
    warm_start: WarmStart = WarmStart()

    @property
    def name(self) -> str:
        """Of the search and of its folder."""
        return self.places.name

    @property
    def folder(self) -> Path:
        """Of all its files."""
        return self.places.folder

    @property
    def caveats(self) -> tuple[str, ...]:
        """What every artifact must say: leaks that were allowed, encoders that have learned nothing."""
        return (*self.data.caveats, *self.model.caveats)

    @property
    def demo_words(self) -> str:
        """What a screen must say so that no demo number is taken for another; empty for the real thing."""
        parts = ["demo data (synthetic tissue)"] * self.data.is_demo
        parts += [f"demo model ({self.model.name}, 2.5 M parameters)"] * self.model.is_demo
        return " and ".join(parts)

    @property
    def origin(self) -> Origin:
        """Where the figures of this search come from."""
        return Origin(
            protocol=self.protocol.name,
            protocol_id=self.protocol.id,
            data=self.data.regions.name,
            data_fingerprint=self.data.store.fingerprint,
            model=self.model.name,
            seed=self.options.seed,
            demo=self.demo_words,
            caveats=tuple(self.caveats),
        )

    def make_context(self, n_workers: int) -> TrialContext:
        """Returns what all trials share; each may read its data with so many processes."""
        return TrialContext(
            model=self.model.name,
            checkpoint=self.model.checkpoint,
            store_folder=str(self.data.store.folder),
            train=self.data.split.train,
            val=self.data.split.val,
            protocol=self.protocol,
            max_epochs=self.config.max_epochs,
            seed=self.options.seed,
            fixed=dict(self.config.fixed),
            n_workers=n_workers,
            folds=self.data.folds,
            pathology_weights=dict(self.model.pathology_weights),
            patience=self.config.patience,
            metric=self.config.objective.metric,
            scales=self.config.scales,
        )

    def to_lines(self) -> list[str]:
        """Returns what the screen says before anything starts."""
        lines = [f"DEMO: {self.demo_words}: these numbers say nothing about SAM2 on tissue."] if self.demo_words else []
        counts = ", ".join(f"{len(names)} {part}" for part, names in self.data.split.parts.items())
        return [
            *lines,
            f"search   {self.name}: {self._describe_trials()}, in {self.folder}",
            *([f"storage  checkpoints go to {self.places.checkpoint_url}"] if self.places.checkpoint_url else []),
            *([f"space    {', '.join(self.config.layers)}"] if len(self.config.layers) > 1 else []),
            f"model    {self.model.name} ({self.model.checkpoint or 'shipped weights'})",
            f"data     {self.data.regions.name}: {counts} regions, "
            f"classes {self._describe_classes()}, fingerprint {self.data.store.fingerprint}",
            f"split    {self.data.split.description}",
            *self._describe_scale(),
            *self._describe_folds(),
            *self._describe_scored_scales(),
            *self._describe_start(),
            *self._describe_remarks(),
            *(f"CAVEAT   {caveat}" for caveat in self.caveats),
            f"protocol {self.protocol.describe()}",
        ]

    def _describe_scale(self) -> list[str]:
        """Says how large a pixel is, where it is known, and into how many tiles the regions are cut."""
        store, tiles = self.data.store, self.protocol.tiles
        scales = describe_scales(store.scales)
        lines = [f"scale    {scales}"] if scales else []
        if tiles is None:
            return lines
        indices = {part: [store.index(name) for name in names] for part, names in self.data.split.parts.items()}
        cut = {
            part: sum(len(tiles.cut(store.size(i), store.scales[i].um_per_px)) for i in own)
            for part, own in indices.items()
        }
        sides = [tiles.find_side(store.scales[i].um_per_px) for i in indices["train"]]
        n_windows = count_windows([store.size(i) for i in indices["train"]], sides)
        text = f"{cut['val']:,} tiles of val and {cut['test']:,} of test, those without tissue of a class left out; "
        text += f"an epoch draws {n_windows:,} windows of train, if the space says no other number"
        return [*lines, f"tiles    {text}"]

    def _describe_classes(self) -> str:
        names, ignored = ", ".join(self.data.store.classes.values()), self.data.store.ignore_ids
        return f"{names} (pixels of id {', '.join(map(str, ignored))} do not count)" if ignored else names

    def _describe_trials(self) -> str:
        config = self.config
        number = count_things(config.num_trials, "trial")
        varied = count_things(len(config.space), "parameter") if config.space else "a replay, nothing varies"
        epochs = count_things(config.max_epochs, "epoch")
        return f"{number} of up to {epochs}, {varied}" if config.train else f"{number}, no training"

    def _describe_start(self) -> list[str]:
        """Says what is noteworthy about trials that are tried first, and which recorded ones are not."""
        points = (*self.warm_start.points, *self.config.start_from)
        notes = [f"warm     {note}" for note in self.warm_start.notes]
        notes += [f"start    {point.name}: {point.note}" for point in points if point.note]
        return [*notes, *(f"start    without {name}: {reason}" for name, reason in self.config.left_out)]

    def _describe_remarks(self) -> list[str]:
        lines = [f"note     {self.data.hospitals}"] * bool(self.data.hospitals)
        lines += [f"note     {each.where}: {each.what}; {each.fix}" for each in self.warnings]
        if len(lines) <= MAX_NOTES:
            return lines
        check = compose_command("search.check", self.options)
        return [*lines[:MAX_NOTES], f"note     ... and {len(lines) - MAX_NOTES:,} more, which are listed by: {check}"]

    def _describe_scored_scales(self) -> list[str]:
        if self.config.scales == (1.0,):
            return []
        scales = ", ".join(f"{scale:g}" for scale in self.config.scales)
        return [f"scored   after each epoch at scales {scales} of the update, if it can be scaled; the best one counts"]

    def _describe_folds(self) -> list[str]:
        if not self.data.folds:
            return []
        sizes = ", ".join(str(len(fold.val)) for fold in self.data.folds)
        pool = sum(len(fold.val) for fold in self.data.folds)
        return [
            f"folds    {len(self.data.folds)}-fold cross-validation by patient over the {pool} train and val regions "
            f"({sizes} validate); the chosen configuration is trained once more on all of them"
        ]
