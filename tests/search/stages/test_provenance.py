"""The origin of a number: the commit of the code and the environment."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from search.stages.provenance import PACKAGES, describe_environment, find_git_commit


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_is_its_commit_or_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "untracked.txt").write_text("runs and stores lie about; they are no change of the code")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert find_git_commit(tmp_path) == commit
    (tmp_path / "a.py").write_text("a = 2\n")
    assert find_git_commit(tmp_path) == f"{commit}-dirty"
    (tmp_path / "site-packages").mkdir()  # the checkout around an installed package does not count
    assert find_git_commit(tmp_path / "site-packages") == "unknown"
    monkeypatch.setenv("PATH", "")
    assert find_git_commit(tmp_path) == "unknown"


@pytest.mark.parametrize("content", ["", "gitdir: /nowhere"])
def test_a_broken_checkout_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / ".git").write_text(content)
    assert find_git_commit(tmp_path) == "unknown"


def test_the_environment_goes_through_json() -> None:
    environment = describe_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", str(environment["git_commit"]))
    packages = environment["packages"]
    assert isinstance(packages, dict)
    assert set(packages) == set(PACKAGES)
    assert packages["sam2"].startswith("1.")
