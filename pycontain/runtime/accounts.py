"""Users and groups of an image: who the container's process is.

Owns docker's meaning of USER and ``--group-add``, read against passwd(5) and group(5) of the image.
These files are an attacker's to write: they are opened without leaving the root, only regular files
are read, in bounded size, and a line that is damaged names nobody. Nothing of the host's own
accounts is ever asked.
"""

from __future__ import annotations

import errno
import os
import stat

from pycontain.errors import ImageError, InvalidInput, NotFound, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Opener = Callable[[int, str, int], int]

_FILE_LIMIT = 10 << 20
_LINE_LIMIT = 1 << 20
_ID_MAX = 2**32 - 2  # 2^32-1 is -1, "leave it as it is" to setresuid(2)


class Account:
    """Who a process runs as.

    Attributes:
        uid: user.
        gid: primary group.
        additional_gids: supplementary groups, the primary one first (a process whose primary group
            is not among them can be kept out of a file by leaving that group).
        home: the home folder as passwd has it, which may be empty; ``/`` without an entry.
        name: the user's name; empty without an entry.
    """

    __slots__ = ("additional_gids", "gid", "home", "name", "uid")

    def __init__(
        self, uid: int, gid: int, additional_gids: tuple[int, ...], home: str, name: str
    ) -> None:
        self.uid = uid
        self.gid = gid
        self.additional_gids = additional_gids
        self.home = home
        self.name = name

    def _key(self) -> tuple[object, ...]:
        return self.uid, self.gid, self.additional_gids, self.home, self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Account{self._key()}"


class _User:
    """An entry of passwd(5)."""

    __slots__ = ("gid", "home", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.home = home


class _Group:
    """An entry of group(5)."""

    __slots__ = ("gid", "members", "name")

    def __init__(self, name: str, gid: int, members: tuple[str, ...]) -> None:
        self.name = name
        self.gid = gid
        self.members = members


def home(root_fd: int, uid: int) -> str:
    """Return the home folder of a user id; ``/`` where passwd says nothing.

    Raises:
        ImageError: passwd is not a regular file, or larger than 10 MiB.
        KernelError: it cannot be read.
    """
    return _find_user(_Files(root_fd, _open_in_root), str(uid)).home or "/"


def lookup(
    root_fd: int, user: str, groups: Sequence[str] = (), *, opener: Opener | None = None
) -> Account:
    """Find an image's account.

    Args:
        root_fd: the image's root folder (an O_PATH descriptor is enough).
        user: ``[USER][:GROUP]``, each a name or a decimal number; empty is the superuser. A number
            is always an id, even where somebody has it for a name, and needs no entry: without one
            the group is 0 and the home ``/``. Where GROUP is given, the user's own supplementary
            groups are left out.
        groups: ``--group-add``: names or numbers.
        opener: opens a path inside a root without leaving it; None is
            :func:`pycontain.kernel.paths.open_in_root`.

    Raises:
        NotFound: a name has no entry.
        InvalidInput: an id is out of range, or the word has more than one colon.
        ImageError: a file is not a regular one, or larger than 10 MiB.
        KernelError: a file cannot be read.
    """
    files = _Files(root_fd, opener or _open_in_root)
    user_word, _, group_word = user.partition(":")
    if ":" in group_word:
        raise InvalidInput(f"user {user!r}: not in the form USER[:GROUP]")
    found = _find_user(files, user_word)
    gid, additional = _primary(files, found, group_word)
    additional += [_group_id(files, word) for word in groups]
    unique = tuple(dict.fromkeys([gid, *additional]))
    return Account(found.uid, gid, unique, found.home, found.name)


def _find_user(files: _Files, word: str) -> _User:
    uid = _number(word or "0")
    for user in files.users():
        if user.uid == uid if uid is not None else user.name == word:
            return user
    if uid is None:
        raise NotFound(f"unable to find user {word}: no matching entries in passwd file")
    return _User("", uid, 0, "/")


def _primary(files: _Files, user: _User, word: str) -> tuple[int, list[int]]:
    """Return the primary group and the groups that list the user, none where `word` names one."""
    if word:
        return _group_id(files, word), []
    if not user.name:
        return user.gid, []
    return user.gid, [group.gid for group in files.groups() if user.name in group.members]


def _group_id(files: _Files, word: str) -> int:
    gid = _number(word)
    if gid is not None:
        return gid
    for group in files.groups():
        if group.name == word:
            return group.gid
    raise NotFound(f"unable to find group {word}: no matching entries in group file")


def _number(word: str) -> int | None:
    """Return an id, None for a name.

    Raises:
        InvalidInput: a number that no id can have.
    """
    if not word.removeprefix("-").isdigit() or not word.isascii():
        return None
    if word.startswith("-") or len(word) > 20 or int(word) > _ID_MAX:
        raise InvalidInput(f"id {word}: uids and gids must be in range 0-{_ID_MAX}")
    return int(word)


class _Files:
    """The two files, each read when it is first asked for."""

    def __init__(self, root_fd: int, opener: Opener) -> None:
        self._root_fd = root_fd
        self._opener = opener
        self._lines: dict[str, list[str]] = {}

    def users(self) -> Iterator[_User]:
        """Yield the entries of passwd(5) that are whole."""
        for line in self._read("etc/passwd"):
            fields = [*line.split(":"), "", ""]
            if len(fields) < 6:
                continue
            name, uid, gid, home = fields[0], _entry_id(fields[2]), _entry_id(fields[3]), fields[5]
            if name and uid is not None and gid is not None:
                yield _User(name, uid, gid, home)

    def groups(self) -> Iterator[_Group]:
        """Yield the entries of group(5) that are whole."""
        for line in self._read("etc/group"):
            fields = [*line.split(":"), ""]
            gid = _entry_id(fields[2]) if len(fields) >= 4 else None
            if fields[0] and gid is not None:
                yield _Group(fields[0], gid, tuple(fields[3].split(",")))

    def _read(self, path: str) -> list[str]:
        if path not in self._lines:
            data = _read_regular(self._root_fd, path, self._opener)
            self._lines[path] = [
                line.strip().decode(errors="replace")
                for line in data.split(b"\n")
                if len(line) <= _LINE_LIMIT and b"\0" not in line
            ]
        return self._lines[path]


def _entry_id(field: str) -> int | None:
    """Return the id in a field of an entry, None where it is damaged."""
    if not field.isascii() or not field.isdigit() or len(field) > 10 or int(field) > _ID_MAX:
        return None
    return int(field)


def _open_in_root(root_fd: int, path: str, flags: int) -> int:
    from pycontain.kernel.paths import open_in_root  # the compiled part is not needed to parse

    return open_in_root(root_fd, path, flags)


def _read_regular(root_fd: int, path: str, opener: Opener) -> bytes:
    """Return what an image's file holds; nothing where there is no such file."""
    try:
        # Opening a device can already do something (a watchdog starts), so look before opening.
        handle = opener(root_fd, path, os.O_PATH | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in {errno.ENOENT, errno.ENOTDIR}:
            return b""
        raise kernel_error("open in image", "/" + path, err.errno or errno.EIO) from err
    try:
        return _read_handle(handle, path)
    except OSError as err:
        raise kernel_error("read in image", "/" + path, err.errno or errno.EIO) from err
    finally:
        os.close(handle)


def _read_handle(handle: int, path: str) -> bytes:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise ImageError(f"/{path} in the image: not a regular file")
    # The handle names the inode that was looked at, whatever its path leads to by now (proc(5)).
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    with open(os.open(f"/proc/self/fd/{handle}", flags), "rb") as file:
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise ImageError(f"/{path} in the image: larger than {_FILE_LIMIT} bytes")
    return data
