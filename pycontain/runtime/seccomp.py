"""Seccomp: a profile as the BPF program that seccomp(2) takes.

Owns the cache of compiled filters, and what is told of seccomp (``known_…``, ``supported_flags``).
The profile of a container that asked for none is in ``seccomp_default``, reading one that a user
wrote in ``seccomp_file``, compiling one in ``seccomp_bpf`` with libseccomp; all are imported only
when they are needed, because every start of a container comes through here. The filter is
installed by the executor, which gets bytes and flags.
"""

from __future__ import annotations

import errno
import os

from pycontain.errors import InvalidInput, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model import oci

NEW_LISTENER = 1 << 3
"""SECCOMP_FILTER_FLAG_NEW_LISTENER, linux/seccomp.h: seccomp(2) then returns a listener."""


class Filter:
    """A compiled profile.

    Attributes:
        program: an array of struct sock_filter (linux/filter.h), in the machine's byte order.
        flags: SECCOMP_FILTER_FLAG_* for seccomp(2); with ``NEW_LISTENER`` the profile notifies.
    """

    __slots__ = ("flags", "program")

    def __init__(self, program: bytes, flags: int) -> None:
        self.program = program
        self.flags = flags

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        return (self.program, self.flags) == (other.program, other.flags)

    def __hash__(self) -> int:
        return hash((self.program, self.flags))

    def __repr__(self) -> str:
        return f"Filter({len(self.program)} bytes, {self.flags:#x})"


def default_profile(capabilities: Iterable[str], machine: str | None = None) -> oci.Seccomp:
    """Return the profile of a container that asked for none (runtime-spec, config-linux.md).

    Args:
        capabilities: the names (``CAP_…``) in the container's bounding set.
        machine: as in uname(2); None is this one.

    Raises:
        NotSupported: there is no profile for this machine.
    """
    from pycontain.runtime import seccomp_default

    return seccomp_default.profile(capabilities, machine)


def load_profile(path: str, capabilities: Iterable[str]) -> oci.Seccomp:
    """Return the profile in the JSON file `path`, in OCI's form or in docker's.

    Args:
        path: the file that the user named.
        capabilities: the names in the container's bounding set, which docker's ``includes`` and
            ``excludes`` ask for.

    Raises:
        InvalidInput: it cannot be read or is no profile; says where.
    """
    from pycontain.runtime import seccomp_file

    return seccomp_file.load(path, capabilities)


def compile_filter(profile: oci.Seccomp, cache_folder: str | None) -> Filter:
    """Return `profile` compiled for this machine and kernel (config-linux.md, "Seccomp").

    A compiled filter is kept in `cache_folder` and used again for the same profile on the same
    kernel with the same libseccomp; a damaged entry, or one that is not the caller's own, is made
    anew. Nothing removes old entries, so a folder that dies with the boot is the right one. It is
    made with mode 0700.

    Args:
        profile: an OCI seccomp object.
        cache_folder: made when missing; None compiles every time.

    Raises:
        InvalidInput: the profile names an unknown action, flag, operator or architecture, notifies
            of what the start itself needs, or notifies and has no listenerPath.
        NotSupported: libseccomp is missing.
        StoreError: the cache cannot be read or written.
    """
    found = _compile(profile) if cache_folder is None else _through_cache(profile, cache_folder)
    if found.flags & NEW_LISTENER and not profile.get("listenerPath"):
        raise InvalidInput(
            "seccomp profile: SCMP_ACT_NOTIFY: without listenerPath nobody would answer"
        )
    return found


def known_actions() -> list[str]:
    """Return the names of the actions that a profile may have (features-linux.md, "Seccomp").

    Raises:
        NotSupported: libseccomp is missing; so for the functions below.
    """
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.known_actions()


def known_operators() -> list[str]:
    """Return the names of the operators that a condition may have."""
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.known_operators()


def known_architectures() -> list[str]:
    """Return the names of the architectures that this libseccomp knows."""
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.known_architectures()


def known_flags() -> list[str]:
    """Return the names of the flags that a profile may have."""
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.known_flags()


def supported_flags() -> list[str]:
    """Return those of ``known_flags`` that the running kernel takes. Installs nothing."""
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.supported_flags()


def library_version() -> str:
    """Return the version of libseccomp, such as ``2.5.4``."""
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.library_version()


def _compile(profile: oci.Seccomp) -> Filter:
    from pycontain.runtime import seccomp_bpf

    return Filter(*seccomp_bpf.compile_profile(profile))


# The cache. An entry is the key in full, the files that compiled it (libseccomp and our part), and
# the program, behind a header with a checksum, their lengths and the filter's flags. Comparing the
# whole key leaves nothing to collisions of the name, and saves the 5 ms that importing hashlib or
# json costs.

_MAGIC = b"pcsf\x00\x00\x00\x02"
_WORD = 4
_WORDS = len(_MAGIC) + _WORD  # where the lengths begin, behind the checksum
_BODY = _WORDS + 4 * _WORD
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def _through_cache(profile: oci.Seccomp, folder: str) -> Filter:
    key = _key(profile)
    path = f"{folder}/{_name(key)}"
    found = _cached(path, key)
    if found is None:
        found = _compile(profile)
        _keep(folder, path, key, found)
    return found


def _key(profile: oci.Seccomp) -> bytes:
    """Return what the filter depends on, apart from what compiles it.

    The kernel's release stands for the actions and calls that it knows. Two orders of the same
    keys are two entries, which costs a compilation and nothing else.
    """
    import marshal

    host = os.uname()
    asked = (
        profile.get("defaultAction"),
        profile.get("defaultErrnoRet"),
        profile.get("architectures"),
        profile.get("flags"),
        profile.get("syscalls"),
    )
    # Later versions write how an object is shared, which differs between equal ones.
    return marshal.dumps((host.machine, host.release, asked), 2)


def _name(key: bytes) -> str:
    import zlib

    return f"{zlib.crc32(key):08x}-{len(key)}.bpf"


def _cached(path: str, key: bytes) -> Filter | None:
    """Return the entry `path`; None: absent, damaged, another's or outdated."""
    data = _read(path)
    parts = None if data is None else _unpack(data)
    if parts is None or parts[0] != key or not _is_current(parts[1]):
        return None
    return parts[2]


def _read(path: str) -> bytes | None:
    """Return the file `path` if it is there and nobody but this user can have written it."""
    import stat

    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except OSError as err:
        if err.errno == errno.ELOOP:
            return None  # a symbolic link; the new entry takes its place
        raise _unreadable(path, err) from err
    try:
        info = os.fstat(fd)
        own = info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not own or not stat.S_ISREG(info.st_mode):
            return None
        # An entry is never written in place, so one read of its size is all of it.
        return os.read(fd, info.st_size)
    except OSError as err:
        raise _unreadable(path, err) from err
    finally:
        os.close(fd)


def _unreadable(path: str, err: OSError) -> StoreError:
    return StoreError(f"read seccomp filter: {path}: {(err.strerror or str(err)).lower()}")


def _unpack(data: bytes) -> tuple[bytes, bytes, Filter] | None:
    import zlib

    if len(data) < _BODY or not data.startswith(_MAGIC):
        return None
    checksum, *lengths, flags = (
        int.from_bytes(data[at : at + _WORD], "little") for at in range(len(_MAGIC), _BODY, _WORD)
    )
    body = data[_BODY:]
    if len(body) != sum(lengths) or zlib.crc32(data[_WORDS:]) != checksum:
        return None
    key, makers, _ = lengths
    return body[:key], body[key : key + makers], Filter(body[key + makers :], flags)


def _keep(folder: str, path: str, key: bytes, found: Filter) -> None:
    import zlib

    from pycontain.runtime import seccomp_bpf
    from pycontain.store import files

    try:
        makers = [_identity(path) for path in (seccomp_bpf.library_path(), seccomp_bpf.__file__)]
    except FileNotFoundError:
        return  # replaced while we have it loaded: an entry could not say what made it
    parts = (key, b"\n".join(makers), found.program)
    words = (*map(len, parts), found.flags)
    rest = b"".join([*(word.to_bytes(_WORD, "little") for word in words), *parts])
    files.make_folders(folder)
    checksum = zlib.crc32(rest).to_bytes(_WORD, "little")
    files.write_atomic(path, _MAGIC + checksum + rest, durable=False)


def _identity(path: str) -> bytes:
    """Return what tells this version of a file from another, without reading it."""
    info = os.stat(path)
    return os.fsencode(f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns} {path}")


def _is_current(makers: bytes) -> bool:
    """Tell whether what made an entry is what would make it now: a newer libseccomp knows more."""
    try:
        return all(_identity(os.fsdecode(line.split(b" ", 4)[-1])) == line
                   for line in makers.split(b"\n"))  # fmt: skip
    except OSError:
        return False  # moved or removed: compile with what is there now
