"""The way out of the network namespace of an ordinary user: pasta(1), or slirp4netns(1).

Either is a process that stays in the host's network namespace, where it has no more rights than its
user, and has a tap device in the other one: what comes out of that it says with sockets. Nothing
comes in by it. Both give the same addresses, so that nobody has to know which of them runs. These
are link-local ones (RFC 3927), which lie in no network that a container could want to reach.
"""

from __future__ import annotations

import os
import select
import time
from _socket import AF_INET, SOCK_CLOEXEC, SOCK_DGRAM, socket

from pycontain import trace
from pycontain.errors import NotFound, NotSupported, PycontainError, kernel_error
from pycontain.kernel import mount, netlink, netns, process
from pycontain.kernel.firewall import run
from pycontain.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SUBNET = "169.254.71.0/24"
RESOLVER = "169.254.71.3"
"""Leads to the host's first resolver, which may listen on the host's loopback alone."""

_ADDRESS = "169.254.71.100"
_GATEWAY = "169.254.71.2"
_DEVICE = "tap0"
_NAME = "netns"
_TUN = "/dev/net/tun"
_PASTA = "pasta"
_SLIRP = "slirp4netns"
PROGRAMS = (_PASTA, _SLIRP)
"""In the order in which they are tried."""

_SOMEWHERE = "192.0.2.1"  # of RFC 5737: nobody's
_STEP = "connect to the outside"
_INSTALL = "install the package passt (pasta), or else slirp4netns"
_SIGTERM = 15
_SIGKILL = 9
_PATIENCE = 10.0  # seconds
_SAID = 4096
# Its words come to descriptor 4; spawned programs have /dev/null for their streams.
_SHELL = 'exec "$@" >&4 2>&4'


def programs() -> list[str]:
    """Return the paths of those that are installed, best first."""
    folders = os.get_exec_path()
    found = []
    for name in PROGRAMS:
        for folder in folders:
            if os.access(f"{folder}/{name}", os.X_OK):
                found.append(f"{folder}/{name}")
                break
    return found


def check() -> str:
    """Return the program that is used.

    Raises:
        NotSupported: there is none, or it could not make its device.
    """
    found = programs()
    if not found:
        raise NotSupported(
            _STEP,
            "pasta is not installed",
            2,
            "install the package passt (pasta), or else slirp4netns",
        )
    if not os.access(_TUN, os.R_OK | os.W_OK):
        number = 13 if os.path.exists(_TUN) else 2
        hint = f"as root: modprobe tun; chmod 666 {_TUN}"
        raise NotSupported(_STEP, _TUN, number, hint)
    return found[0]


def is_usable() -> bool:
    """Whether ``check`` finds nothing wrong."""
    try:
        check()
    except NotSupported:
        return False
    return True


def host_address() -> str:
    """Return the host's own IPv4 address on its way out; empty where it has none.

    What is sent there ends at the host, at whatever listens on all of its addresses.
    """
    asking = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC)
    try:
        asking.connect((_SOMEWHERE, 9))  # of a datagram socket: nothing is sent (udp(7))
        return str(asking.getsockname()[0])
    except OSError:
        return ""  # it is not connected
    finally:
        asking.close()


def upstream(state: str) -> str:
    """Return ``RESOLVER`` where something leads to it, else an empty text."""
    return RESOLVER if os.path.lexists(_record(state)) else ""


# ``outside.json`` says which process it is, and for which namespace: boot id, pid, start time,
# inode of the namespace. Its lock is held by the callers.


def ensure(state: str, namespace: int, scratch: str) -> None:
    """See that a network namespace has its way out.

    Args:
        state: the user's folder for what dies with the boot.
        namespace: descriptor of the network namespace; the caller is in the host's.
        scratch: folder below the user's home, where pasta may write a file.

    Raises:
        NotSupported: there is no program for it.
        PycontainError: none could do it, though this host has a way out itself.
    """
    inode = os.fstat(namespace).st_ino
    found = _find(state)
    if found is not None:
        pidfd, at = found
        os.close(pidfd)
        if at == inode:
            return
        stop(state)
    check()
    problems = []
    netns.within(namespace, _trust_addresses)
    _pin(state, namespace)
    for path in programs():
        try:
            _STARTERS[os.path.basename(path)](path, state, inode, scratch)
        except PycontainError as err:
            trace.report(str(err), 0.0)
            problems.append(str(err))
            continue
        return
    _unpin(state)
    # A host that is not connected itself: the next start finds that it is.
    if any(word.endswith("/0") for _, word in netlink.routes()):
        raise PycontainError(f"{_STEP}: {'; '.join(problems)}")


def _trust_addresses() -> None:
    """Have the device's IPv6 addresses at once: nobody else is there who could have the same.

    Until they are known to be unique, which takes a second or two, nothing is sent from them, and a
    neighbour that is asked for from such an address counts as unreachable (ip-sysctl.rst,
    accept_dad).
    """
    path = "/proc/sys/net/ipv6/conf/default/accept_dad"
    if not os.path.exists(path):
        return
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("0")
    except OSError as err:
        raise kernel_error(_STEP, path, err.errno or 0) from err


def stop(state: str) -> None:
    """End what runs; nothing where nothing does.

    Raises:
        KernelError: it may not be ended.
    """
    found = _find(state)
    if found is not None:
        pidfd, _ = found
        try:
            _end(pidfd)
        finally:
            os.close(pidfd)
    _unpin(state)
    files.remove(_record(state))


def _end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    process.send_signal(pidfd, _SIGTERM)
    if not poller.poll(1000):
        process.send_signal(pidfd, _SIGKILL)
        poller.poll(_PATIENCE * 1000)


def _record(state: str) -> str:
    return f"{state}/outside.json"


def _find(state: str) -> tuple[int, int] | None:
    """A pidfd of the process, and the inode of its namespace."""
    try:
        record: dict[str, object] = files.load(_record(state), dict)
    except PycontainError:
        return None  # none yet, or unreadable: a new one takes its place
    pid, start, inode = (record.get(name) for name in ("pid", "start", "namespace"))
    if not (isinstance(pid, int) and isinstance(start, int) and isinstance(inode, int)):
        return None
    if record.get("boot") != process.boot_id():
        return None
    pidfd = process.open_process(pid, start)
    return None if pidfd is None else (pidfd, inode)


def _note(state: str, pid: int, inode: int) -> None:
    start = process.start_time(pid)
    if start is None:
        raise PycontainError(f"{_STEP}: process {pid} ended at once")
    record = {"boot": process.boot_id(), "pid": pid, "start": start, "namespace": inode}
    files.write_atomic(_record(state), files.dump(record), durable=False)


# ---- the namespace by path ----


def _place(state: str) -> str:
    """Below the user's runtime folder where AppArmor's profile of pasta lets it look, too."""
    words = state.split("/")
    if words[:3] != ["", "run", "user"] or len(words) < 5:
        return f"{state}/{_NAME}"
    from hashlib import blake2s

    name = blake2s(state.encode(), digest_size=5).hexdigest()
    return f"/run/user/{words[3]}/{_NAME}/pycontain-{name}"


def _pin(state: str, namespace: int) -> None:
    """Mount the namespace on a file, in the user's mount namespace.

    /proc/PID/ns/net is open to those alone who have all rights of that process (ptrace(2), access
    mode checking), and pasta gives most of its own up before it looks.
    """
    _unpin(state)
    path = _place(state)
    files.make_folders(os.path.dirname(path))
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    copy = mount.clone_tree(f"/proc/self/fd/{namespace}", recursive=False)
    try:
        mount.attach(copy, path)
    finally:
        os.close(copy)


def _unpin(state: str) -> None:
    """Pasta ends by itself when the file goes."""
    path = _place(state)
    folder = os.path.realpath(os.path.dirname(path))
    if f"{folder}/{os.path.basename(path)}" in mount.points_below(folder):
        mount.unmount(path)
    files.remove(path)


# ---- the programs ----


def _start_pasta(path: str, state: str, inode: int, scratch: str) -> None:
    """Pasta goes to the background once its device is there."""
    noted = f"{scratch}/pasta-{os.getpid()}.pid"
    argv = [
        path, "--quiet", "--netns-only", "--netns", _place(state), "--pid", noted, "--config-net",
        "--ns-ifname", _DEVICE, "--address", _ADDRESS, "--netmask", "24", "--gateway", _GATEWAY,
        "--dns-forward", RESOLVER, "--no-map-gw", *_NO_PORTS,
    ]  # fmt: skip
    try:
        said, code = run(argv, b"")
        if code != 0:
            raise PycontainError(f"pasta: {_reason(said, code)}")
        try:
            _note(state, int(files.read_word(noted)), inode)
        except (NotFound, ValueError) as err:
            raise PycontainError("pasta: it did not say which process it is") from err
    finally:
        files.remove(noted)


# It would lead ports of either side to the other.
_NO_PORTS = (
    "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
)  # fmt: skip


def _start_slirp(path: str, state: str, inode: int, _: str) -> None:
    """slirp4netns stays in the foreground and says on a descriptor that its device is there."""
    argv = [
        "sh", "-c", _SHELL, "sh", path, "--netns-type=path", "--configure", f"--cidr={SUBNET}",
        "--disable-host-loopback", "--mtu=65520", "--ready-fd=3", _place(state), _DEVICE,
    ]  # fmt: skip
    reader, writer = os.pipe2(os.O_CLOEXEC)
    words = os.memfd_create("said", os.MFD_CLOEXEC)
    opened = [reader, words]
    try:
        try:
            pid, pidfd = _spawn(argv, [writer, words])
        finally:
            os.close(writer)
        opened.append(pidfd)
        # At once: it would not end with the file, as pasta does.
        _note(state, pid, inode)
        if not _is_ready(reader):
            process.send_signal(pidfd, _SIGKILL)
            said = os.pread(words, _SAID, 0).decode("utf-8", "replace")
            raise PycontainError(f"slirp4netns: {_reason(said, 1)}")
    finally:
        for fd in opened:
            os.close(fd)


def _spawn(argv: list[str], fds: list[int]) -> tuple[int, int]:
    try:
        shell = os.open("/bin/sh", os.O_PATH | os.O_CLOEXEC)
    except OSError as err:
        raise kernel_error(_STEP, "/bin/sh", err.errno or 0) from err
    try:
        return process.spawn(shell, argv, fds, -1)
    finally:
        os.close(shell)


def _is_ready(reader: int) -> bool:
    """Whether a byte comes; when the process ends, the pipe does."""
    end = time.monotonic() + _PATIENCE
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        if poller.poll(left * 1000):
            return os.read(reader, 1) == b"1"
    return False


def _reason(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if line and "to syslog" not in line]
    reason = lines[-1].strip() if lines else f"exit code {code}"
    return reason[:1].lower() + reason[1:]


_STARTERS: dict[str, Callable[[str, str, int, str], None]] = {
    _PASTA: _start_pasta,
    _SLIRP: _start_slirp,
}
