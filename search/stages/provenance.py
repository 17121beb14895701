"""The origin of a number: code, packages, command line, machine."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "torchvision", "sam2", "ray", "optuna", "peft", "mlflow", "albumentations", "numpy")

PROJECT = Path(__file__).parents[2]


def find_git_commit(folder: Path = PROJECT) -> str:
    """Returns a checkout's commit, with ``-dirty`` where tracked files differ; ``unknown`` outside one.

    Installed as a package this project has none, though the environment around it may lie in somebody else's.
    """
    if not (folder / ".git").exists():
        return "unknown"
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        return commit + "-dirty" * bool(_run_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe_environment() -> dict[str, object]:
    """Returns versions, platform and command line, plain enough for JSON."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {
        "git_commit": find_git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "command": sys.argv,
    }


def _run_git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
    )
    return answer.stdout.strip()
