"""The origin of a number: the commit of the code and the environment."""

from __future__ import annotations

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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    (checkout / "untracked.txt").write_text("runs and stores lie about; they are no change of the code")
    assert find_git_commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_changed_files_make_it_dirty(checkout: Path) -> None:
    (checkout / "a.py").write_text("a = 2\n")
    assert find_git_commit(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_the_checkout_around_an_installed_package_does_not_count(checkout: Path) -> None:
    inside = checkout / "site-packages"
    inside.mkdir()
    assert find_git_commit(inside) == "unknown"


@pytest.mark.parametrize("content", ["", "gitdir: /nowhere"])
def test_a_broken_checkout_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / ".git").write_text(content)
    assert find_git_commit(tmp_path) == "unknown"


def test_a_checkout_without_git_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_git_commit(checkout) == "unknown"


def test_the_environment_goes_through_json() -> None:
    environment = describe_environment()
    assert json.loads(json.dumps(environment)) == environment
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", str(environment["git_commit"]))
    packages = environment["packages"]
    assert isinstance(packages, dict)
    assert set(packages) == set(PACKAGES)
    assert packages["sam2"].startswith("1.")
