"""Further commands in a running container."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from harness import collect, wait_until

from pycontain.errors import CommandNotFound, InvalidInput, InvalidState, NotExecutable, NotFound
from pycontain.model.container import ExecOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

pytestmark = pytest.mark.host


@pytest.fixture
def box(store: Store) -> Iterator[str]:
    identity = store.detach(env=("A=1", "B=2"), workdir="/tmp", user="8", group_add=("5",))
    yield identity
    store.containers.remove(identity, force=True)


@pytest.mark.in_vm
def test_code_and_streams(store: Store, box: str) -> None:
    found = store.exec(box, "sh", "-c", "cat; echo err >&2; exit 3", input=b"in")
    assert (found.code, found.stdout, found.stderr) == (3, b"in", b"err\n")


def test_a_signal_is_128_and_its_number(store: Store, box: str) -> None:
    assert store.exec(box, "sh", "-c", "kill -9 $$").code == 137


@pytest.mark.parametrize(
    ("command", "kind"),
    [("nonsense", CommandNotFound), ("/bin/none", CommandNotFound), ("/etc", NotExecutable)],
)
def test_commands_that_cannot_be_started(
    store: Store, box: str, command: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        store.exec(box, command)
    assert store.state_of(box) == "running"


def test_it_is_the_containers_process_in_all_but_the_command(store: Store, box: str) -> None:
    out = store.exec(box, "sh", "-c", "id -u; id -G; pwd; echo $A$B $HOME $HOSTNAME; umask").stdout
    lines = out.decode().splitlines()
    assert lines[:3] == ["8", "8 5", "/tmp"]
    assert lines[3] == f"12 /var/spool/mail {box[:12]}"
    assert lines[4] == "0022"


def test_namespaces_and_cgroup_are_the_containers(store: Store, box: str) -> None:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    pid = store.run_record(box).pid
    wanted = [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    assert store.exec(box, "sh", "-c", script, user="0").stdout.decode().split() == wanted
    assert b"0::/\n" in store.exec(box, "cat", "/proc/self/cgroup").stdout


def test_what_is_asked_for(store: Store, box: str) -> None:
    out = store.exec(
        box, "sh", "-c", "id -u; id -g; pwd; echo $A$C $HOME",
        user="nobody:tty", workdir="/usr", env=("A=9", "C=3"),
    )  # fmt: skip
    assert out.stdout == b"65534\n5\n/usr\n93 /home\n"


def test_another_user_gets_no_capabilities(store: Store) -> None:
    identity = store.detach()
    found = store.exec(identity, "grep", "CapEff", "/proc/self/status", user="1000")
    assert found.stdout.split() == [b"CapEff:", b"0000000000000000"]


def test_bad_wishes(store: Store, box: str) -> None:
    with pytest.raises(NotFound, match="ghost"):
        store.exec(box, "true", user="ghost")
    with pytest.raises(InvalidInput, match="not an absolute path"):
        store.exec(box, "true", workdir="x")
    assert store.exec(box, "true").code == 0


def test_a_terminal(store: Store, box: str) -> None:
    options = ExecOptions(command=("sh", "-c", "tty; stty size; echo $TERM"), tty=True, user="0")
    attachment = store.containers.exec(box, options, size=(20, 40))
    assert attachment is not None
    found = collect(attachment)
    attachment.close()
    assert found.stdout == b"/dev/pts/0\r\n20 40\r\nxterm\r\n"


def test_a_terminal_of_an_ordinary_user(store: Store, box: str) -> None:
    options = ExecOptions(command=("sh", "-c", "echo x > $(tty); echo y > /dev/tty"), tty=True)
    attachment = store.containers.exec(box, options)
    assert attachment is not None
    assert collect(attachment).stdout == b"x\r\ny\r\n"
    attachment.close()


@pytest.mark.in_vm
def test_a_terminal_changes_its_size_and_takes_input(store: Store, box: str) -> None:
    # A trapped signal ends the shell's read, so the loop does not end with it.
    script = (
        "trap 'stty size' WINCH; echo up;"
        " while :; do read line && echo got $line && [ $line = end ] && exit 0; done"
    )
    options = ExecOptions(command=("sh", "-c", script), tty=True, interactive=True)
    attachment = store.containers.exec(box, options, size=(20, 40))
    assert attachment is not None
    collect(attachment, until=b"up")
    attachment.resize(11, 22)
    collect(attachment, until=b"11 22")
    attachment.write_stdin(b"word\n")
    collect(attachment, until=b"got word")
    attachment.write_stdin(b"end\n")
    assert collect(attachment).code == 0
    attachment.close()


def test_detached(store: Store, box: str) -> None:
    options = ExecOptions(command=("sh", "-c", "sleep 0.2; touch /tmp/done"), detach=True)
    assert store.containers.exec(box, options) is None
    wait_until(lambda: store.exec(box, "test", "-e", "/tmp/done").code == 0)


def test_timeout(store: Store, box: str) -> None:
    begin = time.monotonic()
    assert store.exec(box, "sleep", "100", timeout=0.5).code == 137
    assert time.monotonic() - begin < 90
    assert store.state_of(box) == "running"


def test_a_time_out_ends_the_command_and_nothing_else(store: Store, box: str) -> None:
    other = store.containers.exec(box, ExecOptions(command=("sleep", "3")))
    assert other is not None
    store.exec(box, "sleep", "100", timeout=0.3)
    assert collect(other).code == 0
    other.close()


def test_a_command_outlives_its_caller(store: Store, box: str) -> None:
    """As docker's: the connection is what the caller loses."""
    script = "sleep 0.5; touch /tmp/done"
    attachment = store.containers.exec(box, ExecOptions(command=("sh", "-c", script)))
    assert attachment is not None
    attachment.close()
    wait_until(lambda: store.exec(box, "test", "-e", "/tmp/done").code == 0)


def test_signals_reach_the_command(store: Store, box: str) -> None:
    script = "trap 'exit 9' INT; echo up; while :; do sleep 0.05; done"
    attachment = store.containers.exec(box, ExecOptions(command=("sh", "-c", script)))
    assert attachment is not None
    collect(attachment, until=b"up")
    attachment.signal(signal.SIGINT)
    assert collect(attachment).code == 9
    attachment.close()


@pytest.mark.in_vm
def test_the_container_takes_its_commands_along(store: Store) -> None:
    identity = store.detach()
    attachment = store.containers.exec(identity, ExecOptions(command=("sleep", "100")))
    assert attachment is not None
    store.containers.kill(identity, 9)
    assert collect(attachment).code == 137
    attachment.close()


def test_many_at_once(store: Store, box: str) -> None:
    script = ExecOptions(command=("sh", "-c", "echo $$ | sed s/.*/x/; sleep 0.3; exit 7"))
    connections = [store.containers.exec(box, script) for _ in range(20)]
    for attachment in connections:
        assert attachment is not None
        found = collect(attachment)
        attachment.close()
        assert (found.code, found.stdout) == (7, b"x\n")


def test_not_in_one_that_has_ended(store: Store) -> None:
    identity = store.detach("true")
    store.containers.wait(identity)
    with pytest.raises(InvalidState, match="not running"):
        store.exec(identity, "true")


def test_a_lot_of_output(store: Store, box: str) -> None:
    found = store.exec(box, "seq", "1", "200000")
    assert found.stdout == b"".join(b"%d\n" % n for n in range(1, 200001))


def test_nothing_of_it_is_in_the_containers_log(store: Store, box: str) -> None:
    store.exec(box, "echo", "x")
    assert store.log(box) == b""
