"""The words of the command line become typed values, by docker's rules.

Owns the syntax of flags: every function takes one word (and what it has to be read against, such
as the working directory) and returns a value of :mod:`pycontain.model.container` or a plain one.
Nothing here looks at the machine: no file is opened (except the one that ``--env-file`` names), no
path is resolved through the kernel, no name is looked up. A word that cannot be carried out raises
:class:`~pycontain.errors.InvalidInput`, which names the flag, the word and the reason.

Spelling follows docker's reference of ``docker run`` and dockerd's answers; where this differs on
purpose, the function says so.
"""

from __future__ import annotations

import os
import posixpath
import time
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model.container import Device, DeviceRule, Mount, Ulimit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal

    _IdMap = tuple[tuple[int, int, int], ...]

_INT64_MAX = 2**63 - 1
_SECOND = 1_000_000_000

PROPAGATION = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})

# Words of one family answer the same question; the last one given decides, two are a contradiction.
_FAMILIES = {
    **dict.fromkeys(("ro", "rw", "rro"), "writing"),
    **dict.fromkeys(("z", "Z"), "label"),
    **dict.fromkeys(("bind", "rbind"), "depth"),
    **dict.fromkeys(("suid", "nosuid"), "suid"),
    **dict.fromkeys(("dev", "nodev"), "dev"),
    **dict.fromkeys(("exec", "noexec"), "exec"),
    **dict.fromkeys(("copy", "nocopy"), "copy"),
    "U": "chown",
    **dict.fromkeys(("consistent", "cached", "delegated"), "consistency"),
    **dict.fromkeys(PROPAGATION, "propagation"),
}

_TMPFS_FAMILIES = {
    **dict.fromkeys(("ro", "rw"), "writing"),
    **dict.fromkeys(("suid", "nosuid"), "suid"),
    **dict.fromkeys(("dev", "nodev"), "dev"),
    **dict.fromkeys(("exec", "noexec"), "exec"),
    **dict.fromkeys(("sync", "async"), "sync"),
    **dict.fromkeys(("atime", "noatime", "relatime", "strictatime"), "atime"),
    **dict.fromkeys(("diratime", "nodiratime"), "diratime"),
    **dict.fromkeys(PROPAGATION, "propagation"),
    "dirsync": "dirsync",
}

# The files of /proc that lxcfs and the like may cover; anything else there would let a bind replace
# what masks and security modules write to.
_PROC_FILES = """
    cpuinfo diskstats loadavg meminfo net/dev slabinfo stat swaps sys/crypto/fips_enabled
    sys/kernel/ns_last_pid uptime
"""
_PROC_TARGETS = frozenset("/proc/" + name for name in _PROC_FILES.split())


def _bad(flag: str, word: str, reason: str, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"{flag} {word!r}: {reason}", hint)


def _is_text(word: str) -> bool:
    """Whether the kernel and a JSON document can both hold `word`.

    Bytes of the command line that are not UTF-8 arrive as lone surrogates (PEP 383).
    """
    return "\0" not in word and not any("\ud800" <= character <= "\udfff" for character in word)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _is_octal(word: str) -> bool:
    return word.isascii() and word.isdigit() and not set(word) & {"8", "9"}


# ---------------------------------------------------------------------------------------- mounts


def option_family(option: str) -> str:
    """Return what a mount option decides, so that a later word can replace an earlier one.

    Args:
        option: one word of mount(8), such as ``noexec`` or ``size=64m``.

    Returns:
        ``exec`` for ``exec`` and ``noexec``, the key for ``key=value``, the word itself otherwise.
    """
    known = _TMPFS_FAMILIES.get(option) or _FAMILIES.get(option)
    return known or option.partition("=")[0]


def normalise(path: str) -> str:
    """Return an absolute path without ``.``, ``..``, doubled or trailing slashes.

    This is lexical, as docker does it: a symbolic link before ``..`` is not looked at. POSIX lets
    two leading slashes mean something of their own; Linux does not, so they become one.
    """
    return "/" + posixpath.normpath(path).lstrip("/")


def parse_volume(word: str, cwd: str) -> Mount:
    """Read ``-v``: ``SOURCE:TARGET[:OPTIONS]`` or an anonymous volume's ``TARGET``.

    The source is a host path or a volume's name. Options are ``ro rw``, one propagation
    (``rprivate`` …), ``rbind bind``, and, which docker does not know and podman does, ``[no]suid``,
    ``[no]dev``, ``[no]exec``, ``U`` (the files become the container's user's) and ``idmap=…``
    (their owners are shown mapped); ``nocopy`` of a volume. ``ro`` becomes ``rro``: mounts below
    the source are read-only too, as docker does it since 25. ``z`` and ``Z`` ask for labels that a
    confined container can read, and ``cached delegated consistent`` for at least that much
    agreement between host and container: there is no SELinux confinement here and both always
    see the same files, so these hold without an option.

    Args:
        word: the flag's value.
        cwd: absolute folder that a source beginning with ``.`` is read against.

    Returns:
        A ``bind`` whose missing source folder is to be made, or a ``volume``.

    Raises:
        InvalidInput: the word is no volume.
    """
    flag = "--volume"
    if not word:
        raise _bad(flag, word, "empty")
    fields = word.split(":")
    if len(fields) > 3:
        raise _bad(flag, word, "too many colons")
    if not all(fields):
        raise _bad(flag, word, "empty section between colons")
    if len(fields) == 1:
        return Mount(type="volume", target=_target(flag, word, word, ""))
    if len(fields) == 2 and _is_options(fields[1]):
        raise _bad(flag, word, "options for an anonymous volume are not possible")
    source = _volume_source(flag, word, fields[0], cwd)
    target = _target(flag, word, fields[1], source)
    named = not source.startswith("/")
    said = _bind_options(flag, word, fields[2], named=named) if len(fields) == 3 else _Options()
    return Mount(
        type="volume" if named else "bind", source=source, target=target,
        options=tuple(said.words), make_source=not named, no_copy=said.no_copy, chown=said.chown,
        uid_map=said.uid_map, gid_map=said.gid_map,
    )  # fmt: skip


def _is_options(word: str) -> bool:
    return all(_volume_family(option) for option in word.split(","))


def _volume_family(option: str) -> str:
    """Return what an option of ``-v`` decides, empty for an unknown one."""
    return _FAMILIES.get(option) or ("idmap" if option.startswith("idmap=") else "")


def _volume_source(flag: str, word: str, source: str, cwd: str) -> str:
    """Return an absolute path or a volume's name."""
    if source.startswith("/") or source.split("/")[0] in {".", ".."}:
        return _absolute(flag, word, source, cwd)
    if "/" in source:
        raise _bad(
            flag,
            word,
            f"{source!r} is neither a volume's name nor an absolute path",
            "write a relative path with ./ before it",
        )
    fault = volume_name_fault(source)
    if fault:
        raise _bad(flag, word, fault, "for a host folder write an absolute path")
    return source


_NAME_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_ALLOWED = _NAME_FIRST | frozenset("_.-")
_NAME_LONGEST = 200  # a lock's file name has some more before it (NAME_MAX)


def volume_name_fault(name: str) -> str:
    """Return why a volume cannot be called so, or an empty text."""
    if len(name) == 1:
        return "volume name is too short, names should be at least two alphanumeric characters"
    if not name or name[0] not in _NAME_FIRST or not _NAME_ALLOWED.issuperset(name):
        return (
            f'"{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'
        )
    if len(name) > _NAME_LONGEST:
        return f"volume name {name[:20]}…: longer than {_NAME_LONGEST} characters"
    return ""


def _absolute(flag: str, word: str, path: str, cwd: str) -> str:
    if not _is_text(path):
        raise _bad(flag, word, "a path with a NUL byte, or not UTF-8")
    if path.split("/")[0] in {".", ".."}:
        return normalise(posixpath.join(cwd, path))
    if not path.startswith("/"):
        raise _bad(flag, word, f"source {path!r} must be absolute")
    return normalise(path)


def _target(flag: str, word: str, path: str, source: str) -> str:
    reason = _target_fault(path, source)
    if reason:
        raise _bad(flag, word, reason)
    return normalise(path)


def _target_fault(path: str, source: str) -> str:
    """Return why `path` cannot be mounted on, or an empty text."""
    if not path.startswith("/"):
        return f"mount path {path!r} must be absolute"
    if not _is_text(path):
        return "a path with a NUL byte, or not UTF-8"
    target = normalise(path)
    if target == "/":
        return "the destination cannot be /"
    if target == "/proc" and source != "/proc":
        return "only the host's /proc can be mounted on /proc"
    if target.startswith("/proc/") and target not in _PROC_TARGETS:
        return f"{target} cannot be mounted because it is inside /proc"
    return ""


class _Options:
    """What the third field of ``-v`` says."""

    __slots__ = ("chown", "gid_map", "no_copy", "uid_map", "words")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.no_copy = self.chown = False
        self.uid_map: _IdMap = ()
        self.gid_map: _IdMap = ()


def _bind_options(flag: str, word: str, text: str, *, named: bool) -> _Options:
    said = _Options()
    families: set[str] = set()
    for option in text.split(","):
        family = _volume_family(option)
        if not family:
            raise _bad(flag, word, f"unknown option {option!r}")
        if family == "copy" and not named:
            raise _bad(flag, word, f"{option!r} is for volumes, not for a host path")
        if family in families:
            raise _bad(flag, word, f"{option!r} repeats or contradicts an earlier option")
        families.add(family)
        if family == "copy":
            said.no_copy = option == "nocopy"
        elif family == "chown":
            said.chown = True
        elif family == "idmap":
            said.uid_map, said.gid_map = _id_maps(flag, word, option.partition("=")[2])
        elif family not in {"label", "consistency"} and option != "rw":
            said.words.append("rro" if option == "ro" else option)
    return said


def _id_maps(flag: str, word: str, text: str) -> tuple[_IdMap, _IdMap]:
    """Read ``uids=FILE-SEEN-COUNT[#…];gids=…`` as podman has it."""
    found: dict[str, _IdMap] = {}
    for part in text.split(";"):
        key, _, value = part.partition("=")
        if key not in {"uids", "gids"} or key in found:
            raise _bad(flag, word, f"idmap {text!r}: not in the form uids=…;gids=…")
        found[key] = tuple(_id_range(flag, word, triple) for triple in value.split("#"))
    if len(found) != 2:
        raise _bad(flag, word, f"idmap {text!r}: uids and gids go together")
    return found["uids"], found["gids"]


def _id_range(flag: str, word: str, text: str) -> tuple[int, int, int]:
    numbers = text.split("-")
    if len(numbers) != 3 or not all(_is_number(number) for number in numbers):
        raise _bad(flag, word, f"idmap range {text!r}: not in the form FILE-SEEN-COUNT")
    inner, outer, count = map(int, numbers)
    if not count or max(inner, outer) + count >= 2**32:
        raise _bad(flag, word, f"idmap range {text!r}: beyond what ids can be")
    return inner, outer, count


def parse_tmpfs(word: str) -> Mount:
    """Read ``--tmpfs``: ``TARGET[:OPTIONS]``.

    Options are flags of mount(8) and the keys of tmpfs(5) that docker passes: ``size``, ``mode``,
    ``uid``, ``gid``, ``nr_inodes``, ``nr_blocks``, ``mpol``. Their values are checked here, where
    docker fails at start. The defaults (``noexec,nosuid,nodev``) are added when the OCI
    configuration is built.

    Raises:
        InvalidInput: the path is not absolute, or an option is unknown or badly valued.
    """
    flag = "--tmpfs"
    path, _, text = word.partition(":")
    target = _target(flag, word, path, "")
    options = [option for option in text.split(",") if option != "defaults"] if text else []
    for option in options:
        _check_tmpfs_option(flag, word, option)
    return Mount(type="tmpfs", target=target, options=tuple(options))


def _check_tmpfs_option(flag: str, word: str, option: str) -> None:
    key, equals, value = option.partition("=")
    if not equals:
        if option not in _TMPFS_FAMILIES:
            raise _bad(flag, word, f"unknown option {option!r}")
    elif key not in _TMPFS_VALUES:
        raise _bad(flag, word, f"unknown option {option!r}")
    elif not _tmpfs_value_fits(_TMPFS_VALUES[key], value):
        raise _bad(flag, word, f"bad value for {key}: {value!r}")


_TMPFS_VALUES = {
    "size": "bytes%",
    "nr_blocks": "bytes",
    "nr_inodes": "bytes",
    "mode": "octal",
    "uid": "id",
    "gid": "id",
    "mpol": "text",
}


def _tmpfs_value_fits(kind: str, value: str) -> bool:
    """Whether the kernel's own parser (shmem_parse_one, memparse) takes `value` for this kind."""
    if kind == "octal":
        return _is_octal(value) and int(value, 8) <= 0o7777
    if kind == "id":
        return _is_number(value) and int(value) < 2**32 - 1
    if kind == "text":
        return value != "" and _is_text(value)
    if kind == "bytes%" and value.endswith("%"):
        return _is_number(value[:-1])
    number = value[:-1] if value[-1:].lower() in set("kmgtpe") else value
    return _is_number(number) and int(number) <= _INT64_MAX


def parse_mount(word: str, cwd: str) -> Mount:
    """Read ``--mount``: a CSV record of ``key=value`` (``type=bind,src=/a,dst=/b,readonly``).

    Keys: ``type`` (bind, tmpfs, image; volume is the default), ``source src``, ``destination dst
    target``, ``readonly ro``, ``consistency``;

    - of a bind ``bind-propagation``, ``bind-recursive`` (enabled, disabled, writable, readonly),
      ``bind-nonrecursive``;
    - of a tmpfs ``tmpfs-size``, ``tmpfs-mode``;
    - of a volume ``volume-nocopy``, ``volume-subpath`` or ``subpath``, and of one that is made
      ``volume-driver``, ``volume-label``, ``volume-opt``;
    - of an image ``image-subpath`` or ``subpath``;
    - podman's ``U chown``, ``idmap``, ``[no]exec``, ``[no]suid``, ``[no]dev``.

    A read-only bind is read-only all the way down (``rro``) unless ``bind-recursive=writable``.

    Args:
        word: the flag's value; a field with a comma in it is quoted as CSV does.
        cwd: absolute folder that a source beginning with ``.`` is read against.

    Raises:
        InvalidInput: no such key or value, a key of another type, no target.
    """
    fields = _mount_fields(word, _csv_record(word))
    kind = fields.pop("type", "volume").lower()
    target = fields.pop("target", "")
    if not target:
        raise _bad("--mount", word, "target is required")
    if kind not in _KINDS:
        raise _bad("--mount", word, f"unknown mount type {kind!r}")
    _check_kind(word, kind, fields)
    if kind == "bind":
        mount = _mount_bind(word, target, fields, cwd)
    elif kind == "tmpfs":
        mount = _mount_tmpfs(word, target, fields)
    elif kind == "image":
        mount = _mount_image(word, target, fields)
    else:
        mount = _mount_volume(word, target, fields)
    return _with_owners(word, mount, fields)


def _with_owners(word: str, mount: Mount, fields: Mapping[str, str]) -> Mount:
    """Add what ``chown``, ``idmap``, ``exec``, ``suid`` and ``dev`` say."""
    switches = tuple(
        name if fields[name] == "1" else f"no{name}" for name in ("exec", "suid", "dev")
        if name in fields
    )  # fmt: skip
    uid_map: _IdMap = ()
    gid_map: _IdMap = ()
    if "idmap" in fields:
        uid_map, gid_map = _id_maps("--mount", word, fields["idmap"])
    return replace(
        mount, options=(*mount.options, *switches), chown=fields.get("chown") == "1",
        uid_map=uid_map, gid_map=gid_map,
    )  # fmt: skip


def _csv_record(word: str) -> list[str]:
    """Split one CSV record (RFC 4180): a quoted field may hold commas, and ``""`` for a quote."""
    fields: list[str] = []
    rest = word
    while True:
        field, rest = _csv_quoted(word, rest) if rest[:1] == '"' else _csv_plain(word, rest)
        fields.append(field)
        if not rest:
            return fields
        rest = rest[1:]


def _csv_plain(word: str, rest: str) -> tuple[str, str]:
    field, comma, tail = rest.partition(",")
    if '"' in field:
        raise _bad("--mount", word, "a quote inside an unquoted field")
    return field, comma + tail


def _csv_quoted(word: str, rest: str) -> tuple[str, str]:
    end = 1
    while True:
        end = rest.find('"', end)
        if end < 0:
            raise _bad("--mount", word, "a quote is not closed")
        if rest[end : end + 2] != '""':
            break
        end += 2
    if rest[end + 1 : end + 2] not in {"", ","}:
        raise _bad("--mount", word, "text after a closing quote")
    return rest[1:end].replace('""', '"'), rest[end + 1 :]


_KINDS = ("bind", "image", "tmpfs", "volume")
_MOUNT_KEYS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "destination": "target",
    "dst": "target",
    "target": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "consistency": "consistency",
    "bind-propagation": "bind-propagation",
    "bind-nonrecursive": "bind-nonrecursive",
    "bind-recursive": "bind-recursive",
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
    "volume-nocopy": "volume-nocopy",
    "volume-driver": "volume-driver",
    "volume-label": "volume-label",
    "volume-opt": "volume-opt",
    "volume-subpath": "volume-subpath",
    "image-subpath": "image-subpath",
    "subpath": "subpath",
    "u": "chown",
    "chown": "chown",
    "idmap": "idmap",
    "exec": "exec",
    "noexec": "noexec",
    "suid": "suid",
    "nosuid": "nosuid",
    "dev": "dev",
    "nodev": "nodev",
}

_MOUNT_BOOLEANS = frozenset(
    ("readonly", "bind-nonrecursive", "volume-nocopy", "chown", "exec", "noexec", "suid", "nosuid",
     "dev", "nodev")
)  # fmt: skip
# What else than its own keys a kind of mount may have.
_SHARED_KEYS = {
    "chown": ("bind", "tmpfs", "volume"),
    "idmap": ("bind", "volume"),
    "subpath": ("image", "volume"),
}


def _mount_fields(word: str, record: Sequence[str]) -> dict[str, str]:
    """Return canonical key → value, later fields winning; booleans become ``1`` or ``0``.

    Labels and options of a volume are a text for each, ended by a NUL.
    """
    fields: dict[str, str] = {}
    for field in record:
        name, equals, value = field.partition("=")
        key = _MOUNT_KEYS.get(name.lower())
        if key in _MOUNT_BOOLEANS:
            answer = parse_boolean(value) if equals else True
            if answer is None:
                raise _bad("--mount", word, f"bad value for {name}: {value!r}")
            value = "1" if answer else "0"
        elif not equals:
            raise _bad("--mount", word, f"field {field!r} must be a key=value pair")
        if key is None:
            raise _bad("--mount", word, f"unexpected key {name!r}")
        if key in {"volume-label", "volume-opt"}:
            value = fields.get(key, "") + value.replace("\0", "") + "\0"
        elif key in {"noexec", "nosuid", "nodev"}:
            key, value = key.removeprefix("no"), str(1 - int(value))
        fields[key] = value
    return fields


def _check_kind(word: str, kind: str, fields: Iterable[str]) -> None:
    for key in fields:
        owner = key.partition("-")[0]
        if (owner in _KINDS and owner != kind) or kind not in _SHARED_KEYS.get(key, (kind,)):
            raise _bad("--mount", word, f"{key} does not belong to a mount of type {kind}")


def _mount_bind(word: str, target: str, fields: Mapping[str, str], cwd: str) -> Mount:
    source = fields.get("source", "")
    if not source:
        raise _bad("--mount", word, "a bind needs a source")
    _check_consistency(word, fields)
    source = _absolute("--mount", word, source, cwd)
    options = (*_bind_depth(word, fields), *_bind_propagation(word, fields))
    target = _target("--mount", word, target, source)
    return Mount(type="bind", source=source, target=target, options=options)


def _check_consistency(word: str, fields: Mapping[str, str]) -> None:
    value = fields.get("consistency", "default")
    if value not in {"default", "consistent", "cached", "delegated"}:
        raise _bad("--mount", word, f"bad value for consistency: {value!r}")


def _bind_propagation(word: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    mode = fields.get("bind-propagation")
    if mode is None:
        return ()
    if mode not in PROPAGATION:
        raise _bad("--mount", word, f"bad value for bind-propagation: {mode!r}")
    return (mode,)


def _bind_depth(word: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return how far the bind and its read-only state reach below the source."""
    readonly = fields.get("readonly") == "1"
    depth = fields.get("bind-recursive", "enabled")
    if depth not in {"enabled", "disabled", "writable", "readonly"}:
        raise _bad("--mount", word, f"bad value for bind-recursive: {depth!r}")
    if depth in {"writable", "readonly"} and not readonly:
        raise _bad("--mount", word, f"bind-recursive={depth} needs readonly")
    if depth == "readonly" and fields.get("bind-propagation") != "rprivate":
        # A mount that arrives by propagation would not be read-only.
        raise _bad("--mount", word, "bind-recursive=readonly needs bind-propagation=rprivate")
    flat = depth == "disabled" or fields.get("bind-nonrecursive") == "1"
    extent = ("bind",) if flat else ()
    return (*extent, "ro" if depth == "writable" else "rro") if readonly else extent


def _mount_tmpfs(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    if "source" in fields:
        raise _bad("--mount", word, "a tmpfs has no source")
    _check_consistency(word, fields)
    options: list[str] = ["ro"] if fields.get("readonly") == "1" else []
    if "tmpfs-mode" in fields:
        mode = fields["tmpfs-mode"]
        if not _tmpfs_value_fits("octal", mode):
            raise _bad("--mount", word, f"bad value for tmpfs-mode: {mode!r}")
        options.append(f"mode={mode}")
    if "tmpfs-size" in fields:
        # 0 is docker's "not said", and also the kernel's "no limit"
        options.append(f"size={_size('--mount', word, fields['tmpfs-size'])}")
    target = _target("--mount", word, target, "")
    return Mount(type="tmpfs", target=target, options=tuple(options))


def _mount_volume(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    source = fields.get("source", "")
    fault = volume_name_fault(source) if source else ""
    if fault:
        raise _bad("--mount", word, fault, "for a host folder say type=bind")
    readonly = fields.get("readonly") == "1"
    if readonly and not source:
        raise _bad("--mount", word, "an anonymous volume cannot be read-only")
    driver = fields.get("volume-driver", "local")
    if driver not in {"", "local"}:
        raise _bad("--mount", word, f"volume driver {driver!r}: there is none but local")
    _check_consistency(word, fields)
    return Mount(
        type="volume",
        source=source,
        target=_target("--mount", word, target, ""),
        options=("rro",) if readonly else (),
        no_copy=fields.get("volume-nocopy") == "1",
        subpath=_subpath(word, fields, "volume-subpath"),
        labels=_pairs(fields.get("volume-label", "")),
        driver_options=_pairs(fields.get("volume-opt", "")),
    )


def _pairs(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split("\0")[:-1])
    return {name: value for name, _, value in pairs}


def _subpath(word: str, fields: Mapping[str, str], key: str) -> str:
    path = fields.get(key, fields.get("subpath", ""))
    if path.startswith("/") or ".." in path.split("/") or not _is_text(path):
        raise _bad("--mount", word, f"{key} {path!r}: not a relative path, or with .. in it")
    return path and posixpath.normpath(path)


def _mount_image(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    source = fields.get("source", "")
    if not source:
        raise _bad("--mount", word, "an image mount needs a source")
    if fields.get("readonly") == "0":
        raise _bad("--mount", word, "an image is mounted read-only")
    _check_consistency(word, fields)
    return Mount(
        type="image", source=source, target=_target("--mount", word, target, ""), options=("rro",),
        subpath=_subpath(word, fields, "image-subpath"),
    )  # fmt: skip


def parse_volumes_from(word: str) -> str:
    """Read ``--volumes-from NAME[:ro|rw]``; ``z`` and ``Z`` hold without an option.

    Returns:
        The word, its mode checked.

    Raises:
        InvalidInput: no name, or an unknown mode.
    """
    name, colon, mode = word.partition(":")
    if not name:
        raise InvalidInput(f"--volumes-from {word!r}: no container is named")
    modes = mode.split(",") if colon else []
    if any(option not in {"ro", "rw", "z", "Z"} for option in modes):
        raise InvalidInput(f"--volumes-from {word!r}: invalid mode {mode!r}")
    return word


def split_volumes_from(word: str) -> tuple[str, str]:
    """Return the container of ``NAME[:MODE]``, and ``ro``, ``rw`` or nothing."""
    name, _, mode = word.partition(":")
    found = [option for option in mode.split(",") if option in {"ro", "rw"}]
    return name, found[-1] if found else ""


def is_anonymous(mount: Mount) -> bool:
    """Whether a mount that was asked for is a volume that nobody named."""
    return mount.type == "volume" and not mount.source


def merge_mounts(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Check that no two mounts want the same target, and return those that remain.

    An anonymous volume gives way to whatever else is asked for at its target, as docker has it, so
    that ``-v`` can replace an image's VOLUME. Order is kept.

    Raises:
        InvalidInput: a target is taken twice, not absolute, ``/``, or inside /proc.
    """
    taken: dict[str, Mount] = {}
    for mount in mounts:
        fault = _target_fault(mount.target, mount.source)
        if fault:
            raise InvalidInput(f"mount point {mount.target}: {fault}")
        present = taken.get(mount.target)
        if present is None or is_anonymous(present):
            taken[mount.target] = mount
        elif not is_anonymous(mount):
            raise InvalidInput(f"duplicate mount point: {mount.target}")
    return tuple(taken.values())


# --------------------------------------------------------------------------------------- numbers


_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(word: str, flag: str = "--shm-size") -> int:
    """Read a size as docker does: ``64m``, ``1.5g``, ``64 MiB``, ``1024``; units are powers of two.

    Returns:
        Bytes, 0 to 2^63-1, a fraction of a byte cut off.

    Raises:
        InvalidInput: no number, a negative one, or an unknown unit. Exponents (``1e3``) and
            underscores, which Go's parser lets through, are not sizes here.
    """
    return _size(flag, word, word)


def _size(flag: str, word: str, text: str) -> int:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :].lower()
    value = _scaled(number[:-1] if number.endswith(" ") else number, _unit(unit))
    if value is None or not 0 <= value <= _INT64_MAX:
        raise _bad(flag, word, f"invalid size {text!r}", "sizes look like 1024, 64m or 1.5g")
    return value


def _unit(word: str) -> int:
    """Return the factor of ``k``, ``kb`` or ``kib`` (in lower case), 0 for an unknown word."""
    if word in {"", "b"}:
        return 1
    return _UNITS.get(word[0], 0) if word[1:] in {"", "b", "ib"} else 0


def _scaled(number: str, factor: int) -> int | None:
    """Return the decimal `number` times `factor`, fraction cut off, None if it is no number."""
    whole, _, fraction = number.partition(".")
    digits = whole + fraction
    if not factor or not _is_number(digits) or len(digits) > 64:
        return None
    scale: int = 10 ** len(fraction)
    return int(digits) * factor // scale


_ULIMIT_NAMES = """
    core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
"""
ULIMITS = frozenset(_ULIMIT_NAMES.split())


def parse_ulimit(word: str) -> Ulimit:
    """Read ``--ulimit NAME=SOFT[:HARD]``; -1 is unlimited (getrlimit(2)).

    Raises:
        InvalidInput: an unknown name, no number, or a soft limit above the hard one.
    """
    name, equals, limits = word.partition("=")
    if not equals:
        raise _bad("--ulimit", word, "not in the form NAME=SOFT[:HARD]")
    if name not in ULIMITS:
        raise _bad("--ulimit", word, f"unknown limit {name!r}")
    numbers = [_limit(word, number) for number in limits.split(":")]
    if len(numbers) > 2:
        raise _bad("--ulimit", word, "more than two values")
    soft, hard = numbers[0], numbers[-1]
    if hard != -1 and not 0 <= soft <= hard:
        raise _bad("--ulimit", word, "the soft limit is above the hard limit")
    return Ulimit(name=name, soft=soft, hard=hard)


def _limit(word: str, number: str) -> int:
    if number == "-1":
        return -1
    if not _is_number(number) or len(number) > 19 or int(number) > _INT64_MAX:
        raise _bad("--ulimit", word, f"{number!r} is not a limit", "-1 is unlimited")
    return int(number)


def parse_boolean(word: str) -> bool | None:
    """Return what `word` means in the spellings that docker takes, None for any other word."""
    if word in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if word in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    return None


def parse_umask(word: str) -> int:
    """Read ``--umask``: octal, 0 to 0777 (umask(2)).

    Raises:
        InvalidInput: not an octal number, or above 0777.
    """
    if not _is_octal(word) or int(word, 8) > 0o777:
        raise _bad("--umask", word, "not an octal number from 0 to 0777")
    return int(word, 8)


def parse_device(word: str) -> Device:
    """Read ``--device SOURCE[:TARGET][:ACCESS]``; ACCESS is made of ``r``, ``w`` and ``m``.

    Raises:
        InvalidInput: a path is not absolute, or the access is not one.
    """
    fields = word.split(":")
    if not fields[0] or len(fields) > 3:
        raise _bad("--device", word, "not in the form SOURCE[:TARGET][:ACCESS]")
    access = "rwm"
    if len(fields) == 3 or (len(fields) == 2 and _is_access(fields[1])):
        access = fields.pop()
    if not _is_access(access):
        raise _bad("--device", word, f"bad access {access!r}", "access is made of r, w and m")
    for path in fields:
        if not path.startswith("/") or not _is_text(path):
            raise _bad("--device", word, f"{path!r} is not an absolute path")
    return Device(source=normalise(fields[0]), target=normalise(fields[-1]), access=access)


def _is_access(word: str) -> bool:
    return word != "" and set(word) <= set("rwm") and len(set(word)) == len(word)


def parse_device_rule(word: str) -> DeviceRule:
    """Read ``--device-cgroup-rule 'TYPE MAJOR:MINOR ACCESS'``, as ``c 1:* rwm``.

    Raises:
        InvalidInput: not in that form, or ``a`` with a number: it means all devices.
    """
    flag = "--device-cgroup-rule"
    kind, _, rest = word.partition(" ")
    numbers, _, access = rest.partition(" ")
    major, colon, minor = numbers.partition(":")
    if kind not in {"a", "b", "c"} or not colon or not _is_access(access):
        raise _bad(flag, word, "invalid device cgroup format", "such as 'c 1:3 rwm' or 'b 8:* r'")
    if kind == "a" and (major, minor) != ("*", "*"):
        raise _bad(flag, word, "'a' is every device: write 'a *:*'")
    return DeviceRule(
        type=cast("Literal['a', 'b', 'c']", kind), major=_device_number(flag, word, major),
        minor=_device_number(flag, word, minor), access=access,
    )  # fmt: skip


def _device_number(flag: str, word: str, text: str) -> int:
    if text == "*":
        return -1
    if not _is_number(text) or len(text) > 10 or int(text) >= 2**32:
        raise _bad(flag, word, f"invalid device cgroup format: {text!r} is no number of a device")
    return int(text)


# ----------------------------------------------------------------------------- environment, labels

_ENV_FILE_LIMIT = 16 << 20
_ENV_LINE_LIMIT = 64 << 10


def resolve_env(words: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read ``-e NAME=value`` and ``-e NAME``, whose value comes from the caller.

    Args:
        words: the flag's values, in order.
        environ: the caller's environment.

    Returns:
        ``NAME=value`` lines. A name that the caller does not have stays a bare ``NAME``, which
        removes the image's variable of that name, as docker does.

    Raises:
        InvalidInput: no name, a NUL byte, which no environment can hold (environ(7)), or not UTF-8.
    """
    return tuple(_resolve("--env", word, environ) for word in words)


def _resolve(flag: str, word: str, environ: Mapping[str, str]) -> str:
    name, equals, _ = word.partition("=")
    if not name:
        raise _bad(flag, word, "no variable name")
    line = word if equals or name not in environ else f"{name}={environ[name]}"
    if not _is_text(line):
        raise _bad(flag, word, "a value with a NUL byte, or not UTF-8")
    return line


def parse_env_file(path: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read the file of ``--env-file``; see :func:`parse_env_text` for its form.

    Raises:
        InvalidInput: the file cannot be read, is larger than 16 MiB, or a line is malformed.
    """
    return parse_env_text(_read_lines("--env-file", path), path, environ)


def parse_label_file(path: str) -> tuple[tuple[str, str], ...]:
    """Read the file of ``--label-file`` into keys and values.

    Its form is that of an env file, but that a bare key is a label with an empty value.

    Raises:
        InvalidInput: as for :func:`parse_env_file`.
    """
    flag = "--label-file"
    lines = _lines(flag, _read_lines(flag, path), path, None)
    return tuple(_label(flag, line) for line in lines)


def _read_lines(flag: str, path: str) -> bytes:
    try:
        # Not only regular files: a shell's <(command) is a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read(_ENV_FILE_LIMIT + 1)
    except (OSError, ValueError) as err:
        reason = (err.strerror or "unreadable").lower() if isinstance(err, OSError) else str(err)
        raise _bad(flag, path, reason) from err
    if len(data) > _ENV_FILE_LIMIT:
        raise _bad(flag, path, f"larger than {_ENV_FILE_LIMIT} bytes")
    return data


def parse_env_text(data: bytes, path: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Read the lines of an env file as docker does.

    Blanks at the front of a line are skipped, empty lines and lines with ``#`` in front too; what
    follows the first ``=`` is the value, unchanged: no quotes, no escapes, no comments in it. A
    bare name takes the caller's value and is left out where the caller has none.

    Args:
        data: the file's bytes; UTF-8, a byte order mark is skipped.
        path: its name, for messages.
        environ: the caller's environment.

    Returns:
        ``NAME=value`` lines in the file's order.

    Raises:
        InvalidInput: not UTF-8, a line over 64 KiB, no name, or white space in a name.
    """
    return _lines("--env-file", data, path, environ)


def _lines(flag: str, data: bytes, path: str, environ: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the lines that say something; without an `environ` bare names stay as they are."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found: list[str] = []
    for number, line in enumerate(lines, 1):
        text = _line(flag, path, number, line)
        if text and "=" not in text and environ is not None:
            text = f"{text}={environ[text]}" if text in environ else ""
        if not _is_text(text):
            raise _bad(flag, path, f"line {number}: a NUL byte, or not UTF-8")
        if text:
            found.append(text)
    return tuple(found)


def _line(flag: str, path: str, number: int, line: bytes) -> str:
    """Return what a line says, an empty text for nothing."""
    if len(line) > _ENV_LINE_LIMIT:
        raise _bad(flag, path, f"line {number} is longer than {_ENV_LINE_LIMIT} bytes")
    try:
        text = line.removesuffix(b"\r").decode().lstrip(" \t")
    except UnicodeDecodeError as err:
        raise _bad(flag, path, f"line {number} is not UTF-8") from err
    if not text or text.startswith("#"):
        return ""
    name = text.partition("=")[0]
    if not name:
        raise _bad(flag, path, f"no variable name in line {number}")
    if any(character.isspace() for character in name):
        raise _bad(flag, path, f"line {number}: variable {name!r} contains white space")
    return text


def parse_label(word: str) -> tuple[str, str]:
    """Read ``--label KEY[=VALUE]`` into key and value.

    Raises:
        InvalidInput: the key is empty, or the text not UTF-8.
    """
    return _label("--label", word)


def parse_annotation(word: str) -> tuple[str, str]:
    """Read ``--annotation KEY[=VALUE]`` into key and value.

    Raises:
        InvalidInput: the key is empty (runtime-spec, config.md, "Annotations"), or no UTF-8.
    """
    return _label("--annotation", word)


def _label(flag: str, word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if not key or not _is_text(word):
        raise _bad(flag, word, "not UTF-8" if key else "empty name")
    return key, value


# --------------------------------------------------------------------------------------- signals

# signal(7); the numbers are the same on x86-64 and arm64. Positions are numbers less one.
_SIGNAL_NAMES = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP
    TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS
"""
_SIGNALS = tuple(_SIGNAL_NAMES.split())
_ALIASES = {"CLD": 17, "POLL": 29, "IOT": 6}
_RTMIN = 34  # 32 and 33 belong to the C library's threads
_RTMAX = 64


def parse_signal(word: str, flag: str = "--signal") -> int:
    """Read a signal: ``TERM``, ``SIGTERM``, ``sigterm``, ``15``, ``RTMIN+3``, ``RTMAX-1``.

    Returns:
        The number, 1 to 64 (signal(7)). Numbers above 64 and below 1, some of which docker takes
        at create and fails on at stop, are refused.

    Raises:
        InvalidInput: there is no such signal.
    """
    if _is_number(word):
        number = int(word) if len(word) <= 4 else 0
    else:
        number = _signal_number(word.upper().removeprefix("SIG"))
    if not 1 <= number <= _RTMAX:
        raise _bad(flag, word, "invalid signal")
    return number


def _signal_number(name: str) -> int:
    if name in _SIGNALS:
        return _SIGNALS.index(name) + 1
    if name in _ALIASES:
        return _ALIASES[name]
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base not in {"RTMIN", "RTMAX"} or (sign and not _is_number(offset)) or len(offset) > 2:
        return 0
    return _realtime(base, sign, int(offset) if sign else 0)


def _realtime(base: str, sign: str, offset: int) -> int:
    """Return the number of a real-time signal in kill(1)'s spelling, which has one name each."""
    if base == "RTMIN" and sign in {"", "+"} and offset <= 15:
        return _RTMIN + offset
    if base == "RTMAX" and sign in {"", "-"} and offset <= 14:
        return _RTMAX - offset
    return 0


# ------------------------------------------------------------------------------------------ time

_DURATIONS = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}


def parse_duration(word: str, flag: str = "--since") -> int:
    """Read a duration in Go's form: ``10m``, ``1h30m``, ``1.5s``, ``-2h``, ``0``.

    Returns:
        Nanoseconds.

    Raises:
        InvalidInput: not a duration.
    """
    total = _duration(word)
    if total is None:
        raise _bad(flag, word, "not a duration", "durations look like 10s, 5m or 1h30m")
    return total


def _duration(word: str) -> int | None:
    text = word[1:] if word[:1] in {"+", "-"} else word
    if text == "0":
        return 0
    total = 0
    while text or not total:
        number = _leading(text, "0123456789.")
        unit = _leading(text[len(number) :], "hmsnuµμ")
        part = _scaled(number, _DURATIONS.get(unit, 0))
        if part is None:
            return None
        total += part
        text = text[len(number) + len(unit) :]
        if not text:
            break
    if total > _INT64_MAX:
        return None
    return -total if word[0] == "-" else total


def _leading(text: str, characters: str) -> str:
    return text[: len(text) - len(text.lstrip(characters))]


def parse_time(word: str, now: int, flag: str = "--since") -> int:
    """Read a moment: a duration before `now`, RFC 3339 or part of it, or seconds since the epoch.

    Without a zone, dates are in the caller's (localtime(3)), as docker has it. Seconds of the day
    and the time of day may be missing.

    Args:
        word: ``10m``, ``2024-01-02T15:04:05.5Z``, ``2024-01-02``, ``1704207845.5``.
        now: nanoseconds since the epoch.
        flag: for messages.

    Returns:
        Nanoseconds since the epoch.

    Raises:
        InvalidInput: none of these forms.
    """
    moment = _scaled(word, _SECOND) if word[:1] not in {"", "."} else None
    if moment is None:
        ago = _duration(word)
        moment = _calendar(word) if ago is None else now - ago
    if moment is None:
        raise _bad(
            flag, word, "not a time", "times look like 10m, 2024-01-02T15:04:05Z or 1704207845"
        )
    return moment


def _calendar(word: str) -> int | None:
    """Return the nanoseconds of an RFC 3339 date and time, None where it is none."""
    date, zone = word[:10], word[10:]
    clock = ""
    if zone[:1] == "T":
        clock = _leading(zone[1:], "0123456789:.")
        zone = zone[1 + len(clock) :]
        if not clock:
            return None
    day, fields, offset = _date(date), _clock(clock), _zone(zone)
    if day is None or fields is None or offset is None:
        return None
    hour, minute, second, fraction = fields
    if zone:
        seconds = _days(*day) * 86400 + hour * 3600 + minute * 60 + second - offset
    else:
        seconds = int(time.mktime((*day, hour, minute, second, 0, 0, -1)))
    return seconds * _SECOND + fraction


def _date(text: str) -> tuple[int, int, int] | None:
    if len(text) != 10 or text[4] + text[7] != "--":
        return None
    fields = (text[:4], text[5:7], text[8:])
    if not all(_is_number(field) for field in fields):
        return None
    year, month, day = (int(field) for field in fields)
    if not 1 <= month <= 12 or year < 1970:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = 28 + leap if month == 2 else 30 + (month in {1, 3, 5, 7, 8, 10, 12})
    return (year, month, day) if 1 <= day <= length else None


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 in the Gregorian calendar, counting years from March."""
    shifted = year - (month <= 2)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + of_year - 719468


def _clock(text: str) -> tuple[int, int, int, int] | None:
    """Return hour, minute, second and nanoseconds of ``HH:MM[:SS[.fraction]]``."""
    if not text:
        return (0, 0, 0, 0)
    whole, dot, fraction = text.partition(".")
    fields = whole.split(":")
    if len(fields) not in {2, 3} or (dot and len(fields) == 2):
        return None
    if not all(len(field) == 2 and _is_number(field) for field in fields):
        return None
    if dot and not (_is_number(fraction) and len(fraction) <= 64):
        return None
    hour, minute, second = (*(int(field) for field in fields), 0)[:3]
    if hour > 23 or minute > 59 or second > 59:
        return None
    return hour, minute, second, int((fraction + "0" * 9)[:9])


def _zone(text: str) -> int | None:
    """Return the seconds east of UTC of ``Z`` or ``+HH:MM``; 0 for no zone, None for a bad one."""
    if text in {"", "Z", "z"}:
        return 0
    hours, colon, minutes = text[1:].partition(":")
    if text[0] not in "+-" or not colon or len(hours) != 2 or len(minutes) != 2:
        return None
    if not _is_number(hours + minutes) or int(hours) > 23 or int(minutes) > 59:
        return None
    offset = int(hours) * 3600 + int(minutes) * 60
    return -offset if text[0] == "-" else offset


# ----------------------------------------------------------------------------------------- names

_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME_MAX = 255  # names are file names in the store (limits.h)


def validate_name(word: str) -> str:
    """Check ``--name``: ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``, a leading ``/`` is dropped as in docker.

    Raises:
        InvalidInput: another character, fewer than two, or more than 255.
    """
    name = word.removeprefix("/")
    if len(name) < 2 or name[0] not in _ALNUM or not set(name) <= _ALNUM | set("_.-"):
        raise _bad(
            "--name", word, "invalid container name", "only [a-zA-Z0-9][a-zA-Z0-9_.-]+ is allowed"
        )
    if len(name) > _NAME_MAX:
        raise _bad("--name", word, f"longer than {_NAME_MAX} characters")
    return name


def parse_hostname(word: str) -> str:
    """Check ``--hostname``: 1 to 64 bytes (uname(2)) without white space.

    White space, which docker lets through, would forge lines of the container's hosts file.

    Raises:
        InvalidInput: too long, empty, white space or a control character.
    """
    return _host_word("--hostname", word)


def parse_domainname(word: str) -> str:
    """Check ``--domainname``: 1 to 64 bytes (uname(2)) without white space.

    Raises:
        InvalidInput: too long, empty, white space or a control character.
    """
    return _host_word("--domainname", word)


def _host_word(flag: str, word: str) -> str:
    if not 1 <= len(os.fsencode(word)) <= 64:
        raise _bad(flag, word, "not 1 to 64 bytes long")
    if _has_blanks(word):
        raise _bad(flag, word, "white space or control characters")
    return word


def _has_blanks(word: str) -> bool:
    return any(character.isspace() or not character.isprintable() for character in word)


def _address(text: str) -> str | None:
    """Return the IP address in its canonical form, None where it is none."""
    import ipaddress  # 5 ms of start-up that only these flags pay

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def parse_add_host(word: str) -> str:
    """Read ``--add-host NAME:IP`` or ``NAME=IP``; the address may be in brackets.

    Returns:
        ``NAME:IP``, the name ends at the first colon. ``host-gateway`` is an address too: that of
        the host, as the container's networks have it.

    Raises:
        InvalidInput: no name, no address, or white space, which would forge lines of the hosts
            file.
    """
    flag = "--add-host"
    name, separator, address = word.partition("=")
    if not separator or ":" in name:
        name, separator, address = word.partition(":")
    if not separator or not name:
        raise _bad(flag, word, "not in the form NAME:IP")
    if _has_blanks(name):
        raise _bad(flag, word, "white space in the name")
    if address == "host-gateway":
        return f"{name}:{address}"
    if address[:1] + address[-1:] == "[]":
        address = address[1:-1]
    canonical = _address(address) if "%" not in address else None
    if canonical is None:
        raise _bad(flag, word, f"invalid address {address!r}")
    return f"{name}:{canonical}"


def parse_dns(word: str) -> str:
    """Read ``--dns ADDRESS`` and return the address.

    Raises:
        InvalidInput: not an IP address.
    """
    address = _address(word)
    if address is None:
        raise _bad("--dns", word, "invalid address")
    return address


def parse_dns_search(word: str) -> str:
    """Check ``--dns-search``: a domain of letters, digits, ``-`` and ``_``, or ``.`` for none.

    Raises:
        InvalidInput: not a domain (RFC 1035, section 2.3.1), or longer than 255 bytes.
    """
    if word == ".":
        return word
    labels = word.removesuffix(".").split(".")
    if len(word) > 255 or not all(_is_label(label) for label in labels):
        raise _bad("--dns-search", word, "not a valid domain")
    return word


def _is_label(label: str) -> bool:
    ends = {label[:1], label[-1:]}
    return 1 <= len(label) <= 63 and set(label) <= _ALNUM | set("-_") and "-" not in ends


def parse_dns_option(word: str) -> str:
    """Check ``--dns-option``: one option of resolv.conf(5), a word without blanks.

    Raises:
        InvalidInput: empty, or white space, which would forge lines of resolv.conf.
    """
    if not word or _has_blanks(word):
        raise _bad("--dns-option", word, "not one word")
    return word


_IPC_SYSCTLS = frozenset({"msgmax", "msgmnb", "msgmni", "sem"}) | frozenset(
    {"shmall", "shmmax", "shmmni", "shm_rmid_forced"}
)


def parse_sysctl(word: str) -> tuple[str, str]:
    """Read ``--sysctl KEY=VALUE``; see :func:`sysctl_namespace` for the keys.

    Raises:
        InvalidInput: not in that form, or the key does not belong to one namespace.
    """
    key, equals, value = word.partition("=")
    if not equals or sysctl_namespace(key) is None:
        raise _bad(
            "--sysctl",
            word,
            "not allowed",
            "kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.* and net.* are",
        )
    if not _is_text(value):
        raise _bad("--sysctl", word, "a value with a NUL byte, or not UTF-8")
    return key, value


def sysctl_namespace(key: str) -> str | None:
    """Return the OCI namespace type that a sysctl belongs to, None for one of the whole machine.

    A key with an empty part or with ``/`` is none: turned into a path it could leave the folder of
    its namespace.
    """
    if "/" in key or not _is_text(key) or not all(key.split(".")):
        return None
    folder, _, name = key.rpartition(".")
    if folder == "fs.mqueue" or (folder == "kernel" and name in _IPC_SYSCTLS):
        return "ipc"
    return "network" if key.startswith("net.") else None


_NAMESPACE_WORDS = {
    "pid": ("private", "host", "container"),
    "ipc": ("private", "shareable", "host", "none", "container"),
    "uts": ("private", "host"),
    "cgroupns": ("private", "host"),
    "network": ("none", "host", "container"),
}


def parse_namespace(kind: str, word: str) -> str:
    """Read ``--pid``, ``--ipc``, ``--uts``, ``--cgroupns`` or ``--network``.

    Args:
        kind: the flag's name without the dashes.
        word: ``private``, ``shareable``, ``host``, ``none`` or ``container:NAME``, as far as the
            kind has them.

    Returns:
        The word; ``private`` for an empty one, which is docker's word for the default.

    Raises:
        InvalidInput: this kind has no such mode.
    """
    words = _NAMESPACE_WORDS[kind]
    if not word and "private" in words:
        return "private"
    mode, colon, name = word.partition(":")
    if mode not in words or bool(colon) != (mode == "container") or (colon and not name):
        offered = ", ".join(f"{item}:NAME" if item == "container" else item for item in words)
        raise _bad(f"--{kind}", word, f"invalid {kind} mode", f"possible are {offered}")
    return word


DETACH_KEYS = b"\x10\x11"


def parse_detach_keys(word: str) -> bytes:
    r"""Read ``--detach-keys``: single characters and ``ctrl-X``, with commas between them.

    Args:
        word: such as ``ctrl-p,ctrl-q``; X is one of ``a-z @ [ \ ] ^ _``. ``DEL`` is 127. An
            empty word is the default, as in docker.

    Returns:
        The bytes that a terminal sends for the sequence.

    Raises:
        InvalidInput: an unknown key.
    """
    if not word:
        return DETACH_KEYS
    return bytes(_key(word, key) for key in word.split(","))


def _key(word: str, key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    control = key.removeprefix("ctrl-")
    if control != key and len(control) == 1 and control in "@abcdefghijklmnopqrstuvwxyz[\\]^_":
        return (
            ord(control.upper()) - 64
        )  # what a terminal sends with the control key held (ascii(7))
    if key == "DEL":
        return 127
    raise _bad("--detach-keys", word, f"unknown key {key!r}")
