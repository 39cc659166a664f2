"""The Python API: an engine in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE, python_env, wait_until

from pycontain.engine import records, settling
from pycontain.engine.cancel import Cancel
from pycontain.engine.containers import Containers
from pycontain.errors import (
    Cancelled,
    CommandFailed,
    CommandNotFound,
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    OutputLimit,
    TimedOut,
)
from pycontain.kernel import process
from pycontain.model.container import RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

    from pycontain import Engine
    from pycontain.engine.handle import ContainerHandle

pytestmark = pytest.mark.host


@pytest.fixture
def box(engine: Engine) -> Iterator[ContainerHandle]:
    with engine.start("busybox", idle=True, name="box") as box:
        yield box


def ids(engine: Engine) -> list[str]:
    return [view.container.id for view in engine.containers.list(all=True)]


# ---- run


def test_run_takes_an_environment_as_a_mapping(engine: Engine) -> None:
    result = engine.run("busybox", ["sh", "-c", 'echo "$A"'], env={"A": "b c"})
    assert (result.exit_code, result.stdout) == (0, b"b c\n")


@pytest.mark.parametrize("options", [{"foo": 1}, {"mounts": [3]}, {"read_only": "yes"}])
def test_run_refuses_an_option_that_there_is_not(engine: Engine, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"no such option: foo|mounts\[0\]|read_only"):
        engine.run("busybox", ["true"], **options)
    assert ids(engine) == []


def test_a_command_is_no_string(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="sequence of strings"):
        engine.run("busybox", "true")


def test_run_is_killed_when_its_time_is_over(engine: Engine) -> None:
    # Its start takes of that time, too: enough of it is left for a word on a busy machine.
    with pytest.raises(TimedOut, match=r"sh: killed: did not end within 6 s") as caught:
        engine.run("busybox", ["sh", "-c", "echo begun; sleep 1000"], timeout=6)
    assert caught.value.exit_code == 137
    assert caught.value.stdout == b"begun\n"
    assert ids(engine) == []


def test_run_is_killed_when_it_writes_too_much(engine: Engine) -> None:
    with pytest.raises(OutputLimit, match="yes: killed: wrote more than 1000 bytes") as caught:
        engine.run("busybox", ["yes"], max_output=1000)
    assert caught.value.stdout == b"y\n" * 500
    assert ids(engine) == []


def test_the_bound_on_output_is_for_both_streams(engine: Engine) -> None:
    script = "echo 1234; sleep 0.2; echo 567 >&2"
    result = engine.run("busybox", ["sh", "-c", script], max_output=9)
    assert (result.stdout, result.stderr) == (b"1234\n", b"567\n")
    with pytest.raises(OutputLimit):
        engine.run("busybox", ["sh", "-c", script], max_output=8)


def test_check_makes_an_exit_code_an_error(engine: Engine) -> None:
    with pytest.raises(CommandFailed, match="sh: exit code 3: worse") as caught:
        engine.run("busybox", ["sh", "-c", "echo bad >&2; echo worse >&2; exit 3"], check=True)
    assert caught.value.stderr == b"bad\nworse\n"


def test_run_is_cancelled_from_another_thread(engine: Engine) -> None:
    cancel = Cancel()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        engine.run("busybox", ["sleep", "1000"], cancel=cancel)
    timer.join()
    cancel.close()
    assert ids(engine) == []


# ---- a container of its own


def test_an_idle_container_runs_nothing_but_init(box: ContainerHandle) -> None:
    assert box.status.state == "running"
    assert box.exec(["cat", "/proc/1/cmdline"]).stdout == b"/dev/init\0"


def test_a_container_is_gone_after_its_block(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine.start("busybox", ["sleep", "1000"]) as box:
        assert ids(engine) == [box.id]
        _ = 1 // 0
    assert ids(engine) == []
    box.close()  # twice is no error


def test_a_container_that_is_to_be_removed_is_closed_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clean-up, in the monitor's place, waits for the lock that the removal holds."""
    # As long as a monitor that does not end is waited for.
    monkeypatch.setattr(settling, "LINGER", PATIENCE)
    box = engine.start("busybox", idle=True, remove=True)
    record = records.load_run(engine.layout.container(box.id))
    assert record is not None
    began = time.monotonic()
    box.close()
    assert ids(engine) == []
    assert process.start_time(record.monitor) != record.monitor_start
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("verb", ["run", "start"])
def test_an_interrupt_after_the_last_step_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    run = Containers.run

    def interrupted(self: Containers, options: RunOptions, **more: Any) -> None:
        run(self, options, **more)
        assert len(ids(engine)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Containers, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(engine, verb)("busybox", ["sleep", "1000"], mounts=["/data"])
    assert ids(engine) == []
    assert engine.volumes.list() == []


def test_an_interrupt_of_the_clean_up_leaves_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Containers, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run("busybox", ["true"])
    # Not by whoever looks next: a list would remove it, too.
    assert records.ids(engine.layout) == []


def test_an_id_is_whole_and_new(engine: Engine, box: ContainerHandle) -> None:
    asked = RunOptions(image="busybox", command=("true",))
    with pytest.raises(Conflict, match="another container's"):
        engine.containers.create(asked, identity=box.id)
    for word in ("", "../box", box.id[:12], box.id[:-1] + "g"):
        with pytest.raises(InvalidInput, match="is no id"):
            engine.containers.create(asked, identity=word)
    assert ids(engine) == [box.id]
    assert box.exec(["true"]).exit_code == 0


def test_exec_has_input_streams_and_resource_use(box: ContainerHandle) -> None:
    data = os.urandom(300_000)
    result = box.exec(["sh", "-c", "cat; echo bad >&2; exit 5"], input=data)
    assert (result.exit_code, result.stdout, result.stderr) == (5, data, b"bad\n")
    assert result.cpu_usec is not None
    assert result.memory_peak is not None
    assert 100_000 < result.memory_peak < 100_000_000
    busy = box.exec(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"])
    assert busy.cpu_usec is not None
    assert busy.cpu_usec > 3 * result.cpu_usec


def test_exec_as_somebody_else_somewhere_else(box: ContainerHandle) -> None:
    result = box.exec(["sh", "-c", "id -u; pwd; echo $A"], env=["A=1"], user="5", workdir="/tmp")
    assert result.stdout == b"5\n/tmp\n1\n"


def test_exec_without_input_reads_its_end(box: ContainerHandle) -> None:
    assert box.exec(["cat"]).stdout == b""


def test_exec_is_killed_when_its_time_is_over(box: ContainerHandle) -> None:
    with pytest.raises(TimedOut) as caught:
        box.exec(["sh", "-c", "echo begun; exec sleep 1000"], timeout=6)
    assert caught.value.stdout == b"begun\n"
    assert b"sleep" not in box.exec(["ps"]).stdout


def test_exec_is_killed_when_it_writes_too_much(box: ContainerHandle) -> None:
    with pytest.raises(OutputLimit):
        box.exec(["yes"], max_output=100_000)
    assert b"yes" not in box.exec(["ps"]).stdout


def test_exec_of_what_is_not_there(box: ContainerHandle) -> None:
    with pytest.raises(CommandNotFound, match="nothing"):
        box.exec(["nothing"])


def test_the_life_of_a_container(box: ContainerHandle) -> None:
    assert box.wait(0.1) is None
    box.stop()
    record = box.wait()
    assert record is not None
    assert record.code == 0
    with pytest.raises(InvalidState):
        box.exec(["true"])
    box.start()
    assert box.status.state == "running"
    box.kill()
    assert box.await_record().code == 137


def test_a_container_by_its_name(engine: Engine, box: ContainerHandle) -> None:
    assert engine.container("box").id == box.id
    assert box.name == "box"
    with pytest.raises(NotFound, match="nobody"):
        engine.container("nobody")


def test_logs_are_followed_until_cancelled(engine: Engine) -> None:
    script = "echo one; echo two >&2; sleep 1000"
    with engine.start("busybox", ["sh", "-c", script]) as box:
        cancel = Cancel()
        entries = box.logs(follow=True, cancel=cancel)
        got = {(entry.stream, entry.data) for entry in (next(entries), next(entries))}
        assert got == {("stdout", b"one\n"), ("stderr", b"two\n")}
        timer = threading.Timer(0.3, cancel.set)
        timer.start()
        with pytest.raises(Cancelled):
            next(entries)
        timer.join()
        cancel.close()


# ---- its files, its figures, what happens


def test_files_are_put_and_got_without_an_exec(box: ContainerHandle) -> None:
    data = os.urandom(100_000)
    box.put("/tmp/data", data, mode=0o640, uid=5, gid=6)
    assert box.exec(["stat", "-c", "%a %u %g %s", "/tmp/data"]).stdout == b"640 5 6 100000\n"
    box.exec(["sh", "-c", "ln -s /tmp/data /link"], check=True)
    assert box.get("/link") == data
    with pytest.raises(InvalidInput, match="more than 10 bytes"):
        box.get("/tmp/data", limit=10)
    with pytest.raises(NotFound, match="/nothing"):
        box.get("/nothing")
    box.stop()
    assert box.get("/tmp/data") == data
    with box.files() as files:
        assert "data" in files.listdir("/tmp")


def test_stats_are_yielded_until_the_end(box: ContainerHandle) -> None:
    samples = box.stats(0.05)
    first, second = next(samples), next(samples)
    assert (first.id, first.name) == (box.id, "box")
    assert second.clock - first.clock >= 50_000_000
    assert first.pids in (1, None)  # None where cgroup v2 has no such controller
    box.kill()
    assert len(list(samples)) <= 1
    assert box.sample().cpu_usec is None


def test_what_happens_is_told(engine: Engine) -> None:
    with engine.events.read() as events, engine.start("busybox", idle=True) as box:
        box.update(pids_limit=-1)
        got = [next(events) for _ in range(3)]
    assert {event.id for event in got} == {box.id}
    assert [event.action for event in got] == ["create", "start", "update"]


def test_limits_that_there_are_not_are_refused(box: ContainerHandle) -> None:
    with pytest.raises(InvalidInput, match="no such option: size"):
        box.update(size=3)
    with pytest.raises(InvalidInput, match=r"memory"):
        box.update(memory="much")


def test_pause(box: ContainerHandle) -> None:
    box.pause()
    assert box.status.state == "paused"
    with pytest.raises(InvalidState):
        box.pause()
    box.unpause()
    assert box.exec(["true"]).exit_code == 0


# ---- it changes nothing of the process that calls it


def test_from_many_threads(engine: Engine) -> None:
    def one(number: int) -> bytes:
        return engine.run("busybox", ["echo", str(number)]).stdout

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(one, range(24)))
    assert got == [f"{number}\n".encode() for number in range(24)]


def test_the_calling_process_stays_as_it_was(engine: Engine) -> None:
    def look() -> dict[str, object]:
        handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
        places = {
            name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
        }
        with open("/proc/self/status") as file:
            # Not SigQ, which counts what is queued for all processes of the user.
            kept = ("Umask", "Cap", "Groups", "SigBlk", "SigIgn", "SigCgt")
            status = [line for line in file if line.startswith(kept)]
        return {"handlers": handlers, "namespaces": places, "status": status, "cwd": os.getcwd(),
                "environ": dict(os.environ), "threads": threading.active_count()}  # fmt: skip

    before = look()
    with engine.start("busybox", idle=True) as box:
        box.exec(["true"])
    engine.run("busybox", ["true"])
    assert look() == before


def test_nothing_is_printed(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.run("busybox", ["echo", "hello"])
    with engine.start("busybox", idle=True) as box:
        box.exec(["echo", "hello"])
    assert capfd.readouterr() == ("", "")


OWNER = """
import sys, time
from pycontain import Engine
engine = Engine(sys.argv[1], sys.argv[2])
kept = engine.start("busybox", idle=True, name="kept")
gone = engine.start("busybox", idle=True, name="gone", remove=True)
free = engine.start("busybox", idle=True, name="free", leash=False)
pool = engine.pool("busybox", 2)
while len(pool) < 2:
    time.sleep(0.01)
print("up", flush=True)
free.exec(["sleep", "1000"])
"""


def test_a_killed_owner_takes_its_containers_along(store: Store) -> None:
    argv = [sys.executable, "-c", OWNER, store.root, store.state]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=python_env()) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        free = store.engine.container("free")
        wait_until(lambda: b"sleep" in free.exec(["ps"]).stdout)
        owner.kill()
    wait_until(lambda: store.state_of("kept") == "exited")
    record = store.engine.container("kept").await_record()
    assert (record.code, record.reason) == (137, "owner ended")
    # What it executed elsewhere has ended too; what was asked to stay has not.
    wait_until(lambda: b"sleep" not in free.exec(["ps"]).stdout)
    names = {view.container.name for view in store.containers.list(all=True)}
    wait_until(
        lambda: (
            {view.container.name for view in store.containers.list(all=True)} == {"kept", "free"}
        )
    )
    assert "kept" in names


# ---- a pool


def test_a_pool_hands_each_out_once(engine: Engine) -> None:
    with engine.pool("busybox", 2, env={"A": "1"}) as pool:
        taken = [pool.take(30) for _ in range(4)]
        assert len({box.id for box in taken}) == 4
        for box in taken:
            assert box.exec(["sh", "-c", "echo $A"]).stdout == b"1\n"
        for box in taken:
            box.close()
        wait_until(lambda: len(pool) == 2)
    assert ids(engine) == []
    with pytest.raises(InvalidState, match="closed"):
        pool.take()


def test_a_pool_that_cannot_be_filled_says_why(engine: Engine) -> None:
    with engine.pool("busybox", 1, ["/nothing"]) as pool:
        for _ in range(2):
            with pytest.raises(CommandNotFound, match="nothing"):
                pool.take(30)
    with pytest.raises(InvalidInput, match="at least 1"):
        engine.pool("busybox", 0)
    assert ids(engine) == []


def test_a_pool_where_none_is_ready_in_time(engine: Engine) -> None:
    with engine.pool("busybox", 1) as pool:
        pool.take(30).close()
        start = time.monotonic()
        with pytest.raises(InvalidState, match="none is ready after 0 s"):
            while time.monotonic() < start + 30:
                pool.take(0).close()
