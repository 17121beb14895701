"""Names of searches, and the folder of all searches."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plan.places import check_name, check_storage, find_taken, name_search


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(max_size=200))
def test_a_search_can_be_named_after_any_space(space: str) -> None:
    assert check_name(name_search(space)) == []


@pytest.mark.parametrize("name", ["a", "lora-20261127", "A.b_c-9", "x" * 100])
def test_names_that_are_folders_everywhere(name: str) -> None:
    assert check_name(name) == []


@pytest.mark.parametrize("name", ["", ".", "..", "-x", ".cache", "a/b", "a b", "a\n", "ä", "x" * 101, "C:"])
def test_other_names_are_refused(name: str) -> None:
    assert [finding.where for finding in check_name(name)] == [f"--name {name}"]


def test_a_link_that_leads_nowhere_takes_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path / "nowhere")
    assert len(find_taken(tmp_path, "linked")) == 1
    assert find_taken(tmp_path, "nowhere") == []


def test_a_storage_is_made_and_left_as_it_was(tmp_path: Path) -> None:
    assert check_storage(tmp_path / "deep" / "runs") == [] == list((tmp_path / "deep" / "runs").iterdir())
    (tmp_path / ".probe").mkdir()  # of another user, as little to be written over as a file of somebody else's
    assert check_storage(tmp_path) == []
    (tmp_path / "file").write_text("")
    (finding,) = check_storage(tmp_path / "file" / "runs")
    assert "cannot be made" in finding.what and str(tmp_path / "file") in finding.where
