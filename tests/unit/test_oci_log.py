"""The log of the OCI face, which managers read to tell their user what went wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.oci import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
TEXT = re.compile(r'time="([^"]+)" level=(\w+) msg=("(?:[^"\\]|\\.)*")')


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Each test has the settings of a process that has just begun."""
    log.set_up("", "text", False)
    yield
    log.set_up("", "text", False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --------------------------------------------------------------------------------------------- json


def test_lines_in_json(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The keys that containerd's go-runc and docker look for."""
    log.set_up(str(path), "json", True)
    log.error('no "such" file\n')
    log.warn("careful")
    log.debug("so it was")
    found = lines(path)
    assert [(line["level"], line["msg"]) for line in found] == [
        ("error", 'no "such" file\n'), ("warning", "careful"), ("debug", "so it was"),
    ]  # fmt: skip
    for line in found:
        assert line.keys() == {"level", "msg", "time"}
        assert RFC_3339.fullmatch(line["time"])
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().endswith(b"}\n")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_message_is_one_line(path: Path, message: str) -> None:
    path.unlink(missing_ok=True)
    log.set_up(str(path), "json", False)
    log.warn(message)
    log.set_up(str(path), "text", False)
    log.warn(message)
    first, second = path.read_bytes().split(b"\n")[:-1]
    assert json.loads(first)["msg"] == message
    match = TEXT.fullmatch(second.decode())
    assert match
    assert json.loads(match[3]) == message


# --------------------------------------------------------------------------------------------- text


def test_lines_in_text(path: Path) -> None:
    log.set_up(str(path), "text", True)
    log.error('a "b"\nc')
    log.warn("w")
    log.debug("d")
    found = [TEXT.fullmatch(line) for line in path.read_text().splitlines()]
    assert all(found)
    assert [(line[2], line[3]) for line in found if line] == [
        ("error", r'"a \"b\"\nc"'), ("warning", '"w"'), ("debug", '"d"'),
    ]  # fmt: skip
    assert all(RFC_3339.fullmatch(line[1]) for line in found if line)


# ----------------------------------------------------------------------------------------- the file


def test_the_file_is_there_from_the_start(path: Path) -> None:
    log.set_up(str(path), "json", False)
    assert path.read_bytes() == b""


def test_the_file_can_be_read_by_the_manager(path: Path) -> None:
    old = os.umask(0o022)
    try:
        log.set_up(str(path), "json", False)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_lines_are_added_to_what_is_there(path: Path) -> None:
    path.write_text("before\n")
    for _ in range(2):
        log.set_up(str(path), "text", False)
        log.warn("x")
    said = path.read_text().splitlines()
    assert said[0] == "before"
    assert len(said) == 3


def test_a_file_that_was_moved_away_is_made_anew(path: Path) -> None:
    log.set_up(str(path), "json", False)
    log.warn("one")
    path.rename(path.with_suffix(".1"))
    log.warn("two")
    assert [line["msg"] for line in lines(path)] == ["two"]


def test_no_file_no_lines(tmp_path: Path) -> None:
    log.error("x")
    log.warn("x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", ["", "JSON", "logfmt", "text "])
def test_another_form(path: Path, form: str) -> None:
    with pytest.raises(InvalidInput, match=r"^--log-format '.*': text or json$"):
        log.set_up(str(path), form, False)
    assert not path.exists()


def test_a_file_that_cannot_be(tmp_path: Path) -> None:
    for bad, reason in ((tmp_path / "no" / "log", "no such file or directory"),
                        (tmp_path, "is a directory")):  # fmt: skip
        with pytest.raises(InvalidInput) as info:
            log.set_up(str(bad), "json", False)
        assert info.value.message == f"--log {bad}: {reason}"


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    log.set_up(str(path), "json", True)
    log.error("x")
    log.debug("x")
    assert set(os.listdir("/proc/self/fd")) <= before


# ----------------------------------------------------------------------------------- standard error


def test_errors_are_said_on_standard_error_too(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.error("no such file", "make it")
    expected = "pycontain-runtime: no such file\nhint: make it\n"
    assert capfd.readouterr() == ("", expected)
    log.set_up(str(path), "json", False)
    log.error("no such file", "make it")
    assert capfd.readouterr() == ("", expected)
    assert [line["msg"] for line in lines(path)] == ["no such file"]


def test_a_value_of_megabytes_is_told_by_its_beginning(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log.set_up(str(path), "json", False)
    log.error("a" * 4000)
    log.error("a" * 4001)
    log.error("b" * 10_000_000, "hint")
    assert [line["msg"] for line in lines(path)] == ["a" * 4000, "a" * 4000 + "…", "b" * 4000 + "…"]
    assert capfd.readouterr().err.endswith(f"{'b' * 4000}…\nhint: hint\n")


def test_an_error_without_a_hint(capfd: pytest.CaptureFixture[str]) -> None:
    log.error("no such file")
    assert capfd.readouterr().err == "pycontain-runtime: no such file\n"


def test_warnings_are_said_where_there_is_no_file(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a runtime writes to stderr would come to the container's user."""
    log.warn("careful")
    assert capfd.readouterr().err == "pycontain-runtime: warning: careful\n"
    log.set_up(str(path), "json", False)
    log.warn("careful")
    assert capfd.readouterr().err == ""


def test_details_are_for_those_who_ask(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.debug("detail")
    log.set_up(str(path), "json", False)
    assert not log.debugging()
    log.debug("detail")
    assert path.read_bytes() == b""
    assert capfd.readouterr().err == ""
    log.set_up("", "text", True)
    assert log.debugging()
    log.debug("detail")
    assert capfd.readouterr().err == "pycontain-runtime: detail\n"
    log.set_up(str(path), "json", True)
    log.debug("detail")
    assert capfd.readouterr().err == ""
    assert [line["msg"] for line in lines(path)] == ["detail"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (os.fsdecode(b"/\xff"), r"/\udcff"),
        ("\ud800", r"\ud800"),
        ("a\udfff", r"a\udfff"),
        ("é", "é"),
    ],
)
def test_half_characters_are_escaped(
    path: Path, message: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    r"""Bytes of a path that are no UTF-8 become such, and JSON can hold them: "\ud800"."""
    log.error(message)
    assert capfd.readouterr().err == f"pycontain-runtime: {said}\n"
    for form in ("json", "text"):
        log.set_up(str(path), form, False)
        log.error(message)
    first, second = path.read_bytes().decode("ascii").splitlines()
    match = TEXT.fullmatch(second)
    assert match
    assert json.loads(first)["msg"] == json.loads(match[3]) == message


def test_nobody_on_standard_error(path: Path) -> None:
    """The log and the exit code remain."""
    text = (
        "import os, sys\n"
        "from pycontain.oci import log\n"
        "log.set_up(sys.argv[1], 'json', True)\n"
        "os.close(2)\n"
        "log.error('x', 'hint')\n"
        "log.warn('y')\n"
        "log.set_up('', 'text', True)\n"
        "log.error('x')\n"
        "log.warn('y')\n"
        "log.debug('z')\n"
        "print('done')\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(log.__file__)))
    result = subprocess.run([sys.executable, "-c", text, path], capture_output=True, text=True,
                            check=True, env={**os.environ, "PYTHONPATH": root})  # fmt: skip
    assert result.stdout == "done\n"
    assert [line["msg"] for line in lines(path)] == ["x", "y"]


# --------------------------------------------------------------------------------------------- time


def test_now_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        before, said, after = time.time(), log.now(), time.time()
    finally:
        monkeypatch.undo()
        time.tzset()
    import calendar

    seconds = calendar.timegm(time.strptime(said[:19], "%Y-%m-%dT%H:%M:%S"))
    assert before - 1e-3 <= seconds + int(said[20:29]) / 1e9 <= after + 1e-3


@pytest.mark.parametrize(
    ("nanoseconds", "expected"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
    ],
)
def test_the_form_of_a_time(
    monkeypatch: pytest.MonkeyPatch, nanoseconds: int, expected: str
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: nanoseconds)
    assert log.now() == expected
