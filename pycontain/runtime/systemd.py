"""Cgroups that systemd makes: a transient scope for each container (``--systemd-cgroup``).

systemd owns such a cgroup's limits, and writes them again whenever it likes; so they are properties
of the unit (systemd.resource-control(5), org.freedesktop.systemd1(5)), and what the unit has no
property for is written to the control files, which ``cgroups`` does.

A scope is made around a process that is there. The container's is not yet, as it is cloned straight
into its cgroup: a placeholder holds the scope until then. D-Bus is spoken by jeepney, imported only
here (docs/adr/0010).
"""

from __future__ import annotations

import errno
import os

from pycontain.errors import Conflict, InvalidInput, NotSupported, PycontainError, kernel_error
from pycontain.kernel import process
from pycontain.runtime.fields import cpu_list, node_list
from pycontain.runtime.handover import open_native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from pycontain.runtime.resources import Write

    Property = tuple[str, tuple[str, object]]
    """A name, and a D-Bus variant: signature and value."""

ANNOTATION = "org.systemd.property."
"""What annotations begin with that set other properties of the unit."""

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_NO_UNIT = "org.freedesktop.systemd1.NoSuchUnit"
_NO_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
_PATIENCE = 60.0  # seconds for an answer
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_LONGEST = 255  # UNIT_NAME_MAX

_INFINITY = 2**64 - 1
_AMOUNTS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_ACCOUNTING = ("CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting")
_PERCENT = 10_000  # microseconds of each second


# ------------------------------------------------------------------------------------------- names


def unit_of(path: str, identity: str) -> tuple[str, str]:
    """Return slice and unit of a container.

    Args:
        path: ``linux.cgroupsPath``, as SLICE:PREFIX:NAME; empty for a default.
        identity: the container's id.

    Raises:
        InvalidInput: the path is of another form, or systemd has no such names.
    """
    place = f"linux.cgroupsPath: {path!r}"
    words = (path or f":pycontain:{identity}").split(":")
    if len(words) != 3 or not words[2]:
        raise InvalidInput(f"{place}: for systemd it has to be SLICE:PREFIX:NAME")
    parent, prefix, name = words
    if name.endswith(".slice"):
        raise InvalidInput(f"{place}: a container's unit is a scope, not a slice")
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    _check_name(place, unit)
    return _slice(place, parent), unit


def _check_name(place: str, unit: str) -> None:
    """Unit names, systemd.unit(5)."""
    if not _LETTERS.issuperset(unit) or len(unit) > _LONGEST:
        raise InvalidInput(
            f"{place}: {unit!r} is no name of a unit: up to 255 letters, digits and :-_.\\@"
        )


def _slice(place: str, name: str) -> str:
    """The slice's unit, checked: a-b.slice is in a.slice, -.slice the root (systemd.slice(5))."""
    name = {"": "system.slice", "-": "-.slice"}.get(name, name)
    _check_name(place, name)
    parts = name.removesuffix(".slice").split("-")
    if not name.endswith(".slice") or (name != "-.slice" and "" in parts):
        raise InvalidInput(f"{place}: {name!r} is no slice, such as machine.slice or a-b.slice")
    return name


# -------------------------------------------------------------------------------------- properties


def limits(lines: Iterable[Write]) -> list[Property]:
    """Return the properties that stand for lines of control files.

    What systemd does not set by itself (hugetlb, rdma, misc, limits of single devices) has none.

    Args:
        lines: as ``resources.writes`` gives them.

    Raises:
        InvalidInput: a value cannot be read.
    """
    found: dict[str, tuple[str, object]] = {}
    for line in lines:
        found.update(_property(line))
    return list(found.items())


def _property(line: Write) -> dict[str, tuple[str, object]]:
    file, text = line.file, line.text
    if file == "io.bfq.weight" and line.instead:
        # systemd derives the weight for BFQ from the one for io.cost.
        file, text = line.instead.file, line.instead.text
    if name := _AMOUNTS.get(file):
        return {name: ("t", _amount(file, text))}
    if file == "cpu.idle":
        # CPUWeight=idle, systemd.resource-control(5), since systemd 252.
        return {"CPUWeight": ("t", 0)} if text == "1" else {}
    if file == "cpu.max":
        return _quota(text)
    if file == "cpuset.cpus":
        return {"AllowedCPUs": ("ay", _mask(cpu_list(_joined(text))))}
    if file == "cpuset.mems":
        return {"AllowedMemoryNodes": ("ay", _mask(node_list(_joined(text))))}
    if file == "io.weight" and ":" not in text:
        return {"IOWeight": ("t", _amount(file, text.removeprefix("default").strip()))}
    return {}


def _amount(file: str, text: str) -> int:
    """A number as the kernel reads it: with K, M, G … (memparse, lib/cmdline.c), or max."""
    if text == "max":
        return _INFINITY
    shift = 10 * ("KMGTPE".find(text[-1:].upper()) + 1) if text else 0
    try:
        number = int(text[:-1] if shift else text, 0) << shift
    except ValueError:
        number = -1
    if not 0 <= number <= _INFINITY:
        raise InvalidInput(f"linux.resources: {file}: {text!r} is no amount")
    return number


def _quota(text: str) -> dict[str, tuple[str, object]]:
    quota, *rest = text.split()
    period = _amount("cpu.max", rest[0]) if rest else 0
    found: dict[str, tuple[str, object]] = {}
    if period:
        found["CPUQuotaPeriodUSec"] = ("t", period)
    share = _INFINITY
    if quota != "max":
        # Kept as whole percents: less would become a tighter limit when systemd reads its units
        # again. The exact quota is in the control file.
        exact = _amount("cpu.max", quota) * 1_000_000
        share = -(-exact // ((period or 100_000) * _PERCENT)) * _PERCENT
    found["CPUQuotaPerSecUSec"] = ("t", share)
    return found


def _joined(text: str) -> str:
    return ",".join(text.replace(",", " ").split())


def _mask(numbers: Sequence[int]) -> bytes:
    """A bit for each number, the lowest first."""
    bits = sum(1 << number for number in numbers)
    return bits.to_bytes((max(numbers, default=-1) + 8) // 8, "little")


def annotated(annotations: Mapping[str, str]) -> list[Property]:
    """Return the properties that annotations ask for, their values in GVariant's text format.

    A name that ends in Sec is a time in seconds, and stands for the property in microseconds.

    Raises:
        InvalidInput: with the annotation.
    """
    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        from pycontain.runtime import gvariant

        name = key.removeprefix(ANNOTATION)
        if not name.isascii() or not name.isalpha() or name == "PIDs":
            raise InvalidInput(f"annotation {key}: {name!r} cannot be set")
        try:
            kind, value = gvariant.parse(text)
        except InvalidInput as err:
            raise InvalidInput(f"annotation {key}: {err}") from None
        if name.endswith("Sec") and not name.endswith("USec"):
            if not isinstance(value, int | float) or not 0 <= value < _INFINITY / 1_000_000:
                raise InvalidInput(f"annotation {key}: {text!r} is no time in seconds")
            name, kind, value = f"{name[:-3]}USec", "t", int(value * 1_000_000)
        found.append((name, (kind, value)))
    return found


# --------------------------------------------------------------------------------- the conversation


def require() -> None:
    """Refuse a machine without systemd.

    Raises:
        NotSupported: it is not the first program (sd_booted(3)).
    """
    if not booted():
        raise NotSupported(
            "use --systemd-cgroup", "systemd does not run this machine", errno.EOPNOTSUPP,
            "without the flag, cgroups are made in the cgroup file system",
        )  # fmt: skip


def booted() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


class Placeholder:
    """A process that a scope can be made around, and that does nothing.

    It is the runner, waiting for a plan: it ends when the other end of that pipe is closed, thus
    with this process too, however that one ends; and systemd removes a scope that nobody is in.

    Raises:
        KernelError: it cannot be started.
    """

    __slots__ = ("_pidfd", "_pipe", "pid")

    def __init__(self) -> None:
        reader, self._pipe = os.pipe2(os.O_CLOEXEC)
        program = open_native("runner")
        try:
            self.pid, self._pidfd = process.spawn(
                program, ["pycontain-scope"], [reader], -1, child=True
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(program)
            os.close(reader)

    def end(self) -> None:
        """End it; not for the first time is fine."""
        if self._pipe < 0:
            return
        os.close(self._pipe)
        self._pipe = -1
        process.send_signal(self._pidfd, 9)
        os.close(self._pidfd)
        os.waitpid(self.pid, 0)


class Manager:
    """A conversation with systemd over the system bus.

    Raises:
        NotSupported: there is no systemd, no bus, or the library is missing.
    """

    def __init__(self) -> None:
        require()
        try:
            from jeepney.io import blocking
        except ImportError as err:
            raise NotSupported(
                "talk to systemd", f"the Python package {err.name} is missing", errno.EOPNOTSUPP
            ) from None
        try:
            self._connection = blocking.open_dbus_connection("SYSTEM", auth_timeout=_PATIENCE)
        except (OSError, ValueError) as err:  # a refused authentication is a ValueError
            raise NotSupported(
                "talk to systemd", f"the system bus does not answer: {_text(err)}",
                errno.EOPNOTSUPP, "is dbus installed and running?",
            ) from None  # fmt: skip

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def start_scope(self, unit: str, parent: str, pid: int, properties: Iterable[Property]) -> str:
        """Make a scope with one process in it; return when it is there.

        Args:
            unit: its name.
            parent: the slice that it is in; made where it is missing.
            pid: of the process; systemd moves it.
            properties: what else is said of it, the later of two of one name.

        Returns:
            The path of its cgroup.

        Raises:
            Conflict: there is such a unit.
            PycontainError: systemd refuses; in its words.
        """
        found: dict[str, tuple[str, object]] = {
            "Slice": ("s", parent),
            "Delegate": ("b", True),
            "DefaultDependencies": ("b", False),
            "CollectMode": ("s", "inactive-or-failed"),
            **dict.fromkeys(_ACCOUNTING, ("b", True)),
            **dict(properties),
            "PIDs": ("au", [pid]),
        }
        body: tuple[object, ...] = (unit, "fail", list(found.items()), [])
        result = self._job(unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        if result == _UNIT_EXISTS:
            raise Conflict(f"unit {unit}: there is one already", "give another cgroupsPath")
        if result != "done":
            self._call(unit, "ResetFailedUnit", "s", (unit,), fine=(_NO_UNIT,))
            raise PycontainError(f"start unit {unit}: systemd: {result}")
        path = self.control_group(unit)
        if not path:
            # Its process has ended, and so has the scope.
            raise PycontainError(f"start unit {unit}: it has no cgroup")
        return path

    def change(self, unit: str, properties: Sequence[Property]) -> None:
        """Change properties of a unit that runs; returns when systemd has written its limits.

        Raises:
            PycontainError: systemd refuses; in its words.
        """
        if not properties:
            return
        # At run time only: a transient unit has no file that lasts.
        self._call(unit, "SetUnitProperties", "sba(sv)", (unit, True, list(properties)))
        # systemd writes them between this message and the next that it takes.
        self._call(unit, "Ping", "", (), interface="org.freedesktop.DBus.Peer")

    def stop(self, unit: str) -> None:
        """Stop a unit and forget it; a missing one is fine.

        Raises:
            PycontainError: systemd refuses; in its words.
        """
        result = self._job(unit, "StopUnit", "ss", (unit, "replace"))
        if result not in ("done", _NO_UNIT):
            raise PycontainError(f"stop unit {unit}: systemd: {result}")
        self._call(unit, "ResetFailedUnit", "s", (unit,), fine=(_NO_UNIT,))

    def control_group(self, unit: str) -> str:
        """Return the path of a scope's cgroup, empty where there is none.

        Raises:
            PycontainError: systemd refuses; in its words.
        """
        answer = self._call(unit, "GetUnit", "s", (unit,), fine=(_NO_UNIT,))
        if _error(answer):
            return ""
        (path,) = answer.body
        found = self._call(
            unit, "Get", "ss", ("org.freedesktop.systemd1.Scope", "ControlGroup"),
            path=path, interface="org.freedesktop.DBus.Properties", fine=(_NO_OBJECT,),
        )  # fmt: skip
        if _error(found):  # unloaded since
            return ""
        _, place = found.body[0]
        return str(place)

    def _job(self, unit: str, method: str, signature: str, body: tuple[object, ...]) -> str:
        """Ask for a job and wait for its end; return its result, or the error that is expected."""
        from collections import deque

        from jeepney import MatchRule

        rule = MatchRule(
            type="signal", sender=_NAME, interface=_MANAGER, member="JobRemoved", path=_PATH
        )
        self._bus("AddMatch", rule.serialise())
        # It sends signals only while somebody has subscribed.
        manager = _sender(self._call(unit, "Subscribe", "", ()))
        # What comes has the sender's unique name, so the rule here must not ask for the other.
        seen = MatchRule(type="signal", interface=_MANAGER, member="JobRemoved", path=_PATH)
        with self._connection.filter(seen, queue=deque()) as queue:
            fine = (_NO_UNIT, _UNIT_EXISTS)
            answer = self._call(unit, method, signature, body, fine=fine)
            if error := _error(answer):
                return error
            while True:
                signal = self._listen(unit, queue)
                # Anybody on the bus may send a signal of that name.
                if _sender(signal) == manager and signal.body[1] == answer.body[0]:
                    return str(signal.body[3])

    def _listen(self, unit: str, queue: Any) -> Any:
        try:
            return self._connection.recv_until_filtered(queue, timeout=_PATIENCE)
        except OSError as err:
            raise _lost(unit, err) from None

    def _bus(self, method: str, word: str) -> None:
        self._call(
            "", method, "s", (word,), name="org.freedesktop.DBus", path="/org/freedesktop/DBus",
            interface="org.freedesktop.DBus",
        )  # fmt: skip

    def _call(
        self,
        unit: str,
        method: str,
        signature: str,
        body: tuple[object, ...],
        *,
        fine: Sequence[str] = (),
        name: str = _NAME,
        path: str = _PATH,
        interface: str = _MANAGER,
    ) -> Any:
        """Return the answer to a call, which may be one of the errors that are `fine`."""
        from jeepney import DBusAddress, new_method_call

        address = DBusAddress(path, bus_name=name, interface=interface)
        message = new_method_call(address, method, signature or None, body)
        try:
            answer = self._connection.send_and_get_reply(message, timeout=_PATIENCE)
        except OSError as err:
            raise _lost(unit, err) from None
        error = _error(answer)
        if error and error not in fine:
            words = answer.body[0] if answer.body else error
            raise PycontainError(f"systemd: {method} {unit}: {words}".rstrip("."))
        return answer


def _error(answer: Any) -> str:
    """The name of an error, empty for any other message."""
    from jeepney import HeaderFields

    return str(answer.header.fields.get(HeaderFields.error_name, ""))


def _sender(message: Any) -> str:
    from jeepney import HeaderFields

    return str(message.header.fields.get(HeaderFields.sender, ""))


def _lost(unit: str, err: OSError) -> PycontainError:
    number = errno.ETIMEDOUT if isinstance(err, TimeoutError) else err.errno or errno.ECONNRESET
    return kernel_error("talk to systemd", unit, number)


def _text(err: Exception) -> str:
    number = err.errno if isinstance(err, OSError) else None
    return os.strerror(number).lower() if number else str(err)
