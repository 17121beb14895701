"""Trains one configuration to its end as a search's trial, without Ray's processes, and scores every epoch on test."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray import tune

from benchmarks.curve_table import CurveRow, name_scale
from trainables.adapters.scaled_update import can_scale
from trainables.context import FAILURE, TrialContext
from trainables.data.store import RegionStore
from trainables.evaluation.evaluation_set import EvaluationSet
from trainables.recipe import Scalar
from trainables.sam2_trainable import SAM2Trainable

# Metrics that the pairs hold too, or that say nothing of the configuration.
_LEFT_OUT = (
    *("val_iou", "val_dice/", "images_per_s", "data_wait_fraction", "peak_memory_mb"),
    *("prefix_reused", "trained_parameters", "update_scale"),
)


class CurveTraining:
    """Trains configurations of one search one after the other, in this process."""

    def __init__(self, context: TrialContext, test: Sequence[str], tests_all: bool = True) -> None:
        """Loads the regions once.

        Args:
            context: What all trials share. Epochs count as trained; at its other scales they are scored beside.
            test: The test regions.
            tests_all: Whether they are scored after every epoch, or only where validation Dice is a new best and after
                the last epoch; elsewhere the last test Dice stands again.
        """
        self._scales = [scale for scale in context.scales if scale != 1]
        self.context, self._tests_all = dataclasses.replace(context, scales=(1.0,)), tests_all
        store = RegionStore(context.store_folder)
        self._test = EvaluationSet(store, test, context.protocol, context.train)
        self._trial: SAM2Trainable | None = None

    def train(self, params: Mapping[str, Scalar]) -> CurveRow:
        """Returns the curves of a configuration; the row's key and seed are the caller's to set."""
        if self._trial is None:
            self._trial = tune.with_parameters(SAM2Trainable, context=self.context)(dict(params))
            with contextlib.suppress(OSError):
                Path(self._trial.logdir).rmdir()  # Ray made it below the home directory
        else:
            self._trial.reset_config(dict(params))
        metrics: dict[str, list[float]] = {}
        pairs: list[list[float]] = []
        for epoch in range(self.context.max_epochs):
            self._trial._iteration = epoch  # Ray's own count, which its train() would raise
            result = self._trial.step()
            if result.get(FAILURE):
                metrics["val_dice"] = [*metrics.get("val_dice", []), math.nan]
                return CurveRow("", params, 0, metrics, pairs, str(result[FAILURE]))
            started, fit = time.perf_counter(), self._trial.fits[0]
            # With an average of the weights, which the trial scores, the raw weights are scored beside.
            has_average, val_set = fit.state.average is not None, self._trial.val_sets[0]
            if has_average and val_set is not None:
                result["val_dice_raw"] = fit.evaluate(val_set, averaged=False).dice
            # By the ending of their names: whether they are the average's, and the scale of the update.
            kinds = {"": (True, 1.0)} | ({"_raw": (False, 1.0)} if has_average else {})
            for scale in self._scales if can_scale(fit.state.adapted) else ():
                assert val_set is not None
                result[f"val_dice{name_scale(scale)}"] = fit.evaluate(val_set, scale=scale).dice
                kinds[name_scale(scale)] = True, scale
            for kind, how in kinds.items():
                past, test_dice = metrics.get(f"val_dice{kind}", []), metrics.get(f"test_dice{kind}", [math.nan])[-1]
                is_best = result[f"val_dice{kind}"] > max(past, default=-math.inf)
                if self._tests_all or is_best or epoch + 1 == self.context.max_epochs:
                    test_dice = fit.evaluate(self._test, *how).dice
                result[f"test_dice{kind}"] = test_dice
            result["seconds/test"] = time.perf_counter() - started
            for name, value in result.items():
                if isinstance(value, (int, float)) and not name.startswith(_LEFT_OUT):
                    metrics.setdefault(name, []).append(float(value))
            assert self._trial.val_scores is not None
            pairs.append([pair.dice for pair in self._trial.val_scores.pairs])
        return CurveRow("", params, 0, metrics, pairs)
