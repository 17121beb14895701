from pathlib import Path

import pytest

from trainables.data.folders import IMAGE_SUFFIXES, MASK_SUFFIXES, Folder, find_unpaired, find_unread, list_folder
from trainables.errors import Finding


def make_folder(path: Path, *names: str) -> tuple[Folder, list[Finding]]:
    """Lists a new folder of empty files; a name that ends with a slash is a folder inside."""
    path.mkdir()
    for name in names:
        (path / name).mkdir() if name.endswith("/") else (path / name).touch()
    findings: list[Finding] = []
    folder = list_folder(path, IMAGE_SUFFIXES, findings)
    assert folder is not None
    return folder, findings


def test_files_are_listed_by_stem_without_hidden_ones(tmp_path: Path) -> None:
    folder, findings = make_folder(tmp_path / "images", "e\u0301.png", "b.JPG", "c.svs", ".DS_Store", "more/")
    assert {stem: path.name for stem, path in folder.files.items()} == {"b": "b.JPG", "\u00e9": "e\u0301.png"}
    assert (list(folder.others), folder.below, findings) == (["c"], ("more",), [])
    assert ["'more'" in each.what or "c.svs" in each.what for each in find_unread(folder)] == [True, True]


@pytest.mark.parametrize(
    ("names", "where", "what"),
    [
        (("a.png", "A.jpg"), "A.jpg", "A.jpg, a.png share one stem"),
        (("a.png", "a.tif"), "a.png", "a.png, a.tif share one stem"),
        (("\u00e9.png", "e\u0301.png"), "e\u0301.png", r"e\u0301.png, \xe9.png share one stem"),
        (("a\nb.png",), r"'a\nb.png'", "no printable text"),
    ],
)
def test_names_that_cannot_be_used(tmp_path: Path, names: tuple[str, ...], where: str, what: str) -> None:
    _, (finding,) = make_folder(tmp_path / "images", *names)
    assert finding.where == f"{tmp_path}/images/{where}" and what in finding.what


@pytest.mark.parametrize(
    ("masks", "what", "fix"),
    [
        ((), "has no mask", "add masks/a as one of .png, .tif, .tiff"),
        (("A.png",), "A.png differs in case", "rename A.png"),
        (("a.jpg",), "a.jpg is JPEG, which alters class ids", "as PNG from its source"),
        (("a.npy",), "a.npy is none of .png, .tif, .tiff", "as PNG"),
        (("a_mask.png",), "is it a_mask.png?", "one name"),
        (("b.png",), "has no mask", "add masks/a"),
    ],
)
def test_the_nearest_partner_is_suggested(tmp_path: Path, masks: tuple[str, ...], what: str, fix: str) -> None:
    images, _ = make_folder(tmp_path / "images", "a.png")
    (tmp_path / "masks").mkdir()
    for name in masks:
        (tmp_path / "masks" / name).touch()
    partners = list_folder(tmp_path / "masks", MASK_SUFFIXES, [])
    assert partners is not None
    (finding,) = find_unpaired(images, partners, "mask", MASK_SUFFIXES)
    assert finding.where == str(tmp_path / "images" / "a.png") and what in finding.what and fix in finding.fix


@pytest.mark.parametrize(("kind", "what"), [("none", "there is no such folder"), ("file", "is no folder")])
def test_folders_that_cannot_be_listed(tmp_path: Path, kind: str, what: str) -> None:
    (tmp_path / "file").touch()
    findings: list[Finding] = []
    assert list_folder(tmp_path / kind, IMAGE_SUFFIXES, findings) is None
    assert [(each.where, each.what) for each in findings] == [(str(tmp_path / kind), what)]
