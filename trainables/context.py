"""What all trials of a search share, and the names of the files in a trial's checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.splits import Fold
from trainables.protocol.spec import Protocol
from trainables.recipe import Scalar

ADAPTER_FOLDER = "adapter"
RECIPE_FILE = "recipe.json"
STATE_FILE = "state.pt"
PATIENCE_FILE = "patience.json"
# In a result: the Dice of each (region, class) pair that compares models, in the order of the regions.
PAIRS = "pairs"
SEED_KEY = "seed"
# Keys of the result of a trial that ends itself: the reason, and whether the loss was not finite.
FAILURE, DIVERGED = "failure", "diverged"
# Keys of the last result of a trial that ends before its last epoch: why, a short sentence; and whether it ended itself
# as one that is complete.
STOPPED_BY, COMPLETE = "stopped_by", "complete"
# In a result: the scale of the update at which its figures of validation were taken.
UPDATE_SCALE = "update_scale"


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a search share.

    Attributes:
        checkpoint: The model's weights, a file or hub id; None for nano's own.
        store_folder: The decoded regions, where every node can read them.
        protocol: How validation is scored.
        max_epochs: Epochs of a full fine-tune, which the learning rate's schedule spans.
        seed: Of everything that is random in a trial; a trial's config may replace it (``seed``).
        fixed: Recipe fields that no trial varies.
        n_workers: Processes that load and augment ahead of training; 0 for none.
        folds: The folds of a cross-validation, whose regions ``train`` and ``val`` name together; empty for the
            one split into ``train`` and ``val``.
        pathology_weights: Name of a pathology encoder -> its weights' file or hub id; other encoders have random
            weights.
        patience: Epochs after which a trial ends as complete if its ``metric`` has not risen; 0 for never.
        metric: Name of the figure in a trial's results that patience watches and that chooses among ``scales``; larger
            is better.
        scales: Scales of the update at which an epoch is scored; it counts at the best of them.
    """

    model: str
    checkpoint: str | None
    store_folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    protocol: Protocol
    max_epochs: int
    seed: int
    fixed: Mapping[str, Scalar]
    n_workers: int
    folds: tuple[Fold, ...] = ()
    pathology_weights: Mapping[str, str] = field(default_factory=dict)
    patience: int = 0
    metric: str = "val_dice"
    scales: tuple[float, ...] = (1.0,)

    def list_folds(self) -> tuple[Fold, ...]:
        """Returns the folds: one without cross-validation."""
        return self.folds or (Fold(self.train, self.val),)

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of all folds' validation regions, on which candidates are compared."""
        return tuple(name for fold in self.list_folds() for name in fold.val)

    def locate_fold(self, checkpoint: Path, index: int) -> Path:
        """Returns the folder of one fold's adapter inside a trial's checkpoint."""
        return checkpoint / f"fold-{index}" if self.folds else checkpoint
