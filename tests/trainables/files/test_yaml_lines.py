"""YAML keeps its lines, refuses what is dangerous or surprising, and says where."""

from pathlib import Path

import pytest
import yaml

from trainables.errors import CheckpointError, Finding, InputError
from trainables.files.yaml_lines import MAX_BYTES, MAX_DEPTH, YamlNode, read_yaml, read_yaml_value, spell_number


def read(folder: Path, text: str | bytes) -> YamlNode:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def find_problems(folder: Path, text: str | bytes) -> tuple[Finding, ...]:
    with pytest.raises(InputError) as caught:
        read(folder, text).raise_problems()
    return caught.value.findings


def test_lines_and_paths_point_at_keys_and_items(tmp_path: Path) -> None:
    node = read(tmp_path, "# a comment\nspace:\n  optim.lr:\n    low: 1\npoints:\n  - {a: 1}\n  - b: 2\n")
    space = node.read_mapping()["space"].read_mapping()["optim.lr"].read_mapping()["low"]
    point = node.read_mapping()["points"].read_list()[1].read_mapping()["b"]
    assert (node.where, space.where, point.where) == ("a.yaml", "a.yaml:4 space.optim.lr.low", "a.yaml:7 points[1].b")


@pytest.mark.parametrize(
    "text", ["a: 1\nb: [1, 2.5, 1.0e-4, -3]\nc: {d: true, e: null, f: none}\ng: 'x'\nh: \"1\"\n", "- a\n- - b\n", "1\n"]
)
def test_values_are_those_of_safe_load(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).value == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\n\tb: 2\n", "a.yaml:2:1", "tabs"),
        ("a: [1, 2\nb: 3\n", "a.yaml:2:2", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1", "document"),
        ("a: &x [1]\nb: *x\n", "a.yaml:2 b", "aliases"),
        ("a: " + "[" * 30 + "]" * 30, f"a.yaml:1 a{'[0]' * (MAX_DEPTH - 1)}", "levels deep"),
        ("a: " + "[" * 9_999, "a.yaml:1:1003", "not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "a.yaml", "not UTF-8"),
        (b"a: \x00\n", "a.yaml", "characters"),
        (b"#" * (MAX_BYTES + 1), "a.yaml", "over 1 MB"),
        ("a: !!python/object/apply:os.getcwd []\n", "a.yaml:1 a", "tag !!python"),
        ("a: !mine 1\n", "a.yaml:1 a", "tag !mine"),
        ("a: !!int eight\n", "a.yaml:1 a", "is no int"),
        ("a: !!bool maybe\n", "a.yaml:1 a", "is no bool"),
        ("a: 010\n", "a.yaml:1 a", "reads 010 as another number"),
        ("a: 1:30\n", "a.yaml:1 a", "reads 1:30 as another number"),
        ("a: 1\nyes: 2\n", "a.yaml:2", "a key must be text, but got 'yes'"),
        ("? [a]\n: 2\n", "a.yaml:1", "a key must be text"),
        ("b: 1\na: 2\nb: 3\n", "a.yaml:1 b", "twice, in lines 1 and 3"),
    ],
)
def test_faults_are_reported_with_their_place(tmp_path: Path, text: str | bytes, where: str, words: str) -> None:
    (finding,) = find_problems(tmp_path, text)
    assert finding.where == where
    assert words in f"{finding.what} {finding.fix}"


@pytest.mark.parametrize("text", ["0", "0.5", "1.0e-4", "a: 0.05", "-0.25"])
def test_plain_decimals_with_leading_zero_are_fine(tmp_path: Path, text: str) -> None:
    read(tmp_path, text).raise_problems()


def test_more_digits_than_python_reads_are_refused(tmp_path: Path) -> None:
    (finding,) = find_problems(tmp_path, "a: " + "9" * 5000)
    assert "is a number of 5,000 characters" in finding.what
    (finding,) = find_problems(tmp_path, "a: 0x" + "f" * 4000)
    assert "is a number of 4,002 characters" in finding.what


def test_problems_of_reader_and_caller_come_sorted_by_line(tmp_path: Path) -> None:
    node = read(tmp_path, "zzz: 1\nknown: 1\nknown: 2\nother: 1\n")
    node.read_mapping(["known"])
    with pytest.raises(InputError) as caught:
        node.raise_problems()
    assert [finding.where for finding in caught.value.findings] == ["a.yaml:1 zzz", "a.yaml:2 known", "a.yaml:4 other"]


@pytest.mark.parametrize(
    "text", ["1e-4", "1E5", "1.0e4", "+2e3", "-1e-3", ".5", "5.", "0.01", "007.5", " 3e-4 ", "1e-400", "12"]
)
def test_spelled_number_is_the_number_that_yaml_reads(text: str) -> None:
    spelled = spell_number(text, float)
    assert spelled is not None
    value = yaml.safe_load(spelled)
    assert isinstance(value, float) and value == float(text)


@pytest.mark.parametrize(("text", "spelled"), [("8", "8"), ("1e3", "1000"), ("08", "8"), ("2.0", "2")])
def test_whole_numbers_are_spelled_whole(text: str, spelled: str) -> None:
    assert spell_number(text, int) == spelled


@pytest.mark.parametrize("text", ["", ".", "e5", "both", "1e", "1-2", "0x10", "nan", "1_0", "-"])
def test_other_text_is_no_number(text: str) -> None:
    assert spell_number(text, float) is None


def test_texts_are_what_is_written_dates_stay_text_and_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("010: NO\nyes: 1_23\n1.0: ~\n'~': '1'\ndate: 2021-01-01\n<<: {=: 0x1}\n")
    node = read_yaml(tmp_path / "a.yaml", texts=True)
    expected = {"010": "NO", "yes": "1_23", "1.0": None, "~": "1", "date": "2021-01-01", "<<": {"=": "0x1"}}
    assert node.value == expected and not node.problems
    assert read(tmp_path, b"\xef\xbb\xbfname: 2026-02-30\n").value == {"name": "2026-02-30"}


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_file_holds_nothing(tmp_path: Path, text: str) -> None:
    node = read(tmp_path, text)
    assert node.value is None and node.read_mapping() == {}
    assert [finding.what for finding in node.list_problems()] == ["the file is empty"]


def test_errors_are_of_the_type_asked_for_and_name_the_file_as_asked(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\na: 2")
    with pytest.raises(CheckpointError, match="^my file:1 a: key 'a' stands twice"):
        read_yaml(tmp_path / "a.yaml", CheckpointError, "my file").raise_problems()
    for path, what in ((tmp_path / "none.yaml", "cannot be read"), (tmp_path, "is not a file")):
        with pytest.raises(InputError, match=what):
            read_yaml(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3e-3", 0.003), ("1E5", 1e5), (".5e1", 5.0), ("1e-4x", "1e-4x"), ("'1e-4'", "1e-4"), ("[1e-4, 2]", [1e-4, 2])],
)
def test_a_typed_value_may_have_an_exponent_as_people_write_it(text: str, expected: object) -> None:
    assert read_yaml_value(text, "--set a").value == expected
