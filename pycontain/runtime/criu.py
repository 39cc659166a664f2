"""criu, which writes processes to files and makes them again: its program, spoken to by its RPC.

``criu swrk N`` serves one client over the packet socket N. Requests and answers are Protocol
Buffers (criu, images/rpc.proto, whose numbers stand here): a field is a number, a kind, and either
a varint or bytes with their length.
"""

from __future__ import annotations

import os
import struct

# The C module: what the socket module puts around it costs as much as the rest of a command.
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socketpair

from pycontain.errors import CommandNotFound, InvalidInput, NotExecutable, PycontainError
from pycontain.kernel import cgroup
from pycontain.kernel.mount import MS_PRIVATE, MS_REC
from pycontain.runtime import runner
from pycontain.runtime.plan import CGROUP, CLONE_FLAGS, ROOT, inherited
from pycontain.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias, Union

    from pycontain.runtime.steps import Handle

    Value: TypeAlias = Union[int, str, bytes, "Fields"]  # noqa: UP007
    Fields: TypeAlias = Sequence[tuple[int, Value]]

LEAST = (3, 15)
"""The oldest criu: freezes by cgroup v2, and joins network and pid namespaces that are there."""

DUMP, RESTORE, PRE_DUMP = 1, 2, 4
_NOTIFY, _VERSION = 6, 10

# criu_req
_TYPE, _OPTIONS, _NOTIFIED, _KEEP_OPEN = 1, 2, 3, 4
# criu_resp
_SUCCESS, _RESTORED, _NOTICE, _ERRNO, _MESSAGE, _VERSION_ANSWER = 2, 4, 5, 7, 9, 10

# criu_opts
IMAGES, PID, LEAVE_RUNNING, UNIX_SOCKETS, TCP_ESTABLISHED = 1, 2, 3, 4, 5
FILE_LOCKS, LOG_LEVEL, LOG_FILE, NOTIFY_SCRIPTS, ROOT_PATH, PARENT = 8, 9, 10, 12, 13, 14
TRACK_MEMORY, AUTO_DEDUP, WORK, EXTERNAL_MOUNT, MANAGE_CGROUPS, CGROUP_ROOT = 15, 16, 17, 23, 24, 25
SIBLING, INHERIT, CGROUPS_MODE, EXTERNAL, EMPTY_NAMESPACES, FREEZER = 26, 27, 34, 37, 38, 44
TCP_SKIP_IN_FLIGHT, ORPHAN_TERMINAL = 46, 50

CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
"""``--manage-cgroups``, as criu(8) has it."""

SOCKET, FIRST = 3, 4
"""Where criu finds its socket, and from where on other descriptors of ours."""

_LOGGED = 4  # level: everything that criu's own developers ask for
_LARGEST = 1 << 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HINT = "install criu (https://criu.org)"


def encode(fields: Fields) -> bytes:
    """Return a message.

    Args:
        fields: number and value, in order: an int (True and False are 1 and 0), text, bytes, or
            the fields of a message within.
    """
    data = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            data += _varint(number << 3 | _VARINT) + _varint(value)
            continue
        if isinstance(value, str):
            value = os.fsencode(value)
        elif not isinstance(value, bytes):
            value = encode(value)
        data += _varint(number << 3 | _BYTES) + _varint(len(value)) + value
    return bytes(data)


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # a negative number is its two's complement
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def decode(data: bytes) -> dict[int, int | bytes]:
    """Return the fields of a message, of one that is repeated the last.

    Raises:
        PycontainError: it is none.
    """
    fields: dict[int, int | bytes] = {}
    place = 0
    try:
        while place < len(data):
            key, place = _read_varint(data, place)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                fields[number], place = _read_varint(data, place)
                continue
            if kind == _BYTES:
                size, place = _read_varint(data, place)
            else:
                size = {_FIXED32: 4, _FIXED64: 8}[kind]
            fields[number], place = data[place : place + size], place + size
        if place > len(data):
            raise IndexError
    except (IndexError, KeyError):
        raise PycontainError("criu: its answer is not of its protocol") from None
    return fields


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _number(fields: Mapping[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def _part(fields: Mapping[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


class Notice:
    """What criu says while it works.

    Attributes:
        name: of the moment: ``setup-namespaces``, ``post-restore`` … (criu(8), --action-script).
        pid: of the first process, where there is one; in criu's pid namespace.
        fd: of a terminal's other end, -1 without; the receiver closes it.
    """

    __slots__ = ("fd", "name", "pid")

    def __init__(self, name: str, pid: int, fd: int) -> None:
        self.name = name
        self.pid = pid
        self.fd = fd


class Surroundings:
    """Where criu works.

    Attributes:
        devices: folder of a cgroup and the device program to attach to it before criu starts.
        root: a detached mount, the root file system of what is restored, and the folder where it is
            attached, in a mount namespace that is criu's alone.
        extra: descriptors that criu finds from ``FIRST`` on.
        no_new_privs: what is restored has it from criu, which does not write it down.
    """

    __slots__ = ("devices", "extra", "no_new_privs", "root")

    def __init__(
        self,
        *,
        devices: tuple[int, bytes] | None = None,
        root: tuple[int, str] | None = None,
        extra: Sequence[int] = (),
        no_new_privs: bool = False,
    ) -> None:
        self.no_new_privs = no_new_privs
        self.devices = devices
        self.root = root
        self.extra = extra


class Job:
    """One request and the folders that it is about.

    Args:
        kind: ``DUMP``, ``PRE_DUMP`` or ``RESTORE``.
        images: the folder of the image files.
        work: that of the log and of other files that are of no use later.
        log: name of the log.
    """

    __slots__ = ("images", "kind", "log", "work")

    def __init__(self, kind: int, images: str, work: str, log: str) -> None:
        self.kind = kind
        self.images = images
        self.work = work
        self.log = log

    def run(
        self,
        options: Fields,
        surroundings: Surroundings,
        notified: Callable[[Notice], None] | None = None,
    ) -> int:
        """Have criu do it.

        Args:
            options: fields of ``criu_opts``; folders, log and notices are added.
            surroundings: where criu works.
            notified: called with each notice; what it raises ends criu's work, which takes back
                what it has made.

        Returns:
            Of ``RESTORE``: the pid of the first process, a child of ours. Otherwise 0.

        Raises:
            CommandNotFound, NotExecutable: there is no criu.
            InvalidInput: a folder cannot be opened.
            PycontainError: criu is too old, or failed: with the end of its log.
        """
        for path in (self.images, self.work):
            os.close(_open_folder(path))
        before = cgroup.options()
        try:
            answer = self._ask(options, surroundings, notified)
        finally:
            cgroup.set_options(before)
        if not _number(answer, _SUCCESS):
            raise self._failure(answer)
        return _number(decode(_part(answer, _RESTORED)), 1)

    def _ask(
        self,
        options: Fields,
        surroundings: Surroundings,
        notified: Callable[[Notice], None] | None,
    ) -> dict[int, int | bytes]:
        with _Connection(surroundings) as connection:
            connection.check_version()
            folders: list[int] = []
            try:
                folders += (
                    _open_folder(f"/proc/{connection.pid}/root{path}")
                    for path in (self.images, self.work)
                )
                return connection.ask(self.kind, self._options(options, *folders), notified)
            finally:
                for fd in folders:
                    os.close(fd)

    def _options(self, options: Fields, images: int, work: int) -> Fields:
        # criu opens these two through /proc of whoever has made the socket: they are our numbers.
        # But it mounts there, so they are of its own mount namespace.
        return [
            (IMAGES, images), (WORK, work), (LOG_LEVEL, _LOGGED), (LOG_FILE, self.log),
            (NOTIFY_SCRIPTS, True), *options,
        ]  # fmt: skip

    def _failure(self, answer: Mapping[int, int | bytes]) -> PycontainError:
        path = f"{self.work}/{self.log}"
        reasons = last_errors(path)
        if not reasons and (said := _part(answer, _MESSAGE)):
            reasons = [said.decode(errors="replace").strip()]
        if not reasons:
            number = _number(answer, _ERRNO)
            reasons = [os.strerror(number).lower() if number else "it gives no reason"]
        return PycontainError(f"criu: {'; '.join(reasons)}", f"criu's log is {path}")


def _open_folder(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise InvalidInput(f"{path}: {os.strerror(err.errno or 0).lower()}") from None


def last_errors(path: str, count: int = 3) -> list[str]:
    """Return the last errors that a log of criu's tells of; none where there is no log.

    A line is ``(seconds) Error (file:line): what``; the first line of all is the reason, and the
    last ones are those who had counted on it.
    """
    try:
        with open(path, "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        _, mark, rest = line.partition("Error (")
        if mark:
            found.append(rest.partition("): ")[2].strip() or rest.strip())
    return found if len(found) <= count else [found[0], "…", *found[1 - count :]]


class _Connection:
    """A criu that has been started, and the socket that leads to it."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        try:
            self.pid = _start([theirs.fileno(), *surroundings.extra], surroundings)
        except BaseException:
            self._ours.close()
            raise
        finally:
            theirs.close()

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        # Nobody asks any more: it ends.
        self._ours.close()
        os.waitpid(self.pid, 0)

    def check_version(self) -> None:
        """Refuse a criu that is too old.

        Raises:
            PycontainError: it is.
        """
        answer = self.ask(_VERSION, None, None)
        said = decode(_part(answer, _VERSION_ANSWER))
        version = _number(said, 1), _number(said, 2)
        if version < LEAST:
            words = ["{}.{}".format(*numbers) for numbers in (version, LEAST)]
            raise PycontainError(f"criu is too old: {words[0]}, and {words[1]} is the least", _HINT)

    def ask(
        self, kind: int, options: Fields | None, notified: Callable[[Notice], None] | None
    ) -> dict[int, int | bytes]:
        """Send a request and return the answer to it.

        Raises:
            PycontainError: criu ended without one; or whatever `notified` raises, after criu has
                taken back what it did.
        """
        if options is None:
            self._send([(_TYPE, kind), (_KEEP_OPEN, True)])
        else:
            self._send([(_TYPE, kind), (_OPTIONS, options)])
        refused: BaseException | None = None
        while True:
            answer, fd = self._receive()
            if _number(answer, _TYPE) != _NOTIFY:
                if refused:
                    raise refused
                return answer
            try:
                self._notify(answer, fd, notified)
            except BaseException as err:  # noqa: BLE001 - told when criu has answered
                refused = refused or err
            self._send([(_TYPE, _NOTIFY), (_NOTIFIED, refused is None)])

    @staticmethod
    def _notify(
        answer: Mapping[int, int | bytes], fd: int, notified: Callable[[Notice], None] | None
    ) -> None:
        said = decode(_part(answer, _NOTICE))
        notice = Notice(_part(said, 1).decode(errors="replace"), _number(said, 2), fd)
        if notified:
            notified(notice)
        elif fd >= 0:
            os.close(fd)

    def _send(self, fields: Fields) -> None:
        try:
            self._ours.send(encode(fields))
        except OSError:
            raise PycontainError("criu ended before it was asked anything") from None

    def _receive(self) -> tuple[dict[int, int | bytes], int]:
        try:
            data, control, _, _ = self._ours.recvmsg(_LARGEST, CMSG_SPACE(4))
        except ConnectionResetError:
            data, control = b"", []
        fd = -1
        for level, kind, rights in control:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                (fd,) = struct.unpack_from("i", rights)
        if not data:
            raise PycontainError("criu ended without an answer")
        return decode(data), fd


def _start(descriptors: Sequence[int], surroundings: Surroundings) -> int:
    """Start criu; return its pid. It is our child, and what it restores is its sibling."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    given: dict[Handle, int] = dict.fromkeys(runner.STREAMS, null)
    for number, fd in enumerate(descriptors, SOCKET):
        given[inherited(number)] = fd
    if surroundings.devices:
        given[CGROUP] = surroundings.devices[0]
    if surroundings.root:
        given[ROOT] = surroundings.root[0]
    try:
        return runner.start(plan(len(descriptors), surroundings), given, runner.Listener({}))
    except CommandNotFound:
        raise CommandNotFound("start criu: it is not in $PATH", _HINT) from None
    except NotExecutable as err:
        raise NotExecutable(f"start criu: {err}") from None
    finally:
        os.close(null)


def plan(descriptors: int, surroundings: Surroundings) -> list[Step]:
    """Return the plan that starts criu.

    Args:
        descriptors: how many it finds, from ``SOCKET`` on.
        surroundings: where it works.
    """
    steps = []
    if surroundings.devices:
        text = "attach device rules to the cgroup"
        steps.append(Step("devices", CGROUP, surroundings.devices[1], text=text))
    flags = CLONE_FLAGS["mount"] if surroundings.root else 0
    steps.append(Step("clone", flags, text="clone a process for criu"))
    # What is restored has its session keyring from criu.
    steps.append(Step("session", 1, text="start a session with a keyring of its own"))
    if surroundings.root:
        text = "let no mount of criu's reach the host"
        steps.append(Step("propagation", MS_REC | MS_PRIVATE, text=text))
        place = surroundings.root[1]
        text = f"attach the root file system at {place}"
        steps.append(Step("root", ROOT, place, MS_PRIVATE, text=text))
    if surroundings.no_new_privs:
        steps.append(Step("no_new_privs", text="gain no privileges any more"))
    steps.append(Step("umask", 0o022, text="set umask 022"))
    steps += [
        Step("inherit", inherited(number), number, text=f"hand over descriptor {number}")
        for number in range(SOCKET, SOCKET + descriptors)
    ]
    steps.append(Step("close", SOCKET + descriptors, text="close everything else"))
    # criu calls others: tar, ip, iptables-restore.
    path = os.environ.get("PATH") or os.defpath
    candidates = tuple(f"{folder}/criu" for folder in path.split(":") if folder.startswith("/"))
    argv = ("criu", "swrk", str(SOCKET))
    steps.append(Step("exec", argv, (f"PATH={path}",), candidates, text="execute criu"))
    return steps
