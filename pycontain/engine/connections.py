"""What a container has of the network while it runs: its places in networks, its ports of the host.

Joins ``networks`` (addresses, bridges, rules) and ``ports`` (sockets) for a start and for an end.
A container without networks pays nothing here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.engine import rootless
from pycontain.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from pycontain.engine.ports import Held
    from pycontain.model.container import Container, RunOptions
    from pycontain.model.network import Attachment
    from pycontain.runtime.links import Links
    from pycontain.runtime.steps import Handle, Step
    from pycontain.store.layout import ContainerPaths, Layout

    class Order(Protocol):
        """What is started, of ``launch.Order`` and ``sandbox.Starting``."""

        @property
        def layout(self) -> Layout: ...  # noqa: D102
        @property
        def paths(self) -> ContainerPaths: ...  # noqa: D102
        @property
        def container(self) -> Container: ...  # noqa: D102
        @property
        def run(self) -> str: ...  # noqa: D102


class _Nothing:
    """The sockets of a container that publishes none."""

    def close(self) -> None:
        """Close none."""

    def given(self) -> dict[Handle, int]:
        """Return none."""
        return {}

    def steps(self, attachments: Sequence[Attachment]) -> list[Step]:  # noqa: ARG002 - as Held's
        """Return none."""
        return []


class Connection:
    """What a start has got.

    Attributes:
        attachments: in the order of the networks that were asked for.
        held: the ports of the host.
    """

    def __init__(
        self, order: Order, attachments: tuple[Attachment, ...] = (), held: Held | None = None
    ) -> None:
        self._order = order
        self.attachments = attachments
        self.held: Held | _Nothing = held or _Nothing()

    def settings(self) -> list[Step]:
        """Return what the monitor is told."""
        return self.held.steps(self.attachments)

    def links(self) -> Links | None:
        """Return the steps that make the container's devices."""
        if not self.attachments:
            return None
        from pycontain.runtime import links

        return links.steps(
            self.attachments,
            ipv6=os.path.isdir("/proc/sys/net/ipv6/conf"),
            published=not isinstance(self.held, _Nothing),
        )

    def home(self) -> int:
        """Return the network namespace that the monitor has to be in, from where it reaches the
        container; -1 for the caller's. It is the caller's to close.
        """
        found = rootless.open_home(self._order.layout) if self.attachments else None
        return -1 if found is None else found

    def host(self) -> str:
        """Return the host's address where it is none of the networks' own; else nothing."""
        return rootless.host_address(self._order.layout) if self.attachments else ""

    def undo(self) -> None:
        """Give everything back: the container did not start."""
        if self._order.container.options.networks:
            leave(self._order.layout, self._order.container.id, self._order.run)


def check(options: RunOptions, layout: Layout) -> None:
    """Refuse what nobody can carry out of what is asked of networks and ports.

    Raises:
        InvalidInput: the options contradict each other.
        NotSupported: an ordinary user can have no networks here.
    """
    if options.networks:
        rootless.check(layout, [choice.name for choice in options.networks])
    if options.networks and options.network != "bridge":
        raise InvalidInput(f"conflicting options: networks and the network mode {options.network}")
    if options.network == "bridge" and not options.networks:
        raise InvalidInput("network mode bridge: no network is named")
    if (options.publish or options.publish_all) and not options.networks:
        raise InvalidInput(
            "conflicting options: port publishing and the network mode",
            "ports are published of containers in a bridge network",
        )


def connect(order: Order) -> Connection:
    """Bind the ports of a container and join its networks; the container's lock is held.

    Raises:
        PycontainError: a port is taken, a network is missing or cannot be joined.
    """
    container = order.container
    if not container.options.networks:
        return Connection(order)
    from pycontain.engine import networks

    held = _hold(order)
    try:
        attachments = networks.join(order.layout, container, order.run)
        try:
            if held is not None:
                from pycontain.engine import ports

                ports.target_address(attachments)
                ports.write(order.paths, held.bindings)
                networks.publish(order.layout, container.id, tuple(held.bindings))
            rootless.reach_out(order.layout, attachments)
        except BaseException:
            leave(order.layout, container.id, order.run)
            raise
    except BaseException:
        if held is not None:
            held.close()
        raise
    return Connection(order, attachments, held)


def rejoin(order: Order) -> Connection:
    """Bind the ports again that a run has whose process was killed; it is in its networks still.

    Raises:
        PycontainError: a port is taken.
    """
    if not order.container.options.networks:
        return Connection(order)
    from pycontain.engine import networks

    held = None
    if order.container.options.publish:
        from pycontain.engine import ports

        held = ports.hold_again(order.layout, order.container, ports.bound(order.paths))
    return Connection(order, networks.attachments(order.layout, order.container.id), held)


def _hold(order: Order) -> Held | None:
    options = order.container.options
    if not (options.publish or options.publish_all):
        return None
    from pycontain.engine import ports

    return ports.hold(order.layout, order.container)


def leave(layout: Layout, container_id: str, run: str = "", *, wait: bool = False) -> None:
    """Give back what a container has in networks; safe to repeat.

    Args:
        layout: of the store.
        container_id: whose it is.
        run: the run that has ended; empty for whichever.
        wait: until also what is slow is done, which else is left to a process of its own.

    Raises:
        PycontainError: it cannot be done.
    """
    if not os.path.exists(layout.in_networks(container_id).endpoints):
        return
    from pycontain.engine import networks

    networks.leave(layout, container_id, run, wait=wait)


def clean_up(root: str, state: str, container_id: str, run: str) -> None:
    """Do what is due after the end of a run, in its monitor's place."""
    from pycontain.engine import networks
    from pycontain.kernel import cgroup
    from pycontain.store.layout import Layout

    cgroup.leave()
    networks.leave(Layout(root, state), container_id, run, wait=True)


def explain(container: Container) -> list[str]:
    """Return in words what ``connect`` would do."""
    options = container.options
    lines = []
    if options.publish or options.publish_all:
        from pycontain.engine import ports

        lines += [f"bind {_described(entry)}" for entry in ports.wanted(container)]
    for choice in options.networks:
        wanted = ", ".join(filter(None, (choice.ip, choice.ip6)))
        lines.append(f"join network {choice.name} with {wanted or 'a free address'}")
    return lines


def _described(entry: object) -> str:
    from pycontain.model.container import Publish

    assert isinstance(entry, Publish)
    host = f"port {entry.first}" if entry.first else "a free port"
    if entry.last > entry.first:
        host = f"a free port from {entry.first} to {entry.last}"
    return f"{host} of {entry.address or 'the host'} for {entry.target}/{entry.protocol}"
