"""``network``: create, ls, inspect, rm, connect, disconnect, prune, exists."""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING, Any

from pycontain.cli import output, streams
from pycontain.cli.flags import (
    FORMAT,
    LISTING_FORMAT,
    Flag,
    Verb,
    boolean,
    filter_,
    listing_filter,
    pair,
    switch,
)
from pycontain.cli.template import GoMap, to_json
from pycontain.errors import InvalidInput, NotFound, PycontainError
from pycontain.model.parse.environment import parse_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.engine.network_verbs import NetworkView
    from pycontain.model.network import Network

_SHORT_ID = 12
_BUILT_IN = ("bridge", "host", "none")

LISTING = output.Listing(
    kind="*network.networkContext",
    headings={
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "Label": output.label_heading,
        "CreatedAt": "CREATED AT",
    },
    table="{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet="{{.ID}}",
)


# ---- create ----


def _words(values: Sequence[str]) -> list[str]:
    """A list that may also be written with commas."""
    return [word for value in values for word in value.split(",") if word]


def _create(app: App, values: Values, arguments: list[str]) -> int:
    network = app.engine.networks.create(
        arguments[0],
        driver=values["driver"],
        subnets=_words(values["subnet"]),
        gateways=_words(values["gateway"]),
        ranges=_words(values["ip-range"]),
        ipv6=values["ipv6"],
        internal=values["internal"],
        options=dict(values["opt"]),
        labels=dict(values["label"]),
    )
    streams.write(f"{network.id}\n")
    # An ordinary user's networks are in a namespace where nobody else has a firewall.
    if network.driver == "bridge" and not network.internal and not app.engine.rootless:
        _warn_of_obstacles()
    return 0


def _warn_of_obstacles() -> None:
    """The network is made: that another firewall will not let it out is worth saying, not more."""
    from pycontain.network import policy

    try:
        found = policy.obstacles()
    except PycontainError as err:
        streams.complain(f"warning: {err}\n")
        return
    for obstacle in found:
        streams.complain(
            f"warning: {obstacle.chain} drops what containers send to the outside\n"
            f"hint: {obstacle.remedy}\n"
        )


# ---- ls ----


def _row(network: Network, full: bool) -> dict[str, Any]:
    labels = network.labels
    return {
        "ID": network.id if full else network.id[:_SHORT_ID],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv6": "true" if network.ipv6 else "false",
        "Internal": "true" if network.internal else "false",
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Label": lambda name: labels.get(name, ""),
        "CreatedAt": output.local_time(network.created),
    }


def _test(app: App, name: str, values: Sequence[str]) -> Callable[[Network], bool]:
    """Return what says whether a network passes one filter, of which there are `values`."""
    if name == "dangling":
        wanted = _is_true(values[-1])
        used = {*app.engine.networks.in_use(), *_BUILT_IN}
        return lambda network: (network.name not in used) == wanted
    if name == "name":
        import re

        patterns = [re.compile(value) for value in values]
        return lambda network: any(pattern.search(network.name) for pattern in patterns)
    if name == "type":
        for value in values:
            if value not in ("builtin", "custom"):
                raise InvalidInput(f"invalid filter: 'type'='{value}'", "builtin or custom")
        return lambda network: ("builtin" if network.name in _BUILT_IN else "custom") in values
    simple: dict[str, Callable[[Network], bool]] = {
        "driver": lambda network: network.driver in values,
        "id": lambda network: network.id.startswith(tuple(values)),
        "scope": lambda _: "local" in values,
        "label": lambda network: all(_has(network.labels, value) for value in values),
    }
    if name not in simple:
        names = ", ".join(sorted([*simple, "dangling", "name", "type"]))
        raise InvalidInput(f"invalid filter '{name}'", f"there are {names}")
    return simple[name]


def _is_true(value: str) -> bool:
    try:
        return boolean(value)
    except InvalidInput as err:
        raise InvalidInput(f"invalid filter 'dangling={value}'") from err


def _has(labels: dict[str, str], text: str) -> bool:
    name, equals, value = text.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _ls(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    filters: dict[str, list[str]] = {}
    for name, value in values["filter"]:
        filters.setdefault(name, []).append(value)
    tests = [_test(app, name, found) for name, found in filters.items()]
    rows = [
        _row(network, values["no-trunc"])
        for network in app.engine.networks.list()
        if all(test(network) for test in tests)
    ]
    streams.write(LISTING.render(rows, values["format"], values["quiet"]))
    return 0


# ---- inspect ----


def document(view: NetworkView) -> dict[str, Any]:
    """Return what docker's ``network inspect`` says of a network."""
    network = view.network
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": output.rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": GoMap(),
            "Config": [_subnet(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": GoMap({member.id: _member(member) for member in view.members}),
        "Options": GoMap(network.options),
        "Labels": GoMap(network.labels),
    }


def _subnet(subnet: Any) -> dict[str, str]:
    found = {"Subnet": subnet.subnet, "IPRange": subnet.ip_range, "Gateway": subnet.gateway}
    return {name: value for name, value in found.items() if value}


def _member(member: Any) -> dict[str, str]:
    attachment = member.attachment
    four = [word for word in attachment.addresses if ":" not in word]
    six = [word for word in attachment.addresses if ":" in word]
    return {
        "Name": member.name,
        "EndpointID": endpoint_id(attachment.network, member.id),
        "MacAddress": attachment.mac,
        "IPv4Address": four[0] if four else "",
        "IPv6Address": six[0] if six else "",
    }


def endpoint_id(network: str, container: str) -> str:
    """Return what docker would call a container's end in a network."""
    return blake2s(f"{network} {container}".encode()).hexdigest()


def _inspect(app: App, values: Values, arguments: list[str]) -> int:
    form = values["format"]
    if form:
        render = to_json if form == "json" else output.document_template(form).render

        def act(name: str) -> None:
            streams.write(f"{render(document(app.engine.networks.view(name)))}\n")

        return app.each(arguments, act)
    found = []
    problems: list[PycontainError] = []
    for name in arguments:
        try:
            found.append(document(app.engine.networks.view(name)))
        except PycontainError as err:
            problems.append(err)
    streams.write(output.pretty_json(found))
    return app.report(problems)


# ---- rm, prune, exists ----


def _rm(app: App, values: Values, arguments: list[str]) -> int:
    def act(name: str) -> None:
        try:
            app.engine.networks.remove(name)
        except NotFound:
            if not values["force"]:
                raise
            return  # it is not there, as was wanted
        streams.write(f"{name}\n")

    return app.each(arguments, act)


def _prune(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    from pycontain.cli import prune

    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if not values["force"] and not prune.is_sure(warning):
        return 0
    prune.networks(app, values["filter"])
    return 0


def _exists(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    return 0 if app.engine.networks.exists(arguments[0]) else 1


# ---- connect, disconnect ----


def _connect(app: App, values: Values, arguments: list[str]) -> int:
    from pycontain.model.container import NetworkChoice

    name, container = arguments
    choice = NetworkChoice(
        name=name,
        ip=values["ip"] or "",
        ip6=values["ip6"] or "",
        aliases=tuple(_words(values["alias"])),
    )
    app.engine.networks.connect(name, app.engine.containers.find(container), choice)
    return 0


def _ip(text: str) -> str:
    from pycontain.network.choice import parse_ip

    return parse_ip(text)


def _ip6(text: str) -> str:
    from pycontain.network.choice import parse_ip6

    return parse_ip6(text, "--ip6")


def _alias(text: str) -> str:
    from pycontain.network.choice import parse_alias

    for word in text.split(","):
        parse_alias(word)
    return text


def _disconnect(app: App, values: Values, arguments: list[str]) -> int:
    name, container = arguments
    try:
        app.engine.networks.disconnect(name, app.engine.containers.find(container))
    except (NotFound, InvalidInput) as err:
        if not values["force"]:
            raise
        app.report([err])  # told, and no failure: it is not in it, as was wanted
    return 0


CREATE = Verb(
    "create",
    "[OPTIONS] NETWORK",
    "Create a network",
    _create,
    flags=(
        Flag(
            "driver", "bridge or macvlan", short="d", metavar="driver", default="bridge"
        ),
        Flag("gateway", "address of the gateway in its subnet", kind="list", metavar="address"),
        switch("internal", "nothing outside is reached from it"),
        Flag("ip-range", "give addresses of this part of its subnet", kind="list", metavar="range"),
        switch("ipv6", "with IPv6; without an IPv6 subnet it gets one"),
        Flag("label", "metadata, as NAME=VALUE", kind="list", metavar="label",
             convert=parse_label),
        Flag(
            "opt",
            "option of the driver: mtu=BYTES, com.docker.network.bridge.name=NAME; of macvlan"
            " parent=DEVICE, mode=MODE",
            short="o",
            kind="list",
            metavar="name=value",
            convert=pair,
        ),
        Flag("subnet", "its addresses, as 10.90.0.0/24", kind="list", metavar="subnet"),
    ),
    least=1,
    most=1,
    examples=(
        ("pycontain create web", "a free subnet is found"),
        ("pycontain create --subnet 10.7.0.0/24 --internal db", "without a way out"),
        ("pycontain create --ipv6 six", "with unique local addresses"),
        ("pycontain create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 lan",
         "beside the host on its own network"),
    ),
)  # fmt: skip

LS = Verb(
    "ls",
    "[OPTIONS]",
    "List networks",
    _ls,
    flags=(
        listing_filter("driver=bridge, name=web or label=team=a"),
        LISTING_FORMAT,
        switch("no-trunc", "do not truncate"),
        switch("quiet", "print only ids", short="q"),
    ),
    most=0,
    examples=(
        ("pycontain ls", "all networks"),
        ("pycontain ls -q --filter type=custom", "those that users made"),
    ),
)

INSPECT = Verb(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Return low-level information on networks",
    _inspect,
    flags=(FORMAT,),
    least=1,
    examples=(
        ("pycontain inspect bridge", "all that is known, as JSON"),
        ("pycontain inspect -f '{{range .Containers}}{{.Name}} {{end}}' web",
         "who is in it"),
    ),
)  # fmt: skip

RM = Verb(
    "rm",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Remove networks",
    _rm,
    flags=(switch("force", "one that is not there is no error", short="f"),),
    least=1,
    examples=(("pycontain rm web db", "that no running container is in"),),
)

PRUNE = Verb(
    "prune",
    "[OPTIONS]",
    "Remove networks that no container asks for",
    _prune,
    flags=(
        Flag(
            "filter",
            "only what matches, as until=24h, label=a or label!=a",
            kind="list",
            metavar="name=value",
            convert=filter_,
        ),
        switch("force", "do not ask", short="f"),
    ),
    most=0,
    examples=(("pycontain prune -f", "unasked"),),
)

EXISTS = Verb(
    "exists",
    "NETWORK",
    "Tell by the exit code whether there is a network",
    _exists,
    least=1,
    most=1,
    examples=(("pycontain exists web || echo no", "0: there is; 1: there is not"),),
)

CONNECT = Verb(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    _connect,
    flags=(
        Flag("alias", "a further name of it there", kind="list", metavar="name", convert=_alias),
        Flag("ip", "its IPv4 address there", metavar="address", convert=_ip),
        Flag("ip6", "its IPv6 address there", metavar="address", convert=_ip6),
    ),
    least=2,
    most=2,
    examples=(("pycontain connect --alias db web box", "running or not"),),
)

DISCONNECT = Verb(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    _disconnect,
    flags=(switch("force", "where it is not in it, that is no error", short="f"),),
    least=2,
    most=2,
    examples=(("pycontain disconnect web box", "running or not"),),
)
