"""What a long loop says while it runs."""

from __future__ import annotations

import itertools

import pytest

from trainables.files import progress


def test_a_line_in_ten_seconds_where_a_command_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(0, 6)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.follow("abcde", 5, "images")) == [*"abcde"]
    assert capsys.readouterr().err == ""
    with progress.show_progress():
        assert list(progress.follow("abcde", 5, "images")) == [*"abcde"]
    assert capsys.readouterr().err.splitlines() == [
        "  1 of 5 images, about 0:00:48 left",
        "  3 of 5 images, about 0:00:16 left",
    ]
