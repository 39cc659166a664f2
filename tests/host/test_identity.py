"""A pid alone is nobody: what comes back after a reboot, or under a recycled pid, is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from harness import wait_until

from pycontain.errors import InvalidState
from pycontain.kernel import process
from pycontain.model.container import ExecOptions
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Store

    from pycontain.model.container import RunRecord

pytestmark = pytest.mark.host

OTHER_BOOT = "00000000-1111-2222-3333-444444444444"


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else's, with a pid that a record may name."""
    child = subprocess.Popen(["sleep", "1000"])
    start = process.start_time(child.pid)
    assert start is not None
    # Starts are told in hundredths of a second (proc_pid_stat(5)): nobody's after it is the same.
    wait_until(lambda: int(time.clock_gettime(time.CLOCK_BOOTTIME) * 100) > start)
    yield child
    assert child.poll() is None, "it was signalled"
    child.kill()
    child.wait()


def forge(store: Store, identity: str, boot: str | None = None, **changes: int) -> RunRecord:
    """Change the run record (and the marker's boot) of a container whose monitor was killed."""
    paths = store.view(identity).paths
    record = store.run_record(identity)
    record = msgspec.structs.replace(record, **changes, **({"boot": boot} if boot else {}))
    files.write_atomic(paths.run_record, files.dump(record))
    if boot:
        files.write_word(f"{paths.folder}/run", f"{record.run} {boot}")
    return record


def lose(store: Store) -> str:
    """A container whose monitor and process are gone without a record."""
    identity = store.detach()
    record = store.run_record(identity)
    return _kill(identity, record)


def _kill(identity: str, record: RunRecord) -> str:
    import os

    os.kill(record.monitor, signal.SIGKILL)
    wait_until(lambda: process.start_time(record.pid) is None)
    return identity


def every_verb(store: Store, identity: str) -> None:
    verbs: list[Callable[[], Any]] = [
        lambda: store.containers.kill(identity, 9),
        lambda: store.containers.exec(identity, ExecOptions(command=("true",))),
        lambda: store.containers.attach(identity),
    ]
    for act in verbs:
        with pytest.raises(InvalidState):
            act()
    store.containers.stop(identity, timeout=0)
    store.containers.list(all=True)
    store.containers.wait(identity)


@pytest.mark.parametrize("start", ["other", "own"])
@pytest.mark.parametrize("who", ["pid", "monitor", "both"])
def test_a_recycled_pid(
    store: Store, bystander: subprocess.Popen[bytes], who: str, start: str
) -> None:
    identity = store.detach()
    record = store.run_record(identity)
    real = process.start_time(bystander.pid)
    assert real is not None
    number = real + 1 if start == "other" else record.pid_start
    changes: dict[str, int] = {}
    if who in ("pid", "both"):
        changes.update(pid=bystander.pid, pid_start=number)
    if who in ("monitor", "both"):
        changes.update(monitor=bystander.pid, monitor_start=number)
    _kill(identity, record)
    forged = msgspec.structs.replace(record, **changes)
    paths = store.layout.container(identity)
    files.write_atomic(paths.run_record, files.dump(forged))
    assert store.state_of(identity) == "exited"
    every_verb(store, identity)
    store.containers.remove(identity, force=True)


def test_a_recycled_pid_of_a_container_that_runs(
    store: Store, bystander: subprocess.Popen[bytes]
) -> None:
    """Only the process's record is wrong, its monitor lives: nothing else is signalled."""
    identity = store.detach()
    record = forge(store, identity, pid=bystander.pid)
    assert record.pid_start != process.start_time(bystander.pid)
    store.containers.kill(identity, 15)
    store.containers.remove(identity, force=True)


def test_another_boot(store: Store, bystander: subprocess.Popen[bytes]) -> None:
    """The pid and even the start time may be somebody's after a reboot."""
    start = process.start_time(bystander.pid)
    assert start is not None
    identity = lose(store)
    files.write_atomic(
        store.layout.container(identity).run_record,
        files.dump(
            msgspec.structs.replace(
                store_record(store, identity),
                boot=OTHER_BOOT,
                pid=bystander.pid,
                pid_start=start,
                monitor=bystander.pid,
                monitor_start=start,
            )
        ),
    )
    marker = f"{store.layout.container(identity).folder}/run"
    run = files.read_word(marker).split()[0]
    files.write_word(marker, f"{run} {OTHER_BOOT}")
    status = store.view(identity).status
    assert status.state == "exited"
    assert status.record is not None
    assert status.record.reason == "reboot"
    assert (status.record.signal, status.record.finished) == (None, None)
    every_verb(store, identity)
    store.containers.start(identity)
    assert store.state_of(identity) == "running"
    store.containers.remove(identity, force=True)


def store_record(store: Store, identity: str) -> RunRecord:
    from pycontain.engine import records

    record = records.load_run(store.layout.container(identity))
    assert record is not None
    return record


def test_after_a_reboot_the_state_folder_is_empty(store: Store) -> None:
    import shutil

    identity = store.detach()
    _kill(identity, store.run_record(identity))
    paths = store.layout.container(identity)
    marker = f"{paths.folder}/run"
    run = files.read_word(marker).split()[0]
    files.write_word(marker, f"{run} {OTHER_BOOT}")
    shutil.rmtree(store.layout.state)
    from pycontain import Engine

    containers = Engine(store.root, store.state).containers
    status = containers.get(identity).status
    assert status.state == "exited"
    assert status.record is not None
    assert status.record.reason == "reboot"
    containers.start(identity)
    assert containers.get(identity).status.state == "running"
    containers.remove(identity, force=True)


def test_a_zombie_is_not_alive(store: Store) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert process.start_time(child.pid) is None
        assert process.open_process(child.pid, 1) is None
    finally:
        child.wait()
    assert store.state_of(store.create("true").id) == "created"


def test_the_name_of_a_process_cannot_forge_its_start_time() -> None:
    """proc_pid_stat(5): the name stands in brackets and may hold anything."""
    script = "open('/proc/self/comm','w').write(') R 1 1 (1'); print('up',flush=True); input()"
    child = subprocess.Popen(
        ["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    with open("/proc/self/stat") as file:
        ours = int(file.read().rpartition(") ")[2].split()[19])
    start = process.start_time(child.pid)
    child.communicate(b"\n")
    assert start is not None
    assert start >= ours
