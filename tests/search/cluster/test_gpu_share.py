"""How many trials share a GPU, by what a step of the largest recipe takes."""

from collections.abc import Callable
from typing import Any

import pytest

from search.cluster import gpu_share
from search.cluster.gpu_share import MAX_PER_GPU, choose_share, measure_share, pick_largest
from search.cluster.resources import TrialResources, share_resources
from search.space.config import SearchConfig, find_space, list_spaces, load_config
from trainables.context import TrialContext
from trainables.data.store import RegionStore
from trainables.protocol.spec import PROTOCOLS
from trainables.recipe import Recipe, list_rules
from trainables.trial_cost import Memory, measure_trial


@pytest.mark.parametrize(
    ("peak_mb", "is_whole", "n_trials"),
    [
        (100.0, True, MAX_PER_GPU),
        (10_000.0, True, 6),  # 80,000 x 0.95 / (1.25 x 10,000)
        (20_000.0, True, 3),
        (30_000.0, True, 2),
        (30_401.0, True, 1),
        (79_000.0, True, 1),
        (10_000.0, False, 1),
    ],
)
def test_a_gpu_holds_as_many_steps_as_fit_with_a_margin(peak_mb: float, is_whole: bool, n_trials: int) -> None:
    share = choose_share(Memory(peak_mb, 80_000.0, is_whole))
    assert share_resources([{"CPU": 64.0, "GPU": 1.0}], share, None).concurrent == n_trials


def test_the_largest_values_of_the_shipped_space() -> None:
    config = load_config(find_space("lora"))
    values = pick_largest(config)
    assert values.keys() <= config.space.keys()
    assert (values["adapter.rank"], values["adapter.targets"], values["optim.batch_size"]) == (32, "both", 8)


@pytest.mark.parametrize("name", list_spaces())
def test_every_space_has_a_largest_recipe_that_can_be_trained(name: str) -> None:
    config = load_config(find_space(name))
    if config.train:
        Recipe.from_flat({**config.fixed, **pick_largest(config)})


@pytest.mark.parametrize("field", gpu_share._LARGEST_FIRST)
def test_every_choice_of_a_field_has_its_place(field: str) -> None:
    assert set(gpu_share._LARGEST_FIRST[field]) == set(list_rules()[field].choices)


def test_the_screen_says_what_was_measured(
    small_store: RegionStore, monkeypatch: pytest.MonkeyPatch, load_space: Callable[[str], SearchConfig]
) -> None:
    asked: list[TrialResources] = []

    def call(resources: TrialResources, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        asked.append(resources)
        return function(*arguments)

    monkeypatch.setattr(gpu_share, "call_with_resources", call)
    names = small_store.names
    context = TrialContext(
        **{"model": "nano", "checkpoint": None, "store_folder": str(small_store.folder), "train": names[:2]},
        **{"val": names[2:3], "protocol": PROTOCOLS["box"], "max_epochs": 1, "seed": 0, "fixed": {}, "n_workers": 2},
    )
    config = load_space("space:\n  adapter.rank: {choice: [2, 4]}\n  optim.batch_size: {low: 1, high: 2}")
    whole = TrialResources(1, 1.0, 1)
    share, line = measure_share(config, context, whole)
    assert asked == [whole]
    assert line.startswith("GPUs     a training step of the largest recipe (adapter.rank 4, optim.batch_size 2) took ")
    assert 0 < share <= 1 and (f"--gpus-per-trial {share:g}" in line) == (share < 1)
    step = measure_trial(context, {"adapter.rank": 2}).memory
    assert 100 < step.peak_mb < step.total_mb and step.is_whole
