"""The command line of the main job: what it refuses before it reads any file."""

import pytest

from search.run import main

SPACE = ("--space", "lora.yaml")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ((*SPACE, "--num-trials", "0"), "from 1 to 1,000,000"),
        ((*SPACE, "--max-epochs", "0"), "from 1 to 1,000,000"),
        ((*SPACE, "--max-concurrent", "-2"), "from 1 to 1,000,000"),
        ((*SPACE, "--time-budget", "nonsense"), "like 90s"),
        ((*SPACE, "--gpus-per-trial", "1.5"), "whole number of GPUs"),
        ((*SPACE, "--seed", "-1"), "from 0 to"),
        ((*SPACE, "--split", "any"), "choose from"),
        ((), "--space"),  # a space or a search to resume is needed, and not both
        ((*SPACE, "--resume", "last"), "--space"),
    ],
)
def test_refusals_name_option_and_rule(options: tuple[str, ...], rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(options))
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and rule in said
    assert all(option in said for option in options[-2:-1])
