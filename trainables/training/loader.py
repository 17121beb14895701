"""Loads training batches ahead of training, in processes that live as long as their trial."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import torch
from threadpoolctl import threadpool_limits
from torch.utils.data import DataLoader

from trainables.training.batches import Batch, Key, TrainingRegions, collate_samples

logger = logging.getLogger(__name__)


class BatchLoader:
    """Loads the batches of a trial: one object for all its epochs and folds.

    What an epoch holds depends on seed, epoch and regions alone: it is the same however many processes load it, and
    after a resume. The processes end with this object.
    """

    def __init__(self, regions: TrainingRegions, n_workers: int, pin_memory: bool) -> None:
        """Starts nothing yet.

        ``n_workers`` processes read and augment ahead, or as many as shared memory holds the batches of; this process
        does where there are none. Pinned batches are copied to page-locked memory, which a GPU reads faster.
        """
        self._regions = regions
        self._order: list[list[Key]] = []  # the batches of the epoch that comes next, as PyTorch asks for them
        n_fitting = count_fitting(regions, n_workers)
        if n_fitting < n_workers:
            words = "%d of %d loading processes start: /dev/shm has no room for batches of more (--shm-size of Docker)"
            logger.warning(words, n_fitting, n_workers)
        self._loader = DataLoader(
            regions,
            batch_sampler=self._order,
            num_workers=n_fitting,
            persistent_workers=n_fitting > 0,
            collate_fn=collate_samples,
            worker_init_fn=_use_one_core,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # without one it would draw from the generator of dropout
        )
        self._begun: tuple[list[list[Key]], Iterator[Batch | None]] | None = None

    def count_batches(self, names: Sequence[str]) -> int:
        """Returns how many batches an epoch over the regions of these names has."""
        return len(draw_order(self._regions, names, epoch=0))

    def begin(self, epoch: int, names: Sequence[str]) -> None:
        """Lets the processes, if any, load the first batches of an epoch while this process does something else."""
        order = draw_order(self._regions, names, epoch)
        if self._begun is None or self._begun[0] != order:
            self._order[:] = order
            self._begun = order, iter(self._loader)

    def load(self, epoch: int, names: Sequence[str]) -> Iterator[Batch]:
        """Yields the batches of an epoch, counted from 0, over the regions of these names.

        Each region comes once; under tiles, each of the epoch's windows.
        """
        self.begin(epoch, names)
        assert self._begun is not None
        batches, self._begun = self._begun[1], None
        yield from (batch for batch in batches if batch is not None)


def draw_order(regions: TrainingRegions, names: Sequence[str], epoch: int) -> list[list[Key]]:
    """Returns the batches of an epoch, in an order that is drawn from seed and epoch."""
    generator = torch.Generator().manual_seed(regions.seed * 1_000_003 + epoch)
    # PyTorch's own shuffling takes a number first: orders stay those of searches before this one.
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    keys, size = regions.list_keys(epoch, names), regions.recipe.optim.batch_size
    mixed = [keys[at] for at in torch.randperm(len(keys), generator=generator).tolist()]
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


def _use_one_core(_: int) -> None:
    """Keeps a loading process to one core, as PyTorch does for itself: OpenCV and NumPy would take all of them."""
    cv2.setNumThreads(0)
    threadpool_limits(1)


def count_fitting(regions: TrainingRegions, n_workers: int, folder: Path = Path("/dev/shm")) -> int:
    """Returns for how many of the loaders shared memory holds the batches, two for each.

    Containers often have 64 MB, and SIGBUS ends a process that writes more. An image has 3 bytes a pixel; each of its
    masks a float for 16 pixels.
    """
    if not n_workers or not folder.is_dir():
        return n_workers
    recipe, n_pixels = regions.recipe, regions.store.image_size**2
    n_masks = 2 * (len(regions.store.classes) + 1 if recipe.class_prompts.tokens else recipe.prompts.max_objects)
    n_bytes = recipe.optim.batch_size * n_pixels * (3 + 4 * n_masks / 16)
    # Below all that is free, not up to it.
    return min(n_workers, int(max(0, shutil.disk_usage(folder).free - 1) // (2 * n_bytes)))
