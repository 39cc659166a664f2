"""The monitor: small, alone with its container, and nothing that it had read is lost with it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from harness import FOREVER, PATIENCE, proc_field, wait_until
from leaks import text

from pycontain.kernel import process
from pycontain.model.container import ExecOptions

if TYPE_CHECKING:
    from harness import Store

pytestmark = pytest.mark.host


def is_alive(pid: int) -> bool:
    return process.start_time(pid) is not None


def test_a_start_goes_on_after_a_pause(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal makes the kernel give up what it does: each monitor gets two at another moment."""

    def spawn(*words: Any, real: Any = process.spawn, **more: Any) -> tuple[int, int]:
        pid, pidfd = real(*words, **more)
        time.sleep(moment)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(pid, number)
        return pid, pidfd

    monkeypatch.setattr(process, "spawn", spawn)
    for count in range(25):
        moment = count * 0.0001
        store.containers.remove(store.detach(), force=True)


def test_killed_the_container_is_lost_and_said_to_be(store: Store) -> None:
    identity = store.detach()
    record = store.run_record(identity)
    os.kill(record.monitor, signal.SIGKILL)
    wait_until(lambda: not is_alive(record.pid))
    status = store.view(identity).status
    assert status.state == "exited"
    assert status.record is not None
    assert status.record.reason == "monitor lost"
    assert (status.record.code, status.record.signal) == (137, 9)
    assert status.record.started == record.started
    assert (status.record.cpu_usec, status.record.memory_peak) == (None, None)
    assert store.containers.wait(identity) == 137
    store.containers.start(identity)
    assert store.state_of(identity) == "running"


def test_killed_the_processes_of_the_container_go_too(store: Store) -> None:
    identity = store.detach("sh", "-c", "setsid sleep 100 & setsid sleep 100 & wait", pid="host")
    record = store.run_record(identity)
    members = f"/proc/{record.pid}/cgroup"
    assert os.path.exists(members)
    os.kill(record.monitor, signal.SIGKILL)
    assert store.containers.wait(identity) == 137
    wait_until(lambda: not is_alive(record.pid))
    store.containers.remove(identity)


def test_killed_no_line_that_it_had_read_is_lost(store: Store) -> None:
    """The writer counts what it got rid of; the log may lack at most what the pipe still held."""
    script = "i=0; while :; do echo line $i; i=$((i+1)); done"
    for _ in range(3):
        identity = store.detach("sh", "-c", script, log_max_size=0)
        log = store.view(identity).paths.log
        wait_until(lambda: os.path.getsize(log) > 100_000)  # noqa: B023
        os.kill(store.run_record(identity).monitor, signal.SIGKILL)
        store.containers.wait(identity)
        lines = store.log(identity).splitlines()
        assert len(lines) > 1000
        assert lines[:-1] == [b"line %d" % n for n in range(len(lines) - 1)]
        store.containers.remove(identity)


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_killed_what_was_written_long_before_is_there(store: Store, driver: str) -> None:
    identity = store.detach("sh", "-c", "printf begun; sleep 1000", log_driver=driver)
    wait_until(lambda: store.log(identity) == b"begun")
    os.kill(store.run_record(identity).monitor, signal.SIGKILL)
    store.containers.wait(identity)
    assert store.log(identity) == b"begun"


def test_killed_with_rm_the_next_command_cleans_up(store: Store) -> None:
    identity = store.detach(remove=True)
    record = store.run_record(identity)
    os.kill(record.monitor, signal.SIGKILL)
    wait_until(lambda: not is_alive(record.pid))
    store.containers.list()
    assert store.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_no_other_signal_ends_it(store: Store, number: int) -> None:
    identity = store.detach()
    record = store.run_record(identity)
    os.kill(record.monitor, number)
    time.sleep(0.05)
    assert store.state_of(identity) == "running"
    assert is_alive(record.monitor)


def test_idle_it_is_small(store: Store) -> None:
    identity = store.detach()
    monitor = store.run_record(identity).monitor
    time.sleep(0.1)
    assert int(proc_field(monitor, "Pss", "smaps_rollup")) < 1024


def test_busy_it_stays_small(store: Store) -> None:
    identity = store.detach("sh", "-c", "seq 1 500000; sleep 1000", log_driver="json-file")
    monitor = store.run_record(identity).monitor
    wait_until(lambda: store.log(identity, tail=1) == b"500000\n")
    assert int(proc_field(monitor, "VmHWM")) < 4096


def test_it_stands_alone(store: Store) -> None:
    """Nothing of whoever started it: session, folder, descriptors, environment, name."""
    identity = store.detach(*FOREVER, name="alone")
    record = store.run_record(identity)
    folder = f"/proc/{record.monitor}"
    with open(f"{folder}/stat") as file:
        fields = file.read().rpartition(") ")[2].split()
    parent, group, session = (int(field) for field in fields[1:4])
    assert parent != os.getpid()
    assert (group, session) == (record.monitor, record.monitor)
    assert os.readlink(f"{folder}/cwd") == "/"
    with open(f"{folder}/environ") as file:
        assert file.read() == ""
    with open(f"{folder}/cmdline") as file:
        assert file.read() == "pycontain-monitor alone\0"
    kinds = [os.readlink(f"{folder}/fd/{fd}") for fd in os.listdir(f"{folder}/fd")]
    assert len(kinds) < 20, kinds
    for kind in ("mnt", "pid", "net"):
        assert os.readlink(f"{folder}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def test_it_is_gone_soon_after_its_container(store: Store) -> None:
    identity = store.detach("true")
    record = store.run_record(identity)
    store.containers.wait(identity)
    wait_until(lambda: not is_alive(record.monitor))


def test_an_execs_monitor_is_gone_with_its_command(store: Store) -> None:
    name = f"executed-{os.getpid()}"
    identity = store.detach(name=name)
    command = ("sh", "-c", "until [ -e /go ]; do sleep 0.05; done")
    store.containers.exec(identity, ExecOptions(command=command, detach=True))

    def monitors() -> bytes:
        words = ["pgrep", "-f", f"^pycontain-exec {name}"]
        return subprocess.run(words, capture_output=True, check=False).stdout

    assert len(monitors().split()) == 1
    with store.containers.tree(identity) as files:
        files.write("/go", b"")
    wait_until(lambda: not monitors())


def test_a_background_writer_outside_does_not_hold_the_end_up(store: Store) -> None:
    """A pipe that somebody outside keeps open and writes to: the end is told all the same."""
    identity = store.detach("sh", "-c", "until [ -e /go ]; do sleep 0.05; done")
    pid = store.run_record(identity).pid
    held = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
    try:
        with store.containers.tree(identity) as files:
            files.write("/go", b"")
        assert store.containers.await_end(identity, timeout=PATIENCE) is not None
    finally:
        os.close(held)


def test_orphans_are_reaped(store: Store) -> None:
    """--pid host: what the container's processes leave behind is the monitor's to reap."""
    script = "(sleep 0.1 & ) ; (sleep 0.1 &) ; echo made; sleep 1000"
    identity = store.detach("sh", "-c", script, pid="host")
    record = store.run_record(identity)
    wait_until(lambda: store.log(identity) == b"made\n")  # they are the monitor's by now
    children = f"/proc/{record.monitor}/task/{record.monitor}/children"
    wait_until(lambda: text(children).split() == [str(record.pid)])
