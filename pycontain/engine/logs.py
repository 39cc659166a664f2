"""Reading a container's log, also while it is written and rotated.

The forms are the monitor's (native/log.c): k8s-file lines ``TIME STREAM P|F TEXT``, or docker's
json-file objects.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pycontain.engine.cancel import wait_readable
from pycontain.errors import InvalidInput, StoreError
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.engine.cancel import Cancel

_PAUSE_MS = 50


class LogEntry(NamedTuple):
    """A piece of one line, as the container wrote it.

    Attributes:
        time: nanoseconds since the epoch.
        stream: ``stdout`` or ``stderr``.
        data: the bytes, with the newline where the line ended.
    """

    time: int
    stream: str
    data: bytes


class _JsonLine(msgspec.Struct):
    log: str
    stream: str
    time: str


def parse_time(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 UTC time with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = _seconds(whole)
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)


_known: tuple[str, int] = ("", 0)


def _seconds(whole: str) -> int:
    global _known
    if _known[0] != whole:
        import calendar

        _known = (whole, calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")))
    return _known[1]


def parse(line: bytes, driver: str) -> LogEntry:
    """Return the entry of one line, given without its newline.

    Raises:
        ValueError: not a line of that form.
    """
    if driver == "json-file":
        item = files.decode(line, _JsonLine)
        return LogEntry(parse_time(item.time), item.stream, item.log.encode())
    stamp, stream, tag, text = line.split(b" ", 3)
    if tag not in (b"F", b"P"):
        raise ValueError(f"tag {tag!r}")
    return LogEntry(
        parse_time(stamp.decode()), stream.decode(), text + (b"\n" if tag == b"F" else b"")
    )


def read(
    path: str,
    driver: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    ended: Callable[[], bool],
    cancel: Cancel | None = None,
) -> Iterator[LogEntry]:
    """Yield the log's entries, oldest first, through its rotated files.

    Args:
        path: the newest file; older ones are ``path.1`` …
        driver: the log driver of the container.
        follow: go on until the container has ended and everything is read.
        tail: only the last so many lines.
        since: nanoseconds since the epoch, of the first entry wanted.
        until: the same of the last one.
        ended: whether nothing more will be written.
        cancel: ends the wait for more.

    Raises:
        Cancelled: by `cancel`.
        InvalidInput: the container keeps no log.
        StoreError: a file cannot be read.
    """
    if driver == "none":
        raise InvalidInput("logs: this container keeps no log (log driver none)")
    entries = _all_entries(path, driver, follow, ended, cancel)
    if tail is not None:
        entries = _last(path, driver, tail, entries, follow)
    for entry in entries:
        if since is not None and entry.time < since:
            continue
        if until is not None and entry.time > until:
            return
        yield entry


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise StoreError(f"log: {path}: {os.strerror(err.errno or 0).lower()}") from err


def _rotated(path: str) -> list[str]:
    """The older files, oldest first."""
    found = []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return found[::-1]


def _all_entries(
    path: str, driver: str, follow: bool, ended: Callable[[], bool], cancel: Cancel | None
) -> Iterator[LogEntry]:
    older = [fd for name in _rotated(path) if (fd := _open(name)) is not None]
    # Opened after the older ones: a rotation in between shows a file twice rather than never; the
    # inode tells.
    newest = _open(path)
    seen: set[int] = set()
    try:
        for fd in older:
            inode = os.fstat(fd).st_ino
            if newest is None or inode != os.fstat(newest).st_ino:
                seen.add(inode)
                yield from _lines(fd, driver, path)
        if newest is not None:
            fd, newest = newest, None
            if follow:
                yield from _follow(fd, path, driver, ended, cancel)
            else:
                yield from _once(fd, path, driver)
        elif follow:
            while newest is None and not ended():
                wait_readable((), _PAUSE_MS, cancel)
                newest = _open(path)
            if newest is not None:
                fd, newest = newest, None
                yield from _follow(fd, path, driver, ended, cancel)
    finally:
        for fd in older:
            os.close(fd)
        if newest is not None:
            os.close(newest)


def _once(fd: int, path: str, driver: str) -> Iterator[LogEntry]:
    try:
        yield from _lines(fd, driver, path)
    finally:
        os.close(fd)


def _chunk(fd: int, path: str) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError as err:
        raise StoreError(f"log: {path}: {os.strerror(err.errno or 0).lower()}") from err


def _lines(fd: int, driver: str, path: str, rest: bytearray | None = None) -> Iterator[LogEntry]:
    """Entries of what is in the file now; an unfinished last line stays in `rest`."""
    rest = bytearray() if rest is None else rest
    while chunk := _chunk(fd, path):
        rest += chunk
        if b"\n" not in chunk:
            continue
        *whole, tail = bytes(rest).split(b"\n")
        rest[:] = tail
        for line in whole:
            try:
                yield parse(line, driver)
            except ValueError as err:
                if b"\0" in line:
                    continue  # data that a power cut kept from the disk
                raise StoreError(f"log: {path}: damaged line: {err}") from err


def _follow(
    fd: int, path: str, driver: str, ended: Callable[[], bool], cancel: Cancel | None
) -> Iterator[LogEntry]:
    """Read on as the file grows; when it is rotated, go on with its successors."""
    rest = bytearray()
    try:
        while True:
            # Asked before the read: what was written before the end is then read before we stop.
            last = ended()
            yield from _lines(fd, driver, path, rest)
            successor = _successor(fd, path)
            if successor is not None:
                yield from _lines(fd, driver, path, rest)
                rest.clear()
                os.close(fd)
                fd = successor
                continue
            if last:
                return
            wait_readable((), _PAUSE_MS, cancel)
    finally:
        os.close(fd)


def _successor(fd: int, path: str) -> int | None:
    """The file that was begun right after the one open at `fd`, None while `fd` is the newest."""
    inode = os.fstat(fd).st_ino
    newer = path
    for number in range(1, 1000):
        try:
            newest = os.stat(newer).st_ino
        except FileNotFoundError:
            return None
        if newest == inode:
            return None if number == 1 else _open(f"{path}.{number - 2}" if number > 2 else path)
        newer = f"{path}.{number}"
    return None


def _last(
    path: str, driver: str, count: int, entries: Iterator[LogEntry], follow: bool
) -> Iterator[LogEntry]:
    """The last `count` lines of what there is, and, when following, all that comes after."""
    from collections import deque

    kept: deque[list[LogEntry]] = deque(maxlen=max(count, 0))
    open_lines: dict[str, list[LogEntry]] = {}
    # Without following: the end of what is there now. The files are read once more when following,
    # skipping what has been counted.
    seen = 0
    for entry in _all_entries(path, driver, False, lambda: True, None):
        seen += 1
        line = open_lines.get(entry.stream)
        if line is None:
            line = open_lines[entry.stream] = []
            kept.append(line)
        line.append(entry)
        if entry.data.endswith(b"\n"):
            del open_lines[entry.stream]
    for line in kept:
        yield from line
    if follow:
        for number, entry in enumerate(entries):
            if number >= seen:
                yield entry
