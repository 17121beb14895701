"""A search that can start: its inputs, read and checked, and what the screen says of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from search.plan.clip_options import NamingSettings
from search.space.config import SearchConfig
from trainables.data.folds import Fold
from trainables.data.regions import RegionSet
from trainables.data.splits import Split
from trainables.data.store import RegionStore
from trainables.model.weights import find_model
from trainables.protocol.spec import Protocol

# Remarks on the screen of a search: in a data set of 100,000 regions there may be as many.
MAX_NOTES = 12


@dataclass(frozen=True)
class SearchPlan:
    """A search that can start: every input has been read and fits.

    Attributes:
        name: Of the search; also of its folder.
        folder: Where all its files go.
        config: The space file, with the command line's changes.
        protocol: How candidates are scored.
        model: Name of the SAM2 model.
        checkpoint: Its weights' file or hub id; None for nano's own.
        regions: The data set.
        store: The data set, decoded.
        split: Which regions train, validate and test.
        is_demo: Whether the data is the built-in synthetic tissue.
        experiment: Of MLflow.
        seed: Of all that the search leaves to chance.
        time_budget_s: Seconds after which running trials are ended; None for no limit.
        folds: Folds of a cross-validation; empty where one split validates.
        n_confirm: How many of the best configurations are trained again; 0 for none.
        n_seeds: With how many seeds each of them is.
        naming: What names the zero-shot masks, or the line that says why nothing does.
        remarks: What the screen says of the data: shared hospitals, copies.
        caveats: What every artifact must say: leaks that were allowed, encoders that have learned nothing.
        pathology_weights: Name of a pathology encoder -> its weights' file.
        arguments: The command line that asked for it.
        checkpoint_url: Below which checkpoints go, by a folder of the search's name; empty for its own folder.
    """

    name: str
    folder: Path
    config: SearchConfig
    protocol: Protocol
    model: str
    checkpoint: str | None
    regions: RegionSet
    store: RegionStore
    split: Split
    is_demo: bool
    experiment: str
    seed: int
    time_budget_s: float | None
    folds: tuple[Fold, ...]
    n_confirm: int
    n_seeds: int
    naming: NamingSettings | str
    remarks: tuple[str, ...]
    caveats: tuple[str, ...]
    pathology_weights: Mapping[str, str] = field(default_factory=dict)
    arguments: argparse.Namespace = field(default_factory=argparse.Namespace)
    checkpoint_url: str = ""

    @property
    def demo_words(self) -> str:
        """What a screen must say so that no demo number is taken for another; empty for the real thing."""
        parts = ["demo data (synthetic tissue)"] * self.is_demo
        parts += [f"demo model ({self.model}, 2.5 M parameters)"] * find_model(self.model).is_demo
        return " and ".join(parts)

    def to_lines(self) -> list[str]:
        """Returns what the screen says before anything starts."""
        lines = [f"DEMO: {self.demo_words}: these numbers say nothing about BCSS."] if self.demo_words else []
        counts = ", ".join(f"{len(names)} {part}" for part, names in self.split.parts.items())
        return [
            *lines,
            f"search   {self.name}: {self._describe_trials()}, in {self.folder}",
            *([f"storage  checkpoints go to {self.checkpoint_url}"] if self.checkpoint_url else []),
            f"model    {self.model} ({self.checkpoint or 'shipped weights'})",
            f"data     {self.regions.name}: {counts} regions, "
            f"classes {', '.join(self.store.classes.values())}, fingerprint {self.store.fingerprint}",
            f"split    {self.split.description}",
            *self._describe_folds(),
            *self._describe_start(),
            *self._describe_remarks(),
            *(f"CAVEAT   {caveat}" for caveat in self.caveats),
            f"protocol {self.protocol.describe()}",
        ]

    def _describe_trials(self) -> str:
        config = self.config
        number = f"{config.num_trials} trial" + "s" * (config.num_trials > 1)
        varied = f"{len(config.space)} parameters" if config.space else "a replay, nothing varies"
        return f"{number} of up to {config.max_epochs} epochs, {varied}" if config.train else f"{number}, no training"

    def _describe_start(self) -> list[str]:
        """Says what is noteworthy about trials that are tried first, and which recorded ones are not."""
        notes = [f"start    {point.name}: {point.note}" for point in self.config.start_from if point.note]
        return [*notes, *(f"start    without {name}: {reason}" for name, reason in self.config.left_out)]

    def _describe_remarks(self) -> list[str]:
        more = len(self.remarks) - MAX_NOTES
        lines = [f"note     {remark}" for remark in self.remarks[:MAX_NOTES]]
        return [*lines, f"note     ... and {more:,} more: python -m search.check tells all"] if more > 0 else lines

    def _describe_folds(self) -> list[str]:
        if not self.folds:
            return []
        sizes = ", ".join(str(len(fold.val)) for fold in self.folds)
        pool = sum(len(fold.val) for fold in self.folds)
        return [
            f"folds    {len(self.folds)}-fold cross-validation by patient over the {pool} train and val regions "
            f"({sizes} validate); the chosen configuration is trained once more on all of them"
        ]
