"""Network devices of the host that are moved into a container, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import differs, older, spec, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bundle import Bundle

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not shutil.which("ip"), reason="needs ip of iproute2"),
    older("it knows no network devices", runc="1.4", crun="1.22"),
]

HERE = ("pyt0", "pyt1")
"""The ends of a pair of links in the host's namespace; the second stays there."""


def ip(*words: str, ok: bool = True) -> str:
    return subprocess.run(["ip", *words], check=ok, text=True, capture_output=True).stdout


def link(name: str, *before: str) -> dict[str, Any] | None:
    """What ip(8) says of a link, None where there is none."""
    text = ip(*before, "-json", "-details", "addr", "show", "dev", name, ok=False)
    return next((each for each in json.loads(text or "[]") if each), None)


def inside(bundle: Bundle, name: str) -> dict[str, Any]:
    found = inside_or_none(bundle.pid, name)
    assert found, f"there is no {name} in the container"
    return found


def inside_or_none(pid: int, name: str) -> dict[str, Any] | None:
    words = ["nsenter", f"--net=/proc/{pid}/ns/net"]
    done = subprocess.run(
        [*words, "ip", "-json", "-details", "addr", "show", "dev", name],
        check=False, text=True, capture_output=True,
    )  # fmt: skip
    return next((each for each in json.loads(done.stdout or "[]") if each), None)


def addresses(found: dict[str, Any]) -> set[str]:
    return {f"{each['local']}/{each['prefixlen']}" for each in found["addr_info"]}


def given(found: dict[str, Any]) -> set[str]:
    """Its addresses without the link-local one, which the kernel adds by itself some time after the
    device is up: a kernel thread tells that the link is ready (operstates.rst).
    """
    return {each for each in addresses(found) if not each.startswith("fe80:")}


def add_pair(one: str, other: str) -> None:
    ip("link", "add", one, "type", "veth", "peer", "name", other)


@pytest.fixture(autouse=True)
def pair(nothing_left_behind: None, rootfs_source: str) -> Iterator[None]:
    add_pair(*HERE)
    try:
        ip("link", "set", HERE[1], "up")
        yield
    finally:
        # It takes the other end with it, wherever that is.
        ip("link", "del", HERE[1], ok=False)


@pytest.fixture
def namespace(bundle: Bundle) -> Iterator[str]:
    """A network namespace that somebody else keeps."""
    place = bundle.make("netns", "")
    subprocess.run(["unshare", f"--net={place}", "true"], check=True)
    yield place
    bundle.delete("--force", ok=False)
    subprocess.run(["umount", place], check=True)


def in_namespace(place: str, *words: str) -> str:
    return subprocess.run(
        ["nsenter", f"--net={place}", *words], check=True, text=True, capture_output=True
    ).stdout


@spec(
    "config-linux.md#configLinuxNetworkDevices: a network device is there",
    "config-linux.md#configLinuxNetworkDevices: the device is up",
)
@pytest.mark.parametrize(
    ("given", "name"), [({}, HERE[0]), ({"name": ""}, HERE[0]), ({"name": "inner"}, "inner")]
)
def test_a_device_is_moved_and_up(bundle: Bundle, given: dict[str, str], name: str) -> None:
    ip("link", "set", HERE[0], "mtu", "1400", "address", "02:00:00:00:00:05")
    bundle.linux["netDevices"] = {HERE[0]: given}
    bundle.up()
    assert link(HERE[0]) is None
    found = inside(bundle, name)
    assert "UP" in found["flags"]
    # What is the device's own is as it was.
    assert (found["mtu"], found["address"]) == (1400, "02:00:00:00:00:05")
    assert name in bundle.exec("ip", "link").stdout


@spec("config-linux.md#configLinuxNetworkDevices: addresses are kept")
def test_addresses_for_good_and_of_global_scope_are_kept(bundle: Bundle) -> None:
    for words in (
        "10.99.0.1/24 broadcast 10.99.0.255 label pyt0:a",
        "10.99.0.2/24 noprefixroute",
        "10.99.1.1 peer 10.99.1.2/32 metric 42",
        "169.254.7.7/16 scope link",
        "10.98.0.1/24 valid_lft 1000 preferred_lft 1000",
        "fd00::1/64 preferred_lft 0",
    ):
        ip("addr", "add", *words.split(), "dev", HERE[0])
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.up()
    found = inside(bundle, "inner")
    kept = {each["local"]: each for each in found["addr_info"] if each["scope"] == "global"}
    assert addresses(found) >= {"10.99.0.1/24", "10.99.0.2/24", "fd00::1/64"}
    assert set(kept) == {"10.99.0.1", "10.99.0.2", "10.99.1.1", "fd00::1"}
    assert (kept["10.99.0.1"]["broadcast"], kept["10.99.0.1"]["label"]) == (
        "10.99.0.255", "inner:a",
    )  # fmt: skip
    assert kept["10.99.0.2"]["noprefixroute"]
    assert (kept["10.99.1.1"]["address"], kept["10.99.1.1"]["metric"]) == ("10.99.1.2", 42)
    assert kept["fd00::1"]["deprecated"]
    assert not [each for each in found["addr_info"] if each["local"] == "169.254.7.7"]


def test_a_moved_device_carries_packets(bundle: Bundle) -> None:
    ip("addr", "add", "10.99.0.1/24", "dev", HERE[0])
    ip("addr", "add", "10.99.0.2/24", "dev", HERE[1])
    bundle.linux["netDevices"] = {HERE[0]: {}}
    bundle.up()
    wait_until(lambda: "LOWER_UP" in (link(HERE[1]) or {"flags": []})["flags"])
    # A connection that nobody takes is refused by whoever got it: without packets it would hang.
    argv = ["nsenter", f"--net=/proc/{bundle.pid}/ns/net", sys.executable, "-c"]
    script = "import socket; socket.create_connection(('10.99.0.2', 9), 5)"
    done = subprocess.run([*argv, script], check=False, text=True, capture_output=True)
    assert "ConnectionRefusedError" in done.stderr


@spec("config-linux.md#configLinuxNetworkDevices: a name that is taken is an error unless it is a"
      " template")  # fmt: skip
def test_a_name_that_is_taken(bundle: Bundle, namespace: str) -> None:
    in_namespace(namespace, "ip", "link", "add", "box0", "type", "ifb")
    ip("addr", "add", "10.99.0.1/24", "dev", HERE[0])
    ip("link", "set", HERE[0], "up")
    ip("route", "add", "10.97.0.0/24", "via", "10.99.0.2")
    bundle.namespaces("pid", "ipc", "uts", "mount", network=namespace)
    bundle.linux["netDevices"] = {HERE[0]: {"name": "box0"}}
    said = bundle.refused()
    assert HERE[0] in said
    assert "exists" in said
    found = link(HERE[0])
    assert found
    assert "10.99.0.1/24" in addresses(found)
    assert "UP" in found["flags"]
    # It never left: a move takes a device's routes, and nobody brings those back.
    assert "10.97.0.0/24" in ip("route")
    bundle.linux["netDevices"] = {HERE[0]: {"name": "box%d"}}
    bundle.up()
    assert addresses(inside(bundle, "box1")) >= {"10.99.0.1/24"}


@spec("config-linux.md#configLinuxNetworkDevices: a name that is taken is an error unless it is a"
      " template")  # fmt: skip
def test_the_old_name_may_be_taken_where_it_gets_another(bundle: Bundle, namespace: str) -> None:
    in_namespace(namespace, "ip", "link", "add", HERE[0], "type", "ifb")
    bundle.namespaces("pid", "ipc", "uts", "mount", network=namespace)
    bundle.linux["netDevices"] = {HERE[0]: {}}
    assert "exists" in bundle.refused()
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.up()
    assert inside(bundle, "inner")["linkinfo"]["info_kind"] == "veth"
    assert inside(bundle, HERE[0])["linkinfo"]["info_kind"] == "ifb"


def test_an_index_is_kept_where_it_is_free(bundle: Bundle, namespace: str) -> None:
    here = link(HERE[0])
    assert here
    index = here["ifindex"]
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    other = bundle.another()
    bundle.up()
    assert inside(bundle, "inner")["ifindex"] == index
    bundle.delete("--force")
    wait_until(lambda: link(HERE[1]) is None)
    add_pair(*HERE)
    here = link(HERE[0])
    assert here
    index = here["ifindex"]
    in_namespace(namespace, "ip", "link", "add", "box0", "index", str(index), "type", "ifb")
    other.namespaces("pid", "ipc", "uts", "mount", network=namespace)
    other.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    other.up()
    assert inside(other, "inner")["ifindex"] != index
    other.delete("--force")


def test_names_may_be_exchanged(bundle: Bundle) -> None:
    ip("addr", "add", "10.99.0.1/24", "dev", HERE[0])
    add_pair("pyt2", "pyt3")
    bundle.linux["netDevices"] = {HERE[0]: {"name": "pyt2"}, "pyt2": {"name": HERE[0]}}
    bundle.up()
    assert "10.99.0.1/24" in addresses(inside(bundle, "pyt2"))
    assert "10.99.0.1/24" not in addresses(inside(bundle, HERE[0]))
    ip("link", "del", "pyt3")


@spec("config-linux.md#configLinuxNetworkDevices: the device is not moved back")
def test_it_stays_where_it_is_when_the_container_goes(bundle: Bundle, namespace: str) -> None:
    bundle.namespaces("pid", "ipc", "uts", "mount", network=namespace)
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.up()
    bundle.delete("--force")
    assert link(HERE[0]) is None
    assert "inner" in in_namespace(namespace, "ip", "link")


@spec("config-linux.md#configLinuxNetworkDevices: the device is not managed afterwards")
def test_what_is_done_with_it_in_the_container_stays_done(bundle: Bundle) -> None:
    ip("addr", "add", "10.99.0.1/24", "dev", HERE[0])
    bundle.linux["netDevices"] = {HERE[0]: {}}
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    words = ["nsenter", f"--net=/proc/{bundle.pid}/ns/net", "ip"]
    subprocess.run([*words, "addr", "flush", "dev", HERE[0]], check=True)
    subprocess.run([*words, "link", "set", HERE[0], "down", "name", "other"], check=True)
    bundle.start()
    bundle.exec("true")
    found = inside(bundle, "other")
    assert "UP" not in found["flags"]
    assert found["addr_info"] == []


@spec(
    "config-linux.md#configLinuxNetworkDevices: a move that cannot be is an error",
    "runtime.md#runtimeCreate: a property that cannot be applied is an error and nothing is made",
)
@pytest.mark.parametrize(
    ("devices", "word"),
    [
        ({"pyt-none": {}}, "no such device"),
        # It belongs to its namespace for ever (NETIF_F_NETNS_LOCAL).
        ({"lo": {"name": "inner"}}, "invalid argument"),
    ],
)
def test_a_device_that_cannot_be_moved(
    bundle: Bundle, devices: dict[str, dict[str, str]], word: str
) -> None:
    bundle.linux["netDevices"] = devices
    said = bundle.refused().lower()
    assert next(iter(devices)) in said
    assert word in said
    assert "undoing" not in said


@pytest.mark.parametrize("late", ["another device", "a hook", "the program"])
def test_a_create_that_fails_brings_devices_back(bundle: Bundle, late: str) -> None:
    for words in ("10.99.0.1/24 label pyt0:a", "169.254.7.7/16 scope link", "fd00::1/64"):
        ip("addr", "add", *words.split(), "dev", HERE[0])
    ip("link", "set", HERE[0], "up")
    add_pair("pyt2", "pyt3")
    before = link(HERE[0])
    assert before
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    if late == "another device":
        bundle.linux["netDevices"]["pyt-none"] = {}
    elif late == "a hook":
        bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    else:
        bundle.process["args"] = ["/no/such/program"]
    said = bundle.refused()
    ip("link", "del", "pyt2")
    assert "undoing" not in said
    after = link(HERE[0])
    assert after
    assert given(after) == given(before) >= {"10.99.0.1/24", "169.254.7.7/16", "fd00::1/64"}
    assert {each["label"] for each in after["addr_info"] if "label" in each} == {"pyt0:a", "pyt0"}
    assert "UP" in after["flags"]
    assert (after["address"], after["ifindex"]) == (before["address"], before["ifindex"])


def test_a_device_that_was_down_comes_back_down(bundle: Bundle) -> None:
    bundle.linux["netDevices"] = {HERE[0]: {}}
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    bundle.refused()
    found = link(HERE[0])
    assert found
    assert "UP" not in found["flags"]


def test_hooks_of_the_runtime_find_it_in_place(bundle: Bundle) -> None:
    out = bundle.make("out", "")
    script = (
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/');"
        f" nsenter --net=/proc/$pid/ns/net ip link show dev inner >{out}"
    )
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.config["hooks"] = {
        "createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"PATH={os.environ['PATH']}"]}
        ]
    }
    bundle.create()
    with open(out) as file:
        assert "UP" in file.read()


def test_into_a_user_namespace(bundle: Bundle) -> None:
    bundle.add_namespace("user")
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = [
        {"containerID": 0, "hostID": 100_000, "size": 65_536}
    ]
    os.chmod(bundle.folder, 0o755)
    ip("addr", "add", "10.99.0.1/24", "dev", HERE[0])
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.up()
    assert "10.99.0.1/24" in addresses(inside(bundle, "inner"))


@differs("it looks for the names alone", "runc", "crun")
@spec("config-linux.md#configLinuxNetworkDevices: a move that cannot be is an error")
def test_a_namespace_that_is_the_runtimes_own(bundle: Bundle) -> None:
    bundle.linux["netDevices"] = {HERE[0]: {"name": "inner"}}
    bundle.namespaces("pid", "ipc", "uts", "mount", network="/proc/self/ns/net")
    assert "netDevices" in bundle.refused()
    bundle.namespaces("pid", "ipc", "uts", "mount")
    assert "netDevices" in bundle.refused()
    assert link(HERE[0])


@differs("it looks for less", "runc", "crun")
@pytest.mark.parametrize(
    "devices",
    [
        {"": {}},
        {"a/b": {}},
        {"sixteen-letters-": {}},
        {HERE[0]: {"name": ".."}},
        {HERE[0]: {"name": "a b"}},
        {HERE[0]: {"name": "%s"}},
        {HERE[0]: {"name": "a%d%d"}},
        {HERE[0]: {"name": 1}},
        {HERE[0]: {"name": "x"}, HERE[1]: {"name": "x"}},
        [HERE[0]],
    ],
)
def test_devices_that_cannot_be(bundle: Bundle, devices: object) -> None:
    bundle.linux["netDevices"] = devices
    assert "netDevices" in bundle.refused()
    assert link(HERE[0])
