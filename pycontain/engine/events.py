"""Events: told by whoever does something, kept in a journal, read by anybody.

A container's start, end and oom kills are told by its monitor (native/event.c), an exec's by the
exec's; all else by the command that did it, after it was done. Who cannot write an event goes on:
nothing is decided by events, the state of a container is derived from its records.

The end of a run is told once, also where the monitor is killed: its file ``event`` says whom a
run's events are about, and is there until the end was told. Whoever finds it and no monitor tells
the end, under the container's lock. The journal lies in the state folder, so it begins with the
boot.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from pycontain import trace
from pycontain.engine.cancel import wait_readable
from pycontain.errors import Cancelled, InvalidInput, StoreError
from pycontain.model.event import Event
from pycontain.store import files
from pycontain.store.journal import Journal, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.model.container import Container
    from pycontain.store.layout import ContainerPaths, Layout

    Filters = Mapping[str, Sequence[str]]
    Test = Callable[[Event], bool]

_MOST_LABELS = 32 << 10  # bytes of labels in one event
_MOST_COMMAND = 4096  # characters of a command in one event
# In a line it can only be the beginning: within a string its quotes are escaped.
_BEGIN = b'{"time":'


def attributes(container: Container) -> dict[str, str]:
    """Return what every event of a container says of it.

    Labels that would make it longer than some ten thousand bytes are left out, those of its image
    first.
    """
    own = container.options.labels
    of_image = (container.config.labels or {}).items()
    labels = {**own, **{name: value for name, value in of_image if name not in own}}
    size = 0
    found = {}
    for name, value in labels.items():
        size += len(name.encode()) + len(value.encode())
        if size <= _MOST_LABELS:
            found[name] = value
    return {**found, "image": container.options.image, "name": container.name}


def command_words(command: Sequence[str]) -> str:
    """Return a command as the action of an exec's event has it; a long one is cut."""
    text = " ".join(command)
    if len(text) > _MOST_COMMAND:
        text = f"{text[: _MOST_COMMAND - 1]}…"
    # An argument may be any bytes, an event is text.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_about(paths: ContainerPaths, container: Container) -> None:
    """Say whom the events of its monitors are about.

    Raises:
        StoreError: it cannot be written.
    """
    told = msgspec.json.encode({"id": container.id, "attributes": attributes(container)})
    files.write_atomic(paths.event, told[1:-2], durable=False)


def quoted(text: str) -> str:
    """Return `text` as the monitor writes it between the quotes of a JSON string."""
    return msgspec.json.encode(text)[1:-1].decode()


class Events:
    """The events of one store."""

    def __init__(self, layout: Layout) -> None:
        self._journal = Journal(layout.events)

    def tell(self, action: str, container: Container, **more: str) -> None:
        """Tell an event of a container, with `more` attributes."""
        self._append("container", action, container.id, {**attributes(container), **more})

    def tell_image(self, action: str, identity: str, name: str) -> None:
        """Tell an event of an image."""
        self._append("image", action, identity, {"name": name})

    def tell_volume(self, action: str, name: str, said: dict[str, str]) -> None:
        """Tell an event of a volume."""
        self._append("volume", action, name, said)

    def tell_network(self, action: str, identity: str, name: str, driver: str, **more: str) -> None:
        """Tell an event of a network, with `more` attributes (which container came or went)."""
        self._append("network", action, identity, {"name": name, "type": driver, **more})

    def tell_pod(self, action: str, identity: str, name: str, labels: Mapping[str, str]) -> None:
        """Tell an event of a pod."""
        self._append("pod", action, identity, {**labels, "name": name})

    def tell_kube(self, action: str, kind: str, name: str, uid: str) -> None:
        """Tell an event of an object that is declared."""
        self._append("kube", action, uid, {"kind": kind, "name": name})

    def _append(self, kind: str, action: str, identity: str, said: dict[str, str]) -> None:
        event = Event(time=time.time_ns(), type=kind, action=action, id=identity, attributes=said)
        try:
            self._journal.append(msgspec.json.encode(event) + b"\n")
        except StoreError as err:
            trace.report(f"event {action} is lost: {err}", 0.0)

    def was_told(self, verb: str, identity: str, since: int) -> bool:
        """Whether there is such an event of a container since `since`, in ns since the epoch."""
        with self.read(since=since, follow=False) as stream:
            return any(event.id == identity and event.verb == verb for event in stream)

    def read(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        filters: Filters | None = None,
        follow: bool = True,
        cancel: Cancel | None = None,
    ) -> EventStream:
        """Return an iterator over events, oldest first, which waits for those to come.

        What happens from the call on is in it, however late it is iterated over.

        Args:
            since: nanoseconds since the epoch, of the first event wanted; without it and `until`
                they are those from now on, otherwise from the first that is kept.
            until: the same of the last one; what is to come is waited for.
            filters: ``container`` (id or name, or how one of them starts), ``image`` (id or name),
                ``network`` and ``pod`` (how its id or name starts), ``volume`` (how its name
                starts), ``event`` (action), ``type``, ``label`` (NAME or NAME=VALUE), ``scope``
                (``local``): an event passes that fits one value of each, of ``label`` all.
            follow: False ends at the present.
            cancel: ends the iteration.

        Raises:
            InvalidInput: an unknown filter, or `since` is after `until`.
            StoreError, KernelError: the journal cannot be read or watched.
        """
        if since is not None and until is not None and since > until:
            raise InvalidInput(
                f"`since` time ({_seconds(since)}) cannot be after `until` time ({_seconds(until)})"
            )
        tests = [_bounds(since, until), *_tests(filters or {})]
        past = since is not None or until is not None or not follow
        return EventStream(self._journal, tests, past, follow, until, cancel)


class EventStream:
    """Events as they are read; an iterator, and a context manager that gives descriptors back.

    Iterating raises StoreError where events were rotated away before they were read.
    """

    def __init__(
        self,
        journal: Journal,
        tests: Sequence[Test],
        past: bool,
        follow: bool,
        until: int | None,
        cancel: Cancel | None,
    ) -> None:
        self._tests = tests
        self._until = until
        self._cancel = cancel
        self._watch = None
        if follow:
            from pycontain.kernel.inotify import FolderWatch

            self._watch = FolderWatch(journal.folder)
        try:
            self._reader: Reader | None = Reader(journal, past=past)
        except BaseException:
            self._reader = None
            self.close()
            raise
        self._events = self._wanted(self._reader)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def _wanted(self, reader: Reader) -> Iterator[Event]:
        while True:
            # Asked before the files are read: what is appended after it makes it readable again.
            if self._watch is not None:
                self._watch.clear()
            left = self._left()
            for line in reader.lines():
                event = decode(line)
                if event is not None and all(test(event) for test in self._tests):
                    yield event
            if self._watch is None or left == 0:
                return
            try:
                wait_readable((self._watch.fileno(),), left, self._cancel)
            except Cancelled:
                return

    def _left(self) -> float | None:
        """Milliseconds until the last moment wanted; at least one before that."""
        if self._until is None:
            return None
        left = (self._until - time.time_ns()) / 1e6
        return max(1.0, left) if left > 0 else 0

    def close(self) -> None:
        """Give the descriptors back."""
        watch, self._watch = self._watch, None
        reader, self._reader = self._reader, None
        if watch is not None:
            watch.close()
        if reader is not None:
            reader.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decode(line: bytes) -> Event | None:
    """Return the event of a line of the journal; None where it is torn.

    What stands before the last beginning of a line was torn off and is passed over.
    """
    try:
        return files.decode(line[max(0, line.rfind(_BEGIN)) :], Event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _seconds(moment: int) -> str:
    return f"{moment / 1e9:.9f}".rstrip("0").rstrip(".")


# --- filters -------------------------------------------------------------------------------------


def _bounds(since: int | None, until: int | None) -> Test:
    def within(event: Event) -> bool:
        if since is not None and event.time < since:
            return False
        return until is None or event.time <= until

    return within


def _by_container(values: Sequence[str]) -> Test:
    starts = tuple(value.removeprefix("/") for value in values)

    def matches(event: Event) -> bool:
        name = event.attributes.get("name", "")
        return event.type == "container" and (
            event.id.startswith(starts) or name.startswith(starts)
        )

    return matches


def _untagged(name: str) -> str:
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def _by_image(values: Sequence[str]) -> Test:
    def matches(event: Event) -> bool:
        is_image = event.type == "image"
        name = event.attributes.get("name" if is_image else "image", "")
        names = {name, _untagged(name), event.id if is_image else name}
        return not names.isdisjoint(values)

    return matches


def _by_volume(values: Sequence[str]) -> Test:
    return lambda event: event.type == "volume" and event.id.startswith(tuple(values))


def _by_network(values: Sequence[str]) -> Test:
    def matches(event: Event) -> bool:
        name = event.attributes.get("name", "")
        return event.type == "network" and (
            name.startswith(tuple(values)) or event.id.startswith(tuple(values))
        )

    return matches


def _by_pod(values: Sequence[str]) -> Test:
    starts = tuple(values)
    return lambda event: (
        event.type == "pod"
        and (event.id.startswith(starts) or event.attributes.get("name", "").startswith(starts))
    )


def _by_action(values: Sequence[str]) -> Test:
    return lambda event: event.action in values or event.verb in values


def _by_type(values: Sequence[str]) -> Test:
    return lambda event: event.type in values


def _by_label(values: Sequence[str]) -> Test:
    wanted = [value.partition("=") for value in values]

    def has_all(event: Event) -> bool:
        labels = event.attributes
        return all(
            name in labels and (not equals or labels[name] == value)
            for name, equals, value in wanted
        )

    return has_all


def _by_scope(values: Sequence[str]) -> Test:
    local = "local" in values
    return lambda _: local


_FILTERS: dict[str, Callable[[Sequence[str]], Test]] = {
    "container": _by_container,
    "event": _by_action,
    "image": _by_image,
    "label": _by_label,
    "network": _by_network,
    "pod": _by_pod,
    "scope": _by_scope,
    "type": _by_type,
    "volume": _by_volume,
}


def _tests(filters: Filters) -> list[Test]:
    for name in filters:
        if name not in _FILTERS:
            raise InvalidInput(f"invalid filter {name!r}", f"there are {', '.join(_FILTERS)}")
    return [_FILTERS[name](values) for name, values in filters.items() if values]
