"""What the container's process holds of its maker: while it waits for start, and after."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import leaks
import pytest

from .bundle import KIND, command_line, field, wait_until

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(KIND != "ours", reason="how another runtime waits is its own matter"),
]

STREAMS = {"0", "1", "2"}
SECRET = "PYCONTAIN_SECRET"


def descriptors(pid: int) -> dict[str, str]:
    """What a process has open; what it closes meanwhile is left out."""
    folder = f"/proc/{pid}/fd"
    found = {name: leaks.target(f"{folder}/{name}") for name in os.listdir(folder)}
    return {name: path for name, path in found.items() if path}


def beside_streams(pid: int) -> list[str]:
    """What a process has open beside its standard streams."""
    return sorted(path for name, path in descriptors(pid).items() if name not in STREAMS)


def wait_for_program(pid: int) -> None:
    wait_until(lambda: "1000" in command_line(pid))


def shared(bundle: Bundle, first: Bundle) -> None:
    """Have a container without privilege in another's pid namespace, under the same uid."""
    for one in (first, bundle):
        one.process["user"] = {"uid": 1000, "gid": 1000}
        one.process["capabilities"] = {}
    first.up("sleep", "1000")
    kinds = ("network", "ipc", "uts", "mount")
    bundle.namespaces(*kinds, pid=f"/proc/{first.pid}/ns/pid")
    bundle.process["args"] = ["sleep", "1000"]


def inner_pid(bundle: Bundle) -> str:
    return field(bundle.pid, "NSpid").split()[-1]


def test_while_it_waits_it_holds_the_fifo_and_the_failure_file(bundle: Bundle) -> None:
    """No plan, no socket of the runtime's, no folder of the host's: what it cannot do without."""
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    folder = f"{bundle.root}/{bundle.id}"
    kept = [f"{folder}/exec.fifo", f"{folder}/failure"]
    # The socket on which it said that it waits is closed after that word.
    assert [path for path in beside_streams(bundle.pid) if path[:7] != "socket:"] == kept
    wait_until(lambda: beside_streams(bundle.pid) == kept)
    assert set(descriptors(bundle.pid)) >= STREAMS


def test_what_is_preserved_arrives_and_nothing_else(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    given = 'exec "$@" 3</dev/zero 4</dev/full 5</dev/urandom'
    bundle.shield = ["sh", "-c", given, "sh"]
    bundle.create("--preserve-fds", "2")
    bundle.shield = []
    assert "/dev/urandom" not in descriptors(bundle.pid).values()
    bundle.start()
    wait_for_program(bundle.pid)
    found = descriptors(bundle.pid)
    assert set(found) == STREAMS | {"3", "4"}
    assert (found["3"], found["4"]) == ("/dev/zero", "/dev/full")


def test_an_executed_process_holds_nothing(bundle: Bundle) -> None:
    bundle.up()
    out = bundle.exec("ls", "/proc/self/fd").stdout.split()
    assert set(out) == STREAMS | {"3"}  # ls has the folder open


def test_while_it_waits_it_has_no_environment_and_no_words(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "x")
    bundle.process["args"] = ["sleep", "1000"]
    bundle.process["env"] = ["PATH=/bin", "INNER=yes"]
    bundle.create()
    with open(f"/proc/{bundle.pid}/environ") as file:
        assert file.read() == ""
    assert bundle.root not in command_line(bundle.pid)
    assert bundle.folder not in command_line(bundle.pid)


def test_the_program_has_the_configured_environment_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "x")
    bundle.process["env"] = ["PATH=/bin", "HOME=/", "INNER=yes"]
    bundle.up()
    wait_for_program(bundle.pid)
    with open(f"/proc/{bundle.pid}/environ") as file:
        assert sorted(filter(None, file.read().split("\0"))) == ["HOME=/", "INNER=yes", "PATH=/bin"]


def test_while_it_waits_nobody_of_the_same_user_sees_into_it(bundle: Bundle) -> None:
    """Containers may share a pid namespace and a uid: the one that waits is still the runtime's."""
    first = bundle.another()
    shared(bundle, first)
    bundle.create()
    pid = inner_pid(bundle)
    assert field(bundle.pid, "Uid").split() == ["1000"] * 4
    # Not dumpable: the files of /proc/PID are root's, proc_pid(5).
    for look in (f"ls /proc/{pid}/fd/", f"cat /proc/{pid}/environ", f"readlink /proc/{pid}/exe",
                 f"cat /proc/{pid}/maps", f"ls /proc/{pid}/root/"):  # fmt: skip
        done = first.exec("sh", "-c", look, ok=False)
        assert done.returncode != 0, (look, done.stdout)
        assert "denied" in done.stderr or not done.stdout, done


def test_once_started_it_is_an_ordinary_process(bundle: Bundle) -> None:
    """The test of the test before: what is refused there is what not being dumpable refuses."""
    first = bundle.another()
    shared(bundle, first)
    bundle.create()
    bundle.start()
    wait_for_program(bundle.pid)
    done = first.exec("sh", "-c", f"ls /proc/{inner_pid(bundle)}/fd/")
    assert set(done.stdout.split()) == STREAMS


def test_its_program_is_not_the_hosts_file(bundle: Bundle) -> None:
    """The runner that waits in the container is on a mount of its own, which is read-only."""
    bundle.create()
    # Truncation asks the mount first. It would fail in the end either way: the program runs.
    with pytest.raises(OSError) as refused:
        os.close(os.open(f"/proc/{bundle.pid}/exe", os.O_WRONLY | os.O_TRUNC))
    assert refused.value.errno == errno.EROFS
