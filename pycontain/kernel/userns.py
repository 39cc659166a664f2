"""The user namespace that all containers of an ordinary user share (user_namespaces(7)).

A tiny process holds it, with a mount and a network namespace in it. A face enters the first two in
its first line, while the process has one thread; from there on the same code runs as for root. The
network namespace is the one of the user's networks: a face stays in the host's, from where images
are pulled, and goes there for moments (``netns``). docs/adr has the decision.
"""

from __future__ import annotations

import os
import sys

from pycontain.errors import KernelError, NotPermitted, NotSupported, PycontainError, kernel_error
from pycontain.kernel import netns, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    Survivors = Callable[[], Iterable[tuple[int, int]]]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNS = 0x20000
_EVERYTHING = 2**32 - 1
_NS_GET_USERNS = 0xB701


class Range:
    """A user's range of subordinate ids (subuid(5)).

    Attributes:
        first: the lowest id.
        size: how many there are.
    """

    __slots__ = ("first", "size")

    def __init__(self, first: int, size: int) -> None:
        self.first = first
        self.size = size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return (self.first, self.size) == (other.first, other.size)

    def __hash__(self) -> int:
        return hash((self.first, self.size))

    def __repr__(self) -> str:
        return f"Range({self.first}, {self.size})"


def inside() -> bool:
    """Whether this process is in a user namespace other than the machine's first one."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        words = file.read().split()
    return words != ["0", "0", str(_EVERYTHING)]


def enter(state: str, open_program: Callable[[str], int], survivors: Survivors = tuple) -> None:
    """Bring this process into the user's namespaces; made when nobody is in them.

    It becomes root there: its uid reads as 0. The working directory stays.

    Args:
        state: the user's own folder for what dies with the boot; exists.
        open_program: opens a program of the native parts.
        survivors: returns pid and start time of processes that may be in the namespaces when their
            holder was killed.

    Raises:
        NotSupported: the machine has no unprivileged user namespaces, or no newuidmap.
        NotPermitted: they are forbidden, or the user has no subordinate ids.
    """
    from pycontain.store import files

    with files.Lock(_lock(state)):
        pidfd = _find(state)
        if pidfd is None:
            if _enter_survivor(survivors):
                os.close(_hold_ours(state, open_program, survivors))
                return
            pidfd = _make(state, open_program)
    try:
        _enter(pidfd)
    finally:
        os.close(pidfd)


def open_network(
    state: str, open_program: Callable[[str], int], survivors: Survivors = tuple
) -> int | None:
    """Return the network namespace of the user's networks; None where the user has no namespaces.

    The caller is in the user namespace. Where the holder was killed, another takes its place.

    Args:
        state: as for ``enter``, and so the others.
        open_program: opens a program of the native parts.
        survivors: who may be in the namespaces.

    Raises:
        NotSupported: the machine has no network namespaces for ordinary users.
        KernelError: it cannot be opened.
    """
    from pycontain.store import files

    if not os.path.exists(_record(state)):
        return None
    pidfd = _find(state)
    if pidfd is None:
        with files.Lock(_lock(state)):
            pidfd = _find(state)
            if pidfd is None:
                pidfd = _hold_ours(state, open_program, survivors)
    try:
        return _network_of(pidfd)
    finally:
        os.close(pidfd)


def _network_of(pidfd: int) -> int:
    pid = _pid_of(pidfd)
    step = "open network namespace"
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        hint = "the user's namespaces were made anew meanwhile: try again"
        raise kernel_error(step, f"process {pid}", err.errno or 0, hint) from err
    if not _is_ours(fd):
        os.close(fd)
        raise NotSupported(
            step, f"process {pid} has none", 28, "see sysctl user.max_net_namespaces; then end it"
        )
    return fd


def _is_ours(namespace: int) -> bool:
    """Whether a namespace is owned by the user namespace that this process is in (ioctl_ns(2))."""
    import fcntl

    try:
        owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
    except PermissionError:  # it is owned by one outside of ours: the host's
        return False
    try:
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
    finally:
        os.close(owner)


def _pid_of(pidfd: int) -> int:
    """The process of a pidfd (proc_pid_fdinfo(5)), -1 when it has ended."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _lock(state: str) -> str:
    return f"{state}/userns.lock"


def _record(state: str) -> str:
    return f"{state}/userns.json"


# ``userns.json`` says which process holds the namespaces: boot id, pid, and start time.


def _find(state: str) -> int | None:
    from pycontain.store import files

    try:
        record: dict[str, object] = files.load(_record(state), dict)
    except PycontainError:
        return None  # none yet, or unreadable: a new one takes its place
    pid, start = record.get("pid"), record.get("start")
    if not isinstance(pid, int) or not isinstance(start, int):
        return None
    if record.get("boot") != process.boot_id():
        return None
    return process.open_process(pid, start)


def _note(state: str, pid: int) -> None:
    from pycontain.store import files

    start = process.start_time(pid)
    if start is None:
        raise KernelError("make user namespace", "its holder died", 10)
    holder = {"boot": process.boot_id(), "pid": pid, "start": start}
    files.write_atomic(_record(state), files.dump(holder), durable=False)


def _make(state: str, open_program: Callable[[str], int]) -> int:
    uid, gid = os.getuid(), os.getgid()
    uids = subordinate("/etc/subuid", uid)
    gids = subordinate("/etc/subgid", uid)
    pidfd, channel = _hold(
        [(0, uid, 1), (1, uids.first, uids.size)], [(0, gid, 1), (1, gids.first, gids.size)],
        open_program, lambda pid: _note(state, pid), "un",
    )  # fmt: skip
    with channel:
        channel.send(b"g")
    return pidfd


# ---- when the holder was killed ----


def _enter_survivor(survivors: Survivors) -> bool:
    """Enter the namespaces of a process that goes on in them; False where there is none."""
    for pid, start in survivors():
        pidfd = process.open_process(pid, start)
        if pidfd is None:
            continue
        try:
            _enter(pidfd)
        except KernelError:
            continue  # it is elsewhere
        finally:
            os.close(pidfd)
        return True
    return False


def _hold_ours(state: str, open_program: Callable[[str], int], survivors: Survivors) -> int:
    """Have a new process hold the namespaces that this one is in, and the survivors' network."""

    def hold(word: str) -> int:
        pidfd, channel = _start_holder(open_program, word)
        with channel:
            _note(state, _pid_of(pidfd))
            channel.send(b"g")
        return pidfd

    for pid, start in survivors():
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has ended, or is elsewhere
        try:
            if process.start_time(pid) == start and _is_ours(fd):
                return netns.within(fd, lambda: hold("-"))
        finally:
            os.close(fd)
    return hold("n")


def enter_new(
    uids: Sequence[tuple[int, int, int]],
    gids: Sequence[tuple[int, int, int]],
    open_program: Callable[[str], int],
) -> None:
    """Bring this process into a new user namespace with these maps, and a mount namespace in it.

    Args:
        uids: id inside, id outside, how many.
        gids: the same for groups.
        open_program: opens a program of the native parts.

    Raises:
        NotSupported: the machine has no unprivileged user namespaces, or no newuidmap.
        NotPermitted: they are forbidden, or the ids are not the user's to map.
    """
    pidfd, channel = _hold(uids, gids, open_program)
    try:
        _enter(pidfd)
    finally:
        # We are in it: nobody needs to hold it any more. It was not told to stay, so it ends with
        # the channel, also where this process is killed before it gets here.
        channel.close()
        os.close(pidfd)


def _enter(pidfd: int) -> None:
    try:
        here = os.getcwd()
        process.enter(pidfd, _CLONE_NEWUSER | _CLONE_NEWNS)
        # Joining a mount namespace moves the working directory to its root (setns(2)).
        os.chdir(here)
    except OSError as err:
        raise kernel_error("enter user namespace", "working directory", err.errno or 0) from err


def _hold(
    uids: Sequence[tuple[int, int, int]],
    gids: Sequence[tuple[int, int, int]],
    open_program: Callable[[str], int],
    settle: Callable[[int], None] = lambda _: None,
    word: str = "u",
) -> tuple[int, socket.socket]:
    """Start a process in new namespaces with these maps.

    `settle` is given its pid, its program `word`.

    Returns:
        Its pidfd, and a channel: it ends when that is closed, unless a byte was sent before.
    """
    pidfd, channel = _start_holder(open_program, word)
    try:
        pid = _pid_of(pidfd)
        _write_maps(pid, uids, gids)
        settle(pid)
    except BaseException:
        channel.close()
        process.send_signal(pidfd, 9)
        os.close(pidfd)
        raise
    return pidfd, channel


def _start_holder(open_program: Callable[[str], int], word: str) -> tuple[int, socket.socket]:
    """Start a holder of what `word` says (native/holder.c), once it has made that.

    Returns:
        As ``_hold``.
    """
    import socket

    ours, theirs = socket.socketpair()
    program = open_program("holder")
    try:
        _, pidfd = process.spawn(program, ["pycontain-userns", word], [theirs.fileno()], -1)
    finally:
        os.close(program)
        theirs.close()
    data = ours.recv(4)
    number = int.from_bytes(data, sys.byteorder, signed=True) if len(data) == 4 else 0
    if number or len(data) != 4:
        ours.close()
        os.close(pidfd)
        hint = "unprivileged user namespaces may be disabled: see sysctl user.max_user_namespaces"
        raise kernel_error("make user namespace", f"user {os.getuid()}", number, hint)
    return pidfd, ours


def _write_maps(
    pid: int, uids: Sequence[tuple[int, int, int]], gids: Sequence[tuple[int, int, int]]
) -> None:
    """One's own id may be mapped by oneself, if groups are given up (user_namespaces(7)); for more
    there are newuidmap and newgidmap.
    """
    if maps_oneself(uids, gids):
        lines = {
            "setgroups": "deny",
            "uid_map": " ".join(map(str, uids[0])),
            "gid_map": " ".join(map(str, gids[0])),
        }
        for name, line in lines.items():
            try:
                with open(f"/proc/{pid}/{name}", "wb", buffering=0) as file:
                    file.write(line.encode())
            except OSError as err:
                raise kernel_error("make user namespace", f"write {name}", err.errno or 0) from err
        return
    _map("newuidmap", pid, uids)
    _map("newgidmap", pid, gids)


def maps_oneself(
    uids: Sequence[tuple[int, int, int]], gids: Sequence[tuple[int, int, int]]
) -> bool:
    """Whether the maps are of one's own ids alone, which one may write oneself."""
    return (
        len(uids) == len(gids) == 1
        and uids[0][1:] == (os.getuid(), 1)
        and gids[0][1:] == (os.getgid(), 1)
    )


def subordinate(path: str, uid: int) -> Range:
    """Return the first range of the user `uid` in a file like /etc/subuid.

    Raises:
        NotPermitted: there is none.
    """
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip().split(":") for line in file]
    except FileNotFoundError:
        lines = []
    for words in lines:
        if len(words) == 3 and words[0] in (name, str(uid)) and words[2].isdigit():
            return Range(int(words[1]), int(words[2]))
    raise NotPermitted(
        "make user namespace", f"user {name} has no range in {path}", 1,
        f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
    )  # fmt: skip


def _map(program: str, pid: int, entries: Sequence[tuple[int, int, int]]) -> None:
    import subprocess

    words = [program, str(pid), *(str(number) for entry in entries for number in entry)]
    try:
        done = subprocess.run(words, capture_output=True, check=False, text=True)
    except FileNotFoundError as err:
        raise NotSupported("make user namespace", f"{program} is not installed", 2,
                           "install the package uidmap") from err  # fmt: skip
    if done.returncode:
        raise NotPermitted("make user namespace", f"{program}: {done.stderr.strip()}", 1)
