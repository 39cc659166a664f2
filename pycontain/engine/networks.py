"""A container's networks in one run: joined before it starts, left after it has ended.

What is joined is written to the container's state folder first and undone from there, by whoever
comes by: nothing here is needed by a running container but the kernel's own bridges and rules.
Verbs on networks are in ``network_verbs.py``; starting a container imports this module only.

Locks, in this order: the container's (the caller has it), the network's, the rules'.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from pycontain import trace
from pycontain.engine import records, rootless
from pycontain.errors import Conflict, InvalidInput, NotFound, NotSupported, PycontainError
from pycontain.kernel import firewall, netlink, process
from pycontain.model.network import Attachment, Endpoints, PublishedPort
from pycontain.network import address, bridge, names, rules, store
from pycontain.network.leases import Leases
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pycontain.kernel.netlink import Link
    from pycontain.model.container import Container, NetworkChoice, PortBinding
    from pycontain.model.network import Network
    from pycontain.network.leases import Lives
    from pycontain.store.layout import Layout

_TABLE = "pycontain"
_DEFAULT_ROOT = "/var/lib/pycontain"
_FIRST_INDEX = 2  # of a device in a namespace that has only the loopback
_SIGTERM = 15
_LOOPBACK4 = "127."
LINGER = 1.0
"""Seconds that a network stays up after its last container: the next one may be about to come."""

_RETIRE = """\
import sys
sys.path.extend(sys.argv[5:])
from pycontain.store.layout import Layout
from pycontain.engine import networks
networks.retire_idle(Layout(sys.argv[1], sys.argv[2]), sys.argv[3], float(sys.argv[4]))
"""


# ---- joining ----


@rootless.there
def join(layout: Layout, container: Container, run: str) -> tuple[Attachment, ...]:
    """Give a container that is about to start its place in each of its networks.

    Bridges and rules are made where they are missing. The container's lock is held.

    Args:
        layout: of the store.
        container: what `options.networks` names is joined.
        run: the id of the run.

    Returns:
        What it has in each network, in their order; the devices are for the caller to make.

    Raises:
        NotFound: there is no such network.
        Conflict: a wanted address is in use, none is free, or the host uses the subnet.
        InvalidInput: a wanted address is in none of the network's subnets.
        NotSupported: the kernel or the machine lacks what networks need; named.
        KernelError: a step failed. What was done is undone.
    """
    choices = container.options.networks
    if not choices:
        return ()
    found: list[Attachment] = []
    try:
        for place, choice in enumerate(choices):
            network = resolve(layout, choice.name)
            if any(network.id == other.network for other in found):
                raise InvalidInput(f"network {network.name}: joined twice")
            found.append(attach(layout, container.id, run, network, choice, place, found))
            write(layout, container.id, Endpoints(
                run=run, container=container.name, attachments=tuple(found),
                servers=container.options.dns,
            ))  # fmt: skip
        tell_names(layout, found)
        _tell(layout, "connect", container.id, found)
    except BaseException:
        leave(layout, container.id, run)
        raise
    return tuple(found)


def _tell(layout: Layout, action: str, identity: str, attachments: Iterable[Attachment]) -> None:
    from pycontain.engine.events import Events

    events = Events(layout)
    for one in attachments:
        events.tell_network(action, one.network, one.name, one.driver, container=identity)


def tell_names(layout: Layout, attachments: Iterable[Attachment]) -> None:
    """Let the resolver see that there are new names: it looks when a folder has changed."""
    for attachment in attachments:
        if attachment.dns:
            os.utime(store.state_folder(layout, attachment.network))


def resolve(layout: Layout, name: str) -> Network:
    """Return a network by name or id; the default one is made where it is missing.

    Raises:
        NotFound: there is none.
        Conflict: no subnet is free for the default network.
    """
    try:
        return store.find(layout, name)
    except NotFound:
        if name != store.DEFAULT:
            raise
    from pycontain.engine import network_verbs

    return network_verbs.make_default(layout)


def attach(
    layout: Layout,
    identity: str,
    run: str,
    network: Network,
    choice: NetworkChoice,
    place: int,
    before: Sequence[Attachment],
) -> Attachment:
    """Return what a container has in one more network; its devices are not made yet.

    Args:
        layout: of the store.
        identity: the container's id.
        run: the id of its run.
        network: to be in.
        choice: what it wants there.
        place: the number of its device there, ``eth0`` for 0.
        before: what it has in other networks.

    Raises:
        PycontainError: as ``join``.
    """
    with files.Lock(_lock(layout, network.id)):
        # Looked up again: it may have been removed before the lock was ours.
        network = store.load(layout, network.name)
        with trace.Span(f"lease addresses of {network.name}"):
            given = _lease(layout, network, f"{identity} {run}", choice)
        with trace.Span(f"bring up {network.name}"):
            device = bring_up(layout, network)
    return Attachment(
        network=network.id,
        name=network.name,
        driver=network.driver,
        device=network.interface,
        device_index=device.index,
        interface=f"eth{place}",
        index=_FIRST_INDEX + place,
        host_interface=f"veth{os.urandom(4).hex()}" if network.driver == "bridge" else "",
        mac=choice.mac or _mac(given),
        mtu=network.mtu,
        mode=network.mode,
        addresses=given,
        gateways=_gateways(network, before),
        ipv6=network.ipv6,
        internal=network.internal,
        aliases=choice.aliases,
        dns=tuple(filter(None, (names.resolver_address(network),))),
        upstream="" if network.internal else rootless.upstream(layout),
    )


def _gateways(network: Network, before: Sequence[Attachment]) -> tuple[str, ...]:
    """The default routes are those of the first network that has any, for each family."""
    if network.internal:
        return ()
    routed = {":" in word for attachment in before for word in attachment.gateways}
    return tuple(
        subnet.gateway
        for subnet in network.subnets
        if subnet.gateway and (":" in subnet.gateway) not in routed
    )


def _mac(addresses: Sequence[str]) -> str:
    """A hardware address that is used once in a network: made of the IPv4 address, as docker's."""
    for word in addresses:
        if ":" not in word:
            number = address.number(word.partition("/")[0])[1]
            return "02:42:" + number.to_bytes(4, "big").hex(":")
    return "02:42:" + os.urandom(4).hex(":")


def _lease(layout: Layout, network: Network, holder: str, choice: NetworkChoice) -> tuple[str, ...]:
    lives = _lives(layout)
    leases = Leases(store.state_folder(layout, network.id))
    _check_wanted(network, choice)
    kept = _kept(network)
    given: list[str] = []
    try:
        for subnet in network.subnets:
            wanted = choice.ip6 if ":" in subnet.subnet else choice.ip
            whole = address.parse(subnet.subnet)
            if wanted and whole.contains(*address.number(wanted)):
                word = address.normal(wanted)
                if word in kept:
                    raise Conflict(f"address {word}: it is {kept[word]}")
                leases.take(word, holder, lives)
            else:
                pool = address.parse(subnet.ip_range) if subnet.ip_range else whole
                numbers = (address.number(one) for one in kept)
                reserved = [found for family, found in numbers if family == whole.family]
                word = leases.give(pool, whole, reserved, holder, lives)
            given.append(f"{word}/{whole.prefix}")
    except PycontainError as err:
        for word in given:
            leases.free(word.partition("/")[0], holder)
        if isinstance(err, Conflict):
            raise Conflict(f"network {network.name}: {err.message}", err.hint) from err
        raise
    return tuple(given)


def _kept(network: Network) -> dict[str, str]:
    """The addresses that no container gets, and what they are."""
    found: dict[str, str] = {}
    if network.driver == "macvlan":
        # The host is a neighbour there: of two with one address nobody reaches either for sure.
        for _, word, _ in netlink.addresses():
            found[word] = "one of the host's own"
    if resolver := names.resolver_address(network):
        found[resolver] = "the resolver of names of the network"
    for subnet in network.subnets:
        if subnet.gateway:
            found[subnet.gateway] = "the gateway of the network"
    return found


def _check_wanted(network: Network, choice: NetworkChoice) -> None:
    for wanted in filter(None, (choice.ip, choice.ip6)):
        family, number = address.number(wanted)
        for subnet in network.subnets:
            whole = address.parse(subnet.subnet)
            if whole.contains(family, number):
                low, high = whole.usable()
                if low <= number <= high:
                    break
        else:
            raise InvalidInput(
                f"network {network.name}: address {wanted} is in none of its subnets:"
                f" {', '.join(subnet.subnet for subnet in network.subnets)}"
            )


# ---- bridges and rules ----


def bring_up(layout: Layout, network: Network) -> Link:
    """Return the host's device of a network, with what it needs; its lock is held.

    Raises:
        Conflict: the host uses the name or the subnet.
        NotSupported, KernelError: a step failed.
    """
    if network.driver == "macvlan":
        found = netlink.get_link(network.interface)
        if found is None:
            raise NotFound(f"network {network.name}: parent {network.interface}: no such device")
        return found
    # Two stores choose their subnets, and bring them up, one after the other.
    lock = files.Lock(_subnets_lock(layout))
    found = bridge.ensure(network, lambda: _ports_of(layout, network), lock)
    ensure_rules(layout, network)
    if names.resolver_address(network):
        from pycontain.engine import resolving

        with trace.Span("see that names are resolved"):
            lost = resolving.is_lost(layout)
            resolving.attach(layout, network, found.index)
            if lost:
                _attach_others(layout, network)
    return found


def _attach_others(layout: Layout, network: Network) -> None:
    """Give a resolver that was started again its ports in the other networks that are up."""
    from pycontain.engine import resolving

    for other in store.every(layout):
        if other.id == network.id or not names.resolver_address(other):
            continue
        link = netlink.get_link(other.interface)
        if link is not None:
            resolving.attach(layout, other, link.index)


def _subnets_lock(layout: Layout) -> str:
    from pycontain.network import create

    return create.lock(layout)


def _ports_of(layout: Layout, network: Network) -> Iterator[tuple[str, bool]]:
    """The host's ends of all that is in a network now, and whether their containers publish."""
    for _, endpoints in members(layout, network):
        for attachment in endpoints.attachments:
            if attachment.network == network.id and attachment.host_interface:
                yield attachment.host_interface, bool(endpoints.ports)


def members(layout: Layout, network: Network) -> Iterator[tuple[str, Endpoints]]:
    """Yield id and endpoints of each container that has a lease in a network and lives."""
    leases = Leases(store.state_folder(layout, network.id))
    for holder in sorted(set(leases.held(_lives(layout)).values())):
        identity, _, run = holder.partition(" ")
        endpoints = read(layout, identity)
        if endpoints is not None and endpoints.run == run:
            yield identity, endpoints


def table(layout: Layout) -> str:
    """Return the name of the store's table of rules."""
    if layout.root == _DEFAULT_ROOT:
        return _TABLE
    from hashlib import blake2s

    return f"{_TABLE}-{blake2s(layout.root.encode(), digest_size=5).hexdigest()}"


def ensure_rules(layout: Layout, network: Network) -> None:
    """See that the table is as it should be, with a network in it.

    Where nobody changed it that is one question to the kernel. Where somebody flushed it, it is
    made anew, with all that is up.
    """
    with files.Lock(_lock(layout, "rules")):
        if not _is_whole(layout):
            _renew(layout, network)
        elif not os.path.lexists(_mark(layout, network.id)):
            _alter(layout, rules.add_network(table(layout), network), network)
            files.write_word(_mark(layout, network.id), "ruled")


def _mark(layout: Layout, identity: str) -> str:
    """There while the network is in the table's sets."""
    return f"{store.state_folder(layout, identity)}/ruled"


def _is_whole(layout: Layout) -> bool:
    """Whether the table is as it was left: its chains, and what is in its sets."""
    name = table(layout)
    if firewall.chains(name) != rules.uses():
        return False
    try:
        left = files.read(_elements(layout))
    except NotFound:
        return False
    return firewall.elements(name, rules.SETS) == left


def _elements(layout: Layout) -> str:
    """Has what was in the sets of the table after the last change of ours."""
    return f"{layout.state_networks}/elements"


def _note_elements(layout: Layout) -> None:
    # One who is killed before it is written leaves what differs: then the table is made anew.
    data = firewall.elements(table(layout), rules.SETS)
    files.write_atomic(_elements(layout), data, durable=False)


def _begin_change(layout: Layout) -> bool:
    """Return whether the table is whole; from now on it counts as not, until a change is noted: who
    is killed between what is written and the kernel's rules leaves a table that is made anew.
    """
    whole = _is_whole(layout)
    files.remove(_elements(layout))
    return whole


def _change(layout: Layout, script: str, *, whole: bool) -> None:
    """Carry out a script; where the table was not as it was left, make it anew instead.

    Args:
        layout: of the store.
        script: elements to add or to delete.
        whole: as ``_begin_change`` said.
    """
    if whole:
        _alter(layout, script)
    else:
        _renew(layout)


def _alter(layout: Layout, script: str, network: Network | None = None) -> None:
    """Carry out a script; where it does not fit what is there, make the table anew.

    Args:
        layout: of the store.
        script: elements to add or to delete.
        network: is about to be in use.
    """
    try:
        firewall.apply(script)
    except firewall.ScriptFailed as err:
        trace.report(f"{err}: made anew", 0.0)
        _renew(layout, network)
    else:
        _note_elements(layout)


def _renew(layout: Layout, extra: Network | None = None) -> None:
    """Make the table of what is up now; `extra` is about to be."""
    networks, ports = _present(layout)
    if extra is not None:
        networks[extra.id] = extra
    with trace.Span("make the table of rules"):
        name = table(layout)
        whole = rules.whole(name, networks.values(), ports)
        firewall.apply(whole if networks else rules.none(name))
    if networks:
        _note_elements(layout)
    for identity in _state_folders(layout):
        if identity in networks:
            files.write_word(_mark(layout, identity), "ruled")
        else:
            files.remove(_mark(layout, identity))


def _present(layout: Layout) -> tuple[dict[str, Network], list[PublishedPort]]:
    """The networks whose bridges are in use, and all ports that are published."""
    networks: dict[str, Network] = {}
    ports: dict[str, tuple[PublishedPort, ...]] = {}
    for network in store.every(layout):
        if network.driver != "bridge":
            continue
        if not os.path.isdir(store.state_folder(layout, network.id)):
            continue
        for identity, endpoints in members(layout, network):
            ports[identity] = endpoints.ports
            networks[network.id] = network
        # One that is being joined has a lease, and no endpoints yet.
        if Leases(store.state_folder(layout, network.id)).is_used(_lives(layout)):
            networks[network.id] = network
    return networks, [port for found in ports.values() for port in found]


# ---- ports ----


@rootless.there
def publish(layout: Layout, container_id: str, bindings: Iterable[PortBinding]) -> None:
    """Let the kernel lead ports of the host to a container that has joined its networks.

    Those of loopback addresses are left out: no packet from elsewhere may reach them.

    Args:
        layout: of the store.
        container_id: the container's.
        bindings: what is published.

    Raises:
        NotFound: the container is in no network.
        KernelError, ScriptFailed: the rules cannot be changed.
    """
    endpoints = read(layout, container_id)
    if endpoints is None:
        raise NotFound(f"publish ports: container {container_id} is in no network")
    ports = tuple(_published(bindings, endpoints.attachments))
    if not ports:
        return
    with files.Lock(_lock(layout, "rules")):
        whole = _begin_change(layout)
        write(layout, container_id, _with_ports(endpoints, ports))
        _change(layout, rules.add_ports(table(layout), ports), whole=whole)
    _forget_flows(ports)


def relead(
    layout: Layout, container_id: str, endpoints: Endpoints, bindings: Iterable[PortBinding]
) -> None:
    """Write what a running container has from now on, and let its ports lead to where it is.

    Args:
        layout: of the store.
        container_id: the container's.
        endpoints: what it has; which ports are in it does not matter.
        bindings: what is published.

    Raises:
        KernelError, ScriptFailed: the rules cannot be changed.
    """
    ports = tuple(_published(bindings, endpoints.attachments))
    with files.Lock(_lock(layout, "rules")):
        written = read(layout, container_id)
        before = written.ports if written else ()
        gone = [port for port in before if port not in ports]
        new = [port for port in ports if port not in before]
        whole = _begin_change(layout) if gone or new else True
        write(layout, container_id, _with_ports(endpoints, ports))
        if gone or new:
            name = table(layout)
            script = rules.delete_ports(name, gone) + rules.add_ports(name, new)
            _change(layout, script, whole=whole)
    _forget_flows(new)


def _forget_flows(ports: Iterable[PublishedPort]) -> None:
    """Let those who go on sending datagrams to a port find where it leads to now."""
    datagrams = [port for port in ports if port.protocol == "udp"]
    if not datagrams:
        return
    from pycontain.kernel import conntrack

    for port in datagrams:
        try:
            conntrack.forget_datagrams(port.host_port, port.address)
        except NotSupported as err:
            trace.report(f"{err}: those who go on sending are not heard at once", 0.0)
            return


def _with_ports(endpoints: Endpoints, ports: tuple[PublishedPort, ...]) -> Endpoints:
    from msgspec.structs import replace

    return replace(endpoints, ports=ports)


def _published(
    bindings: Iterable[PortBinding], attachments: Sequence[Attachment]
) -> Iterator[PublishedPort]:
    for binding in bindings:
        if binding.address.startswith(_LOOPBACK4) or binding.address == "::1":
            continue
        target = target_of(attachments, ipv6=":" in binding.address)
        if target:
            yield PublishedPort(
                protocol=binding.protocol, host_address=binding.address,
                host_port=binding.port, address=target, port=binding.target,
            )  # fmt: skip


def target_of(attachments: Sequence[Attachment], *, ipv6: bool) -> str:
    """Return the address that published ports lead to; empty where there is none.

    Of several networks it is the one with the default route, by which answers go; else the first.
    """
    able = [one for one in attachments if one.driver == "bridge" and not one.internal]
    for attachment in sorted(able, key=lambda one: not one.gateways):
        for word in attachment.addresses:
            if (":" in word) == ipv6:
                return word.partition("/")[0]
    return ""


# ---- leaving ----


def attachments(layout: Layout, container_id: str) -> tuple[Attachment, ...]:
    """Return what a running container has in its networks; nothing of one that does not run."""
    endpoints = read(layout, container_id)
    return endpoints.attachments if endpoints else ()


@rootless.there
def leave(layout: Layout, container_id: str, run: str = "", *, wait: bool = False) -> None:
    """Take back what a container had in its networks; may be repeated.

    The kernel removes the container's devices with its namespace.

    Args:
        layout: of the store.
        container_id: the container's.
        run: only what is of that run; empty for any.
        wait: take the bridge and rules of a network that it was the last of away at once; else
            another process does it in a moment.

    Raises:
        StoreError: a lease cannot be removed.
        KernelError, ScriptFailed: rules or bridge cannot be removed.
    """
    endpoints = read(layout, container_id)
    if endpoints is not None and run and endpoints.run != run:
        endpoints = None
    if endpoints is not None and endpoints.ports:
        withdraw(layout, container_id, _with_ports(endpoints, ()), endpoints.ports)
    empty = [
        network for network in _free(layout, container_id, run, endpoints)
        if not Leases(store.state_folder(layout, network)).is_used(_lives(layout))
    ]  # fmt: skip
    if endpoints is not None:
        files.remove(layout.in_networks(container_id).endpoints)
        _tell(layout, "disconnect", container_id, endpoints.attachments)
    for network in empty:
        if wait:
            retire(layout, network)
        else:
            _retire_later(layout, network)


def withdraw(
    layout: Layout, container_id: str, endpoints: Endpoints, ports: Sequence[PublishedPort]
) -> None:
    """Write what a container has from now on, and take ports back that it has no more.

    Raises:
        KernelError, ScriptFailed: the rules cannot be changed.
    """
    with files.Lock(_lock(layout, "rules")):
        whole = _begin_change(layout) if ports else True
        write(layout, container_id, endpoints)
        if ports:
            _change(layout, rules.delete_ports(table(layout), ports), whole=whole)


def give_back(layout: Layout, container_id: str, gone: Attachment) -> None:
    """Free what a running container had in one network that it has left."""
    leases = Leases(store.state_folder(layout, gone.network))
    for name, holder in leases.all().items():
        if holder.partition(" ")[0] == container_id:
            leases.free(name, holder)
    if not leases.is_used(_lives(layout)):
        _retire_later(layout, gone.network)


def _free(layout: Layout, container_id: str, run: str, endpoints: Endpoints | None) -> list[str]:
    """Free a container's leases; return the ids of the networks that it had any in."""
    known = [one.network for one in endpoints.attachments] if endpoints else _state_folders(layout)
    found = []
    for network in known:
        leases = Leases(store.state_folder(layout, network))
        for name, holder in leases.all().items():
            owner, _, of_run = holder.partition(" ")
            if owner == container_id and run in ("", of_run):
                leases.free(name, holder)
                if network not in found:
                    found.append(network)
    return found


def _state_folders(layout: Layout) -> list[str]:
    try:
        return [name for name in os.listdir(layout.state_networks) if records.is_id(name)]
    except FileNotFoundError:
        return []


@rootless.there
def retire(layout: Layout, identity: str) -> bool:
    """Take bridge and rules of a network away that nobody is in; False where somebody is.

    Args:
        layout: of the store.
        identity: the network's id. It may have been removed meanwhile.

    Raises:
        KernelError, ScriptFailed: they cannot be removed.
    """
    with files.Lock(_lock(layout, identity)) as lock:
        gone = retire_locked(layout, identity)
        if gone and _by_id(layout, identity) is None:
            files.remove(lock.path)
        return gone


def retire_idle(layout: Layout, identity: str, linger: float) -> None:
    """Take a network down once nobody has come or gone for `linger` seconds; if anybody is in it,
    leave that to whoever leaves last.

    Raises:
        KernelError, ScriptFailed: bridge or rules cannot be removed.
    """
    folder = store.state_folder(layout, identity)
    while True:
        try:
            idle = time.time() - os.stat(folder).st_mtime
        except FileNotFoundError:
            return
        if idle >= linger:
            break
        time.sleep(min(linger, linger - idle + 0.01))
    retire(layout, identity)


def retire_locked(layout: Layout, identity: str) -> bool:
    """As ``retire``; the network's lock is held."""
    if Leases(store.state_folder(layout, identity)).is_used(_lives(layout)):
        return False
    network = _by_id(layout, identity)
    if network is None or network.driver != "bridge":
        rootless.close_off(layout, lambda: _is_anybody_in(layout))
        return True
    with files.Lock(_lock(layout, "rules")):
        if os.path.lexists(_mark(layout, identity)):
            whole = _begin_change(layout)
            files.remove(_mark(layout, identity))
            _forget(layout, network, whole=whole)
    if names.resolver_address(network):
        from pycontain.engine import resolving

        resolving.detach(layout, network)
    bridge.remove(network)
    rootless.close_off(layout, lambda: _is_anybody_in(layout))
    return True


def retire_unused(layout: Layout) -> None:
    """Have the networks taken down in a moment that are up and nobody is in: who was about to do
    that was killed.
    """
    for identity in _state_folders(layout):
        is_up = os.path.lexists(_mark(layout, identity))
        if is_up and not Leases(store.state_folder(layout, identity)).is_used(_lives(layout)):
            _retire_later(layout, identity)


def _is_anybody_in(layout: Layout) -> bool:
    lives = _lives(layout)
    return any(
        Leases(store.state_folder(layout, network)).is_used(lives)
        for network in _state_folders(layout)
    )


def _forget(layout: Layout, network: Network, *, whole: bool) -> None:
    """Take a network out of the table; with the last one the table goes."""
    if any(os.path.lexists(_mark(layout, identity)) for identity in _state_folders(layout)):
        _change(layout, rules.delete_network(table(layout), network), whole=whole)
    else:
        firewall.apply(rules.none(table(layout)))


def _by_id(layout: Layout, identity: str) -> Network | None:
    return next((one for one in store.every(layout) if one.id == identity), None)


def call_off(layout: Layout, identity: str) -> None:
    """End the process that is about to take a network down, if there is one: it is done."""
    try:
        pid, _, start = files.read_word(_retiring(layout, identity)).partition(" ")
    except NotFound:
        return
    if int(pid) == os.getpid():
        return
    pidfd = process.open_process(int(pid), int(start))
    if pidfd is not None:
        process.send_signal(pidfd, _SIGTERM)
        os.close(pidfd)


def _retiring(layout: Layout, identity: str) -> str:
    """Says which process is about to take a network down."""
    return f"{store.state_folder(layout, identity)}/retiring"


def _retire_later(layout: Layout, identity: str) -> None:
    """Start a process that takes a network down in a moment, unless one is about to.

    A kernel takes 50 ms to remove a bridge and 20 for a table, and in a row of containers the next
    one needs them again.
    """
    path = _retiring(layout, identity)
    try:
        pid, _, start = files.read_word(path).partition(" ")
        if process.start_time(int(pid)) == int(start):
            return
    except (NotFound, ValueError):
        pass
    program = os.open(sys.executable, os.O_RDONLY | os.O_CLOEXEC)
    try:
        argv = [
            sys.executable, "-I", "-S", "-c", _RETIRE, layout.root, layout.state, identity,
            str(LINGER), *filter(None, sys.path),
        ]  # fmt: skip
        pid_, pidfd = process.spawn(program, argv, (), -1)
    finally:
        os.close(program)
    os.close(pidfd)
    files.write_word(path, f"{pid_} {process.start_time(pid_) or 0}")


# ---- what lives ----


def _lives(layout: Layout) -> Lives:
    known: dict[str, bool] = {}

    def lives(holder: str) -> bool:
        if holder not in known:
            known[holder] = runs(layout, holder)
        return known[holder]

    return lives


def runs(layout: Layout, holder: str) -> bool:
    """Whether the holder of a lease, ``CONTAINER RUN`` or ``POD RUN``, runs or is being started.

    One whose documents are damaged is taken for running: its addresses are not given away.
    """
    identity, _, run = holder.partition(" ")
    if not records.is_id(identity):
        return False
    paths = layout.in_networks(identity)
    try:
        if records.last_run(paths) != run:
            return False
        state = records.status(paths).state
    except records.Lost as lost:
        return lost.reason == "monitor lost" and _is_inhabited(layout, identity)
    except PycontainError:
        return os.path.exists(paths.document)
    return state == "running" or (state == "created" and _is_locked(paths.lock))


def _is_inhabited(layout: Layout, identity: str) -> bool:
    """Whether it is a pod whose containers go on in its namespaces without their holder."""
    if not layout.has_pod(identity):
        return False
    from pycontain.engine import sandbox

    return sandbox.is_inhabited(layout, identity)


def _is_locked(path: str) -> bool:
    """Whether somebody holds a container's lock: of one that is being started somebody does."""
    if not os.path.exists(path):
        return False
    lock = files.Lock(path)
    if not lock.acquire(wait=False):
        return True
    lock.release()
    return False


# ---- documents ----


def _lock(layout: Layout, name: str) -> str:
    return layout.lock("network", name)


def read(layout: Layout, identity: str) -> Endpoints | None:
    """Return what a running container has in networks, None where it is in none.

    Raises:
        StoreError: the document is damaged.
    """
    try:
        return files.load(layout.in_networks(identity).endpoints, Endpoints)
    except NotFound:
        return None


def write(layout: Layout, identity: str, endpoints: Endpoints) -> None:
    """Keep what a running container has in networks.

    Raises:
        StoreError: it cannot be written.
    """
    files.make_folder(layout.state_networks)
    files.write_atomic(layout.in_networks(identity).endpoints, files.dump(endpoints), durable=False)
