"""Rows: networks as users make them, list them and connect to them."""

from __future__ import annotations

from .rows import Row, Said, scene

_EXISTS = "docker has no such verb"
_WORDS = "docker writes it in other words"
_IPV6 = "docker 20.10 makes up no IPv6 subnet"
_LISTED = "network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}' "
_FIELDS = (
    "network inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.EnableIPv6}} {{.Internal}}"
    " {{json .IPAM.Config}} {{json .Options}} {{json .Labels}} {{len .Containers}}' "
)

_INSIDE = "docker gives an internal network a gateway and a default route that lead nowhere"
_INSIDE_IS = (
    'inside bridge local false true [{"Subnet":"<net>.128/26","Gateway":"<net>.129"}] {}'
    ' {"alone":"","team":"a"} 0\n'
)
_ICC = "containers of a network reach each other: who should not has a network of its own"
_ROUTED = "a network without masquerading needs routes to it in the routers around the host"
_AUX = "an address for somebody else is kept out of --ip-range instead"
_NO_BRIDGE = "the docker beside us has no bridge"

_MADE = scene(
    "networks",
    Row("network create app", save="id"),
    Row("network create app", err="network with name app already exists"),
    "network create --subnet @net.0/25 --gateway @net.9 --ip-range @net.64/26 fixed",
    _FIELDS + "fixed",
    "network create --internal --label team=a --label alone --subnet @net.128/26 inside",
    Row(_FIELDS + "inside", differs=_INSIDE, ours=Said(out=_INSIDE_IS), dockers=Said(out=...)),
    "network create --ipv6 --subnet @net.192/26 --subnet fd5e::@net.0/120 six",
    "network inspect -f '{{.EnableIPv6}} {{len .IPAM.Config}}' six",
    "network create --driver bridge -o com.docker.network.driver.mtu=1400 thin",
    "network inspect -f '{{json .Options}}' thin",
    "run --rm --network thin busybox cat /sys/class/net/eth0/mtu",
    "run --rm --network fixed --ip @net.77 busybox"
    " sh -c 'ip -4 addr show eth0 | grep -c @net.77/25'",
    Row("run --rm --network inside busybox ip route list 0.0.0.0/0",
        differs=_INSIDE, ours=Said(), dockers=Said(out="default via <net>.129 dev eth0 \n")),
    Row("network inspect @id:20 --format '{{.Name}}'"),
    _LISTED + "-f type=custom",
    _LISTED + "--filter driver=bridge --filter type=custom --filter name=si",
    _LISTED + "-f label=team=a",
    _LISTED + "-f label=team=b",
    _LISTED + "-f id=@id:20",
    _LISTED + "-f scope=local -f name=app",
    _LISTED + "-f scope=swarm",
    _LISTED + "-f dangling=true -f name=app",
    "network ls -f name=app",
    "network ls -q --no-trunc -f name=app",
    "network ls --format '{{.ID}} {{.Label \"team\"}}' -f name=inside",
    "network ls --format 'table {{.Name}}\\t{{.Driver}}' -f name=app",
    "network list -q --no-trunc --format '{{.Name}}' -f name=app",
    Row("network ls -f nosuch=1", err="invalid filter 'nosuch"),
    Row("network ls -f type=odd", err="invalid filter: 'type'='odd'"),
    Row("network inspect nosuch app -f '{{.Name}}'", err="nosuch"),
    Row("network inspect nosuch", err="nosuch"),
    "inspect --type network -f '{{.Name}} {{.Driver}}' inside",
    "inspect -f '{{.Name}} {{.Internal}}' inside",
    Row("inspect --type network nosuch", err="nosuch"),
    Row("network exists app", differs=_EXISTS, ours=Said(), dockers=Said(..., out=..., err=...)),
    Row("network exists nosuch", differs=_EXISTS, ours=Said(1), dockers=Said(..., ..., ...)),
    "network rm thin six",
    Row("network rm thin", err="thin"),
    "network rm --force thin",
    "network remove --force fixed",
    Row("network rm bridge", differs=_NO_BRIDGE, dockers=Said(1, err=...),
        ours=Said(1, err="is a pre-defined network and cannot be removed")),
    Row("network rm host", err="is a pre-defined network and cannot be removed"),
    Row("network prune", stdin="n\n"),
    Row("network prune -f --filter label=nosuch"),
    Row("network prune --force --filter label=team"),
    "network prune -f --filter until=2020-01-01",
    "network prune -f",
    "network prune -f",
    Row("network prune -f --filter nosuch=1", err="invalid filter"),
    _LISTED + "-f type=custom",
    Row("network create --help", any_out=True),
    Row("network ls --help", any_out=True),
    Row("network list --help", any_out=True),
    Row("network inspect --help", any_out=True),
    Row("network rm --help", any_out=True),
    Row("network remove --help", any_out=True),
    Row("network prune --help", any_out=True),
    Row("network connect --help", any_out=True),
    Row("network disconnect --help", any_out=True),
    Row("network exists --help", differs=_EXISTS, ours=Said(out=...), dockers=Said(..., ..., ...)),
    Row("network --help", any_out=True),
    Row("network nosuch", err="unknown command"),
)  # fmt: skip

_CONNECTED = scene(
    "network connect",
    "network create --subnet @net.0/25 one",
    "network create --subnet @net.128/25 two",
    Row("run -d --name box --network one --init busybox sleep 1000", save="box"),
    "network connect --alias second --ip @net.177 two box",
    "exec box sh -c 'ip -4 addr show eth1 | grep inet'",
    Row("network connect --alias x --ip 10.9.9.9 --ip6 fd00::9 nosuch box", err="nosuch"),
    Row("network connect two box", err="endpoint with name box already exists in network two"),
    Row("network connect nosuch box", err="nosuch"),
    Row("network connect two nosuch", err="No such container: nosuch"),
    "network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' two",
    Row("network rm two", err="has active endpoints"),
    Row("network connect --ip @net.300 two box", any_err=True, differs=_WORDS,
        ours=Said(125, err="not an IPv4 address"), dockers=Said(..., err=...)),
    Row("network connect --ip6 fd00::9 one box", err="", differs=_WORDS,
        ours=Said(1, err="already exists"), dockers=Said(..., err=...)),
    "network disconnect two box",
    "exec box sh -c 'ip link show eth1 2>/dev/null || echo gone'",
    Row("network disconnect two box", err="is not connected to"),
    Row("network disconnect --force nosuch box", differs="docker tells it as an error",
        ours=Said(err="network nosuch not found"), dockers=Said(..., err=...)),
    Row("network disconnect two nosuch", err="No such container: nosuch"),
    Row("network connect host box", any_err=True, differs=_WORDS,
        ours=Said(1, err="mode of containers"), dockers=Said(..., err=...)),
    "run -d --name lone BOX sleep 1000",
    Row("network connect one lone", err="private (none) mode"),
    Row("rm -f box lone", any_out=True),
    "network rm one two",
    Row("network connect one", err="requires 2 arguments"),
    Row("network disconnect one", err="requires 2 arguments"),
    Row("network create", err="requires 1 argument"),
    Row("network rm", err="requires at least 1 argument"),
    Row("network inspect", err="requires at least 1 argument"),
    Row("network ls extra", err="accepts no arguments"),
    Row("network prune extra", err="accepts no arguments"),
)  # fmt: skip

_REFUSED = scene(
    "network words",
    Row("network create bridge", err="operation is not permitted on predefined bridge network"),
    Row("network create host", err="operation is not permitted on predefined host network"),
    Row("network create --subnet 10.0.0.1/33 x", err="invalid CIDR address"),
    Row("network create --subnet x x", err="invalid CIDR address"),
    Row("network create --subnet @net.0/24 --gateway 10.9.9.9 x", err="no matching subnet"),
    Row("network create --subnet @net.0/24 --ip-range 10.9.9.0/25 x", err="no matching subnet"),
    Row("network create --gateway @net.1 x", any_err=True, differs=_WORDS,
        ours=Said(1, err="no matching subnet for gateway"), dockers=Said(1, err=...)),
    Row("network create -d nosuch x", any_err=True, differs=_WORDS,
        ours=Said(1, err="no such driver"), dockers=Said(1, err=...)),
    Row("network create -o nosuch=1 x", differs="docker ignores options that it does not know",
        ours=Said(1, err="has no such option"), dockers=Said(out=...)),
    Row("network create -o com.docker.network.bridge.enable_icc=false icc", differs=_ICC,
        ours=Said(1, err="has no such option"), dockers=Said(out=...)),
    Row("network create -o com.docker.network.bridge.enable_ip_masquerade=false masq",
        differs=_ROUTED, ours=Said(1, err="has no such option"), dockers=Said(out=...)),
    Row("network create --subnet @net.0/25 --subnet @net.128/25 two4", any_err=True, differs=_WORDS,
        ours=Said(1, err="a bridge has one IPv4 subnet"), dockers=Said(1, err=...)),
    Row("network create --ipv6 --subnet fd5e::@net.0/121 --subnet fd5f::@net.0/121 two6",
        any_err=True, differs=_WORDS, ours=Said(1, err="a bridge has one IPv6 subnet"),
        dockers=Said(1, err=...)),
    Row("network create --subnet @net.0/24 --aux-address box=@net.9 aux", differs=_AUX,
        ours=Said(125, err="unknown flag: --aux-address"), dockers=Said(out=...)),
    Row("network create -d macvlan x", differs="docker makes a dummy device of its own for it",
        ours=Said(1, err="needs --opt parent=DEVICE"), dockers=Said(..., out=..., err=...)),
    Row("network create -- -x", any_err=True, differs=_WORDS,
        ours=Said(1, err="invalid network name"), dockers=Said(..., out=..., err=...)),
    Row("network create --ipv6 y", differs=_IPV6, ours=Said(out=...),
        dockers=Said(1, err="could not find an available")),
    Row("network rm y", differs=_IPV6, ours=Said(out="y\n"), dockers=Said(1, err=...)),
    Row("network prune -f", any_out=True),
)  # fmt: skip

_FORWARDS = scene(
    "forwarding in networks",
    Row("network create --subnet @net.0/25 app", any_out=True),
    "run --rm --network app busybox cat /proc/sys/net/ipv4/ip_forward",
    "run --rm --network app --sysctl net.ipv4.ip_forward=0 busybox"
    " cat /proc/sys/net/ipv4/ip_forward",
    Row("network create --subnet @net.128/25 --ip-range @net.128/32 full",
        any_err=True, differs=_WORDS, ours=Said(1, err="no address for a container"),
        dockers=Said(1, err="No available addresses")),
    "network rm app",
)  # fmt: skip

SCENES = (_MADE, _CONNECTED, _REFUSED, _FORWARDS)
