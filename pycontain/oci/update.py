"""``update``: other limits for a container that runs."""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, InvalidState
from pycontain.oci import document, state
from pycontain.oci.flags import NUMBER, VALUE, Flag, UsageError
from pycontain.runtime import cgroups, check, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.model import oci
    from pycontain.oci.flags import Values
    from pycontain.oci.main import Command
    from pycontain.oci.state import Container

_SIZE = "size"
# Flag, where its value belongs in linux.resources, what it is, one line.
_FIELDS = (
    ("memory", "memory", "limit", _SIZE, "limit of memory; -1 for none"),
    ("memory-reservation", "memory", "reservation", _SIZE, "memory that is protected"),
    ("memory-swap", "memory", "swap", _SIZE, "limit of memory and swap together; -1 for none"),
    ("kernel-memory", "memory", "kernel", _SIZE, "of cgroup v1: refused"),
    ("kernel-memory-tcp", "memory", "kernelTCP", _SIZE, "of cgroup v1: refused"),
    ("cpu-period", "cpu", "period", NUMBER, "period of the quota, in microseconds"),
    ("cpu-quota", "cpu", "quota", NUMBER, "microseconds in each period; -1 for no limit"),
    ("cpu-burst", "cpu", "burst", NUMBER, "unused quota that may be saved, in microseconds"),
    ("cpu-share", "cpu", "shares", NUMBER, "weight beside other containers, 2 to 262144"),
    ("cpu-rt-period", "cpu", "realtimePeriod", NUMBER, "of cgroup v1: refused"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", NUMBER, "of cgroup v1: refused"),
    ("cpu-idle", "cpu", "idle", NUMBER, "1: runs only where nobody else does; 0: as others"),
    ("cpuset-cpus", "cpu", "cpus", VALUE, "processors, such as 0-2,4"),
    ("cpuset-mems", "cpu", "mems", VALUE, "memory nodes, such as 0-1"),
    ("pids-limit", "pids", "limit", NUMBER, "how many tasks there may be; -1 for any number"),
    ("blkio-weight", "blockIO", "weight", NUMBER, "weight at block devices, 10 to 1000"),
)
_RESCTRL = ("l3-cache-schema", "mem-bw-schema")
FLAGS = (
    Flag("resources r", VALUE, "file with linux.resources as JSON; - is standard input"),
    *(Flag(row[0], NUMBER if row[3] == NUMBER else VALUE, row[4]) for row in _FIELDS),
    *(Flag(name, VALUE, "refused: resctrl is not supported") for name in _RESCTRL),
)
# Numbers of which zero says something; elsewhere it is what managers send for "not said".
_ZEROS = ("idle", "burst")


def update(command: Command) -> int:
    """``update``: change what is said of the limits; the rest stays."""
    identity = command.identity()
    changes = asked(command.values)
    with state.find(command.root, identity) as container:
        container.lock()
        status = container.status()
        if status not in ("created", "running", "paused"):
            raise InvalidState(f"container {identity} cannot be updated: it is {status}")
        spec = container.config()
        linux = spec.setdefault("linux", {})
        _check_devices(changes, linux)
        before = linux.get("resources", {})
        after: oci.Resources = merged(before, changes)
        _apply(container, changes, before, after)
        linux["resources"] = after
        container.keep_config(spec)
    return 0


def asked(values: Values) -> oci.Resources:
    """Return the changes that the command line asks for, checked.

    Raises:
        InvalidInput: they cannot be read, or are no ``linux.resources``.
        UsageError: a file and single values are given.
    """
    for name in _RESCTRL:
        if values.text(name):
            raise InvalidInput(f"--{name}: resctrl is not supported")
    path = values.text("resources")
    single = _single(values)
    if not path:
        return check.check_resources(single, name="update")
    if single:
        raise UsageError("--resources: single limits cannot be given beside it")
    if path == "-":
        name = "standard input"
        return check.check_resources(document.parse(document.read_all(0), name), name=name)
    return check.check_resources(document.load(path), name=path)


def _single(values: Values) -> dict[str, dict[str, object]]:
    """What the flags say, as ``linux.resources``."""
    found: dict[str, dict[str, object]] = {}
    for flag, section, key, kind, _ in _FIELDS:
        if flag in values.given:
            value = values.number(flag) if kind == NUMBER else values.text(flag)
            found.setdefault(section, {})[key] = (
                _bytes(flag, str(value)) if kind == _SIZE else value
            )
    return found


def _bytes(flag: str, word: str) -> int:
    if word == "-1":
        return -1
    from pycontain.model.parse.numbers import parse_size  # few updates need it

    return parse_size(word, f"--{flag}")


def _check_devices(changes: oci.Resources, linux: oci.Linux) -> None:
    """Some managers send all that they know of a container: what stays as it is, is no change."""
    rules = changes.pop("devices", [])
    if rules and rules != linux.get("resources", {}).get("devices", []):
        raise InvalidInput("update: devices: the rules of a container that runs cannot be changed")


def _apply(
    container: Container, changes: oci.Resources, before: oci.Resources, after: oci.Resources
) -> None:
    folder = container.open_cgroup()
    if folder is None:
        if resources.writes(changes):
            raise InvalidState(f"container {container.id} has no cgroup to be limited by")
        return
    try:
        if container.state.unit:
            from pycontain.oci import scopes

            scopes.update(container, folder, changes, before, after)
        else:
            cgroups.update(folder, changes)
    finally:
        os.close(folder)


def merged(old: Any, new: Any) -> Any:
    """Return resources as they are when `new` has changed `old`.

    What `new` does not say stays; of a list, the entries for other devices or page sizes.
    """
    if isinstance(new, dict):
        said = {key: value for key, value in new.items() if value or key in _ZEROS}
        return {**old, **{key: merged(old.get(key, type(value)()), value)
                          for key, value in said.items()}}  # fmt: skip
    if isinstance(new, list):
        entries = {_subject(entry): entry for entry in (*old, *new)}
        return [*entries.values()]
    return new


def _subject(entry: dict[str, object]) -> tuple[object, ...]:
    return tuple(entry.get(key) for key in ("major", "minor", "pageSize", "name"))
