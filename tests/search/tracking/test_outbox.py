"""The queue on disk: in order, nothing twice, nothing missing, through outages, refusals and kills."""

import json
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.tracking.errors import TrackingError, TrackingUnavailable
from search.tracking.outbox import RETRY_S, Line, Outbox, count_lines


class Receiver:
    """Takes records while `up`, and refuses those marked bad.

    Those that are `blocked` cannot be taken, as where the store of a file is away.
    """

    def __init__(self) -> None:
        self.up = True
        self.now_s = 100.0
        self.blocked: set[int] = set()
        self.asked: list[int] = []
        self.taken: list[int] = []

    def __call__(self, record: Line) -> None:
        self.asked.append(record["n"])
        if not self.up or record["n"] in self.blocked:
            raise TrackingUnavailable("down")
        if record.get("bad"):
            raise TrackingError("refused")
        self.taken.append(record["n"])

    def read_clock(self) -> float:
        return self.now_s


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def outbox(tmp_path: Path, receiver: Receiver) -> Outbox:
    return Outbox(tmp_path / "search" / "outbox.jsonl", receiver, receiver.read_clock)


def test_an_outage_delays_and_keeps_the_order(outbox: Outbox, receiver: Receiver, tmp_path: Path) -> None:
    for n in range(6):
        receiver.up = n not in (2, 3, 4)
        receiver.now_s += RETRY_S + 1
        outbox.post({"n": n})
        assert outbox.flush() == (0 if receiver.up else n - 1)
    assert receiver.taken == list(range(6))
    assert (tmp_path / "search" / "outbox.jsonl").read_bytes() == b""


def test_a_receiver_that_is_down_is_left_alone(outbox: Outbox, receiver: Receiver) -> None:
    receiver.up = False
    outbox.post({"n": 0})
    outbox.flush()
    receiver.now_s += RETRY_S - 0.1
    assert outbox.flush() == 1 and len(receiver.asked) == 1
    receiver.now_s += 0.2
    assert outbox.flush() == 1 and len(receiver.asked) == 2
    receiver.up = True
    assert outbox.flush() == 1 and outbox.flush(force=True) == 0


def test_a_refused_record_steps_aside(outbox: Outbox, receiver: Receiver, tmp_path: Path) -> None:
    for n in range(3):
        outbox.post({"n": n, "bad": n == 1})
    assert outbox.flush() == 0
    assert receiver.taken == [0, 2]
    rejected = json.loads((tmp_path / "search" / "outbox.rejected.jsonl").read_text())
    assert rejected["record"]["n"] == 1 and "refused" in rejected["reason"]


@pytest.mark.parametrize("tail", ["", '{"n": 9', "\n"])
def test_what_a_kill_left_is_delivered(outbox: Outbox, receiver: Receiver, tmp_path: Path, tail: str) -> None:
    outbox.post({"n": 0})
    outbox.post({"n": 1})
    path = tmp_path / "search" / "outbox.jsonl"
    with path.open("a") as file:
        file.write(tail)
    reborn = Outbox(path, receiver, receiver.read_clock)
    reborn.post({"n": 2})
    assert [record["n"] for record in Outbox(path, receiver).pending] == [0, 1, 2]
    assert reborn.flush() == 0 and receiver.taken == [0, 1, 2]


def test_other_lines_are_skipped_once(receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.jsonl"
    lines = ['{"n": 0}', "[]", "5", "null", '"x"', "\0\0", "[" * 100_000, '{"n": 1}']
    path.write_text("".join(f"{line}\n" for line in lines))
    assert [record["n"] for record in Outbox(path, receiver).pending] == [0, 1]
    assert [f":{number} is not a record" in caplog.text for number in range(1, 9)] == [False, *[True] * 6, False]
    caplog.clear()
    reborn = Outbox(path, receiver)
    assert not caplog.text and count_lines(path) == 2
    assert reborn.flush() == 0 and receiver.taken == [0, 1] and count_lines(path) == 0


def test_a_full_disk_loses_nothing_in_memory(outbox: Outbox, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "search").rename(tmp_path / "gone")
    outbox.post({"n": 0})
    assert outbox.flush() == 0 and receiver.taken == [0]
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot be read: Is a directory"):
        Outbox(tmp_path, receiver)


class TestOutOfOrder:
    """Where a record may overtake one that cannot be delivered."""

    @pytest.fixture
    def outbox(self, tmp_path: Path, receiver: Receiver) -> Outbox:
        return Outbox(tmp_path / "outbox.jsonl", receiver, in_order=False)

    @pytest.mark.parametrize("blocked", [{0}, {1}, {3}, {0, 2}, {1, 3}])
    def test_one_that_fails_alone_holds_nothing_up(
        self, outbox: Outbox, receiver: Receiver, tmp_path: Path, blocked: set[int]
    ) -> None:
        receiver.blocked = blocked
        for n in range(4):
            outbox.post({"n": n})
        assert outbox.flush() == len(blocked)
        assert receiver.taken == sorted({0, 1, 2, 3} - blocked) and receiver.asked == [0, 1, 2, 3]
        receiver.blocked = set()
        reborn = Outbox(tmp_path / "outbox.jsonl", receiver, in_order=False)
        assert {record["n"] for record in reborn.pending} == blocked
        assert reborn.flush() == 0 and sorted(receiver.taken) == [0, 1, 2, 3]

    def test_two_failures_in_a_row_are_an_outage(self, outbox: Outbox, receiver: Receiver) -> None:
        receiver.blocked = {1, 2, 3, 4, 5}
        for n in range(6):
            outbox.post({"n": n})
        assert outbox.flush() == 5
        assert receiver.asked == [0, 1, 2]  # the others would each wait for their timeout
        receiver.blocked = set()
        assert outbox.flush(force=True) == 0 and sorted(receiver.taken) == list(range(6))
