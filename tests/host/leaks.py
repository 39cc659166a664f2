"""What a test may leave behind, and how it is found: the host before and after.

Other things may happen on the same machine meanwhile, so what is new counts as ours only where it
can be traced to this session: by a variable in its environment, by the store's folder in its
arguments, mounts or descriptors. A cgroup of ours or a monitor that can be traced to nobody counts
too, unless ``PYCONTAIN_TEST_SHARED_HOST=1`` says that others run containers here at the same time.
``PYCONTAIN_TEST_QUIET_HOST=1`` says that nobody else does anything: then every new process counts
at the session's end.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING

from pace import seconds

from pycontain.errors import KernelError
from pycontain.kernel import cgroup
from pycontain.runtime.handover import NATIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARK = "PYCONTAIN_TEST_SESSION"
SHARED = os.environ.get("PYCONTAIN_TEST_SHARED_HOST") == "1"
QUIET = os.environ.get("PYCONTAIN_TEST_QUIET_HOST") == "1"
_OF_NETWORKS = ("pyc", "pyt", "veth", "br-")  # names of ours and the tests', and of a docker's
_OF_TESTS = (f"{tempfile.gettempdir()}/", "/var/tmp/", "/run/netns")  # mount points
SETTLE = seconds(3)  # seconds that what has just been killed gets to go away

Things = dict[str, Counter[str]]


def text(path: str) -> str:
    """A file of /proc or /sys, empty where it has gone or cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def identity(pid: int) -> str | None:
    """``pid start name`` of a process, None for a kernel thread, a zombie, or none at all."""
    stat = text(f"/proc/{pid}/stat")
    head, _, tail = stat.rpartition(") ")
    fields = tail.split()
    if not fields or fields[0] in "ZX" or int(fields[6]) & 0x00200000:  # PF_KTHREAD
        return None
    return f"{pid} {fields[19]} {head.partition('(')[2]}"


def start_of(pid: int) -> str:
    return (identity(pid) or "").partition(" ")[2]


class Session:
    """Who we are, and what is ours.

    Args:
        folder: all stores of the session lie below it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._strangers = frozenset(map(identity, pids()))  # they were there before
        self.word = f"{os.getpid()}.{time.time_ns()}"
        try:
            # Through a descriptor, as it need not be mounted anywhere.
            self.cgroups = f"/proc/self/fd/{cgroup.open_root()}/pycontain"
        except KernelError:  # an ordinary user on a host without cgroup2: no container gets one
            self.cgroups = "/nonexistent"
        os.environ[MARK] = self.word

    def newcomers(self) -> dict[int, str]:
        """Pid and identity of what may be ours: no kernel threads, no zombies."""
        found = {pid: identity(pid) for pid in pids()}
        return {
            pid: name for pid, name in found.items()
            if name is not None and name not in self._strangers
        }  # fmt: skip

    def owns(self, pid: int) -> bool:
        """Whether a process comes from this session (its own process not counted)."""
        if pid == os.getpid():
            return False
        if f"{MARK}={self.word}" in text(f"/proc/{pid}/environ").split("\0"):
            return True
        if self.folder in text(f"/proc/{pid}/cmdline"):
            return True
        places = evidence(pid)
        if places:
            return any(place.startswith(self.folder) for place in places)
        container = container_of(pid)
        return container is not None and not self.foreign(container)

    def foreign(self, container: str) -> bool:
        """Whether a container's cgroup is somebody else's: its processes lead to another store."""
        folder = f"{self.cgroups}/{container}"
        members = text(f"{folder}/monitor/cgroup.procs") + text(f"{folder}/container/cgroup.procs")
        places = [place for pid in members.split() for place in evidence(int(pid))]
        if not places:
            return SHARED
        return not any(place.startswith(self.folder) for place in places)


def container_of(pid: int) -> str | None:
    """The id in the path of a process's cgroup, None where it is in none of ours."""
    for line in text(f"/proc/{pid}/cgroup").splitlines():
        path = line.partition("::")[2]
        if path.startswith("/pycontain/"):
            return path.split("/")[2]
    return None


def evidence(pid: int) -> list[str]:
    """Paths of a store that a process has open or has for its root."""
    opened = [target(f"/proc/{pid}/fd/{fd}") for fd in names(f"/proc/{pid}/fd")]
    found = [path for path in opened if "/containers/" in path]
    for line in text(f"/proc/{pid}/mountinfo").splitlines():
        if line.split()[4] == "/" and " - overlay " in line:
            options = line.split(" - ")[1].split(",")
            found += [word[9:] for word in options if word.startswith("upperdir=")]
    return found


def our_cgroups(session: Session) -> Counter[str]:
    place = session.cgroups
    return Counter(
        f"{name}{inner}"
        for name in names(place)
        if os.path.isdir(f"{place}/{name}") and not session.foreign(name)
        for inner in ("", "/container", "/monitor")
        if os.path.isdir(f"{place}/{name}{inner}")
    )


def mounts(session: Session | None) -> Counter[str]:
    """Mount points and types; of a session only those that have to do with it."""
    found: Counter[str] = Counter()
    lines = mount_table(session.folder) if session else text("/proc/self/mountinfo").splitlines()
    for line in lines:
        head, _, tail = line.partition(" - ")
        if session is None or session.folder in line or "pycontain" in line:
            found[f"{tail.split()[0]} on {head.split()[4]}"] += 1
    return found


def mount_table(folder: str | os.PathLike[str]) -> list[str]:
    """The mounts of this process, without those that other tests make meanwhile: those in temporary
    places outside of `folder`, and where podman keeps namespaces.
    """
    return [
        line for line in text("/proc/self/mountinfo").splitlines()
        if os.fspath(folder) in line or not line.split()[4].startswith(_OF_TESTS)
    ]  # fmt: skip


def processes(session: Session, counted: Callable[[int], bool]) -> Counter[str]:
    return Counter(name for pid, name in session.newcomers().items() if counted(pid))


def is_stray(pid: int) -> bool:
    """Whether a process runs one of our programs and can be traced to nobody."""
    program = target(f"/proc/{pid}/exe")
    ours = program.startswith(NATIVE) or program in ("/monitor", "/init")
    return ours and not SHARED and not evidence(pid) and container_of(pid) is None


def namespaces(owned: Iterable[int]) -> Counter[str]:
    """The namespaces that processes of ours are in and this one is not."""
    own = {target(f"/proc/self/ns/{kind}") for kind in names("/proc/self/ns")}
    found = {target(f"/proc/{pid}/ns/{kind}") for pid in owned for kind in names(f"/proc/{pid}/ns")}
    return Counter(found - own - {""})


def descriptors() -> Counter[str]:
    """What this process has open: kind or path, with sockets and pipes by kind alone."""
    found = (target(f"/proc/self/fd/{fd}") for fd in names("/proc/self/fd"))
    return Counter(
        path.partition(":[")[0] for path in found if path and not path.startswith("/proc/")
    )


def links() -> Counter[str]:
    """The network devices. Bridges and what is plugged into them say not whose they are: on a host
    that is shared they are nobody's.
    """
    found = names("/sys/class/net")
    return Counter(name for name in found if not (SHARED and name.startswith(_OF_NETWORKS)))


def before_test(session: Session) -> Things:
    """What a test must leave as it was."""
    every = session.newcomers()
    owned = {pid: name for pid, name in every.items() if session.owns(pid)}
    strays = {pid: name for pid, name in every.items() if pid not in owned and is_stray(pid)}
    return {
        "cgroup": our_cgroups(session),
        "mount": mounts(session),
        "link": links(),
        "namespace": namespaces(owned),
        "process": Counter((*owned.values(), *strays.values())),
        "descriptor": descriptors(),
    }


def before_session(session: Session) -> Things:
    """What the whole suite must leave as it was."""
    counted: Callable[[int], bool] = (lambda _: True) if QUIET else session.owns
    return {
        "cgroup": our_cgroups(session),
        "mount": mounts(session if SHARED else None),
        "link": links(),
        "process": processes(session, counted),
    }


def new(before: Things, after: Things) -> list[str]:
    """What is there now and was not before, in words."""
    return [
        f"{kind} left behind: {thing}" + (f" ({count} times)" if count > 1 else "")
        for kind in before
        for thing, count in (after[kind] - before[kind]).items()
    ]


def settled(before: Things, look: Callable[[], Things], patience: float = SETTLE) -> list[str]:
    """What is left behind once what was killed had its time to go away."""
    end = time.monotonic() + patience
    while left := new(before, look()):
        if time.monotonic() > end:
            return left
        time.sleep(0.02)
    return []
