"""The container's half of networks on a real kernel: its devices, its names, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE, wait_until
from msgspec.structs import replace

from pycontain.engine import networks
from pycontain.errors import CommandNotFound, InvalidInput, KernelError
from pycontain.kernel import netlink
from pycontain.model.container import NetworkChoice, Publish

if TYPE_CHECKING:
    from harness import CommandLine, Store

    from pycontain.model.network import Attachment

pytestmark = pytest.mark.host


def into(*names: str, **first: Any) -> dict[str, Any]:
    choices = [NetworkChoice(name=names[0], **first)]
    choices += [NetworkChoice(name=name) for name in names[1:]]
    return {"network": "bridge", "networks": tuple(choices)}


def endpoint_of(store: Store, ref: str) -> Attachment:
    return networks.attachments(store.layout, ref)[0]


def leased(store: Store) -> list[str]:
    """The addresses that are held in any network."""
    folder = store.layout.state_networks
    found = []
    for name in os.listdir(folder):
        if os.path.isdir(f"{folder}/{name}"):
            found += [
                entry for entry in os.listdir(f"{folder}/{name}") if "." in entry or ":" in entry
            ]
    return found


def ends(store: Store) -> list[str]:
    """The host's ends of veth pairs that are ports of a bridge of this store."""
    bridges = {network.interface for network in store.engine.networks.list()}
    indexes = {link.index for link in netlink.links() if link.name in bridges}
    return [link.name for link in netlink.links() if link.master in indexes]


@pytest.mark.in_vm
def test_the_device_of_a_container(store: Store) -> None:
    ref = store.detach(hostname="box", domainname="test", **into("bridge"))
    place = endpoint_of(store, ref)
    script = "cat /sys/class/net/eth0/address /sys/class/net/eth0/ifindex /etc/hosts; ip route"
    out = store.exec(ref, "sh", "-c", script).stdout.decode()
    address = place.addresses[0].partition("/")[0]
    assert out.startswith(f"{place.mac}\n2\n")
    assert f"{address}\tbox.test box\n" in out
    assert f"default via {place.gateways[0]} dev eth0" in out
    assert store.exec(ref, "ping", "-c", "1", "-W", "30", place.gateways[0]).code == 0
    settings = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"
    assert store.exec(ref, "cat", settings).stdout == b"1\n"
    # The loopback keeps its own.
    assert b"::1" in store.exec(ref, "ip", "addr", "show", "lo").stdout


def test_an_own_address_and_hardware_address(store: Store) -> None:
    store.engine.networks.create("app")
    subnet = store.engine.networks.get("app").subnets[0].subnet
    wanted = subnet.rpartition(".")[0] + ".77"
    asked = into("app", ip=wanted, mac="02:00:00:00:00:77")
    out = store.sh("ip addr show eth0", **asked)
    assert f"inet {wanted}/" in out
    assert "link/ether 02:00:00:00:00:77" in out
    assert leased(store) == []


def test_two_networks_and_ipv6(store: Store) -> None:
    store.engine.networks.create("one")
    store.engine.networks.create("two", ipv6=True)
    script = "cat /proc/sys/net/ipv6/conf/eth?/accept_ra; ip addr show eth1; ip route; ip -6 route"
    out = store.sh(script, **into("one", "two"))
    # What eth0 has is the kernel's default, with which it does nothing: it has no IPv6.
    assert out[1:4] == "\n0\n"
    assert out.count("default via") == 2, "one way out for each family"
    assert "inet6 fd" in out
    assert "global tentative" not in out


def test_another_containers_network_has_its_device(store: Store) -> None:
    ref = store.detach(**into("bridge"))
    address = endpoint_of(store, ref).addresses[0]
    assert address in store.sh("ip addr", network=f"container:{ref}")


def test_a_step_that_fails_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = networks.join
    wrong: dict[str, Any] = {}

    def join(*args: Any) -> Any:
        return tuple(replace(place, **wrong) for place in real(*args))

    monkeypatch.setattr(networks, "join", join)
    twice = ("10.0.0.1/24", "10.0.0.1/24")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"device_index": 1 << 29}, "connect to network bridge .*: make veth pair veth"),
        (
            {"gateways": ("203.0.113.1",)},
            "set up eth0 .*: add route default by 203.0.113.1.*unreach",
        ),
        ({"addresses": twice}, "set up eth0 .*: add address 10.0.0.1/24 to eth0.*exists"),
    )
    for fields, words in cases:
        wrong.clear()
        wrong.update(fields)
        with pytest.raises(KernelError, match=words):
            store.run("true", **into("bridge"))
        assert leased(store) == []
    wait_until(lambda: ends(store) == [])


def test_a_start_that_fails_gives_everything_back(store: Store) -> None:
    with pytest.raises(CommandNotFound):
        store.run("nosuch", publish=(Publish(target=80),), **into("bridge"))
    assert leased(store) == []
    wait_until(lambda: ends(store) == [])


def test_everything_goes_when_nobody_is_there(store: Store) -> None:
    kept = store.detach("sleep", "0.2", **into("bridge"))
    gone = store.detach("sleep", "0.2", remove=True, **into("bridge"))
    wait_until(lambda: not os.path.exists(store.layout.container(gone).folder))
    wait_until(lambda: leased(store) == [])
    assert store.state_of(kept) == "exited"
    bridge = store.engine.networks.get("bridge").interface
    wait_until(lambda: netlink.get_link(bridge) is None)


def test_an_owner_gives_back_by_itself(store: Store) -> None:
    store.create("true", name="web", **into("bridge"))
    attachment = store.containers.start("web", attach=True)
    assert attachment is not None
    while (frame := attachment.read()) is None or frame.kind != "exit":
        pass
    attachment.finish()
    attachment.close()
    assert leased(store) == []
    assert store.state_of("web") == "exited"


def test_a_killed_monitor_is_cleaned_up_after(store: Store) -> None:
    ref = store.detach(**into("bridge"))
    before = endpoint_of(store, ref).addresses
    os.kill(store.run_record(ref).monitor, signal.SIGKILL)
    wait_until(lambda: store.state_of(ref) == "exited")
    assert leased(store) == []
    store.containers.start(ref)
    assert endpoint_of(store, ref).addresses != before, "a freed address is not given at once"
    assert len(leased(store)) == 1


def test_modes_and_networks_that_contradict_each_other(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no network is named"):
        store.create("true", network="bridge")
    with pytest.raises(InvalidInput, match="networks and the network mode host"):
        store.create("true", **{**into("bridge"), "network": "host"})


def test_a_clean_up_that_was_killed_is_made_up_for(store: Store) -> None:
    """Whoever looks does it: else its rules would lead to whoever has its address next."""
    ref = store.detach("sleep", "1000", publish=(Publish(target=80),), **into("bridge"))
    monitor = store.run_record(ref).monitor
    endpoints = store.layout.container(ref).endpoints
    with open(endpoints, "rb") as file:
        before = file.read()
    os.kill(store.run_record(ref).pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{monitor}"))
    # As if its clean-up had not come to it.
    with open(endpoints, "wb") as file:
        file.write(before)
    assert store.state_of(ref) == "exited"
    assert not os.path.exists(endpoints)


def test_what_run_would_do(store: Store, pycontain: CommandLine) -> None:
    words = ("--network", "bridge:ip=10.9.8.7", "-p", "8080:80", "-p", "53/udp")
    out = pycontain("run", "--explain", *words, "busybox", "true").stdout.decode()
    assert "join network bridge with 10.9.8.7\n" in out
    assert "bind port 8080 of the host for 80/tcp\n" in out
    assert "bind a free port of the host for 53/udp\n" in out
    assert not os.path.exists(f"{store.layout.networks}/bridge.json")


@pytest.mark.in_vm
def test_the_default_is_roots_bridge(store: Store, pycontain: CommandLine) -> None:
    script = "test -e /sys/class/net/eth0"
    environment = {name: word for name, word in os.environ.items() if name != "PYCONTAIN_NETWORK"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    words = ("run", "--rm", "busybox", "sh", "-c", script)
    with pycontain.start(*words, env=environment) as child:
        assert child.wait(PATIENCE) == 0
    assert pycontain("run", "--rm", "busybox", "sh", "-c", script).returncode == 1


@pytest.mark.parametrize("delay", [0.1, 0.2, 0.3, 0.4])
def test_a_killed_command_leaves_nothing_that_stays(
    store: Store, pycontain: CommandLine, delay: float
) -> None:
    words = ("run", "-d", "--network", "bridge", "-p", "80", "busybox", "sleep", "1000")
    with pycontain.start(*words, stdout=subprocess.DEVNULL) as child:
        time.sleep(delay)
        child.kill()
    store.clear()
    # The next one finds no address that is still another's, and afterwards all is gone.
    assert store.code("true", **into("bridge")) == 0
    assert leased(store) == []
    bridge = store.engine.networks.get("bridge").interface
    wait_until(lambda: netlink.get_link(bridge) is None)
