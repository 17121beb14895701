"""The house as one table: rooms from top to bottom, and which third-party package is met where."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A room imports rooms below it, never one above or beside it; files that lie in no room are rooms of their own.
ROOMS = """
    search.console search.python_call
    search.run search.check search.export search.report search.verdict search.compare search.predict search.open_test
    search.preview
    search.stages
    search.plan search.reporting
    search.tracking search.tuning
    search.mlflow_pages search.served_model
    search.judging search.study search.cluster
    search.run_folder
    search.space
    search.command_line
    search.errors
    trainables.sam2_trainable trainables.protocol_trainable trainables.trial_cost
    trainables.export trainables.clip trainables.demo
    trainables.training
    trainables.evaluation
    trainables.context
    trainables.adapters
    trainables.augmentation trainables.data trainables.model trainables.protocol
    trainables.tiles
    trainables.files trainables.recipe
    trainables.errors
"""
FLOORS = [line.split() for line in ROOMS.split("\n") if line.strip()]

# Packages that are met in these rooms alone.
MET_IN = {
    "jinja2": "search.reporting",
    "mlflow": "search.tracking search.served_model",
    "optuna": "search.study search.tuning search.stages search.reporting",
    "ray": "search.cluster search.tuning search.tracking search.stages search.study "
    "trainables.sam2_trainable trainables.protocol_trainable",
}
MAX_FILES = 12

FILES = sorted(path for package in ("search", "trainables") for path in (ROOT / package).rglob("*.py"))
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
CODE = {name: path for name, path in MODULES.items() if not name.endswith("__init__")}


@cache
def list_imports(path: Path) -> set[str]:
    """Returns every module that a file imports, also inside functions and for its types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & CODE.keys()) or {node.module}
    return found


def name_room(module: str) -> str:
    """Returns the folder of a module; a module that lies in none is its own room."""
    return module if module.count(".") == 1 else module.rpartition(".")[0]


def find_floor(room: str) -> int:
    """Returns how far down a room lies; 0 is the top."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_its_place_in_the_table() -> None:
    assert {name_room(module) for module in CODE} == {room for rooms in FLOORS for room in rooms}


@pytest.mark.parametrize("module", sorted(CODE))
def test_imports_go_down(module: str) -> None:
    mine = name_room(module)
    rooms = {name_room(each) for each in list_imports(CODE[module]) if each in CODE} - {mine}
    assert [room for room in sorted(rooms) if find_floor(room) <= find_floor(mine)] == []


@pytest.mark.parametrize("room", sorted({name_room(module) for module in CODE}))
def test_no_circles_in_a_room(room: str) -> None:
    left = {
        module: {each for each in list_imports(CODE[module]) if each in CODE and name_room(each) == room}
        for module in CODE
        if name_room(module) == room
    }
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


@pytest.mark.parametrize("package", sorted(MET_IN))
def test_packages_are_met_where_the_table_says(package: str) -> None:
    importers = {
        name_room(module)
        for module, path in CODE.items()
        if package in {each.partition(".")[0] for each in list_imports(path)}
    }
    assert importers == set(MET_IN[package].split())


@pytest.mark.parametrize(("module", "importers"), [("pretrain", set()), ("shapes", {"trainables.demo.pretrain"})])
def test_pretraining_is_no_part_of_the_product(module: str, importers: set[str]) -> None:
    assert {name for name, path in CODE.items() if f"trainables.demo.{module}" in list_imports(path)} == importers


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}))
def test_rooms_are_small_and_say_what_they_hold(folder: Path) -> None:
    first = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(first), f"{folder.name} has no line that says what it holds"
    assert folder.name == "search" or len(first.body) == 1, f"{folder.name}/__init__.py holds code"
    assert len(list(folder.glob("*.py"))) - 1 <= MAX_FILES


def test_no_drawers_for_everything() -> None:
    assert not {path.stem for path in FILES} & {"utils", "util", "helpers", "helper", "common", "misc"}
