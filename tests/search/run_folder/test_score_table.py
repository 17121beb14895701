"""Tables of scores: the bytes that are written, what reads them again, and which files are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.judging.test_set import judge_pairs
from search.run_folder.score_table import format_rows, read_means, read_table, read_zeroshot, write_scores
from search.verdict import main as judge_file
from trainables.protocol.scores import Scores
from trainables.protocol.spec import PROTOCOLS

PROTOCOL = PROTOCOLS["recorded"]


@pytest.fixture
def table(make_scores: Callable[..., Scores], tmp_path: Path) -> Path:
    scores = {"winner": make_scores(20, n_regions=3, floor=1 / 3), "zeroshot": make_scores(0, n_regions=3, floor=1 / 3)}
    write_scores(tmp_path / "scores.csv", scores, {"test_opening": "1", "caveats": ""})
    return tmp_path / "scores.csv"


def test_the_written_bytes_stay_what_they_are(table: Path) -> None:
    assert table.read_bytes().split(b"\r\n")[:3] == [
        b"file,class,patient,protocol,winner,zeroshot,floor,ceiling,test_opening,caveats",
        b"r0.png,tumor,p0,226c7851,0.500000,0.300000,0.333333,0.900000,1,",
        b'r0.png,"stroma, fine",p0,226c7851,0.500000,0.300000,0.333333,0.900000,1,',
    ]
    assert table.read_bytes().count(b"\n") == 7 and table.read_bytes().endswith(b"\r\n")


def test_means_are_those_of_all_pairs_and_of_each_class(table: Path) -> None:
    means = read_means(table)
    assert means is not None and means.n_pairs == 6
    expected = {"winner": 0.51, "zeroshot": 0.31, "floor": 0.333333, "ceiling": 0.9}
    assert dict(means.overall) == pytest.approx(expected)
    assert {name: dict(row) for name, row in means.by_class.items()} == {
        name: pytest.approx(expected) for name in ("tumor", "stroma, fine")
    }


def test_without_a_file_or_without_pairs_there_are_no_means(tmp_path: Path) -> None:
    assert read_means(tmp_path / "scores.csv") is None
    (tmp_path / "scores.csv").write_text("file,class,zeroshot\n")
    assert read_means(tmp_path / "scores.csv") is None


def test_zero_shot_is_read_under_its_protocol_alone(table: Path) -> None:
    dice = read_zeroshot(table, PROTOCOL.id)
    assert len(dice) == 6 and dice["r2.png", "stroma, fine"] == 0.32
    with pytest.raises(ConfigError, match="under protocol 226c7851, the search says other"):
        read_zeroshot(table, "other")
    with pytest.raises(ConfigError, match="holds no scores of zero-shot SAM2"):
        read_zeroshot(table.parent / "none.csv", PROTOCOL.id)


def test_the_verdict_command_reads_what_is_written(
    make_scores: Callable[..., Scores], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"winner": make_scores(20), "zeroshot": make_scores(0)}
    write_scores(table, scores)
    assert judge_file(["--scores", str(table), "--candidate", "winner", "--baseline", "zeroshot", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    zeroshot = {(pair.file, pair.class_name): pair.dice for pair in scores["zeroshot"].compared}
    direct = judge_pairs(scores["winner"], zeroshot, ("winner", "zeroshot"))
    assert found == json.loads(json.dumps(dataclasses.asdict(direct)))


def test_cells_stay_text_and_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(b"\xef\xbb\xbfa, b\n\nNA,010\n,\n")
    table = read_table(path)
    assert list(table.columns) == ["a", "b"] and list(table.index) == [3, 4]
    assert table.to_numpy().tolist() == [["NA", "010"], ["", ""]]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n1,2\n3\n", "the header has 2 columns, but not row 3"),
        (b"a,b\n1,2\n3,4,5\n", "the header has 2 columns, but not row 3"),
        (b"a,b\n\xff,2\n", "can't decode byte 0xff"),
        (b"a,b\n" + b"x" * 200_000, "field larger than field limit"),
        (None, "No such file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "scores.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=what) as caught:
        read_table(path)
    assert caught.value.findings[0].where == str(path)


def test_of_many_rows_ten_are_named() -> None:
    assert format_rows(range(2, 14)) == "rows 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"
    assert format_rows([7]) == "row 7"


def test_names_are_no_hint_of_compression_and_lines_are_counted_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.zip"
    path.write_text('\nfile,class,a\nr0.png,"two\nlines",0.5\nr1.png,tumor\nr2.png,tumor,0.5,0.5\n')
    with pytest.raises(ConfigError, match="the header has 3 columns, but not rows 5, 6"):
        read_table(path)
    path.write_text('\nfile,class,a\nr0.png,"two\nlines",0.5\n')
    assert read_table(path).to_dict() == {"file": {4: "r0.png"}, "class": {4: "two\nlines"}, "a": {4: "0.5"}}
