"""The processes of a container, and of nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.engine.top import TITLES, printable
from pycontain.errors import InvalidInput, InvalidState
from pycontain.model.container import ExecOptions

if TYPE_CHECKING:
    from harness import CommandLine, Store

pytestmark = pytest.mark.host


def columns(store: Store, ref: str, *names: str) -> list[tuple[str, ...]]:
    found = store.containers.top(ref)
    assert found.titles == TITLES
    return [tuple(row[TITLES.index(name)] for name in names) for row in found.rows]


def test_all_its_processes_are_shown(store: Store) -> None:
    identity = store.detach("sh", "-c", "sleep 1001 & exec sleep 1002", user="nobody")
    store.detach("sleep", "1003")
    store.containers.exec(identity, ExecOptions(command=("sleep", "1004"), detach=True, user="0"))
    expected = [("nobody", "sleep 1001"), ("nobody", "sleep 1002"), ("root", "sleep 1004")]
    wait_until(lambda: sorted(columns(store, identity, "UID", "CMD"), key=str)[:3] == expected)
    (first,) = [
        row for row in columns(store, identity, "PID", "PPID", "TTY", "CMD") if "1002" in row[3]
    ]
    record = store.run_record(identity)
    assert first == (str(record.pid), str(record.monitor), "?", "sleep 1002")


def test_the_terminal_is_its_own(store: Store) -> None:
    identity = store.detach(tty=True)
    assert columns(store, identity, "TTY") == [("pts/0",)]


def test_a_process_that_names_itself_acts_on_no_terminal(store: Store) -> None:
    identity = store.detach("sh", "-c", "sleep 1000; true", "\x1b[2J\u202e")
    expected = [("sh -c sleep 1000; true ?[2J?",), ("sleep 1000",)]
    wait_until(lambda: columns(store, identity, "CMD") == expected)
    assert printable("a\x1b[2Jb\u202ec") == "a?[2Jb?c"


def test_options_are_for_the_hosts_ps(store: Store) -> None:
    identity = store.detach("sleep", "1001")
    pid = str(store.run_record(identity).pid)
    found = store.containers.top(identity, ["-o", "pid,comm"])
    assert found == (("PID", "COMMAND"), ((pid, "sleep"),))
    found = store.containers.top(identity, ["-eo", "pid,args"])
    assert found.rows == ((pid, "sleep 1001"),)
    with pytest.raises(InvalidInput, match="PID"):
        store.containers.top(identity, ["-o", "comm"])
    with pytest.raises(InvalidInput, match="ps: error"):
        store.containers.top(identity, ["--nosuch"])


def test_one_that_does_not_run_has_none(store: Store) -> None:
    identity = store.create("true").id
    with pytest.raises(InvalidState, match="is not running"):
        store.containers.top(identity)


def test_the_command_line(store: Store, pycontain: CommandLine) -> None:
    store.detach("sleep", "1001", name="web")
    done = pycontain("top", "web", "-o", "pid,comm")
    heading, row = done.stdout.decode().splitlines()
    assert heading == "PID                 COMMAND"
    assert row.split() == [str(store.run_record("web").pid), "sleep"]
