"""The command line of the main job: what it refuses before it reads any file."""

from __future__ import annotations

import pytest

from search.run import main


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        (("--num-trials", "0"), "from 1 to 1,000,000"),
        (("--max-epochs", "0"), "from 1 to 1,000,000"),
        (("--max-concurrent", "-2"), "from 1 to 1,000,000"),
        (("--time-budget", "nonsense"), "like 90s"),
        (("--gpus-per-trial", "1.5"), "whole number of GPUs"),
        (("--seed", "-1"), "from 0 to"),
        (("--split", "any"), "choose from"),
    ],
)
def test_refusals_name_option_and_rule(option: tuple[str, str], rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--space", "lora.yaml", *option])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert option[0] in said
    assert rule in said


@pytest.mark.parametrize("options", [[], ["--space", "lora", "--resume", "last"]])
def test_a_space_or_a_search_to_resume_is_needed_and_not_both(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    assert "--space" in capsys.readouterr().err
