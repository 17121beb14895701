from pathlib import Path

import pytest

from trainables.data.dataset_file import DatasetFile, normalize_name, read_dataset_file
from trainables.errors import Finding

DEFAULT = {1: "tumor"}


def read(root: Path, text: str) -> tuple[DatasetFile, list[Finding]]:
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    findings: list[Finding] = []
    return read_dataset_file(root, DEFAULT, findings), findings


def test_without_a_file_or_a_folder_nothing_is_stated(tmp_path: Path) -> None:
    findings: list[Finding] = []
    for root in (tmp_path, tmp_path / "none"):
        assert read_dataset_file(root, DEFAULT, findings) == DatasetFile(root / "dataset.yaml")
    assert not findings


@pytest.mark.parametrize("name", ["dataset.yml", "Dataset.yaml", "DATASET.YML", "dataset.yaml.txt", "dataset.yml.txt"])
@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_a_file_of_nearly_the_name_is_reported(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("none") if kind != "file" else (tmp_path / name).write_text("name: a")
    findings: list[Finding] = []
    settings = read_dataset_file(tmp_path, DEFAULT, findings)
    if (tmp_path / "DATASET.yaml").exists():  # case makes no difference: the file is read
        return
    assert findings == [Finding(str(tmp_path / name), "is not read", "rename it to dataset.yaml")]
    assert not settings.has_classes


@pytest.mark.parametrize("target", ["none", "dataset.yaml", "."])
def test_a_link_that_leads_to_no_file_is_reported(target: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").symlink_to(target)
    findings: list[Finding] = []
    assert not read_dataset_file(tmp_path, DEFAULT, findings).has_classes
    (finding,) = findings
    assert "cannot be read" in finding.what or "is not a file" in finding.what


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("name: a\nnam: b\n", ":2 nam", "unknown key"),
        ("name: {a: b}\n", ":1 name", "must be text, but got a mapping"),
        ("name: a\nname: b\n", ":1 name", "stands twice, in lines 1 and 2"),
        ("- a\n", "", "must be a mapping, but got a list"),
        ("classes:\n  1: a\n  2: a\n", ":3 classes.2", "another class is called a too"),
        ("classes:\n  1: a\n  0x100: b\n", ":3 classes.0x100", "0..255"),
        ("classes:\n  1: a\n  0x1: b\n", ":3 classes.0x1", "no whole number"),  # not 1 once more
        ("classes:\n  1: a\n  yes: b\n", ":3 classes.yes", "no whole number"),
        ("classes:\n  010: a\n", ":2 classes.010", "no whole number"),  # YAML 1.1 would read 8
        ("background: [3, 010]\n", ":1 background[1]", "but got '010'"),
        ("background: [3, True]\n", ":1 background[1]", "but got 'True'"),
        ("patients:\n  a: .NaN\n", ":2 patients.a", "is '.NaN'"),
        ("patients:\n  a:\n", ":2 patients.a", "is nothing"),
        ("\n\nbackground: [1]\n", ":3 background", "1 is also the class tumor"),
        ("ignore: [5]\nbackground: [5]\n", ":2 background", "5 is also ignored"),
        ("split:\n  train: [a]\n  trian: [b]\n", ":3 split.trian", "unknown key"),
        ("patients:\n  a: p\n  b: [q]\n", ":3 patients.b", "is a list"),
    ],
)
def test_findings_have_their_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    _, findings = read(tmp_path, text)
    assert [each.where for each in findings] == [f"{tmp_path / 'dataset.yaml'}{where}"]
    assert what in findings[0].what and findings[0].fix


def test_patients_are_called_what_is_written(tmp_path: Path) -> None:
    written = ["1_23", "12_3", "010", "007", "'007'", "NO", "12.50", "1:30", "2021-45-07", "2021-01-01"]
    text = "name: 010\npatients:\n" + "".join(f"  {index}: {one}\n" for index, one in enumerate(written))
    settings, findings = read(tmp_path, text + "classes: {1: no}\nsplit: {train: [1_0]}\n")
    assert not findings and settings.name == "010" and settings.patients is not None and settings.split is not None
    assert [settings.patients[str(index)] for index in range(len(written))] == [one.strip("'") for one in written]
    assert settings.classes == {1: "no"} and settings.split["train"] == ("1_0",)


def test_places_in_the_split_have_their_line(tmp_path: Path) -> None:
    settings, findings = read(tmp_path, "name: a\nsplit:\n  train:\n  - a.png\n  - é.png\n  val: [b.png,\n   c.png]\n")
    assert not findings
    places = {("train", ""): 3, ("train", "a.png"): 4, ("train", "é.png"): 5, ("val", "c.png"): 7, ("val", "no"): 6}
    places[("test", "")] = 2  # which is missing
    for (part, name), line in places.items():
        assert settings.locate_split(part, name) == f"{tmp_path / 'dataset.yaml'}:{line} split.{part}"


@pytest.mark.parametrize("key", ["classes: {300: a}", "background: [1.5]", "backgruond: [1]", "ignor: [1]"])
def test_while_ids_may_mean_anything_nothing_is_said_of_masks(tmp_path: Path, key: str) -> None:
    assert not read(tmp_path, key)[0].has_classes
    assert read(tmp_path, "name: a\nsplt: {}")[0].has_classes
    assert read(tmp_path, 'name: ""\nclasses: {1: a}')[0].has_classes


def test_names_are_composed(tmp_path: Path) -> None:
    text = "name: e\u0301\nclasses: {1: e\u0301}\nsplit: {train: [e\u0301.png]}\npatients: {e\u0301.png: e\u0301}\n"
    settings, findings = read(tmp_path, text)
    assert not findings and settings.name == "\u00e9" == normalize_name("e\u0301")
    assert settings.classes == {1: "\u00e9"} and settings.patients == {"\u00e9.png": "\u00e9"}
    assert settings.split is not None and settings.split["train"] == ("\u00e9.png",)


def test_the_last_of_many_patients_has_its_line(tmp_path: Path) -> None:
    rows = "".join(f"  r{number}.png: p{number}\n" for number in range(20_000))
    settings, findings = read(tmp_path, f"patients:\n{rows}")
    assert not findings and settings.locate("patients", "r19999.png").endswith("dataset.yaml:20001 patients.r19999.png")
