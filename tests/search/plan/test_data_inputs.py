from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.command_line.options import SearchOptions
from search.plan.data_inputs import DataUse, read_data
from search.plan.problems import Problems
from trainables.data.regions import list_regions
from trainables.protocol.spec import PROTOCOLS


def write_regions(root: Path, names: Sequence[str]) -> None:
    for folder, pixels in (("images", np.full((16, 16, 3), 100)), ("masks", np.eye(16))):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            shown = pixels + number * (folder == "images")  # no two images are copies
            Image.fromarray(shown.astype(np.uint8)).save(root / folder / name)


@pytest.mark.parametrize("resuming", [False, True])
def test_a_search_that_began_goes_on_with_classes_and_leaks_that_are_refused_now(
    tmp_path: Path, resuming: bool
) -> None:
    names = ["x_TCGA-A1-A0SK-1.png", "x_TCGA-A1-A0SK-2.png", "y.png", "z.png"]
    write_regions(tmp_path, names)
    split = f"split: {{train: [{names[0]}], val: [{names[1]}, y.png], test: [z.png]}}\n"
    (tmp_path / "dataset.yaml").write_text(f"classes: {{1: tumor}}\n{split}")
    problems = Problems()
    use = DataUse(16, tmp_path / "cache", PROTOCOLS["box"], resuming)
    found = read_data(SearchOptions(space="lora"), list_regions(tmp_path), use, problems)
    assert found is not None
    assert ["patient TCGA-A1-A0SK stands in 2 parts" in finding.what for finding in problems.findings] == (
        [] if resuming else [True]
    )
    assert found.caveats[0].startswith("leak not seen when the search began: patient TCGA-A1-A0SK")
    for name in names:
        for folder in ("images", "masks"):
            (tmp_path / folder / name).rename(tmp_path / folder / name.replace("TCGA", "T"))
    (tmp_path / "dataset.yaml").write_text(split.replace("TCGA", "T"))
    problems = Problems()
    found = read_data(SearchOptions(space="lora"), list_regions(tmp_path), use, problems)
    assert (found is None) != resuming
    said = problems.warnings if resuming else problems.findings
    assert any("are not named, and no file has a TCGA name" in each.what for each in said)


def test_warnings_of_decoded_regions_name_the_place_where_the_data_is_now(tmp_path: Path) -> None:
    root, names = tmp_path / "first", ("a.png", "b.png", "c.png")
    write_regions(root, names)
    (root / "dataset.yaml").write_text("classes: {1: tumor}\nsplit: {train: [a.png], val: [b.png], test: [c.png]}\n")
    for place in (root, tmp_path / "second"):
        root.rename(place)
        problems = Problems()
        use = DataUse(16, tmp_path / "cache", PROTOCOLS["box"])
        assert read_data(SearchOptions(space="lora"), list_regions(place), use, problems) is not None
        gray = [each.where for each in problems.warnings if "gray" in each.what]
        assert gray == [str(place / "images" / name) for name in names]
        root = place
