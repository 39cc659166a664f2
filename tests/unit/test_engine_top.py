"""The columns of ``top``."""

from __future__ import annotations

import os
import time

import pytest

from pycontain.engine import top
from pycontain.errors import InvalidInput


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00"), (59, "00:00:59"), (3661, "01:01:01"), (86399, "23:59:59"),
     (90061, "1-01:01:01")],
)  # fmt: skip
def test_processor_time(seconds: int, text: str) -> None:
    assert top._clock(seconds) == text


def test_when_it_began() -> None:
    now = time.mktime((2024, 7, 10, 12, 0, 0, 0, 0, -1))
    assert top._began(now - 60, now) == "11:59"
    assert top._began(now - 3 * 86400, now) == "Jul07"
    assert top._began(now - 400 * 86400, now) == "2023"


@pytest.mark.parametrize(
    ("used", "lived", "text"), [(0, 10, "0"), (5, 10, "50"), (100, 10, "99"), (1, 0, "0")]
)
def test_its_share(used: float, lived: float, text: str) -> None:
    assert top._share(used, lived) == text


PS = [
    "USER       PID %CPU COMMAND",
    "root        12  0.0 sh -c echo a  b",
    "root       123  0.0 [kthread]",
    "root         1  0.0 12",
    "",
]


def test_lines_of_ps_are_chosen_by_their_pid() -> None:
    found = top._selected(PS, {"12", "1"})
    assert found.titles == ("USER", "PID", "%CPU", "COMMAND")
    assert found.rows == (
        ("root", "12", "0.0", "sh -c echo a  b"), ("root", "1", "0.0", "12"),
    )  # fmt: skip


@pytest.mark.parametrize("lines", [[], [""], ["COMMAND", "sh"], ["PIDS", "1"]])
def test_without_pids_nothing_can_be_chosen(lines: list[str]) -> None:
    with pytest.raises(InvalidInput, match="PID"):
        top._selected(lines, {"1"})


def test_escape_sequences_of_ps_are_not_passed_on() -> None:
    (row,) = top._selected(["PID CMD", "7 \x1b[2J"], {"7"}).rows
    assert row == ("7", "?[2J")


def test_this_process() -> None:
    row = top._row(os.getpid(), time.time())
    assert row is not None
    assert row[1:3] == (str(os.getpid()), str(os.getppid()))
    assert len(row) == len(top.TITLES)


def test_a_process_that_has_ended() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert top._row(pid, time.time()) is None
