"""The steps that give a container its network devices, and what the executor takes of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pycontain._native._kernel import ffi, lib

from pycontain.kernel import netlink
from pycontain.model.network import Attachment
from pycontain.runtime import links, plan
from pycontain.runtime.steps import Step, encode, handles, indexes

NEWLINK, SETLINK, NEWADDR, NEWROUTE = 16, 19, 20, 24
HEADER = struct.Struct("=IHHII")


def attachment(**fields: Any) -> Attachment:
    asked: dict[str, Any] = {
        "network": "n" * 64, "name": "bridge", "device": "pyc-1", "device_index": 7,
        "host_interface": "veth12345678", "mac": "02:42:0a:01:00:02",
        "addresses": ("10.1.0.2/24",), "gateways": ("10.1.0.1",),
    }  # fmt: skip
    return Attachment(**{**asked, **fields})


def kinds(batch: object) -> list[int]:
    assert isinstance(batch, bytes)
    return [kind for kind, *_ in netlink.messages(batch)]


def check(steps: list[Step]) -> str | None:
    """What the executor's reader says of a plan with these steps."""
    text = [
        *(step for step in steps if step.name == "publish"),
        Step("clone", 0),
        *(step for step in steps if step.name != "publish"),
        Step("exec", ("sh",), (), ("/bin/sh",)),
    ]
    wanted = handles(text)
    data = encode(text, indexes(wanted), len(wanted))
    why = lib.plan_check(data, len(data))
    return None if why == ffi.NULL else ffi.string(why).decode()


def test_one_pair_and_what_is_on_it() -> None:
    found = links.steps([attachment()], ipv6=True)
    (host,) = found.host
    assert host.name == "netlink_host"
    assert kinds(host.args[0]) == [NEWLINK]
    off, inner = found.container
    assert off.args == ("net/ipv6/conf/eth0/disable_ipv6", "1")
    assert inner.name == "netlink"
    assert kinds(inner.args[0]) == [NEWADDR, SETLINK, NEWROUTE]
    assert inner.args[1] == (
        "add address 10.1.0.2/24 to eth0", "bring up eth0", "add route default by 10.1.0.1",
    )  # fmt: skip
    assert host.text == "connect to network bridge (bridge pyc-1, veth12345678 to eth0)"
    assert inner.text == "set up eth0 with 10.1.0.2/24, by 10.1.0.1"
    assert check([*found.host, *found.container]) is None


def test_the_place_of_the_pid() -> None:
    (host,) = links.steps([attachment()], ipv6=False, published=True).host
    batch, place, words = host.args
    assert isinstance(batch, bytes)
    assert isinstance(place, int)
    assert words == ("make veth pair veth12345678 and eth0", "set bridge port veth12345678")
    assert struct.unpack_from("=HHI", batch, place - 4) == (8, netlink.NET_NS_PID, 0)
    assert kinds(batch) == [NEWLINK, NEWLINK]


def test_with_ipv6_no_router_is_believed() -> None:
    found = links.steps(
        [attachment(ipv6=True, addresses=("10.1.0.2/24", "fd00::2/64"),
                    gateways=("10.1.0.1", "fd00::1"))], ipv6=True,
    )  # fmt: skip
    assert found.container[0].args == ("net/ipv6/conf/eth0/accept_ra", "0")
    assert kinds(found.container[1].args[0]) == [NEWADDR, NEWADDR, SETLINK, NEWROUTE, NEWROUTE]


def test_without_ipv6_in_the_kernel_there_is_nothing_to_switch_off() -> None:
    found = links.steps([attachment()], ipv6=False)
    assert [step.name for step in found.container] == ["netlink"]


def test_a_macvlan_device_has_no_end_here() -> None:
    found = links.steps(
        [attachment(driver="macvlan", host_interface="", device="eth7")], ipv6=False
    )
    (host,) = found.host
    assert host.text == "connect to network bridge (device eth0 of eth7)"
    assert check([*found.host, *found.container]) is None


def test_where_the_steps_stand_in_a_plan() -> None:
    found = links.steps([attachment(), attachment(interface="eth1", index=3)], ipv6=True)
    spec: Any = {
        "root": {"path": "/"}, "process": {"args": ["true"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]},
    }  # fmt: skip
    names = [step.name for step in plan.container(spec, plan.Settings(links=found))]
    clone, up = names.index("clone"), names.index("loopback")
    assert names[clone + 1 : clone + 3] == ["netlink_host", "netlink_host"]
    assert names[up + 1 : up + 5] == ["sysctl", "netlink", "sysctl", "netlink"]
    assert up < names.index("root")


# --- what the executor refuses ------------------------------------------------------------------


def batch(*messages: tuple[int, int, int, bytes]) -> bytes:
    return b"".join(
        HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body
        for kind, flags, number, body in messages
    )


GOOD = (SETLINK, 5, 0, bytes(16))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (batch(GOOD)[:-1], "not aligned"),
        (batch(GOOD)[:-4], "longer than its batch"),
        (batch(GOOD) + bytes(4), "longer than its batch"),
        (batch((17, 5, 0, bytes(16))), "of a kind"),  # RTM_DELLINK
        (batch((SETLINK, 1, 0, bytes(16))), "of a kind"),  # no NLM_F_ACK
        (batch((SETLINK, 5, 1, bytes(16))), "not numbered"),
        (batch(GOOD, GOOD), "not numbered"),
        (batch((SETLINK, 5, 0, bytes(70000))), "too long"),
    ],
)
def test_bad_batches_are_refused(data: bytes, reason: str) -> None:
    assert reason in (check([Step("netlink", data, ())]) or "")
    assert reason in (check([Step("netlink_host", data, 0, ())]) or "")


@pytest.mark.parametrize("place", [1, 4, 16, 30, 32, 33, 1 << 40, -4])
def test_a_pid_is_written_inside_of_an_attribute_alone(place: int) -> None:
    data = batch(GOOD)  # 32 bytes
    assert "no room for the pid" in (check([Step("netlink_host", data, place, ())]) or "")


def test_the_last_four_bytes_may_be_the_pid() -> None:
    assert check([Step("netlink_host", batch(GOOD), 28, ())]) is None
