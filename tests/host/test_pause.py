"""A paused container stands still, whole; and can be ended all the same."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from harness import wait_until

from pycontain.errors import InvalidState, NotFound
from pycontain.model.container import ExecOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

TICKS = ("sh", "-c", "while :; do echo tick; sleep 0.01; done")
MINDS = ("sh", "-c", "trap 'exit 7' TERM; trap 'exit 8' HUP; echo; while :; do sleep 0.01; done")


def ready(store: Store, identity: str) -> None:
    wait_until(lambda: store.log(identity))


def test_nothing_of_it_runs_and_then_it_goes_on(store: Store) -> None:
    identity = store.detach(*TICKS)
    write = "while :; do echo x >>/ticks; sleep 0.01; done"
    asked = ExecOptions(command=("sh", "-c", write), detach=True)
    assert store.containers.exec(identity, asked) is None
    paths = store.view(identity).paths
    files = (paths.log, f"{paths.upper}/ticks")

    def sizes() -> list[int]:
        return [os.path.getsize(path) if os.path.exists(path) else 0 for path in files]

    wait_until(lambda: min(sizes()) > 0)
    store.containers.pause(identity)
    assert store.state_of(identity) == "paused"

    def stands_still() -> bool:
        before = sizes()
        time.sleep(0.3)
        return sizes() == before

    before = sizes()
    # What was in the log's pipe is written first, whenever the monitor gets to run.
    wait_until(stands_still)
    assert os.path.getsize(files[1]) == before[1]
    store.containers.unpause(identity)
    assert store.state_of(identity) == "running"
    wait_until(lambda: all(now > then for now, then in zip(sizes(), before, strict=True)))


def refusals(store: Store) -> dict[str, Callable[[str], object]]:
    containers = store.containers
    return {
        "is paused, unpause": lambda ref: store.exec(ref, "true"),
        "already paused": containers.pause,
        "cannot attach to a paused": containers.attach,
        "cannot start a paused": containers.start,
        "it is paused": containers.remove,
    }


def test_what_a_paused_container_cannot_do(store: Store) -> None:
    identity = store.detach()
    with pytest.raises(InvalidState, match="is not paused"):
        store.containers.unpause(identity)
    store.containers.pause(identity)
    for words, verb in refusals(store).items():
        with pytest.raises(InvalidState, match=words):
            verb(identity)
    assert store.state_of(identity) == "paused"
    assert len(store.containers.top(identity).rows) == 1


def test_only_what_runs_can_be_paused(store: Store) -> None:
    identity = store.create("true").id
    with pytest.raises(InvalidState, match="is not running"):
        store.containers.pause(identity)
    with pytest.raises(NotFound):
        store.containers.pause("nosuch")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda store, ref: store.containers.stop(ref, timeout=20), 7),
        (lambda store, ref: store.containers.kill(ref, signal.SIGHUP), 8),
        (lambda store, ref: store.containers.kill(ref, signal.SIGKILL), 137),
    ],
    ids=["stop", "kill HUP", "kill"],
)
def test_it_can_be_ended(store: Store, end: Callable[[Store, str], None], code: int) -> None:
    identity = store.detach(*MINDS)
    ready(store, identity)
    store.containers.pause(identity)
    end(store, identity)
    assert store.containers.wait(identity) == code
    store.containers.start(identity)
    assert store.state_of(identity) == "running"


def test_it_can_be_removed_by_force(store: Store) -> None:
    identity = store.detach(*MINDS)
    store.containers.pause(identity)
    store.containers.remove(identity, force=True)
    with pytest.raises(NotFound):
        store.view(identity)


def test_its_time_goes_on(store: Store) -> None:
    identity = store.detach(timeout=1)
    store.containers.pause(identity)
    assert store.containers.wait(identity) == 137


def test_it_dies_with_its_monitor(store: Store) -> None:
    identity = store.detach()
    store.containers.pause(identity)
    os.kill(store.run_record(identity).monitor, signal.SIGKILL)
    wait_until(lambda: store.state_of(identity) == "exited")
    assert store.containers.wait(identity) == 137


def test_restart_makes_it_run(store: Store) -> None:
    identity = store.detach()
    store.containers.pause(identity)
    store.containers.restart(identity, timeout=0)
    assert store.state_of(identity) == "running"


def test_it_can_be_joined(store: Store) -> None:
    identity = store.detach()
    store.containers.pause(identity)
    assert store.code("true", network=f"container:{identity}") == 0


def test_the_command_line(store: Store, pycontain: CommandLine) -> None:
    store.detach(name="one")
    store.detach(name="two")
    done = pycontain("pause", "one", "nosuch", "two")
    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert b"No such container: nosuch" in done.stderr
    shown = pycontain("ps", "-f", "status=paused", "--format", "{{.Names}} {{.Status}}").stdout
    assert [line.rpartition(b" ")[2] for line in shown.splitlines()] == [b"(Paused)"] * 2
    done = pycontain("unpause", "one", "two")
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")
