"""Rows: networks of ``run`` and ``create``, and published ports."""

from __future__ import annotations

from .rows import Row, Said, scene

_DISCARDED = "docker discards what it cannot publish, pycontain refuses it"
_NO_NETWORK = Said(125, err="conflicting options: port publishing and the network mode")
_OLD = "docker 20.10 behind a newer client has no hardware addresses of networks"
_SCTP = "pycontain has no forwarder that speaks it"


def _refused(words: str, phrase: str) -> Row:
    return Row(f"create {words} BOX true", err=phrase)


_PORTS = scene(
    "ports",
    Row("network create app", any_out=True),
    Row(
        "run -d --name web --network app -p @port_a:80 --expose 90 busybox sleep 1000",
        any_out=True,
    ),
    "port web",
    "port web 80",
    "port web 80/tcp",
    Row("port web 90", err="No public port '90' published for web"),
    Row("port web 80/udp", err="No public port '80/udp' published for web"),
    Row("port web 80/x", err="No public port '80/x' published for web"),
    Row("port web x", err="invalid port (x)"),
    Row("port nosuch", err="No such container: nosuch"),
    Row("port", err="requires"),
    Row("port a b c", err="requires"),
    "ps --format '{{.Names}} {{.Ports}} {{.Networks}}'",
    "ps --filter publish=@port_a --format '{{.Names}}'",
    "ps --filter publish=@port_a-@port_b/tcp --format '{{.Names}}'",
    "ps --filter publish=@port_a/udp --format '{{.Names}}'",
    "ps --filter expose=80 --format '{{.Names}}'",
    "ps --filter expose=85-95 --format '{{.Names}}'",
    "ps --filter expose=91 --format '{{.Names}}'",
    "ps --filter network=app --format '{{.Names}}'",
    "ps --filter network=bridge --format '{{.Names}}'",
    "inspect -f '{{json .HostConfig.PortBindings}}' web",
    "inspect -f '{{json .Config.ExposedPorts}}' web",
    "inspect -f '{{json .NetworkSettings.Ports}}' web",
    "inspect -f '{{.HostConfig.NetworkMode}} {{.HostConfig.PublishAllPorts}}' web",
    Row("run --rm --network app -p @port_a:80 busybox true", err="port is already allocated"),
    Row("stop -t 0 web", any_out=True),
    "port web",
    "ps -a --format '{{.Names}}:{{.Ports}}:{{.Networks}}'",
    "inspect -f '{{json .NetworkSettings.Ports}}' web",
    Row("start web", any_out=True),
    "port web 80",
    Row("rm -f web", any_out=True),
    "run --rm --network app -p @port_a:80 busybox echo free",
    Row("run -d --name web --network app -p 127.0.0.1:@port_a:53/udp busybox sleep 1000",
        any_out=True),
    "port web",
    "ps --format '{{.Ports}}'",
    Row("rm -f web", any_out=True),
    Row("run -d --name web --network app -p @port_a-@port_c:80-82 busybox sleep 99", any_out=True),
    "ps --format '{{.Ports}}'",
    Row("rm -f web", any_out=True),
    Row("run -d --name web --network app -P --expose 80 busybox sleep 1000", any_out=True),
    "inspect -f '{{.HostConfig.PublishAllPorts}} {{len .NetworkSettings.Ports}}' web",
    Row("port web 80", any_out=True),
    Row("rm -f web", any_out=True),
    Row("network rm app", any_out=True),
)  # fmt: skip

_WORDS = scene(
    "port words",
    _refused("-p x", "invalid"),
    Row("create -p 0 BOX true", differs="there is no such port",
        ours=Said(125, err="invalid containerPort: 0"), dockers=Said(out=...)),
    _refused("-p 65536", "invalid"),
    _refused("-p 80:80:80", "invalid ip address"),
    _refused("-p x:80", "invalid hostPort"),
    _refused("-p 80:", "no port specified"),
    _refused("-p localhost:80:80", "invalid ip address: localhost"),
    _refused("-p 80-82:80-81", "invalid ranges specified for container and host ports"),
    _refused("-p 80/foo", "invalid proto: foo"),
    _refused("--expose x", "invalid range format for --expose"),
    _refused("--expose 80:80", "invalid port format for --expose"),
    _refused("--mac-address x", "mac address"),
    Row("run --rm --network container:nosuch -p 80 busybox true", err="conflicting options: port"),
    Row("run --rm --network container:nosuch -P busybox true", err="conflicting options: port"),
    Row("run --rm --network container:nosuch --expose 80 busybox true",
        err="conflicting options: port exposing"),
    Row("create -p 80 BOX true", differs=_DISCARDED, ours=Said(1, err=_NO_NETWORK.err),
        dockers=Said(out=...)),
    Row("run --rm --network host -p 80 busybox true", differs=_DISCARDED, ours=_NO_NETWORK,
        dockers=Said(err="discarded")),
    Row("create -p 80/sctp BOX true", differs=_SCTP, ours=Said(125, err="sctp"),
        dockers=Said(out=...)),
)  # fmt: skip

_INET = "sh -c \"ip addr show eth0 | grep -o 'inet [0-9./]*'\""

_FLAGS = scene(
    "network flags",
    Row("network create --subnet @net.0/24 pinned", any_out=True),
    f"run --rm --network pinned --ip @net.77 busybox {_INET}",
    f"run --rm --net pinned busybox {_INET}",
    Row("run --rm --network pinned --mac-address 02:00:00:00:00:77 busybox cat"
        " /sys/class/net/eth0/address",
        differs=_OLD, ours=Said(out="02:00:00:00:00:77\n"), dockers=Said(..., ..., ...)),
    Row("create --network pinned --name mac --mac-address 02:00:00:00:00:77 busybox true",
        differs=_OLD, ours=Said(out=...), dockers=Said(..., ..., ...)),
    Row("start -a mac", differs=_OLD, ours=Said(), dockers=Said(..., ..., ...)),
    Row("rm mac", differs=_OLD, ours=Said(out=...), dockers=Said(..., ..., ...)),
    "run --rm --network pinned --network-alias one --net-alias two busybox true",
    "run --rm --network name=pinned,alias=one,ip=@net.79 busybox true",
    "run --rm --network pinned busybox sh -c 'ip route | grep -c ^default'",
    Row("run -d --name one --network pinned --ip @net.78 busybox sleep 99", any_out=True),
    "inspect -f '{{.NetworkSettings.Networks.pinned.IPAddress}}' one",
    "inspect -f '{{.NetworkSettings.Networks.pinned.Gateway}}' one",
    "inspect -f '{{.NetworkSettings.Networks.pinned.IPPrefixLen}}' one",
    Row("run --rm --network pinned --ip @net.78 busybox true", err="already in use"),
    Row("run --rm --network pinned --ip 192.0.2.9 busybox true", err="192.0.2.9"),
    Row("rm -f one", any_out=True),
    f"run --rm --network pinned --ip @net.78 busybox {_INET}",
    Row("run --rm --network pinned --network none busybox true", any_err=True),
    Row("run --rm --network pinned --network pinned busybox true", any_err=True),
    Row("run --rm --network pinned --ip x busybox true", err="x"),
    Row("run --rm --network pinned --ip6 x busybox true", err="x"),
    Row("run --rm --network pinned --ip6 fd00::9 busybox true", err="subnet"),
    Row("create --name six --network pinned --ip6 fd00::9 busybox true", any_out=True),
    Row("start -a six", err="subnet"),
    Row("rm six", any_out=True),
    Row("create --name late --network pinned --ip 192.0.2.9 --network-alias three -P"
        " --expose 80-81 busybox true", any_out=True),
    "inspect -f '{{.HostConfig.NetworkMode}} {{json .Config.ExposedPorts}}' late",
    Row("start -a late", err="subnet"),
    Row("rm late", any_out=True),
    Row("network rm pinned", any_out=True),
)  # fmt: skip

SCENES = (_PORTS, _WORDS, _FLAGS)
