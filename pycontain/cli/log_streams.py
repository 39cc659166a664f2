"""Logs of several containers at once: ``pod logs``, ``kube logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pycontain.cli import streams
from pycontain.cli.output import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontain.engine.logs import LogEntry

    Source = tuple[str, Iterable[LogEntry]]
    """What each line of a container begins with, and its entries, oldest first."""


class _Piece(NamedTuple):
    """An entry, and of which source it is."""

    source: int
    entry: LogEntry


def write(sources: Sequence[Source], *, follow: bool, stamps: bool) -> None:
    """Copy the logs of containers to the streams that their lines came from.

    Args:
        sources: of each container.
        follow: as they come, until the last one ends; otherwise in the order of their times.
        stamps: say when each line came.
    """
    entries = [source[1] for source in sources]
    pieces = _following(entries) if follow else _merged(entries)
    _copy(pieces, [source[0] for source in sources], stamps)


def _merged(sources: Sequence[Iterable[LogEntry]]) -> Iterator[_Piece]:
    """Entries of all containers in the order of their times."""
    import heapq

    def tagged(number: int, entries: Iterable[LogEntry]) -> Iterator[_Piece]:
        return (_Piece(number, entry) for entry in entries)

    several = (tagged(number, entries) for number, entries in enumerate(sources))
    return heapq.merge(*several, key=lambda piece: piece.entry.time)


def _following(sources: Sequence[Iterable[LogEntry]]) -> Iterator[_Piece]:
    """Entries as they come, each container's read by a thread, until the last one ends."""
    from queue import SimpleQueue
    from threading import Thread

    queue: SimpleQueue[_Piece | BaseException | None] = SimpleQueue()

    def read(number: int, entries: Iterable[LogEntry]) -> None:
        try:
            for entry in entries:
                queue.put(_Piece(number, entry))
        except BaseException as err:  # noqa: BLE001 - raised again by the caller's thread
            queue.put(err)
        queue.put(None)

    for source in enumerate(sources):
        Thread(target=read, args=source, daemon=True).start()
    left = len(sources)
    while left:
        found = queue.get()
        if found is None:
            left -= 1
        elif isinstance(found, BaseException):
            raise found
        else:
            yield found
            streams.flush()


def _copy(pieces: Iterable[_Piece], prefixes: Sequence[str], stamps: bool) -> None:
    # where an entry continues the last line of its container and stream
    inside: set[tuple[int, str]] = set()
    for number, entry in pieces:
        key = (number, entry.stream)
        head = b""
        if key not in inside:
            stamp = f"{rfc3339(entry.time, 9)} " if stamps else ""
            head = f"{prefixes[number]}{stamp}".encode()
        streams.copy(entry.stream, head + entry.data)
        if entry.data.endswith(b"\n"):
            inside.discard(key)
        else:
            inside.add(key)
