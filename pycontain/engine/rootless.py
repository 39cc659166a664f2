"""Where the networks of an ordinary user are: a network namespace of the user's own.

A command, and a worker, is in the user's user namespace and in the host's network namespace, from
where images are pulled and where published ports are bound. What it does with networks is done in
the other one, as root's is done in the host's: by the same code, in a thread that went there.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pycontain.errors import NotFound, PycontainError
from pycontain.kernel import userns
from pycontain.runtime.handover import open_native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pycontain.model.network import Attachment
    from pycontain.store.layout import ContainerPaths, Layout

Function = TypeVar("Function", bound="Callable[..., Any]")

_inside: bool | None = None


def enter(layout: Layout) -> None:
    """Bring this process into the user's namespaces; for faces, whose process it is.

    Raises:
        NotSupported, NotPermitted: see ``kernel.userns.enter``.
    """
    userns.enter(layout.state, open_native, lambda: _survivors(layout))


def _survivors(layout: Layout) -> list[tuple[int, int]]:
    """Pid and start time of processes that live in the user's namespaces: the monitors of the
    store, those of containers with networks first, and the resolver of names.
    """
    return [found for _, found in sorted(_recorded(layout))]


def _recorded(layout: Layout) -> Iterator[tuple[bool, tuple[int, int]]]:
    from pycontain.engine import resolving
    from pycontain.store import files

    if resolver := resolving.recorded(layout):
        yield False, resolver
    for paths in _running(layout):
        try:
            record: dict[str, object] = files.load(paths.run_record, dict)
        except PycontainError:
            continue  # it never ran, or its record is damaged
        pid, start = record.get("monitor"), record.get("monitor_start")
        if isinstance(pid, int) and isinstance(start, int):
            yield not os.path.exists(paths.endpoints), (pid, start)


def _running(layout: Layout) -> Iterator[ContainerPaths]:
    """The paths of what may run: containers and pods."""
    for folder, paths in (
        (layout.state_containers, layout.container), (layout.state_pods, layout.pod),
    ):  # fmt: skip
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue
        for name in names:
            yield paths(name)


def open_home(layout: Layout) -> int | None:
    """Return a descriptor of the network namespace of the store's networks.

    None where that is the caller's: root's is the host's.

    Raises:
        NotSupported: an ordinary user can have none on this machine.
        KernelError: it cannot be opened.
    """
    global _inside
    if _inside is None:
        _inside = userns.inside()
    if not _inside:
        return None
    return userns.open_network(layout.state, open_native, lambda: _survivors(layout))


def there(function: Function) -> Function:
    """Make a function of a layout, or a method of what has one, be carried out where networks are.

    It must not look for anything of the host's network.
    """

    @functools.wraps(function)
    def wrapper(first: Any, *args: Any, **kwargs: Any) -> Any:
        home = open_home(getattr(first, "_layout", first))
        if home is None:
            return function(first, *args, **kwargs)
        from pycontain.kernel import netns

        try:
            if netns.is_current(home):
                return function(first, *args, **kwargs)
            return netns.within(home, lambda: function(first, *args, **kwargs))
        finally:
            os.close(home)

    return cast("Function", wrapper)


# ---- to the outside ----


def check(layout: Layout, networks: Iterable[str]) -> None:
    """See that an ordinary user can have what leads out of networks.

    Args:
        layout: of the store.
        networks: names or ids; those that are not there are nobody's matter here.

    Raises:
        NotSupported: there is nothing that could.
    """
    home = open_home(layout)
    if home is None:
        return
    os.close(home)
    from pycontain.network import outside, store

    for name in networks:
        try:
            if store.find(layout, name).internal:
                continue
        except NotFound:
            if name != store.DEFAULT:
                continue
        outside.check()


def reach_out(layout: Layout, attachments: Iterable[Attachment]) -> None:
    """See that the networks have a way to the outside, if any of `attachments` leads there.

    Raises:
        NotSupported: there is no program for it.
        PycontainError: it cannot be started.
    """
    if all(one.internal for one in attachments):
        return
    home = open_home(layout)
    if home is None:
        return
    from pycontain import trace
    from pycontain.network import outside
    from pycontain.store import files

    try:
        with files.Lock(_lock(layout)), trace.Span("connect to the outside"):
            outside.ensure(layout.state, home, layout.cache)
    finally:
        os.close(home)


def upstream(layout: Layout) -> str:
    """Return the address that stands in the networks for the host's resolvers on its loopback.

    Empty where networks are in the host's own namespace.
    """
    home = open_home(layout)
    if home is None:
        return ""
    os.close(home)
    from pycontain.network import outside

    return outside.RESOLVER


def host_address(layout: Layout) -> str:
    """Return the address by which an ordinary user's containers reach the host, which lies outside
    of their networks; empty where it is their gateway's.
    """
    home = open_home(layout)
    if home is None:
        return ""
    os.close(home)
    from pycontain.network import outside

    return outside.host_address()


def close_off(layout: Layout, is_used: Callable[[], bool]) -> None:
    """Take the way to the outside away, unless somebody has a lease in any network.

    Raises:
        KernelError: it cannot be ended.
    """
    home = open_home(layout)
    if home is None:
        return
    os.close(home)
    from pycontain.network import outside
    from pycontain.store import files

    with files.Lock(_lock(layout)):
        if not is_used():
            outside.stop(layout.state)


def _lock(layout: Layout) -> str:
    return layout.lock("network", "outside")
