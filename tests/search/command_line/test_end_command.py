"""The command of ``--on-end``: when it is called, what it knows, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search.command_line import end_command
from search.command_line.end_command import call_at_end
from search.errors import ConfigError, SearchError

WRITE = "env | grep ^SAM2_SEARCH_ | sort > known.txt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished search's folder, whose name a shell would run, as seen from the working directory of the command."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "a $(touch hacked) `touch hacked`; touch hacked"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"verdict": "not beaten"}))
    return folder


def end(folder: Path, command: str | None = WRITE, error: BaseException | None = None) -> tuple[dict[str, str], str]:
    """Ends a search, perhaps by an error; returns what the command knew, and the warnings."""
    warnings: list[str] = []
    try:
        with call_at_end(command, folder / "summary.json", warnings.append):
            if error is not None:
                raise error
    except BaseException as raised:
        assert raised is error
    known = Path("known.txt")
    lines = known.read_text().splitlines() if known.is_file() else []
    facts = dict(line.removeprefix("SAM2_SEARCH_").split("=", 1) for line in lines)
    return facts, "\n".join(warnings)


def test_a_finished_search_names_its_verdict_and_its_folder_is_no_part_of_the_command(folder: Path) -> None:
    facts, warnings = end(folder)
    summary = str(folder / "summary.json")
    assert facts == {"STATE": "finished", "RUN": str(folder), "VERDICT": "not beaten", "SUMMARY": summary, "ERROR": ""}
    assert not warnings and not Path("hacked").exists()


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (SearchError("no trial left a checkpoint"), "failed", "no trial left a checkpoint"),
        (KeyboardInterrupt(), "interrupted", ""),
    ],
)
def test_an_earlier_summary_is_not_that_of_a_search_that_stopped(
    folder: Path, error: BaseException, state: str, reason: str
) -> None:
    facts, _ = end(folder, error=error)
    assert facts == {"STATE": state, "RUN": str(folder), "VERDICT": "", "SUMMARY": "", "ERROR": reason}


def test_wrong_input_ends_no_search_and_no_command_is_none(folder: Path) -> None:
    assert end(folder, error=ConfigError.at("--name", "is taken", "choose another")) == ({}, "")
    assert end(folder, command=None) == ({}, "")
    assert end(folder, command=None, error=SearchError("x")) == ({}, "")


def test_a_command_that_fails_or_hangs_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end(folder, "exit 3")[1] == "warning: the command of --on-end ended with exit code 3"
    monkeypatch.setattr(end_command, "LIMIT_S", 0.2)
    assert "took more than" in end(folder, "sleep 600 & sleep 600")[1]


def test_what_it_prints_leaves_the_last_line_of_stdout_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    end(folder, "echo hello")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "hello\n")
