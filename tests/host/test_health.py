"""Health checks, with a supervisor that makes them."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from harness import FOREVER, PATIENCE, Store, wait_until

from pycontain.engine import supervision, waiting
from pycontain.engine.cancel import Cancel
from pycontain.errors import Cancelled, InvalidInput, InvalidState, NotFound
from pycontain.kernel import process
from pycontain.model.container import HealthCheck

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness import CommandLine

    from pycontain.engine.containers import View
    from pycontain.model.health import Health

pytestmark = pytest.mark.host

MS = 1_000_000
OK = "test -f /ok || { echo missing >&2; exit 3; }"


@pytest.fixture(autouse=True)
def supervisor_gone(store: Store) -> Iterator[None]:
    """Once nothing has to be probed the supervisor ends by itself."""
    yield
    store.clear()
    wait_until(lambda: not supervision.lives(store.layout))


def check(script: str = OK, **more: Any) -> HealthCheck:
    return HealthCheck(
        **{
            "test": ("CMD-SHELL", script),
            "interval": 50 * MS,
            "timeout": 20_000 * MS,
            "retries": 2,
            **more,
        }
    )


def start(store: Store, script: str = OK, *command: str, **more: Any) -> str:
    return store.detach(*(command or FOREVER), health=check(script, **more))


def health(store: Store, identity: str) -> Health:
    found = store.containers.health(identity)
    assert found is not None
    return found


def until(store: Store, identity: str, *conditions: str) -> str:
    met = store.containers.wait_for(identity, conditions, timeout=PATIENCE)
    assert met is not None, health(store, identity)
    return met


def told(store: Store, identity: str, verb: str) -> list[str]:
    """The events of a container so far."""
    with store.engine.events.read(since=0, follow=False) as events:
        return [one.action for one in events if one.id == identity and one.verb == verb]


def probes(store: Store, identity: str) -> int:
    return len(told(store, identity, "exec_create"))


def named(words: str) -> list[int]:
    """Pids of the processes that run this command."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        if one.info["cmdline"] == words.split():
            found.append(one.pid)
    return found


def kill_supervisor(store: Store) -> None:
    found = supervision.recorded(store.layout)
    assert found is not None
    pidfd = process.open_process(*found)
    assert pidfd is not None
    try:
        process.send_signal(pidfd, signal.SIGKILL)
        wait_until(lambda: not supervision.lives(store.layout))
    finally:
        os.close(pidfd)


def test_from_starting_to_unhealthy_to_healthy(store: Store, pycontain: CommandLine) -> None:
    identity = start(store, retries=2)
    until(store, identity, "unhealthy")
    found = health(store, identity)
    assert found.streak >= 2
    assert {(one.code, one.output) for one in found.log} == {(3, "missing\n")}
    assert all(one.start < one.end for one in found.log)
    assert "(unhealthy)" in pycontain("ps", "--format", "{{.Status}}").stdout.decode()
    store.exec(identity, "touch", "/ok")
    until(store, identity, "healthy")
    assert health(store, identity).streak == 0
    wait_until(
        lambda: (
            told(store, identity, "health_status")
            == ["health_status: unhealthy", "health_status: healthy"]
        )
    )
    shown = pycontain("inspect", "-f", "{{.State.Health.Status}}", identity).stdout.decode()
    assert shown == "healthy\n"


def test_without_a_check_nobody_probes(store: Store) -> None:
    identity = store.detach(health=HealthCheck(test=("NONE",)))
    assert store.containers.health(identity) is None
    assert not supervision.lives(store.layout)
    with pytest.raises(InvalidState, match="no health check"):
        store.containers.wait_for(identity, ["healthy"])
    with pytest.raises(InvalidState, match="no health check"):
        store.containers.probe(identity)


def test_a_probe_that_hangs_is_killed_with_its_children(store: Store) -> None:
    mark = f"{os.getpid()}{time.time_ns() % 1000}"
    script = f"echo begun; sleep 1{mark} & setsid sleep 2{mark} & sleep 3{mark}"
    identity = start(store, script, timeout=500 * MS, retries=1, interval=60_000 * MS,
                     start_period=60_000 * MS, start_interval=50 * MS)  # fmt: skip
    wait_until(lambda: len(health(store, identity).log) >= 2)
    late = "Health check exceeded timeout (0.5s)"
    assert {one.code for one in health(store, identity).log} == {-1}
    # On a busy machine a shell may be killed before it has said anything.
    wait_until(lambda: health(store, identity).log[-1].output == f"{late}: begun\n")
    assert {one.output for one in health(store, identity).log} <= {late, f"{late}: begun\n"}
    # of probes before the one that is under way nothing is left
    wait_until(lambda: all(len(named(f"sleep {n}{mark}")) <= 1 for n in (1, 2, 3)))
    store.containers.pause(identity)
    wait_until(lambda: not any(named(f"sleep {n}{mark}") for n in (1, 2, 3)))
    store.containers.unpause(identity)


def test_what_a_program_of_its_own_says(store: Store) -> None:
    identity = start(store, "head -c 100000 /dev/zero | tr '\\0' x; exit 1", retries=1)
    until(store, identity, "unhealthy")
    output = health(store, identity).log[0].output
    assert output == "x" * 4096 + "..."
    missing = store.detach(health=check(test=("CMD", "nosuch", "-x"), retries=1))
    until(store, missing, "unhealthy")
    last = health(store, missing).log[-1]
    assert last.code == -1
    assert "nosuch" in last.output
    words = store.detach(health=check(test=("CMD", "test", "a b", "=", "a b")))
    until(store, words, "healthy")


def test_what_is_paused_is_not_probed(store: Store) -> None:
    identity = start(store, "true")
    until(store, identity, "healthy")
    store.containers.pause(identity)
    other = start(store, "true")

    def others_go_on() -> None:
        before = probes(store, other)
        wait_until(lambda: probes(store, other) > before + 5)

    others_go_on()  # by then the supervisor has heard of the pause
    before = probes(store, identity)
    others_go_on()
    assert probes(store, identity) == before
    assert health(store, identity).status == "healthy"
    store.containers.unpause(identity)
    wait_until(lambda: probes(store, identity) > before + 1)
    assert told(store, identity, "health_status") == ["health_status: healthy"]


def test_a_start_begins_anew(store: Store) -> None:
    identity = start(store, "true")
    until(store, identity, "healthy")
    store.containers.stop(identity, timeout=0)
    ended = health(store, identity)
    assert ended.status == "unhealthy"
    assert ended.log
    store.containers.start(identity)
    began = store.view(identity).status.started
    assert began is not None
    until(store, identity, "healthy")
    found = health(store, identity)
    assert found.run != ended.run
    assert all(one.start >= began for one in found.log)
    wait_until(lambda: told(store, identity, "health_status") == ["health_status: healthy"] * 2)


def test_what_ends_with_its_container_has_not_failed(store: Store) -> None:
    mark = f"{os.getpid()}{time.time_ns() % 1000}"
    identity = start(store, f"sleep 4{mark}", retries=1)
    wait_until(lambda: named(f"sleep 4{mark}"))
    store.containers.kill(identity, signal.SIGKILL)
    wait_until(lambda: not supervision.lives(store.layout))
    assert health(store, identity).log == ()
    assert told(store, identity, "health_status") == []


def test_a_supervisor_that_is_killed_is_followed_by_one_that_goes_on(store: Store) -> None:
    identity = start(store, retries=1000)
    wait_until(lambda: health(store, identity).streak >= 7)
    kill_supervisor(store)
    before = health(store, identity)
    # whoever looks wakes the next one
    wait_until(lambda: health(store, identity).streak >= before.streak + 2)
    log = health(store, identity).log
    assert len(log) == 5
    # Looked at in this order: they go on meanwhile, and each is told before it is counted.
    streak = health(store, identity).streak
    assert probes(store, identity) >= streak
    store.exec(identity, "touch", "/ok")
    until(store, identity, "healthy")


def test_a_probe_ends_with_its_supervisor(store: Store) -> None:
    mark = f"{os.getpid()}{time.time_ns() % 1000}"
    identity = start(store, f"exec sleep 5{mark}", start_period=60_000 * MS)
    wait_until(lambda: named(f"sleep 5{mark}"))
    first = named(f"sleep 5{mark}")
    kill_supervisor(store)
    wait_until(lambda: set(named(f"sleep 5{mark}")).isdisjoint(first))
    assert store.state_of(identity) == "running"


def test_an_event_has_the_name_of_now(store: Store) -> None:
    identity = start(store)
    # It is told when it is so already: until then by the name of then.
    wait_until(lambda: told(store, identity, "health_status") == ["health_status: unhealthy"])
    store.containers.rename(identity, "other")
    store.exec(identity, "touch", "/ok")
    wait_until(lambda: told(store, identity, "health_status")[-1:] == ["health_status: healthy"])
    with store.engine.events.read(since=0, follow=False) as events:
        names = [one.attributes["name"] for one in events if one.verb == "health_status"]
    assert names[-1] == "other"
    assert names[0] != "other"


def test_many_are_probed_by_one(store: Store) -> None:
    found = [start(store, "true") for _ in range(5)]
    for identity in found:
        until(store, identity, "healthy")
    for identity in found:
        store.containers.remove(identity, force=True)
    wait_until(lambda: not supervision.lives(store.layout))


def test_a_probe_by_hand(store: Store, pycontain: CommandLine) -> None:
    identity = start(store, interval=3_600_000 * MS)
    assert health(store, identity).status == "starting"
    assert b"(health: starting)" in pycontain("ps", "--format", "{{.Status}}").stdout
    assert store.containers.probe(identity).code == 3
    done = pycontain("healthcheck", "run", identity)
    assert (done.returncode, done.stdout) == (1, b"unhealthy\n")
    store.exec(identity, "touch", "/ok")
    done = pycontain("healthcheck", "run", identity)
    assert (done.returncode, done.stdout) == (0, b"")
    assert health(store, identity).log == ()
    cancel = Cancel()
    slow = start(store, "sleep 1000", interval=3_600_000 * MS)
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        store.containers.probe(slow, cancel=cancel)
    cancel.close()


# ---- waiting ----


def test_waiting_for_states(store: Store) -> None:
    container = store.create(*FOREVER)
    identity = container.id
    wait = store.containers.wait_for
    assert wait(identity, ["created", "running"]) == "created"
    assert wait(identity, ["running", "paused"], timeout=0.05) is None
    met: list[str | None] = []
    thread = threading.Thread(target=lambda: met.append(wait(identity, ["running"])))
    thread.start()
    store.containers.start(identity)
    thread.join(PATIENCE)
    store.containers.pause(identity)
    assert wait(identity, ["running", "paused"]) == "paused"
    store.containers.unpause(identity)
    thread = threading.Thread(target=lambda: met.append(wait(identity, ["exited", "paused"])))
    thread.start()
    store.containers.kill(identity, signal.SIGKILL)
    thread.join(PATIENCE)
    assert wait(identity, ["stopped"]) == "stopped"
    thread = threading.Thread(target=lambda: met.append(wait(identity, ["removed"])))
    thread.start()
    wait_until(lambda: inotified() > 0)
    store.containers.remove(identity)
    thread.join(PATIENCE)
    assert met == ["running", "exited", "removed"]
    with pytest.raises(NotFound):
        wait(identity, ["removed"])
    with pytest.raises(InvalidInput, match="unknown condition"):
        wait(identity, ["nosuch"])


def inotified() -> int:
    """How many inotify descriptors this process has."""
    folder = "/proc/self/fd"
    links = []
    for name in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:
            continue
    return links.count("anon_inode:inotify")


def test_what_has_ended_will_not_become_healthy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "until [ -e /told ]; do sleep 0.05; done; exit 7"
    identity = start(store, "false", "sh", "-c", script, retries=1000)
    looked = threading.Event()
    real = waiting.met

    def met(view: View, conditions: Sequence[str]) -> str | None:
        looked.set()
        return real(view, conditions)

    # Who waits has to have seen it run: one that has ended before may be started again.
    monkeypatch.setattr(waiting, "met", met)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(store.containers.wait_for, identity, ["healthy"], timeout=PATIENCE)
        assert looked.wait(PATIENCE)
        with store.containers.tree(identity) as tree:
            tree.write("/told", b"")
        with pytest.raises(InvalidState, match=r"has ended \(exit code 7\) before it was healthy"):
            asked.result()
    assert store.containers.wait_for(identity, ["healthy", "exited"]) == "exited"


def test_a_program_waits(store: Store) -> None:
    with store.engine.start(
        "busybox", ["sleep", "1000"], leash=False, health=check("test -f /ok")
    ) as box:
        box.put("/ok", b"")
        assert box.wait_for("healthy", timeout=PATIENCE) == "healthy"
        assert box.health is not None
        assert box.health.log[-1].code == 0
        assert box.probe().code == 0


def test_a_damaged_document_is_told_and_replaced(store: Store, pycontain: CommandLine) -> None:
    identity = start(store, interval=60_000 * MS, start_period=60_000 * MS,
                     start_interval=100 * MS)  # fmt: skip
    wait_until(lambda: health(store, identity).log)
    store.containers.pause(identity)
    other = store.detach(name="other")
    path = store.view(identity).paths.health

    def damaged() -> bool:
        # a probe that was under way is written after it
        with open(path, "wb") as file:
            file.write(b'{"run": 5}')
        return pycontain("inspect", identity).returncode == 1

    wait_until(damaged)
    done = pycontain("ps", "-a", "--no-trunc", "--format", "{{.ID}}")
    assert (done.returncode, done.stdout.decode()) == (1, f"{other}\n")
    assert b"health.json: damaged" in done.stderr
    kill_supervisor(store)
    store.containers.unpause(identity)
    assert store.state_of(identity) == "running"  # which wakes another

    def replaced() -> bool:
        done = pycontain("inspect", "-f", "{{len .State.Health.Log}}", identity)
        return done.returncode == 0 and done.stdout != b"0\n"

    wait_until(replaced)
