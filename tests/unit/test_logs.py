"""Reading logs: both forms, rotated files, ends and beginnings."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.engine import logs
from pycontain.engine.logs import LogEntry
from pycontain.errors import InvalidInput, StoreError

if TYPE_CHECKING:
    from pathlib import Path

DAY = "2024-02-29T23:59:58"
SECONDS = 1709251198


def line(number: int, text: str = "", stream: str = "stdout", tag: str = "F") -> str:
    return f"{DAY}.{number:09d}Z {stream} {tag} {text or number}\n"


def read(path: Path, driver: str = "k8s-file", **how: Any) -> list[LogEntry]:
    return list(logs.read(str(path), driver, ended=lambda: True, **how))


def texts(path: Path, **how: Any) -> str:
    return b"".join(entry.data for entry in read(path, **how)).decode()


def test_a_k8s_line() -> None:
    found = logs.parse(f"{DAY}.000000005Z stderr F a b  c ".encode(), "k8s-file")
    assert found == LogEntry(SECONDS * 10**9 + 5, "stderr", b"a b  c \n")
    assert logs.parse(f"{DAY}.5Z stdout P ".encode(), "k8s-file").data == b""
    assert logs.parse(f"{DAY}.5Z stdout F \xff\xfe".encode("latin-1"), "k8s-file").data[0] == 0xFF


def test_a_json_line() -> None:
    item = {"log": 'x"é\n', "stream": "stdout", "time": f"{DAY}.25Z", "attrs": {}}
    found = logs.parse(json.dumps(item).encode(), "json-file")
    assert found == LogEntry(SECONDS * 10**9 + 250_000_000, "stdout", 'x"é\n'.encode())


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01.1Z", 1_100_000_000),
        (f"{DAY}.123456789Z", SECONDS * 10**9 + 123_456_789),
        (f"{DAY}.1234567899Z", SECONDS * 10**9 + 123_456_789),
    ],
)
def test_times(text: str, nanoseconds: int) -> None:
    assert logs.parse_time(text) == nanoseconds


@given(st.integers(0, 4_000_000_000), st.integers(0, 10**9 - 1))
def test_a_time_as_the_monitor_writes_it_reads_back(seconds: int, fraction: int) -> None:
    import time

    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    assert logs.parse_time(f"{stamp}.{fraction:09d}Z") == seconds * 10**9 + fraction


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        (b"", "k8s-file"),
        (b"nonsense", "k8s-file"),
        (f"{DAY}Z stdout X text".encode(), "k8s-file"),
        (f"{DAY}Z stdout".encode(), "k8s-file"),
        (b"yesterday stdout F text", "k8s-file"),
        (b"\xff\xff stdout F text", "k8s-file"),
        (b"", "json-file"),
        (b"{}", "json-file"),
        (b'{"log":1,"stream":"","time":""}', "json-file"),
        (b'{"log":"x","stream":"stdout","time":"x"}', "json-file"),
        (b'{"log":"x","stre', "json-file"),
    ],
)
def test_damaged_lines(text: bytes, driver: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(text + b"\n")
    with pytest.raises(StoreError, match="damaged line") as caught:
        read(path, driver)
    assert str(path) in str(caught.value)


@given(st.binary())
def test_any_line_is_an_entry_or_damaged(data: bytes) -> None:
    for driver in ("k8s-file", "json-file"):
        try:
            assert isinstance(logs.parse(data, driver), LogEntry)
        except ValueError:
            continue


def test_no_log_at_all(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []
    assert read(tmp_path / "none", follow=True) == []
    assert read(tmp_path / "none", tail=5) == []
    with pytest.raises(InvalidInput, match="driver none"):
        read(tmp_path / "none", "none")


def test_a_line_that_is_not_finished_is_not_there_yet(tmp_path: Path) -> None:
    """The monitor writes whole entries; what is cut off was cut off by a full disk or a crash."""
    path = tmp_path / "log"
    path.write_text(line(1) + line(2)[:-3])
    assert texts(path) == "1\n"


def rotated(folder: Path) -> Path:
    """Six lines in three files."""
    path = folder / "log"
    for number, name in enumerate(("log.2", "log.1", "log")):
        (folder / name).write_text(line(number * 2 + 1) + line(number * 2 + 2))
    return path


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    assert texts(rotated(tmp_path)) == "1\n2\n3\n4\n5\n6\n"


def test_the_newest_may_be_missing_between_two_renames(tmp_path: Path) -> None:
    path = rotated(tmp_path)
    path.unlink()
    assert texts(path) == "1\n2\n3\n4\n"


@pytest.mark.parametrize(
    ("tail", "wanted"),
    [
        (0, ""),
        (1, "6\n"),
        (3, "4\n5\n6\n"),
        (6, "1\n2\n3\n4\n5\n6\n"),
        (99, "1\n2\n3\n4\n5\n6\n"),
    ],
)
def test_tail(tmp_path: Path, tail: int, wanted: str) -> None:
    assert texts(rotated(tmp_path), tail=tail) == wanted
    assert texts(rotated(tmp_path), tail=tail, follow=True) == wanted


def test_tail_counts_lines_of_each_stream_not_entries(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        line(1, "first")
        + line(2, "a", tag="P") + line(3, "E", "stderr", "P") + line(4, "b", tag="P")
        + line(5, "F", "stderr") + line(6, "c")
    )  # fmt: skip
    found = read(path, tail=2)
    assert b"".join(e.data for e in found if e.stream == "stdout") == b"abc\n"
    assert b"".join(e.data for e in found if e.stream == "stderr") == b"EF\n"


def test_since_and_until(tmp_path: Path) -> None:
    path = rotated(tmp_path)
    third = SECONDS * 10**9 + 3
    assert texts(path, since=third) == "3\n4\n5\n6\n"
    assert texts(path, until=third) == "1\n2\n3\n"
    assert texts(path, since=third, tail=2) == "5\n6\n"


class Writer:
    """A monitor that writes on, a step each time the reader asks whether it has ended."""

    def __init__(self, path: Path, *steps: Any) -> None:
        self.path = path
        self.steps = list(steps)

    def __call__(self) -> bool:
        if not self.steps:
            return True
        step = self.steps.pop(0)
        if callable(step):
            step(self.path)
        else:
            with self.path.open("a") as file:
                file.write(step)
        return False


def rotate(path: Path) -> None:
    for number in range(9, 0, -1):
        older = path.with_name(f"log.{number}")
        if older.exists():
            older.rename(path.with_name(f"log.{number + 1}"))
    path.rename(path.with_name("log.1"))
    path.touch()


def followed(path: Path, *steps: Any, **how: Any) -> str:
    writer = Writer(path, *steps)
    found = logs.read(str(path), "k8s-file", follow=True, ended=writer, **how)
    return b"".join(entry.data for entry in found).decode()


def test_follow(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1))
    assert followed(path, line(2), "", line(3) + line(4)) == "1\n2\n3\n4\n"


def test_follow_a_line_that_comes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("")
    whole = line(1, "a long line")
    assert followed(path, whole[:5], whole[5:30], whole[30:]) == "a long line\n"


def test_follow_across_rotations(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1))
    found = followed(path, line(2), rotate, line(3), rotate, line(4), rotate, rotate, line(5))
    assert found == "1\n2\n3\n4\n5\n"


def test_follow_several_rotations_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(1))

    def busy(path: Path) -> None:
        for number in (2, 3, 4):
            with path.open("a") as file:
                file.write(line(number))
            rotate(path)

    assert followed(path, busy, line(5)) == "1\n2\n3\n4\n5\n"


def test_follow_what_does_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert followed(path, "", line(1), line(2)) == "1\n2\n"


def test_what_was_written_right_before_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("")
    state = {"ended": False}

    def ended() -> bool:
        if not state["ended"]:
            path.write_text(line(1))
            state["ended"] = True
            return False
        return True

    found = list(logs.read(str(path), "k8s-file", follow=True, ended=ended))
    assert [entry.data for entry in found] == [b"1\n"]


def test_follow_and_tail(tmp_path: Path) -> None:
    path = rotated(tmp_path)
    assert followed(path, line(7), line(8), tail=1) == "6\n7\n8\n"
    assert followed(path, line(9), tail=0) == "9\n"


def test_a_reader_that_stops_leaves_no_descriptor(tmp_path: Path) -> None:
    path = rotated(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    ways: list[dict[str, Any]] = [{}, {"follow": True}, {"tail": 2}, {"tail": 2, "follow": True}]
    for how in ways:
        found = logs.read(str(path), "k8s-file", ended=lambda: False, **how)
        next(found)
        found.close()  # type: ignore[attr-defined]
        assert set(os.listdir("/proc/self/fd")) <= before, how


def test_an_unreadable_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(StoreError, match="is a directory") as caught:
        read(tmp_path / "log")
    assert str(tmp_path / "log") in str(caught.value)


def test_a_long_log_in_bounded_time(tmp_path: Path) -> None:
    """An entry may be as long as the container's line was: no chunk is scanned twice."""
    path = tmp_path / "log"
    path.write_text(line(1, "x" * 5_000_000) + line(2))
    found = read(path)
    assert len(found[0].data) == 5_000_001
    assert found[1].data == b"2\n"
