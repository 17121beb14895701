"""Exit codes of all commands, and how errors are shown."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.command_line.exit_codes import run_command
from search.errors import ConfigError, SearchError
from search.tracking.errors import TrackingUnavailable
from trainables.errors import CheckpointError, DataError, Finding, InputError, TrainablesError
from trainables.protocol.spec import ProtocolMismatch

FINDINGS = [Finding("lora.yaml:3", "unknown key", "did you mean 'space'?"), Finding("a.png", "unreadable", "export it")]
FAILURES = (SearchError, TrackingUnavailable, TrainablesError, ProtocolMismatch)
FULL = "error: cannot write: No space left on device\n"


def raiser(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("kind", [ConfigError, InputError, DataError, CheckpointError])
def test_wrong_input_exits_with_2_and_lists_every_finding(
    kind: type[ConfigError | InputError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raiser(kind(FINDINGS))) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: 2 problems; nothing was started\n")
    for finding in FINDINGS:
        assert f"  {finding.where}\n    {finding.what}\n    -> {finding.fix}\n" in said.err
    run_command(raiser(kind(FINDINGS[:1])))
    assert capsys.readouterr().err.startswith("error: 1 problem;")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        *((kind("it broke"), 1, "error: it broke\n") for kind in FAILURES),
        *((OSError(n, "No space left on device"), 1, FULL) for n in (errno.ENOSPC, errno.EDQUOT)),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=repr,
)
def test_failures_have_codes(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raiser(error)) == code
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("own", "code"), [(None, 0), (0, 0), (2, 2)])
def test_a_command_that_does_its_work_exits_with_0_or_a_code_of_its_own(
    own: int | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(lambda: own) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_screen_that_lacks_letters_shows_their_numbers(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", screen)
    assert run_command(lambda: print("病理")) == 0
    screen.flush()
    assert screen.buffer.getvalue() == rb"\u75c5\u7406" + b"\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [KeyError("a bug"), OSError(errno.EIO, "bad disk"), BrokenPipeError()])
def test_bugs_are_not_hidden(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor is another pipe that breaks than the screen's."""
    with pytest.raises(type(error)):
        run_command(raiser(error))


@pytest.mark.parametrize(
    ("act", "code"), [("print(1)", 0), ("print('x' * 100_000)", 1), ("print(1, flush=True)", 1), ("1 / 0", 1)]
)
def test_a_command_whose_reader_goes_away_ends_quietly(act: str, code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = f"import sys; from search.command_line.exit_codes import *; sys.exit(run_command(lambda: {act}))"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        env=environment,
        text=True,
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert ended.returncode == code
    assert ("ZeroDivisionError" in ended.stderr) if act == "1 / 0" else ended.stderr == ""


PROGRAM = """
import atexit, sys
from search.command_line.exit_codes import end_process
{opened}
atexit.register(print, "registered")
sys.stdout.write("last words, ")
end_process({code})
"""


@pytest.mark.parametrize("code", [0, 130])
@pytest.mark.parametrize("opened", ["", "import fsspec.asyn; fsspec.asyn.get_loop()"], ids=["none", "object store"])
def test_the_end_of_a_process_keeps_code_words_and_exit_handlers(code: int, opened: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(opened=opened, code=code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "last words, registered\n", "")


HELP = """
import importlib
for name in "run check export report verdict compare predict open_test".split():
    try:
        importlib.import_module(f"search.{name}").main(["--help"])
    except SystemExit as end:
        print(name, end.code)
"""


@pytest.mark.slow
def test_every_command_works_without_docstrings() -> None:
    done = subprocess.run([sys.executable, "-OO", "-c", HELP], capture_output=True, text=True)
    ends = [line for line in done.stdout.splitlines() if line.endswith(" 0")]
    assert ends == [f"{name} 0" for name in "run check export report verdict compare predict open_test".split()]
