"""The words of ``-v``, ``--tmpfs``, ``--mount`` and ``--volumes-from`` become mounts."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.errors import InvalidInput
from pycontain.model.container import Mount
from pycontain.model.parse.numbers import parse_boolean, size_in
from pycontain.model.parse.words import (
    ALNUM,
    INT64_MAX,
    bad,
    is_number,
    is_octal,
    is_text,
    normalise,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    _IdMap = tuple[tuple[int, int, int], ...]

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


def option_family(option: str) -> str:
    """Return what a mount option decides, so that a later word can replace an earlier one.

    Args:
        option: one word of mount(8), such as ``noexec`` or ``size=64m``.

    Returns:
        ``exec`` for ``exec`` and ``noexec``, the key for ``key=value``, the word itself otherwise.
    """
    known = _TMPFS_FAMILIES.get(option) or _FAMILIES.get(option)
    return known or option.partition("=")[0]


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
        raise bad(flag, word, "empty")
    fields = word.split(":")
    if len(fields) > 3:
        raise bad(flag, word, "too many colons")
    if not all(fields):
        raise bad(flag, word, "empty section between colons")
    if len(fields) == 1:
        return Mount(type="volume", target=_target(flag, word, word, ""))
    if len(fields) == 2 and _is_options(fields[1]):
        raise bad(flag, word, "options for an anonymous volume are not possible")
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
        raise bad(
            flag,
            word,
            f"{source!r} is neither a volume's name nor an absolute path",
            "write a relative path with ./ before it",
        )
    fault = volume_name_fault(source)
    if fault:
        raise bad(flag, word, fault, "for a host folder write an absolute path")
    return source


_NAME_ALLOWED = ALNUM | frozenset("_.-")
_NAME_LONGEST = 200  # a lock's file name has some more before it (NAME_MAX)


def volume_name_fault(name: str) -> str:
    """Return why a volume cannot be called so, or an empty text."""
    if len(name) == 1:
        return "volume name is too short, names should be at least two alphanumeric characters"
    if not name or name[0] not in ALNUM or not _NAME_ALLOWED.issuperset(name):
        return (
            f'"{name}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'
        )
    if len(name) > _NAME_LONGEST:
        return f"volume name {name[:20]}…: longer than {_NAME_LONGEST} characters"
    return ""


def _absolute(flag: str, word: str, path: str, cwd: str) -> str:
    if not is_text(path):
        raise bad(flag, word, "a path with a NUL byte, or not UTF-8")
    if path.split("/")[0] in {".", ".."}:
        return normalise(posixpath.join(cwd, path))
    if not path.startswith("/"):
        raise bad(flag, word, f"source {path!r} must be absolute")
    return normalise(path)


def _target(flag: str, word: str, path: str, source: str) -> str:
    reason = _target_fault(path, source)
    if reason:
        raise bad(flag, word, reason)
    return normalise(path)


def _target_fault(path: str, source: str) -> str:
    """Return why `path` cannot be mounted on, or an empty text."""
    if not path.startswith("/"):
        return f"mount path {path!r} must be absolute"
    if not is_text(path):
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
            raise bad(flag, word, f"unknown option {option!r}")
        if family == "copy" and not named:
            raise bad(flag, word, f"{option!r} is for volumes, not for a host path")
        if family in families:
            raise bad(flag, word, f"{option!r} repeats or contradicts an earlier option")
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
            raise bad(flag, word, f"idmap {text!r}: not in the form uids=…;gids=…")
        found[key] = tuple(_id_range(flag, word, triple) for triple in value.split("#"))
    if len(found) != 2:
        raise bad(flag, word, f"idmap {text!r}: uids and gids go together")
    return found["uids"], found["gids"]


def _id_range(flag: str, word: str, text: str) -> tuple[int, int, int]:
    numbers = text.split("-")
    if len(numbers) != 3 or not all(is_number(number) for number in numbers):
        raise bad(flag, word, f"idmap range {text!r}: not in the form FILE-SEEN-COUNT")
    inner, outer, count = map(int, numbers)
    if not count or max(inner, outer) + count >= 2**32:
        raise bad(flag, word, f"idmap range {text!r}: beyond what ids can be")
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
            raise bad(flag, word, f"unknown option {option!r}")
    elif key not in _TMPFS_VALUES:
        raise bad(flag, word, f"unknown option {option!r}")
    elif not _tmpfs_value_fits(_TMPFS_VALUES[key], value):
        raise bad(flag, word, f"bad value for {key}: {value!r}")


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
        return is_octal(value) and int(value, 8) <= 0o7777
    if kind == "id":
        return is_number(value) and int(value) < 2**32 - 1
    if kind == "text":
        return value != "" and is_text(value)
    if kind == "bytes%" and value.endswith("%"):
        return is_number(value[:-1])
    number = value[:-1] if value[-1:].lower() in set("kmgtpe") else value
    return is_number(number) and int(number) <= INT64_MAX


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
        raise bad("--mount", word, "target is required")
    if kind not in _KINDS:
        raise bad("--mount", word, f"unknown mount type {kind!r}")
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
        raise bad("--mount", word, "a quote inside an unquoted field")
    return field, comma + tail


def _csv_quoted(word: str, rest: str) -> tuple[str, str]:
    end = 1
    while True:
        end = rest.find('"', end)
        if end < 0:
            raise bad("--mount", word, "a quote is not closed")
        if rest[end : end + 2] != '""':
            break
        end += 2
    if rest[end + 1 : end + 2] not in {"", ","}:
        raise bad("--mount", word, "text after a closing quote")
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
                raise bad("--mount", word, f"bad value for {name}: {value!r}")
            value = "1" if answer else "0"
        elif not equals:
            raise bad("--mount", word, f"field {field!r} must be a key=value pair")
        if key is None:
            raise bad("--mount", word, f"unexpected key {name!r}")
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
            raise bad("--mount", word, f"{key} does not belong to a mount of type {kind}")


def _mount_bind(word: str, target: str, fields: Mapping[str, str], cwd: str) -> Mount:
    source = fields.get("source", "")
    if not source:
        raise bad("--mount", word, "a bind needs a source")
    _check_consistency(word, fields)
    source = _absolute("--mount", word, source, cwd)
    options = (*_bind_depth(word, fields), *_bind_propagation(word, fields))
    target = _target("--mount", word, target, source)
    return Mount(type="bind", source=source, target=target, options=options)


def _check_consistency(word: str, fields: Mapping[str, str]) -> None:
    value = fields.get("consistency", "default")
    if value not in {"default", "consistent", "cached", "delegated"}:
        raise bad("--mount", word, f"bad value for consistency: {value!r}")


def _bind_propagation(word: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    mode = fields.get("bind-propagation")
    if mode is None:
        return ()
    if mode not in PROPAGATION:
        raise bad("--mount", word, f"bad value for bind-propagation: {mode!r}")
    return (mode,)


def _bind_depth(word: str, fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return how far the bind and its read-only state reach below the source."""
    readonly = fields.get("readonly") == "1"
    depth = fields.get("bind-recursive", "enabled")
    if depth not in {"enabled", "disabled", "writable", "readonly"}:
        raise bad("--mount", word, f"bad value for bind-recursive: {depth!r}")
    if depth in {"writable", "readonly"} and not readonly:
        raise bad("--mount", word, f"bind-recursive={depth} needs readonly")
    if depth == "readonly" and fields.get("bind-propagation") != "rprivate":
        # A mount that arrives by propagation would not be read-only.
        raise bad("--mount", word, "bind-recursive=readonly needs bind-propagation=rprivate")
    flat = depth == "disabled" or fields.get("bind-nonrecursive") == "1"
    extent = ("bind",) if flat else ()
    return (*extent, "ro" if depth == "writable" else "rro") if readonly else extent


def _mount_tmpfs(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    if "source" in fields:
        raise bad("--mount", word, "a tmpfs has no source")
    _check_consistency(word, fields)
    options: list[str] = ["ro"] if fields.get("readonly") == "1" else []
    if "tmpfs-mode" in fields:
        mode = fields["tmpfs-mode"]
        if not _tmpfs_value_fits("octal", mode):
            raise bad("--mount", word, f"bad value for tmpfs-mode: {mode!r}")
        options.append(f"mode={mode}")
    if "tmpfs-size" in fields:
        # 0 is docker's "not said", and also the kernel's "no limit"
        options.append(f"size={size_in('--mount', word, fields['tmpfs-size'])}")
    target = _target("--mount", word, target, "")
    return Mount(type="tmpfs", target=target, options=tuple(options))


def _mount_volume(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    source = fields.get("source", "")
    fault = volume_name_fault(source) if source else ""
    if fault:
        raise bad("--mount", word, fault, "for a host folder say type=bind")
    readonly = fields.get("readonly") == "1"
    if readonly and not source:
        raise bad("--mount", word, "an anonymous volume cannot be read-only")
    driver = fields.get("volume-driver", "local")
    if driver not in {"", "local"}:
        raise bad("--mount", word, f"volume driver {driver!r}: there is none but local")
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
    if path.startswith("/") or ".." in path.split("/") or not is_text(path):
        raise bad("--mount", word, f"{key} {path!r}: not a relative path, or with .. in it")
    return path and posixpath.normpath(path)


def _mount_image(word: str, target: str, fields: Mapping[str, str]) -> Mount:
    source = fields.get("source", "")
    if not source:
        raise bad("--mount", word, "an image mount needs a source")
    if fields.get("readonly") == "0":
        raise bad("--mount", word, "an image is mounted read-only")
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
