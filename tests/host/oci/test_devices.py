"""config-linux.md, devices: nodes, the default ones, and the rules that allow their use."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import Terminal, differs, spec

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]

SPEC_RULES = "config-linux.md#configLinuxDeviceAllowedlist: device rules are applied in their order"


def node(path: str, major: int = 1, minor: int = 3, **more: Any) -> dict[str, Any]:
    return {"path": path, "type": "c", "major": major, "minor": minor} | more


# -------------------------------------------------------------------------------------------- nodes


@spec("config-linux.md#configLinuxDefaultDevices: the standard ones are there")
def test_default_devices(bundle: Bundle) -> None:
    names = "null zero full random urandom tty".split()
    script = "for n in " + " ".join(names) + "; do stat -c '%n %F %a %t:%T' /dev/$n; done"
    assert bundle.sh(script).splitlines() == [
        f"/dev/{name} character special file 666 {numbers}"
        for name, numbers in zip(names, ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"], strict=True)
    ]
    assert bundle.sh("stat -L -c '%F %t:%T' /dev/ptmx") == "character special file 5:2\n"


@pytest.mark.in_vm
def test_default_devices_work(bundle: Bundle) -> None:
    script = (
        "echo x >/dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 8 /dev/urandom | wc -c;"
        " echo x 2>/dev/null >/dev/full || echo full"
    )
    assert bundle.sh(script).split() == ["00", "00", "00", "00", "8", "full"]


def test_default_links(bundle: Bundle) -> None:
    script = "for n in fd stdin stdout stderr; do readlink /dev/$n; done"
    assert bundle.sh(script).splitlines() == [
        "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2",
    ]  # fmt: skip


def test_nothing_else_is_in_dev(bundle: Bundle) -> None:
    assert set(bundle.out("ls", "-A", "/dev").split()) <= set(
        "null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr core".split()
    )


def test_a_terminal_can_be_made(bundle: Bundle) -> None:
    bundle.process["env"].append("VALUE=1")
    assert int(bundle.out("probe", "2", "=/dev/ptmx", "2")) >= 3  # open(2), O_RDWR


def test_the_console_is_there_with_a_terminal_only(bundle: Bundle) -> None:
    assert bundle.code("test -e /dev/console") != 0
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh", "-c", "test -c /dev/console && echo there"]
    with Terminal(bundle) as terminal:
        bundle.create("--console-socket", terminal.path)
        terminal.accept()
        bundle.start()
        assert terminal.rest() == "there\n"


@spec("config-linux.md#configLinuxDevices: devices are there")
@pytest.mark.parametrize("path", ["/dev/mine", "/srv/deep/er/dev", "/dev/dir/one"])
def test_a_device(bundle: Bundle, path: str) -> None:
    bundle.linux["devices"] = [node(path, 1, 5, fileMode=0o640, uid=7, gid=8)]
    assert bundle.sh(f"stat -c '%F %t:%T %a %u %g' {path}") == (
        "character special file 1:5 640 7 8\n"
    )


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("c", stat.S_IFCHR), ("u", stat.S_IFCHR), ("b", stat.S_IFBLK), ("p", stat.S_IFIFO)],
)
def test_kinds_of_devices(bundle: Bundle, kind: str, mode: int) -> None:
    entry = {"path": "/dev/it", "type": kind} | ({} if kind == "p" else {"major": 7, "minor": 77})
    bundle.linux["devices"] = [entry]
    assert int(bundle.sh("stat -c %f /dev/it"), 16) & ~0o7777 == mode


@differs("it may not use the device then", "runc")
def test_a_device_in_place_of_a_default_one(bundle: Bundle) -> None:
    bundle.linux["devices"] = [node("/dev/null", 1, 3, fileMode=0o600)]
    assert bundle.sh("stat -c %t:%T /dev/null") == "1:3\n"


@spec("config-linux.md#configLinuxDevices: a file that is not the device is an error")
@differs("what is there is taken as it is", "runc", "crun")
@pytest.mark.parametrize("what", ["file", "folder", "other device"])
def test_a_path_that_is_something_else(bundle: Bundle, what: str) -> None:
    path = f"{bundle.rootfs}/srv"
    if what == "file":
        bundle.make("rootfs/srv", "text")
    elif what == "folder":
        os.mkdir(path)
    else:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    bundle.linux["devices"] = [node("/srv", 1, 3)]
    bundle.refused()


def test_a_device_that_is_there_already(bundle: Bundle) -> None:
    os.mknod(f"{bundle.rootfs}/srv", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    bundle.linux["devices"] = [node("/srv", 1, 3)]
    assert bundle.sh("stat -c %t:%T /srv") == "1:3\n"


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "entry",
    [
        {"path": "/dev/x", "type": "q", "major": 1, "minor": 3},
        {"path": "/dev/x", "type": "a", "major": 1, "minor": 3},
        {"path": "/dev/x", "major": 1, "minor": 3},
        pytest.param({"type": "c", "major": 1, "minor": 3}, marks=differs("it is ignored", "runc")),
        {"path": 5, "type": "c", "major": 1, "minor": 3},
        node("/dev/x", "1", 3),  # type: ignore[arg-type]
        node("/dev/x", 1, 3, fileMode="0600"),
        node("/dev/x", 1, 3, uid=-1),
    ],
)
def test_a_device_that_cannot_be(bundle: Bundle, entry: dict[str, Any]) -> None:
    bundle.linux["devices"] = [entry]
    bundle.refused()


@differs("the numbers are cut", "runc", "crun")
@pytest.mark.parametrize(
    "entry",
    [
        {"path": "/dev/x", "type": "c"},
        node("/dev/x", -1, 3),
        node("/dev/x", 1 << 40, 3),
        node("dev/x", 1, 3),
        node("/dev/x", 1, 3, fileMode=1 << 33),
    ],
)
def test_device_numbers_that_cannot_be(bundle: Bundle, entry: dict[str, Any]) -> None:
    bundle.linux["devices"] = [entry]
    bundle.refused()


def test_devices_in_a_user_namespace(bundle: Bundle) -> None:
    from .test_mounts import with_user_namespace

    with_user_namespace(bundle)
    if not os.path.exists("/dev/fuse"):
        pytest.skip("the host has no /dev/fuse, which a runtime may bind")
    bundle.linux["devices"] = [node("/dev/fuse", 10, 229)]
    assert bundle.sh("stat -c %t:%T /dev/fuse; head -c 2 /dev/zero | wc -c") == "a:e5\n2\n"


# -------------------------------------------------------------------------------------------- rules


def put_fuse(bundle: Bundle) -> None:
    """A device that anybody may open and that no runtime allows by itself."""
    with open("/proc/misc") as file:
        if "229 fuse" not in file.read():
            pytest.skip("the kernel has no fuse")
    os.mknod(f"{bundle.rootfs}/fuse", stat.S_IFCHR, os.makedev(10, 229))
    os.chmod(f"{bundle.rootfs}/fuse", 0o666)


def rule(allow: bool, access: str = "rwm", **more: Any) -> dict[str, Any]:
    return {"allow": allow, "access": access} | more


@spec(SPEC_RULES)
def test_nothing_is_allowed_but_what_is_named(bundle: Bundle) -> None:
    put_fuse(bundle)
    bundle.linux["resources"] = {"devices": [rule(False)]}
    script = "true </fuse 2>/dev/null && echo r; sh -c ': >>/fuse' 2>/dev/null && echo w; :"
    assert bundle.sh(script) == ""


@spec(SPEC_RULES)
@pytest.mark.parametrize("access", ["r", "w", "rw", "rwm"])
def test_what_a_rule_allows(bundle: Bundle, access: str) -> None:
    put_fuse(bundle)
    bundle.linux["resources"] = {
        "devices": [rule(False), rule(True, access, type="c", major=10, minor=229)]
    }
    script = "true </fuse 2>/dev/null && echo -n r; sh -c ': >>/fuse' 2>/dev/null && echo -n w; :"
    assert bundle.sh(script) == access.replace("m", "")


@pytest.mark.in_vm
@spec(SPEC_RULES)
def test_a_later_rule_undoes_an_earlier_one(bundle: Bundle) -> None:
    put_fuse(bundle)
    allow = rule(True, "rw", type="c", major=10, minor=229)
    deny = rule(False, "rw", type="c", major=10, minor=229)
    for rules, allowed in (([allow, deny], False), ([deny, allow], True)):
        bundle.linux["resources"] = {"devices": [rule(False), *rules]}
        assert (bundle.code("true </fuse 2>/dev/null") == 0) == allowed


def test_rules_without_numbers_mean_all(bundle: Bundle) -> None:
    put_fuse(bundle)
    for more in ({"type": "c", "major": 10}, {"type": "c"}, {"type": "a"}, {}):
        bundle.linux["resources"] = {"devices": [rule(False), rule(True, "rwm", **more)]}
        assert bundle.code("true </fuse 2>/dev/null") == 0, more


def test_default_devices_stay_usable(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"devices": [rule(False)]}
    assert bundle.sh("echo x >/dev/null && head -c 1 /dev/zero | wc -c") == "1\n"


def test_an_exec_is_under_the_same_rules(bundle: Bundle) -> None:
    put_fuse(bundle)
    bundle.linux["resources"] = {"devices": [rule(False)]}
    bundle.up()
    done = bundle.exec("sh", "-c", "true </fuse", ok=False)
    assert done.returncode != 0
    assert "not permitted" in done.stderr


@spec("config.md#valid-values: invalid and unsupported values are an error")
@differs("some are ignored", "runc", "crun")
@pytest.mark.parametrize(
    "given",
    [
        {"access": "rwm"},
        {"allow": "yes", "access": "rwm"},
        rule(True, "x"),
        rule(True, "rwm", type="q"),
        rule(True, "rwm", type="c", major="1"),
        rule(True, "rwm", type="c", major=-5),
    ],
)
def test_a_rule_that_cannot_be(bundle: Bundle, given: dict[str, Any]) -> None:
    bundle.linux["resources"] = {"devices": [given]}
    bundle.refused()


def test_many_rules(bundle: Bundle) -> None:
    rules = [rule(True, "rw", type="c", major=200 + number, minor=1) for number in range(50)]
    bundle.linux["resources"] = {"devices": [rule(False), *rules]}
    assert bundle.out("echo", "x") == "x\n"
