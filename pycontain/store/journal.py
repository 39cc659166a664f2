"""A journal: lines that many processes append to one file, rotated, for any number of readers.

Owns the files and the order of appends; knows nothing of what a line says.

A folder holds ``journal``, the newest file, and ``journal.N``, older ones, of which a greater N is
newer. Whoever appends has the newest file locked, flock(2), shared with others who append; whoever
rotates it has it alone. So nobody appends to a file that has been renamed: a reader that finds it
renamed reads it to its end, and then the next.

A line is one write. It is torn where its writer is killed between two pages, the disk is full, or
the power fails. The next writer then begins a new line; two that append at the same moment may both
miss it, so a line may follow a torn one without a newline. Where a line goes over the end of a page
the file grows twice in one write, so who looks in between takes it for torn: its newline makes an
empty line then, which readers pass over.

The monitor appends too (native/event.c).
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from pycontain.errors import StoreError
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterator

NEWEST = "journal"
_PREFIX = f"{NEWEST}."
_LIMIT = 1 << 20
_KEPT = 3
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK = 1 << 16


class Journal:
    """The journal in one folder, which is there.

    Args:
        folder: its path.
        limit: bytes from which on the newest file is rotated.
        kept: how many older files are kept.
    """

    def __init__(self, folder: str, *, limit: int = _LIMIT, kept: int = _KEPT) -> None:
        self.folder = folder
        self._path = f"{folder}/{NEWEST}"
        self._limit = limit
        self._kept = kept

    def append(self, line: bytes) -> None:
        """Append one line, given with its newline; it is not synced to disk.

        Raises:
            StoreError: it cannot be written, or not whole.
        """
        try:
            fd = self._open_newest()
            try:
                size = os.fstat(fd).st_size
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                data = b"\n" + line if torn else line
                if os.write(fd, data) != len(data):
                    raise StoreError(f"append: {self._path}: no space left on device")
                if size + len(data) >= self._limit:
                    self._rotate(fd, wait=size >= 2 * self._limit)
            finally:
                os.close(fd)
        except OSError as err:
            raise files.store_error("append", self._path, err) from err

    def _open_newest(self) -> int:
        while True:
            fd = os.open(self._path, _APPEND, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if self._is_newest(fd):
                return fd
            os.close(fd)

    def _is_newest(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _rotate(self, fd: int, *, wait: bool) -> None:
        try:
            # Conversion is not atomic (flock(2)): another may have rotated it in between, and two
            # that wait do not wait for each other.
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # others append right now: the next writer does it
        if not self._is_newest(fd):
            return
        older = self.older()
        number = older[-1] + 1 if older else 1
        os.rename(self._path, self.path(number))
        for old in older:
            if old <= number - self._kept:
                files.remove(self.path(old))

    def path(self, number: int | None) -> str:
        """Return the path of an older file; None is the newest."""
        return self._path if number is None else f"{self._path}.{number}"

    def older(self) -> list[int]:
        """Return the numbers of the older files, oldest first.

        Raises:
            StoreError: the folder cannot be read.
        """
        try:
            names = os.listdir(self.folder)
        except OSError as err:
            raise files.store_error("read", self.folder, err) from err
        ends = (name[len(_PREFIX) :] for name in names if name.startswith(_PREFIX))
        return sorted(int(end) for end in ends if end.isascii() and end.isdecimal())


class Reader:
    """Reads a journal from its oldest line, or from its present end, on to what comes.

    Args:
        journal: which.
        past: begin with the oldest line that is kept.

    Raises:
        StoreError: a file cannot be read.
    """

    def __init__(self, journal: Journal, *, past: bool) -> None:
        self._journal = journal
        self._fd = -1
        self._rest = b""
        self._past = past
        # The number of the last file that was read to its end: the open one has the next.
        self._done = 0 if past else max(journal.older(), default=0)
        if not past and self._open_next():
            os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines from where the last call ended to the present end, without newlines.

        Empty ones are none. What is at the end without a newline is torn or being written: a later
        call tells.

        Raises:
            StoreError: a file cannot be read; or files are gone that were not read yet, because
                this reader was too slow.
        """
        while self._fd >= 0 or self._open_next():
            # Asked before the read: what is in a renamed file by then is all that ever will be.
            newest = self._is_newest()
            yield from self._present()
            if newest:
                return
            if self._rest:
                yield self._rest
            self.close()
            # Unless somebody removed it by hand: then that number is still to come.
            self._done += any(number > self._done for number in self._journal.older())

    def _is_newest(self) -> bool:
        try:
            newest = os.stat(self._journal.path(None))
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(self._fd), newest)

    def _present(self) -> Iterator[bytes]:
        while chunk := self._read():
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from filter(None, whole)

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, _CHUNK)
        except OSError as err:
            raise files.store_error("read", self._journal.folder, err) from err

    def _open_next(self) -> bool:
        """Open the file that comes after the last one; False while there is none."""
        while True:
            following = [number for number in self._journal.older() if number > self._done]
            if following and following[0] > self._done + 1:
                if not self._past:
                    raise self._too_slow()
                self._done = following[0] - 1
            try:
                fd = os.open(
                    self._journal.path(following[0] if following else None),
                    os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW,
                )
            except FileNotFoundError:
                if following:
                    continue
                return False
            except OSError as err:
                raise files.store_error("read", self._journal.folder, err) from err
            # The newest may have been rotated between the look and the open, more than once.
            if following or not any(at > self._done for at in self._journal.older()):
                self._fd = fd
                self._past = False
                return True
            os.close(fd)

    def _too_slow(self) -> StoreError:
        return StoreError(
            f"read: {self._journal.folder}: lines are gone that were not read yet",
            "they are kept for some thousand more: read faster, or look at the present state",
        )

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._rest = b""
