"""Verbs over states: what is legal when, what it leaves, and how containers are named and found."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import leaks
import pytest
from harness import FOREVER, PATIENCE, collect, wait_until

from pycontain.engine import records
from pycontain.errors import (
    CommandNotFound,
    Conflict,
    InvalidInput,
    InvalidState,
    KernelError,
    NotFound,
)
from pycontain.model.container import ExecOptions, Mount

if TYPE_CHECKING:
    from pathlib import Path

    from harness import Store

pytestmark = pytest.mark.host

TRAP = ("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")


def up(store: Store, identity: str) -> None:
    wait_until(lambda: store.log(identity).endswith(b"up\n"))


@pytest.mark.in_vm
def test_the_whole_life(store: Store) -> None:
    container = store.create(*TRAP, name="life", stop_timeout=round(PATIENCE))
    assert store.state_of("life") == "created"
    assert store.containers.start("life") is None
    status = store.view("life").status
    assert (status.state, status.record) == ("running", None)
    assert status.pid is not None
    assert os.path.exists(f"/proc/{status.pid}")
    assert status.started is not None
    assert status.started > container.created
    up(store, container.id)
    store.containers.stop("life")
    status = store.view("life").status
    assert status.state == "exited"
    assert status.record is not None
    assert (status.record.code, status.record.signal, status.record.reason) == (5, 0, None)
    assert status.record.started is not None
    assert status.record.finished is not None
    assert status.record.started < status.record.finished
    store.containers.start("life")
    assert store.state_of("life") == "running"
    store.containers.remove("life", force=True)
    with pytest.raises(NotFound, match="No such container: life"):
        store.view("life")


def test_verbs_that_are_not_legal(store: Store) -> None:
    container = store.create(*FOREVER, name="box")
    command = ExecOptions(command=("true",))
    for _ in ("created", "exited"):
        with pytest.raises(InvalidState, match="not running"):
            store.containers.kill("box", 15)
        with pytest.raises(InvalidState, match="not running"):
            store.containers.exec("box", command)
        with pytest.raises(InvalidState, match="stopped container"):
            store.containers.attach("box")
        store.containers.stop("box")  # nothing to do, and no error
        store.containers.start("box")
        with pytest.raises(InvalidState, match="already running"):
            store.containers.start("box")
        with pytest.raises(InvalidState, match="cannot remove container box: it is running"):
            store.containers.remove("box")
        assert store.state_of("box") == "running"
        store.containers.kill("box", 9)
    store.containers.remove(container.id)


@pytest.mark.parametrize("verb", ["start", "stop", "remove", "wait", "logs", "get", "attach"])
def test_a_container_that_there_is_not(store: Store, verb: str) -> None:
    with pytest.raises(NotFound, match="No such container: nobody"):
        getattr(store.containers, verb)("nobody")


# ----------------------------------------------------------------------------------------- stopping


def test_stop_kills_what_does_not_end(store: Store) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    identity = store.detach("sh", "-c", script, stop_timeout=2 * round(PATIENCE))
    up(store, identity)
    begin = time.monotonic()
    store.containers.stop(identity, timeout=1)
    assert 0.9 < time.monotonic() - begin < PATIENCE
    record = store.view(identity).status.record
    assert record is not None
    assert (record.code, record.signal) == (137, 9)


def test_stop_uses_the_containers_signal_and_time(store: Store) -> None:
    script = "trap 'exit 6' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done"
    identity = store.detach("sh", "-c", script, stop_signal="USR1", stop_timeout=30)
    up(store, identity)
    store.containers.stop(identity)
    assert store.containers.wait(identity) == 6
    identity = store.detach("sh", "-c", script, stop_timeout=0)
    up(store, identity)
    store.containers.stop(identity)
    assert store.containers.wait(identity) == 137


def test_kill_waits_for_the_end_with_sigkill_only(store: Store) -> None:
    identity = store.detach(*TRAP)
    up(store, identity)
    store.containers.kill(identity, signal.SIGWINCH)
    assert store.state_of(identity) == "running"
    store.containers.kill(identity, signal.SIGKILL)
    assert store.state_of(identity) == "exited"


def test_the_end_of_the_first_process_ends_all(store: Store) -> None:
    identity = store.detach("sh", "-c", "sleep 12345 & sleep 12346 & exit 0", pid="host")
    store.containers.wait(identity)
    wait_until(lambda: not running("sleep", "12345") and not running("sleep", "12346"))


def running(*argv: str) -> list[int]:
    wanted = "".join(f"{word}\0" for word in argv)
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if file.read() == wanted:
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.in_vm
def test_restart(store: Store) -> None:
    identity = store.detach(*TRAP)
    up(store, identity)
    first = store.view(identity).status
    store.containers.restart(identity)
    second = store.view(identity).status
    assert second.state == "running"
    assert first.pid != second.pid
    wait_until(lambda: store.log(identity) == b"up\nup\n")
    store.containers.stop(identity)
    store.containers.restart(identity)
    assert store.state_of(identity) == "running"


def test_a_second_run_sees_what_the_first_left(store: Store) -> None:
    script = "test -e /mark && exit 9; touch /mark; exit 8"
    identity = store.create("sh", "-c", script).id
    store.containers.start(identity)
    assert store.containers.wait(identity) == 8
    store.containers.start(identity)
    assert store.containers.wait(identity) == 9


# ------------------------------------------------------------------------------------------ waiting


def test_wait(store: Store) -> None:
    identity = store.detach("sh", "-c", "sleep 0.3; exit 4")
    assert store.containers.wait(identity) == 4
    assert store.containers.wait(identity) == 4


def test_several_wait_at_once(store: Store) -> None:
    identity = store.detach("sh", "-c", "sleep 0.5; exit 4")
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(store.containers.wait(identity)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert codes == [4] * 5


def pidfds() -> int:
    """How many processes this one has a descriptor of."""
    folder = "/proc/self/fd"
    return sum("pidfd" in leaks.target(f"{folder}/{fd}") for fd in leaks.names(folder))


def test_wait_for_one_that_is_removed(store: Store) -> None:
    identity = store.detach()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(store.containers.wait(identity)))
    before = pidfds()
    thread.start()
    wait_until(lambda: pidfds() > before)  # it waits for the first process
    store.containers.remove(identity, force=True)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(codes) == 1


# --------------------------------------------------------------------------------------------- --rm


@pytest.mark.in_vm
def test_a_detached_container_removes_itself(store: Store) -> None:
    script = "until [ -e /go ]; do sleep 0.05; done"
    identity = store.detach("sh", "-c", script, remove=True, name="gone")
    assert store.state_of("gone") == "running"
    with store.containers.tree("gone") as files:
        files.write("/go", b"")
    wait_until(lambda: identity not in records.ids(store.layout))
    wait_until(lambda: not store.leftovers())


def test_an_attached_one_is_removed_by_whoever_started_it(store: Store) -> None:
    _, attachment = store.attached("true", remove=True)
    collect(attachment)
    attachment.finish()
    assert store.leftovers() == []


def test_an_attached_one_whose_owner_is_gone_removes_itself(store: Store) -> None:
    _, attachment = store.attached("sleep", "0.2", remove=True)
    attachment.close()
    wait_until(lambda: not store.leftovers())


def test_a_stopped_one_is_removed_too(store: Store) -> None:
    identity = store.detach(remove=True)
    store.containers.stop(identity, timeout=0)
    wait_until(lambda: not store.leftovers())


# ----------------------------------------------------------------------------------- failing starts


def test_a_start_that_fails_leaves_it_created_with_the_error(store: Store) -> None:
    container = store.create("nonsense", name="bad")
    with pytest.raises(CommandNotFound):
        store.containers.start("bad")
    status = store.view("bad").status
    assert status.state == "created"
    assert status.error is not None
    assert "nonsense" in status.error
    assert status.record is not None
    assert status.record.code == 127
    assert not os.path.exists(store.view("bad").paths.run_record)
    store.containers.remove("bad")
    assert container.id not in records.ids(store.layout)


def test_a_run_that_fails_keeps_the_container_unless_rm(store: Store) -> None:
    with pytest.raises(CommandNotFound):
        store.detach("nonsense", name="kept")
    assert store.state_of("kept") == "created"
    with pytest.raises(CommandNotFound):
        store.detach("nonsense", name="dropped", remove=True)
    with pytest.raises(NotFound):
        store.view("dropped")


def test_a_failing_step_is_named_and_undone(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_text("")
    mount = Mount(type="bind", source=str(source), target="/etc/passwd/x")
    container = store.create("true", mounts=(mount,))
    with pytest.raises(KernelError, match=r"bind .* to /etc/passwd/x") as caught:
        store.containers.start(container.id)
    assert caught.value.step
    assert store.state_of(container.id) == "created"


def test_what_made_it_fail_can_be_mended(store: Store, tmp_path: Path) -> None:
    missing = tmp_path / "later"
    mount = Mount(type="bind", source=str(missing), target="/m")
    container = store.create("true", mounts=(mount,))
    with pytest.raises(InvalidInput, match="bind source path does not exist"):
        store.containers.start(container.id)
    missing.mkdir()
    store.containers.start(container.id)
    assert store.containers.wait(container.id) == 0
    assert store.view(container.id).status.error is None


# ------------------------------------------------------------------------------- names and prefixes


def test_names(store: Store) -> None:
    first = store.create("true", name="web").id
    with pytest.raises(Conflict, match='name "/web" is already in use') as caught:
        store.create("true", name="web")
    assert first in str(caught.value)
    assert len(store.containers.list(all=True)) == 1
    for ref in ("web", "/web", first, first[:12], first[:3]):
        assert store.containers.find(ref) == first
    store.containers.remove("web")
    assert store.create("true", name="web").id != first


@pytest.mark.parametrize("name", ["", "a", "-a", ".a", "a/b", "a b", "ä", "a\n"])
def test_names_that_are_none(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput):
        store.create("true", name=name)
    assert store.containers.list(all=True) == []


def test_a_name_that_nobody_chose(store: Store) -> None:
    names = {store.create("true").name for _ in range(20)}
    assert len(names) == 20
    assert all(name.replace("_", "").isalnum() for name in names)


def test_an_ambiguous_prefix(store: Store) -> None:
    ids = [store.create("true").id for _ in range(17)]
    first = next(id for id in ids if sum(other[0] == id[0] for other in ids) > 1)
    with pytest.raises(InvalidInput, match="multiple IDs"):
        store.containers.find(first[0])
    with pytest.raises(NotFound):
        store.containers.find("")


def test_a_name_wins_over_the_start_of_an_id(store: Store) -> None:
    other = store.create("true").id
    named = store.create("true", name=other[:6]).id
    assert store.containers.find(other[:6]) == named
    assert store.containers.find(other[:7]) == other


# --------------------------------------------------------------------------------------------- list


def test_list(store: Store) -> None:
    created = store.create("true").id
    running_ = store.detach()
    ended = store.detach("true")
    store.containers.wait(ended)
    assert [view.container.id for view in store.containers.list()] == [running_]
    everything = store.containers.list(all=True)
    assert [view.container.id for view in everything] == [ended, running_, created]
    assert [view.status.state for view in everything] == ["exited", "running", "created"]


def test_remove_takes_volumes_and_layers_of_odd_content(store: Store) -> None:
    script = (
        "mkdir -p /a/b/c && chmod 0 /a && touch '/x\n y' && ln -s / /l && mkfifo /f"
        " && mknod /n c 1 3 && touch /v/x"
    )
    mounts = (Mount(type="volume", target="/v"),)
    identity = store.detach("sh", "-c", script, mounts=mounts)
    assert store.containers.wait(identity) == 0
    store.containers.remove(identity, volumes=True)
    assert store.leftovers() == []
    assert not store.engine.volumes.list()


def test_explain_changes_nothing(store: Store) -> None:
    from pycontain.model.container import RunOptions

    lines = store.containers.explain(RunOptions(image="busybox", command=("true",)))
    assert any("clone" in line for line in lines)
    assert any("seccomp" in line for line in lines)
    assert any("/proc/kcore" in line for line in lines)
    assert store.leftovers() == []
