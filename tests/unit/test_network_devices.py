"""Network devices to be moved: what a configuration may ask for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pycontain.errors import InvalidInput
from pycontain.oci.features import features
from pycontain.runtime.check import check


def config(devices: Any, *namespaces: dict[str, str]) -> dict[str, Any]:
    new = namespaces or ({"type": "network"},)
    return {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}, *new], "netDevices": devices},
    }


def accepted(devices: Any) -> Any:
    return check(config(devices))["linux"]["netDevices"]


def refusal(devices: Any, *namespaces: dict[str, str]) -> str:
    with pytest.raises(InvalidInput) as caught:
        check(config(devices, *namespaces))
    text = caught.value.message
    assert text.startswith("config.json: linux.netDevices")
    return text.removeprefix("config.json: linux.netDevices")


@pytest.mark.parametrize(
    "devices",
    [
        {},
        {"eth0": {}},
        {"eth0": {"name": ""}},
        {"eth0": {"name": "inner"}, "eth0.5": {"name": "eth0"}},
        {"eth0": {"name": "eth%d"}, "eth1": {"name": "eth%d"}},
        {"fifteen-letters": {"name": "also-fifteen-15"}},
        {"eth0": {"name": "eth-of-fifte%d"}},
        # Exchanged.
        {"eth0": {"name": "eth1"}, "eth1": {"name": "eth0"}},
    ],
)
def test_what_may_be_asked_for(devices: dict[str, Any]) -> None:
    assert accepted(devices) == devices


def test_what_is_unknown_is_ignored() -> None:
    assert accepted({"eth0": {"name": None, "mtu": 1400}}) == {"eth0": {}}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a:1", "a b", "a\tb", "a\n", "sixteen-letters-", "%d", "éééééééé"],
)
def test_what_is_no_name_of_a_device(name: str) -> None:
    text = refusal({name: {}})
    assert "must be the name of a network device, not " in text


@pytest.mark.parametrize(
    "name", [".", "..", "a/b", "a:1", "a b", "sixteen-letters-", "%", "%s", "a%d%d", "a%%d"]
)
def test_what_cannot_be_its_name_inside(name: str) -> None:
    text = refusal({"eth0": {"name": name}})
    assert text.startswith('["eth0"].name: must be the name of a network device, not ')


@pytest.mark.parametrize(
    ("devices", "text"),
    [
        ([], ": must be an object, not a list"),
        ({"eth0": None}, '["eth0"]: must be an object, not null'),
        ({"eth0": {"name": 1}}, '["eth0"].name: must be a string, not 1'),
        ({"eth0": {"name": "a"}, "eth1": {"name": "a"}}, '["eth1"].name: "a" is given twice'),
        ({"eth0": {"name": "eth1"}, "eth1": {}}, '["eth1"].name: "eth1" is given twice'),
    ],
)
def test_what_cannot_be(devices: Any, text: str) -> None:
    assert refusal(devices) == text


def test_a_network_namespace_is_needed() -> None:
    text = refusal({"eth0": {}}, {"type": "pid"})
    assert text == ": no network namespace in linux.namespaces: they would stay the host's"
    check(config({"eth0": {}}, {"type": "network", "path": "/run/netns/other"}))
    check(config({}, {"type": "pid"}))


def test_the_features_tell_of_it() -> None:
    assert cast("dict[str, Any]", features())["linux"]["netDevices"] == {"enabled": True}
