"""The files of ``--cidfile`` and ``--pod-id-file``: an id, which scripts read."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 4096  # bytes; an id has 64


class IdFile:
    """A new file that gets an id.

    Args:
        path: of the file.
        kind: whose id it is: ``container`` or ``pod``.
        flag: that names the file.
    """

    def __init__(self, path: str, kind: str, flag: str) -> None:
        self._path = path
        self._kind = kind
        self._flag = flag
        self._used = False

    def write(self, identity: str) -> None:
        """Write the id: the file stays."""
        with open(self._path, "w", encoding="ascii") as file:
            file.write(identity)
        self._used = True

    def claim(self) -> None:
        """Make the file.

        Raises:
            InvalidInput: it is there, or cannot be made.
        """
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self._path, flags, 0o644))
        except FileExistsError as err:
            raise InvalidInput(
                f"{self._kind} ID file found, make sure the other {self._kind} isn't running or "
                f"delete {self._path}"
            ) from err
        except OSError as err:
            reason = (err.strerror or str(err)).lower()
            raise InvalidInput(f"{self._flag}: {self._path}: {reason}") from err

    def release(self) -> None:
        """Remove the file where no id was written."""
        if not self._used:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


@contextlib.contextmanager
def claimed(
    path: str | None, kind: str = "container", flag: str = "cidfile"
) -> Iterator[IdFile | None]:
    """Claim a file before what has the id is made, so that a bad path costs nothing.

    Args:
        path: None is none.
        kind: whose id it is.
        flag: that names the file.
    """
    if path is None:
        yield None
        return
    file = IdFile(path, kind, flag)
    file.claim()
    try:
        yield file
    finally:
        file.release()


def read(path: str, flag: str) -> str:
    """Return the id that is in a file.

    Raises:
        InvalidInput: it cannot be read, or there is none in it.
    """
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            identity = file.read(_LONGEST).strip()
    except OSError as err:
        raise InvalidInput(f"{flag}: {path}: {(err.strerror or str(err)).lower()}") from err
    if not identity:
        raise InvalidInput(f"{flag}: {path}: there is no ID in it")
    return identity
