import dataclasses

import pytest

from benchmarks.search_cost import run_search
from search.space.config import find_space, load_config
from search.space.kinds import SchedulerConfig


@pytest.mark.parametrize("n_slots", [1, 3])
def test_a_search_costs_all_epochs_without_a_scheduler_and_fewer_with_one(n_slots: int) -> None:
    config = dataclasses.replace(load_config(find_space("lora.yaml")), num_trials=9, max_epochs=5)
    in_full = dataclasses.replace(config, scheduler=SchedulerConfig("none"))
    n_epochs, ends = run_search(in_full, n_slots, correlation=0.5, seed=0)
    assert n_epochs == 45 and 45 / n_slots <= ends <= 1.1 * 45 / n_slots
    assert 9 + 2 * 3 <= run_search(config, n_slots, correlation=0.5, seed=0)[0] < 45
