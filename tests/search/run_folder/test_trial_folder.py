"""What the folders of confirmations and refits say of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.errors import ConfigError
from search.run_folder.trial_folder import read_listed
from trainables.context import DIVERGED

WriteTrial = Callable[..., Path]


def test_trials_that_were_begun_are_listed_with_their_ends(write_trial: WriteTrial, tmp_path: Path) -> None:
    begun: dict[str, Any] = {"a": [{}], "b": [{}], "c": [{}, {DIVERGED: True}], "d": []}
    for seed, (name, rows) in enumerate(begun.items(), start=1):
        write_trial(tmp_path, name, rows, config={"seed": seed})
    (tmp_path / "trial-b" / "failure.txt").write_text("its worker died\n")
    (tmp_path / "trial-never-started").mkdir()
    found = [(trial.config["seed"], trial.failure, trial.diverged) for trial in read_listed(tmp_path)]
    diverged = "the loss was not finite"
    assert found == [(1, "", False), (2, "its worker died", False), (3, diverged, True), (4, "", False)]
    assert read_listed(tmp_path / "missing") == []


@pytest.mark.parametrize("content", ["", "\0\0", "[]", "null", "5", "[" * 100_000])
def test_a_damaged_configuration_is_reported_by_its_name(write_trial: WriteTrial, tmp_path: Path, content: str) -> None:
    write_trial(tmp_path, "a", [])
    (write_trial(tmp_path, "b", []) / "params.json").write_text(content)
    with pytest.raises(ConfigError, match=r"trial-b/params\.json: cannot be read: .* -> remove the folder trial-b"):
        read_listed(tmp_path)
