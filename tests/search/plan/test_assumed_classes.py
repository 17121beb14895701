from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.plan.assumed_classes import find_assumptions
from trainables.data.checks import shows_objects
from trainables.data.regions import read_regions


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0, 2]], True),
        ([[1, 0, 2, 3], [1, 0, 2, 3]], True),
        ([[1, 0, 1, 2]], False),
        ([[1, 0, 3]], False),
        ([[1, 1]], False),
        ([[0, 0]], False),
    ],
)
def test_objects_are_numbered_from_1_and_in_one_piece(rows: list[list[int]], expected: bool) -> None:
    assert shows_objects(np.array(rows, np.uint8)) == expected


@pytest.mark.parametrize(
    ("name", "masks", "findings", "warnings"),
    [
        ("r{}.png", [[0, 255]] * 30, "`classes: {255: tumor}`", ""),
        ("r{}.png", [[0, 1, 2]] * 3, "`classes: {1: name of 1, 2: name of 2}`", ""),
        ("r{}.png", [[0]], "`classes: {1: name of 1, 2: name of 2}`", ""),
        ("tcga-aa-000{}.png", [[0, 1, 2]] * 3, "", "`classes: {1: name of 1, 2: name of 2}`"),
        ("tcga-aa-000{}.png", [[1], [1, 2], [1, 2, 3]], "(ids 1 to 3)", ""),
        ("r{}.png", [[1], [1, 2], [1, 2, 3]], "(ids 1 to 3)", ""),
    ],
)
def test_bcss_is_assumed_of_tcga_names_alone(
    tmp_path: Path, name: str, masks: list[list[int]], findings: str, warnings: str
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number, row in enumerate(masks):
            Image.fromarray(np.array([row], np.uint8)).save(tmp_path / folder / name.format(number))
    (tmp_path / "masks" / name.format(0)).write_bytes(b"") if len(masks) > 20 else None  # the checks report it
    found = find_assumptions(read_regions(tmp_path))
    for problems, text in zip(found, (findings, warnings), strict=True):
        assert len(problems) == bool(text) and all(text in str(problem) for problem in problems)
