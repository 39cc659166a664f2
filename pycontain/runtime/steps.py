"""The steps of a plan, as values: what they are, their words, and their wire form.

A plan is a list of ``Step``. Steps name descriptors by ``Handle`` (what is to be opened), so a plan
can be compared, printed and explained before anything is opened. The C side's table of operations
is ``native/plan.c``; ``OPERATIONS`` mirrors it and a unit test compares the two.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias, Union

    Argument: TypeAlias = Union[int, str, bytes, Sequence[str], "Handle"]  # noqa: UP007

OPERATIONS = (
    ("", ""),
    ("run", "ss"),
    ("records", "ffn"),
    ("owner", "fnn"),
    ("stdio", "nnn"),
    ("log", "snn"),
    ("timeout", "n"),
    ("cleanup", "ll"),
    ("cgroup", "f"),
    ("trace", "f"),
    ("streams", "fff"),
    ("hold", "f"),
    ("leash", "f"),
    ("events", "ffsss"),
    ("publish", "fsn"),
    ("devices", "fb"),
    ("join_first", "fn"),
    ("initial_affinity", "b"),
    ("time", "s"),
    ("clone", "n"),
    ("id_maps", "ss"),
    ("oom_score", "s"),
    ("netlink_host", "bnl"),
    ("ready", ""),
    ("sync", "s"),
    ("identity", "nn"),
    ("join", "fn"),
    ("unshare", "n"),
    ("session", "n"),
    ("propagation", "n"),
    ("root", "fsn"),
    ("mount", "sssnln"),
    ("bind", "fsnnnnn"),
    ("readonly", "l"),
    ("mask", "l"),
    ("directory", "sn"),
    ("symlink", "ss"),
    ("node", "snnnn"),
    ("attributes", "snnn"),
    ("reconfigure", "sl"),
    ("hostname", "s"),
    ("domainname", "s"),
    ("loopback", ""),
    ("netlink", "bl"),
    ("console", "nnn"),
    ("hook", "sllnss"),
    ("pivot", "n"),
    ("enter", ""),
    ("sysctl", "ss"),
    ("personality", "n"),
    ("scheduler", "b"),
    ("io_priority", "n"),
    ("affinity", "b"),
    ("memory_policy", "nb"),
    ("apparmor", "s"),
    ("rlimit", "nnn"),
    ("no_new_privs", ""),
    ("seccomp", "bn"),
    ("credentials", "nnbnnnnn"),
    ("parent_death", "n"),
    ("umask", "n"),
    ("cwd", "s"),
    ("lookup", "l"),
    ("wait", "ff"),
    ("inherit", "fn"),
    ("close", "n"),
    ("exec", "lll"),
)
"""Name and argument kinds, indexed by operation number: n number, s string, l list, b bytes,
f descriptor."""

_COPIES = ("tree", "branch", "copy_up")
_NUMBERS = {name: (number, kinds) for number, (name, kinds) in enumerate(OPERATIONS)}
_HEADER = struct.Struct("=8sIIII")
_STEP = struct.Struct("=IHH")
_ARGUMENT = struct.Struct("=II")
_NUMBER = struct.Struct("=Q")
_VERSION = 1


class Handle:
    """Something that has to be opened for a plan.

    Attributes:
        kind: ``given`` (the caller has it: root, cgroup, owner …), ``tree`` (a detached copy of the
            mount at a host path), ``branch`` (the same without the mounts below it), ``copy_up``
            (a tmpfs with what is at a path below the root) or ``file`` (a namespace file).
        name: which one, or the path.
        options: of a tree or branch: its uid map, gid map, and a word where they hold for the
            mounts below it too; of a copy_up: the options of the tmpfs.
    """

    __slots__ = ("kind", "name", "options")

    def __init__(self, kind: str, name: str, options: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.name = name
        self.options = options

    def _key(self) -> tuple[str, str, tuple[str, ...]]:
        return self.kind, self.name, self.options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Handle({', '.join(map(repr, filter(None, self._key())))})"


class Step:
    """One plain kernel step.

    Attributes:
        name: of the operation.
        args: as the operation's row says.
        text: the step in words, for ``--explain`` and for errors; empty for settings.
    """

    __slots__ = ("args", "name", "text")

    def __init__(self, name: str, *args: Argument, text: str = "") -> None:
        self.name = name
        self.args = args
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and (self.name, self.args) == (other.name, other.args)

    def __hash__(self) -> int:
        return hash((self.name, self.args))

    def __repr__(self) -> str:
        return f"Step({self.name!r}{''.join(f', {arg!r}' for arg in self.args)})"


def handles(steps: Sequence[Step]) -> list[Handle]:
    """Return the handles of a plan in the order of use, which is the order of its descriptors.

    Each once, but the copies of mounts once for each use: a copy is attached at one place, and
    attached again it would move there (move_mount(2)).
    """
    found: dict[tuple[Handle, int], Handle] = {}
    for step in steps:
        for arg in step.args:
            if isinstance(arg, Handle):
                found[arg, len(found) if arg.kind in _COPIES else -1] = arg
    return list(found.values())


def indexes(wanted: Sequence[Handle]) -> Callable[[Handle], int]:
    """Return what tells ``encode`` the place of each handle in `wanted` (of ``handles``)."""
    places: dict[Handle, list[int]] = {}
    for place, handle in enumerate(wanted):
        places.setdefault(handle, []).append(place)

    def index(handle: Handle) -> int:
        return places[handle].pop(0) if handle.kind in _COPIES else places[handle][0]

    return index


def encode(steps: Sequence[Step], index: Callable[[Handle], int], descriptors: int) -> bytes:
    """Return the wire form (native/plan.h).

    Args:
        steps: the plan.
        index: the place of a handle's descriptor among those handed over.
        descriptors: how many are handed over.

    Raises:
        ValueError: a string holds a NUL, or a step does not fit its operation's row.
    """
    body = [_encode_step(step, index) for step in steps]
    size = _HEADER.size + sum(map(len, body))
    return _HEADER.pack(b"pycplan", _VERSION, size, len(body), descriptors) + b"".join(body)


def _encode_step(step: Step, index: Callable[[Handle], int]) -> bytes:
    number, kinds = _NUMBERS[step.name]
    if len(kinds) != len(step.args):
        raise ValueError(f"step {step.name} takes {len(kinds)} arguments, not {len(step.args)}")
    parts = [b""]
    for kind, arg in zip(kinds, step.args, strict=True):
        data = _encode_argument(kind, arg, index)
        parts.append(_ARGUMENT.pack(len(data), 0))
        parts.append(data + bytes(-len(data) % 8))
    parts[0] = _STEP.pack(sum(map(len, parts)) + _STEP.size, number, len(kinds))
    return b"".join(parts)


def _encode_argument(kind: str, arg: Argument, index: Callable[[Handle], int]) -> bytes:
    if kind == "n" and isinstance(arg, int):
        return _NUMBER.pack(arg & 0xFFFF_FFFF_FFFF_FFFF)
    if kind == "f" and isinstance(arg, Handle):
        return _NUMBER.pack(index(arg))
    if kind == "b" and isinstance(arg, bytes):
        return arg
    if kind == "s" and isinstance(arg, str):
        return _text(arg)
    if kind == "l" and isinstance(arg, (tuple, list)):
        return b"".join(map(_text, arg))
    raise ValueError(f"argument {arg!r} does not fit kind {kind}")


def _text(value: str) -> bytes:
    data = os.fsencode(value)
    if b"\0" in data:
        raise ValueError(f"NUL in {value!r}")
    return data + b"\0"
