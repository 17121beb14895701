"""Exit codes of all commands, and how errors are told."""

from __future__ import annotations

import argparse
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from search.command_line.exit_codes import print_findings, run_command
from search.command_line.options import add_storage_option
from search.command_line.paths import DEFAULT_STORAGE, expand_path, locate_storage
from search.errors import ConfigError, SearchError
from search.tracking.errors import TrackingUnavailable
from trainables.errors import CheckpointError, DataError, Finding, InputError, TrainablesError
from trainables.protocol.spec import ProtocolMismatch

FINDINGS = [Finding("lora.yaml:3", "unknown key", "did you mean 'space'?"), Finding("a.png", "unreadable", "export it")]


def raiser(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_a_command_that_does_its_work_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", [ConfigError, InputError, DataError, CheckpointError])
def test_wrong_input_exits_with_2_and_tells_every_finding(
    kind: type[ConfigError | InputError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raiser(kind(FINDINGS))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: 2 problems; nothing was started\n")
    for finding in FINDINGS:
        assert f"  {finding.where}\n    {finding.what}\n    -> {finding.fix}\n" in said.err


@pytest.mark.parametrize("kind", [SearchError, TrackingUnavailable, TrainablesError, ProtocolMismatch])
def test_failures_exit_with_1(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raiser(kind("it broke"))) == 1
    assert capsys.readouterr().err == "error: it broke\n"


def test_an_interrupt_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raiser(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "is empty"), ("~nobody-here/x", "no user nobody-here"), ("a" * 300, "too long"), ("a\0b", "is no path")],
)
def test_what_can_be_no_path_is_a_finding(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        expand_path(text)


@pytest.mark.parametrize("text", ["self", "self/below", "there"])
def test_links_in_a_circle_are_a_finding(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for link, target in (("self", "self"), ("there", "back"), ("back", "there")):
        Path(link).symlink_to(target)
    with pytest.raises(ConfigError, match=f"{text}: is a link that leads back to itself"):
        expand_path(text)


@pytest.mark.parametrize("text", ["\udcff", "below/\udcff/a"])
def test_a_path_that_is_not_utf_8_is_a_finding(text: str) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8"):
        expand_path(text)


def test_a_working_directory_that_is_gone_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the working directory is gone"):
        expand_path("runs")


def test_paths_become_absolute_whether_they_are_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expand_path("a/../b") == tmp_path / "b"
    assert expand_path("~/b") == tmp_path / "home" / "b"
    assert expand_path("./~b") == tmp_path / "~b"
    assert locate_storage("s3://bucket/a") == locate_storage(DEFAULT_STORAGE) == tmp_path / DEFAULT_STORAGE


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_screen_that_lacks_letters_shows_their_numbers(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", screen)
    assert run_command(lambda: print("病理")) == 0
    screen.flush()
    assert screen.buffer.getvalue() == rb"\u75c5\u7406" + b"\n"  # type: ignore[attr-defined]


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(KeyError):
        run_command(raiser(KeyError("a bug")))


def test_one_problem_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings(FINDINGS[:1])
    assert capsys.readouterr().err.startswith("error: 1 problem;")


def test_searches_lie_in_runs_unless_said_otherwise() -> None:
    parser = argparse.ArgumentParser()
    add_storage_option(parser)
    assert parser.parse_args([]).storage == "runs"
    assert parser.parse_args(["--storage", "else"]).storage == "else"


def run_python(code: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    program = f"import sys; from search.command_line.exit_codes import *; {code}"
    root, environment = Path(__file__).parents[3], {**os.environ, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=root, env=environment, text=True, check=False, **streams)


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe that nothing reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    ("act", "code"), [("print(1)", 0), ("print('x' * 100_000)", 141), ("print(1, flush=True)", 141), ("1 / 0", 1)]
)
def test_a_command_whose_output_nobody_reads_ends_without_a_word(unread: int, act: str, code: int) -> None:
    ended = run_python(f"sys.exit(run_command(lambda: {act}))", stdout=unread, stderr=subprocess.PIPE)
    assert ended.returncode == code
    assert ("ZeroDivisionError" in ended.stderr) if act == "1 / 0" else ended.stderr == ""


def test_findings_that_nobody_reads_exit_with_2_all_the_same(unread: int) -> None:
    act = "def act(): raise ConfigError([Finding('a', 'b', 'c')])"
    assert run_python(f"\n{act}\nsys.exit(run_command(act))", stdout=unread, stderr=unread).returncode == 2


def test_another_pipe_that_breaks_is_a_bug(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError):
        run_command(raiser(BrokenPipeError()))


@pytest.mark.parametrize("n", [1, 100_000])
def test_a_full_disk_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    class FullDisk(io.FileIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    screen = io.TextIOWrapper(io.BufferedWriter(FullDisk(tmp_path / "out", "w")))
    with (tmp_path / "err").open("w") as told:
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.setattr("sys.stderr", told)
        assert run_command(lambda: print("x" * n)) == 1
    monkeypatch.undo()
    with suppress(OSError):
        screen.close()
    assert (tmp_path / "err").read_text() == "error: cannot write: No space left on device\n"
