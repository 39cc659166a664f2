"""nftables: a script carried out by nft(8), as one transaction, and what of a table is there.

The scripts are text that a person can read and run. Whoever keeps rules does not know by itself
that somebody flushed them: ``chains`` asks the kernel, for the price of one message.
"""

from __future__ import annotations

import os
import struct
from _socket import SOCK_CLOEXEC, SOCK_RAW
from _socket import socket as _socket

from pycontain.errors import NotSupported, PycontainError, kernel_error
from pycontain.kernel import netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_AF_NETLINK = 16
_NETLINK_NETFILTER = 12
# linux/netfilter/nf_tables.h; the upper byte is the subsystem (NFNL_SUBSYS_NFTABLES).
_GETCHAIN = 10 << 8 | 4
_NEWCHAIN = 10 << 8 | 3
_GETELEMENTS = 10 << 8 | 13
_NEWELEMENTS = 10 << 8 | 12
_CHAIN_TABLE = 1
_CHAIN_NAME = 3
_CHAIN_USE = 6
_ELEMENTS_TABLE = 1
_ELEMENTS_SET = 2
_ELEMENTS_LIST = 3
_NFPROTO_INET = 1
_DUMP = 0x300
_NLMSG_DONE = 3
_ENOENT = 2
_NFGENMSG = struct.Struct("=BBH")  # family, version, resource
_U32BE = struct.Struct(">I")
_PROGRAMS = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")
_INSTALL = "install the package nftables"
_UNSUPPORTED = 95  # EOPNOTSUPP
_SAID = 4096
_BUFFER = 1 << 17
_SIGPIPE = 13
_SIGXFSZ = 25


class ScriptFailed(PycontainError):
    """nft refused a script; nothing of it was carried out."""


def chains(table: str) -> dict[str, int]:
    """Return what is in a table of the family inet: chain → how often it is used.

    A chain is used by each of its rules and by each jump to it. Where there is no such table there
    are no chains.

    Raises:
        NotSupported: the kernel has no nf_tables.
        KernelError: it does not say.
    """
    step = f"look at the firewall's table {table}"
    found: dict[str, int] = {}
    socket = _open(step)
    try:
        for kind, body in _dump(socket, _GETCHAIN, b"", step):
            if kind != _NEWCHAIN:
                raise _refused(step, body)
            _note(found, table, netlink.attributes(body[_NFGENMSG.size :]))
    finally:
        socket.close()
    return found


def elements(table: str, sets: Iterable[str]) -> bytes:
    """Return what is in sets of a table of the family inet: the same bytes for the same elements.

    They are the kernel's own words in an order that does not depend on how they came there: made
    for comparing with what was there before.

    Args:
        table: the table's name.
        sets: the sets' and maps'; one that is not there has no elements.

    Raises:
        NotSupported: the kernel has no nf_tables.
        KernelError: it does not say.
    """
    step = f"look at the sets of the firewall's table {table}"
    found = []
    socket = _open(step)
    try:
        for name in sets:
            asked = netlink.string(_ELEMENTS_TABLE, table) + netlink.string(_ELEMENTS_SET, name)
            entries: list[bytes] = []
            for kind, body in _dump(socket, _GETELEMENTS, asked, step):
                if kind != _NEWELEMENTS:
                    if _number(body) == _ENOENT:
                        break
                    raise _refused(step, body)
                values = netlink.attributes(body[_NFGENMSG.size :])
                entries += netlink.entries(values.get(_ELEMENTS_LIST, b""))
            found += [name.encode(), *sorted(entries)]
    finally:
        socket.close()
    return b"".join(found)


def _open(step: str) -> _socket:
    try:
        return _socket(_AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as err:
        raise kernel_error(step, "nf_tables", err.errno or 0) from err


def _dump(socket: _socket, kind: int, body: bytes, step: str) -> Iterator[tuple[int, bytes]]:
    """Ask for all of something; yield kind and body of each answer. An error is the last of them.

    A socket has one dump at a time (netlink(7)), so it is read to its end.
    """
    batch = netlink.Batch()
    batch.add(kind, _DUMP, _NFGENMSG.pack(_NFPROTO_INET, 0, 0) + body, step)
    try:
        socket.send(batch.bytes())
        while True:
            for answer, _, _, data in netlink.messages(socket.recv(_BUFFER)):
                if answer == _NLMSG_DONE:
                    return
                yield answer, data
    except OSError as err:
        raise kernel_error(step, "nf_tables", err.errno or 0) from err


def _note(found: dict[str, int], table: str, values: dict[int, bytes]) -> None:
    if values[_CHAIN_TABLE].rstrip(b"\0").decode() == table:
        name = values[_CHAIN_NAME].rstrip(b"\0").decode()
        found[name] = _U32BE.unpack(values[_CHAIN_USE])[0]


def _number(body: bytes) -> int:
    """The errno of an answer that is an error (NLMSG_ERROR in netlink(7))."""
    return -int.from_bytes(body[:4], "little", signed=True)


def _refused(step: str, body: bytes) -> PycontainError:
    number = _number(body)
    if number in (22, 93, 95):  # EINVAL and its like: nobody answers for that subsystem
        return NotSupported(step, "nf_tables", _UNSUPPORTED, "load the kernel's module nf_tables")
    return kernel_error(step, "nf_tables", number)


def program() -> str:
    """Return the path of nft(8).

    Raises:
        NotSupported: it is not installed.
    """
    for path in _PROGRAMS:
        if os.access(path, os.X_OK):
            return path
    raise NotSupported("find", "nft", 2, _INSTALL)


def apply(script: str) -> None:
    """Carry out an nft(8) script: all of it or nothing.

    Args:
        script: its text.

    Raises:
        ScriptFailed: nft or the kernel refused it, with their words.
        NotSupported: nft is not installed.
        KernelError: it cannot be started.
    """
    said, code = run([program(), "-f", "-"], script.encode())
    if code != 0:
        raise ScriptFailed(f"change the firewall: nft: {_reason(said, code)}", _hint(said))


def listing(words: list[str]) -> str:
    """Return what ``nft`` prints, for looking at what others have.

    Raises:
        ScriptFailed: nft refused.
        NotSupported: it is not installed.
    """
    said, code = run([program(), *words], b"")
    if code != 0:
        raise ScriptFailed(f"read the firewall: nft: {_reason(said, code)}", _hint(said))
    return said


def run(argv: list[str], given: bytes) -> tuple[str, int]:
    """Run a program to its end; return what it wrote to both streams, and its exit code.

    posix_spawn(3) shares the caller's memory until the program starts, so the size of the calling
    process costs nothing. Files are its streams, so nobody has to read while it runs.

    Raises:
        KernelError: it cannot be started.
    """
    source, target = os.memfd_create("script"), os.memfd_create("said")
    try:
        os.write(source, given) if given else 0
        os.lseek(source, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, target, fd) for fd in (1, 2)]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        # An interpreter ignores these two, and what is ignored stays so through execve(2).
        pid = os.posix_spawn(
            argv[0], argv, environment, file_actions=actions, setsigdef=(_SIGPIPE, _SIGXFSZ)
        )
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except ChildProcessError:  # the calling program ignores SIGCHLD (wait(2)): no code for us
            code = 0 if os.fstat(target).st_size == 0 else 1
        size = os.fstat(target).st_size
        return os.pread(target, size, 0).decode("utf-8", "replace"), code
    except OSError as err:
        raise kernel_error("run", argv[0], err.errno or 0) from err
    finally:
        os.close(source)
        os.close(target)


def _reason(said: str, code: int) -> str:
    """The first complaint, without the place in a script that nobody sees."""
    for line in said[:_SAID].splitlines():
        if "Error: " in line:
            reason = line.partition("Error: ")[2].strip()
            return reason[:1].lower() + reason[1:]
    return said[:200].strip().lower() or f"exit code {code}"


def _hint(said: str) -> str | None:
    if "Operation not supported" in said or "No such file or directory" in said:
        return "the kernel may lack a module: nf_tables, nft_chain_nat, nft_masq, nft_fib_inet"
    return None
