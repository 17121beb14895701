"""The searcher of trials whose configurations are known: confirmations and refits of chosen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

# Beside the recipe's fields in a trial's config: the trial of the search whose recipe it trains again.
FROM_TRIAL = "from_trial"


class ListSearcher(Searcher):
    """Proposes the given configurations, each once, in their order."""

    def __init__(
        self, configs: Sequence[Mapping[str, Any]], unfinished: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Takes new configurations, and by their ids those of trials that go on after a stop."""
        super().__init__(metric="train_loss", mode="min")
        self._unfinished = dict(unfinished or {})
        self._waiting = [dict(config) for config in configs]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # Ray's own FINISHED
        """Returns the next configuration, or FINISHED."""
        if trial_id in self._unfinished:
            return dict(self._unfinished[trial_id])
        return self._waiting.pop(0) if self._waiting else str(self.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing is learned from a trial's end."""

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: whoever lists configurations can list them again."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""
