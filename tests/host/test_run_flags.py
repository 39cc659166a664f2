"""Flags of ``run`` and ``create``, by their effect in a container."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import Conflict, InvalidInput, InvalidState, PycontainError
from pycontain.model.container import DeviceRule, Mount

if TYPE_CHECKING:
    from pathlib import Path

    from harness import CommandLine, Store

pytestmark = pytest.mark.host

# A device number that no driver has (devices.txt: 60 is for local use).
_NODE = "mknod /node c 60 77 && cat /node"


# ------------------------------------------------------------------------------------ shared memory


def test_another_containers_shared_memory(store: Store) -> None:
    donor = store.detach(ipc="shareable", shm_size=1 << 20)
    script = "echo told >/dev/shm/file; stat -fc %b:%S /dev/shm; readlink /proc/self/ns/ipc"
    first, link = store.sh(script, ipc=f"container:{donor}").split()
    blocks, size = map(int, first.split(":"))
    assert blocks * size == 1 << 20
    assert link == os.readlink(f"/proc/{store.run_record(donor).pid}/ns/ipc")
    assert store.exec(donor, "cat", "/dev/shm/file").stdout == b"told\n"


def test_a_chain_of_shared_memory(store: Store) -> None:
    donor = store.detach(ipc="shareable")
    middle = store.detach(ipc=f"container:{donor}")
    store.exec(donor, "touch", "/dev/shm/mark")
    assert store.sh("ls /dev/shm", ipc=f"container:{middle}") == "mark\n"
    # What the donor mounted there is gone from nobody while somebody has it.
    store.containers.remove(donor, force=True)
    assert store.exec(middle, "ls", "/dev/shm").stdout == b"mark\n"


def test_a_mount_of_the_users_in_its_place(store: Store) -> None:
    donor = store.detach(ipc="shareable")
    store.exec(donor, "touch", "/dev/shm/mark")
    own = (Mount(type="tmpfs", target="/dev/shm"),)
    assert store.sh("ls -A /dev/shm", ipc=f"container:{donor}", mounts=own) == ""


@pytest.mark.parametrize("mode", ["private", "none"])
def test_what_is_not_shared_cannot_be_joined(store: Store, mode: str) -> None:
    donor = store.detach(ipc=mode)
    with pytest.raises(InvalidInput, match="non-shareable IPC"):
        store.run("true", ipc=f"container:{donor}")


def test_one_that_does_not_run_cannot_be_joined(store: Store) -> None:
    donor = store.create("true", ipc="shareable").id
    with pytest.raises(InvalidState, match="not running"):
        store.run("true", ipc=f"container:{donor}")


def test_a_link_in_the_place_of_shared_memory_leads_nowhere(store: Store) -> None:
    """A donor that may unmount can put a link there; it is not followed."""
    donor = store.detach(ipc="shareable", privileged=True)
    script = "umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm"
    done = store.exec(donor, "sh", "-c", script)
    assert done.code == 0, done
    with pytest.raises(PycontainError, match="copy mount: /dev/shm"):
        store.run("true", ipc=f"container:{donor}")


# ----------------------------------------------------------------------------------- names and time


def test_names_of_the_host(store: Store) -> None:
    out = store.sh("hostname; cat /proc/sys/kernel/domainname", hostname="box", domainname="x.org")
    assert out == "box\nx.org\n"


@pytest.mark.skipif(not os.path.exists("/usr/share/zoneinfo/Asia/Tokyo"), reason="needs tzdata")
def test_the_time_zone(store: Store) -> None:
    assert store.sh("date +%Z%z", tz="Asia/Tokyo") == "JST+0900\n"
    assert store.sh("date +%Z%z", tz="Asia/Tokyo", read_only=True) == "JST+0900\n"
    assert store.sh("date +%z", tz="Asia/Tokyo", env=("TZ=UTC",)) == "+0000\n"


def test_the_hosts_time_zone(store: Store, tmp_path: Path) -> None:
    script = "md5sum </etc/localtime || echo none"
    path = "/etc/localtime"
    wanted = "none"
    if os.path.exists(path):
        with open(path, "rb") as file:
            wanted = hashlib.md5(file.read(), usedforsecurity=False).hexdigest() + "  -"
    assert store.sh(script, tz="local") == wanted + "\n"


# ------------------------------------------------------------------------------------------ devices


def test_a_rule_by_number_opens_a_device(store: Store) -> None:
    refused = store.run("sh", "-c", _NODE)
    assert b"Operation not permitted" in refused.stderr
    rules = (DeviceRule(type="c", major=60, access="rwm"),)
    opened = store.run("sh", "-c", _NODE, device_cgroup_rules=rules)
    assert b"No such device or address" in opened.stderr


def test_a_rule_is_for_what_it_names(store: Store) -> None:
    for rule in (
        DeviceRule(type="b", major=60),
        DeviceRule(type="c", major=60, minor=78),
        DeviceRule(type="c", major=60, access="w"),
    ):
        refused = store.run("sh", "-c", _NODE, device_cgroup_rules=(rule,))
        assert b"Operation not permitted" in refused.stderr, rule


# ---------------------------------------------------------------------------------- the same name


def test_a_container_is_replaced(store: Store, pycontain: CommandLine) -> None:
    before = store.detach(name="job")
    with pytest.raises(Conflict):
        store.create("true", name="job")
    made = pycontain("create", "--replace", "--name", "job", "busybox", "true")
    assert made.returncode == 0, made
    assert store.containers.find("job") == made.stdout.decode().strip() != before
    done = pycontain("run", "--replace", "--name", "job", "--rm", "busybox", "echo", "new")
    assert (done.returncode, done.stdout) == (0, b"new\n")
    assert store.containers.list(all=True) == []


def test_nothing_is_replaced_by_what_cannot_be(store: Store, pycontain: CommandLine) -> None:
    before = store.detach(name="job")
    for words in (
        ["nosuch:image"],
        ["--tz", "No/Where", "busybox"],
        ["--security-opt=x", "busybox"],
    ):
        done = pycontain("run", "--replace", "--name", "job", *words, "true")
        assert done.returncode == 125, done
    # A start of an id is no name.
    assert pycontain("create", "--replace", "--name", before[:12], "busybox").returncode == 0
    assert store.state_of(before) == "running"


# ------------------------------------------------------------------------- streams and descriptors


def test_one_stream_alone(pycontain: CommandLine) -> None:
    script = "echo out; echo err >&2; exit 3"
    for stream, wanted in (("stdout", (b"out\n", b"")), ("stderr", (b"", b"err\n"))):
        done = pycontain("run", "--rm", "-a", stream, "busybox", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (3, *wanted)


def test_input_alone_is_given_whole_and_not_waited_for(
    store: Store, pycontain: CommandLine
) -> None:
    """The container takes it late, and more of it than a pipe and a socket hold."""
    data = os.urandom(2 << 20)
    script = "sleep 1; md5sum; sleep 1000"
    words = ("run", "--init", "-i", "-a", "stdin", "busybox", "sh", "-c", script)
    done = pycontain(*words, input=data)
    identity = done.stdout.decode().strip()
    assert (done.returncode, done.stderr) == (0, b"")
    assert store.state_of(identity) == "running"
    wanted = hashlib.md5(data, usedforsecurity=False).hexdigest()
    for entry in store.containers.logs(identity, follow=True):
        assert entry.data.decode().split()[0] == wanted
        break


def test_descriptors_of_the_caller(store: Store, pycontain: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "three").write_text("from three\n")
    read, write = os.pipe()
    command = [*pycontain.argv, "run", "--rm", "--preserve-fds", "2", "busybox", "sh", "-c",
               "cat <&3; echo to four >&4; ls /proc/self/fd"]  # fmt: skip
    out_read, out_write = os.pipe()
    pid = os.posix_spawn(
        command[0], command, os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, out_write, 1),
            (os.POSIX_SPAWN_DUP2, write, 20),
            (os.POSIX_SPAWN_OPEN, 3, f"{tmp_path}/three", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 20, 4),
        ],
    )  # fmt: skip
    os.close(write)
    os.close(out_write)
    try:
        with open(out_read, "rb") as out, open(read, "rb") as four:
            # Its end: nobody of ours has kept the other end, the monitor neither.
            assert four.read() == b"to four\n"
            # The last is the listing's own.
            assert out.read() == b"from three\n0\n1\n2\n3\n4\n5\n"
    finally:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_descriptor_that_is_not_open(pycontain: CommandLine) -> None:
    done = pycontain("run", "--rm", "--preserve-fds", "1", "busybox", "true")
    assert done.returncode == 125
    assert b"--preserve-fds: descriptor 3 is not open" in done.stderr


# --------------------------------------------------------------------------------------------- size


def test_sizes(store: Store, pycontain: CommandLine) -> None:
    script = "head -c 100000 /dev/zero >/a; ln /a /b; ln -s /a /c; rm /bin/date; echo 1 >/v/x"
    volume = (Mount(type="volume", target="/v"),)
    asked = store.create("sh", "-c", script, mounts=volume)
    image = store.engine.images.get("busybox").size
    store.containers.start(asked.id)
    store.containers.wait(asked.id)
    found = store.containers.sizes(asked.id)
    assert found == (100000 + len("/a"), image)
    line = pycontain("ps", "-a", "--format", "{{.Size}}").stdout.decode()
    assert line.startswith("100kB (virtual ")
