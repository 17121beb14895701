"""Imports point one way: the search knows the trainables, never the other way round."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*ROOT.glob("search/**/*.py"), *ROOT.glob("trainables/**/*.py")])


def list_imports(path: Path) -> Iterator[str]:
    """Yields the top-level package of every import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def find_importers(package: str, folder: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in FILES
        if path.is_relative_to(ROOT / folder) and package in list_imports(path)
    }


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("package", ["search", "mlflow", "optuna", "spaces"])
def test_trainables_do_not_know(package: str) -> None:
    assert find_importers(package, "trainables") == set()


def test_ray_is_met_only_where_the_trainables_name_says_so() -> None:
    assert find_importers("ray", "trainables") == {
        *("trainables/protocol_trainable.py", "trainables/sam2_trainable.py")
    }


def test_mlflow_is_met_in_tracking_alone() -> None:
    assert find_importers("mlflow", "search") == {"search/tracking.py"}


def test_no_drawers_for_everything() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"utils", "util", "helpers", "helper", "common", "misc"}
