"""What a runtime does not support is refused when the container is made, never ignored."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import differs, spec

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


@spec("config-linux.md#configLinuxIntelRdt: intelRdt without resctrl is an error")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"closID": "group"}, marks=differs("it is not looked at", "runc", "crun")),
        {"l3CacheSchema": "L3:0=f"},
        pytest.param({"enableMonitoring": True}, marks=differs("it is not known", "runc", "crun")),
    ],
)
def test_intel_rdt(bundle: Bundle, given: dict[str, Any]) -> None:
    if os.path.exists("/sys/fs/resctrl/schemata"):
        pytest.skip("the host has resctrl")
    bundle.linux["intelRdt"] = given
    bundle.refused()


@spec(
    "config.md#valid-values: invalid and unsupported values are an error",
    "runtime.md#runtimeCreate: a property that cannot be applied is an error and nothing is made",
)
@differs("it does not know the property", "runc", "crun")
@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("mountLabel", "system_u:object_r:svirt_sandbox_file_t:s0", "mountLabel"),
        ("resources", {"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma"),
    ],
)
def test_properties_that_may_not_be_supported(
    bundle: Bundle, key: str, value: object, word: str
) -> None:
    """Refused by name; what comes to be supported leaves this table for a test of its own."""
    bundle.linux[key] = value
    assert word in bundle.refused()


@differs("it does not look", "runc", "crun")
@pytest.mark.parametrize("key", ["windows", "solaris", "vm", "zos", "freebsd"])
def test_parts_of_other_platforms_are_ignored_or_refused(bundle: Bundle, key: str) -> None:
    bundle.config[key] = {"anything": 1}
    bundle.process["args"] = ["echo", "x"]
    done = bundle.run()
    assert done.stdout == "x\n" or key in done.stderr


def test_a_configuration_without_a_linux_part(bundle: Bundle) -> None:
    del bundle.config["linux"]
    bundle.private_mounts()
    bundle.process["args"] = ["echo", "x"]
    done = bundle.run()
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
