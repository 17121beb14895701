"""The pre-flight's exit code is that of what it found, whoever reads it."""

from __future__ import annotations

import os

import pytest

from search import check
from search.command_line.exit_codes import DONE, WRONG_INPUT


@pytest.mark.parametrize("code", [DONE, WRONG_INPUT])
@pytest.mark.parametrize("n", [1, 100_000])
def test_a_reader_that_goes_away_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch, code: int, n: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(check, "_check", lambda _: (code, ["x" * n]))
    with os.fdopen(writer, "w") as screen, open(os.devnull, "w") as errors:
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.setattr("sys.stderr", errors)
        assert check.main(["--space", "lora.yaml"]) == code
    monkeypatch.undo()
