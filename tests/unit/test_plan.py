"""An OCI configuration to kernel steps, by value: which, and in which order."""

from __future__ import annotations

import copy
import fcntl
import itertools
import os
import signal
import struct
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycontain._native._kernel import ffi, lib

from pycontain.errors import InvalidInput
from pycontain.kernel.mount import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from pycontain.runtime import mounts, plan
from pycontain.runtime.plan import Detached
from pycontain.runtime.steps import Handle, Step, encode, handles, indexes

SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
NS_GET_NSTYPE = 0xB703
NEW_LISTENER = 1 << 3  # linux/seccomp.h
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
TIME, USER, PID, NETWORK = 0x80, 0x10000000, 0x20000000, 0x40000000  # linux/sched.h
MAPS: Any = {
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
    "gidMappings": [{"containerID": 0, "hostID": 2000, "size": 5}],
}
STATES = {"createContainer": ('{"a":', "}"), "startContainer": ('{"b":', "}")}

SPEC: dict[str, Any] = {
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "process": {
        "args": ["sh", "-c", "x"],
        "env": ["PATH=/a:/b", "X=1"],
        "cwd": "/work",
        "user": {"uid": 7, "gid": 8, "additionalGids": [8, 9], "umask": 0o27},
        "capabilities": {
            "bounding": ["CAP_CHOWN", "CAP_KILL"],
            "permitted": ["CAP_CHOWN"],
            "effective": ["CAP_CHOWN"],
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        "oomScoreAdj": 5,
    },
    "mounts": [
        {
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "mode=755"],
        },
        {
            "destination": "/data",
            "type": "bind",
            "source": "/host",
            "options": ["rbind", "ro", "rprivate"],
        },
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in KINDS],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore", "/proc/keys"],
        "readonlyPaths": ["/proc/sys"],
    },
}


def spec(**changes: Any) -> Any:
    """The configuration with some of its parts replaced, as ``process_cwd="/"``."""
    result = copy.deepcopy(SPEC)
    for name, value in changes.items():
        part, _, key = name.partition("_")
        if not key:
            result[part] = value
        elif value is None:
            result[part].pop(key, None)
        else:
            result[part][key] = value
    return result


def steps(found: Any = None, detached: Detached | None = None, **given_: Any) -> list[Step]:
    return plan.container(cast("Any", found or spec()), plan.Settings(**given_), detached)


def names(found: list[Step]) -> list[str]:
    return [step.name for step in found]


def one(found: list[Step], name: str) -> Step:
    wanted = [step for step in found if step.name == name]
    assert len(wanted) == 1, name
    return wanted[0]


def runs(found: list[Step]) -> list[str]:
    """The names, each once for steps of one kind in a row."""
    return [name for name, _ in itertools.groupby(names(found))]


def order(found: list[Step], *wanted: str) -> bool:
    places = [names(found).index(name) for name in wanted]
    return places == sorted(places)


def check(found: list[Step]) -> str | None:
    """What the executor's reader says to a plan, None where it takes it."""
    wanted = handles(found)
    data = encode(found, indexes(wanted), len(wanted))
    why = lib.plan_check(data, len(data))
    return None if why == ffi.NULL else ffi.string(why).decode()


def test_the_order_of_a_whole_container() -> None:
    found = steps(devices=b"D" * 8, seccomp=(b"S" * 8, 0))
    assert runs(found) == [
        "cgroup", "devices", "clone", "oom_score", "unshare", "session", "loopback", "hostname",
        "propagation", "root", "mount", "node", "symlink", "bind", "directory", "readonly", "mask",
        "attributes", "sysctl", "pivot", "rlimit", "cwd", "ready", "seccomp", "credentials",
        "parent_death", "umask", "close", "exec",
    ]  # fmt: skip


def test_the_values_of_a_whole_container() -> None:
    found = steps(devices=b"D" * 8, seccomp=(b"S" * 8, 4))
    chown, kill = 1 << 0, 1 << 5
    assert found[:2] == [Step("cgroup", plan.CGROUP), Step("devices", plan.CGROUP, b"D" * 8)]
    assert one(found, "clone").args == (0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000,)
    assert one(found, "unshare").args == (0x2000000,)
    assert one(found, "oom_score").args == ("5",)
    assert one(found, "session").args == (1,)
    assert one(found, "propagation").args == (MS_REC | MS_SLAVE,)
    assert one(found, "root").args == (plan.ROOT, "/", MS_PRIVATE)
    mounted = [step for step in found if step.name == "mount"]
    assert mounted == [
        Step("mount", "proc", "proc", "/proc", SAFE, (), 0),
        Step("mount", "tmpfs", "tmpfs", "/dev", ATTR_NOSUID, ("mode=755",), 0),
    ]
    propagation = MS_PRIVATE | MS_REC
    bind = Step("bind", Handle("tree", "/host"), "/data", ATTR_RDONLY, 0, 0, 0, propagation)
    assert one(found, "bind") == bind
    assert one(found, "directory").args == ("/work", 0o755)
    assert one(found, "readonly").args == (("/proc/sys",),)
    assert one(found, "mask").args == (("/proc/kcore", "/proc/keys"),)
    assert one(found, "attributes").args == ("/", ATTR_RDONLY, 0, 0)
    assert one(found, "hostname").args == ("box",)
    assert one(found, "sysctl").args == ("net/ipv4/ip_forward", "1")
    assert one(found, "pivot").args == (1,)
    assert one(found, "rlimit").args == (7, 1, 2)
    assert one(found, "cwd").args == ("/work",)
    assert one(found, "seccomp").args == (b"S" * 8, 4)
    credentials = (7, 8, struct.pack("=II", 8, 9), chown | kill, chown, chown, 0, 0)
    assert one(found, "credentials").args == credentials
    assert one(found, "parent_death").args == (int(signal.SIGKILL),)
    assert one(found, "umask").args == (0o27,)
    arguments = (("sh", "-c", "x"), ("PATH=/a:/b", "X=1"), ("/a/sh", "/b/sh"))
    assert tuple(map(tuple, one(found, "exec").args)) == arguments  # type: ignore[arg-type]


def test_the_least() -> None:
    least: Any = {
        "root": {},
        "process": {"args": ["/x"]},
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    found = steps(least, cgroup=False)
    assert runs(found) == [
        "clone", "session", "propagation", "root", "node", "symlink", "pivot", "cwd", "ready",
        "credentials", "parent_death", "umask", "close", "exec",
    ]  # fmt: skip
    assert one(found, "clone").args == (0x20000,)
    assert one(found, "credentials").args == (0, 0, b"", 0, 0, 0, 0, 0)
    assert one(found, "umask").args == (0o22,)


def test_the_devices_come_right_after_dev() -> None:
    found = steps()
    place = next(n for n, step in enumerate(found) if step.args[2:3] == ("/dev",))
    made = found[place + 1 : place + 13]
    numbers = {
        "/dev/null": (1, 3), "/dev/zero": (1, 5), "/dev/full": (1, 7),
        "/dev/random": (1, 8), "/dev/urandom": (1, 9), "/dev/tty": (5, 0),
    }  # fmt: skip
    assert made[:6] == [
        Step("node", path, 0o20666, os.makedev(*number), 0, 0) for path, number in numbers.items()
    ]
    assert dict((step.args[1], step.args[0]) for step in made[6:]) == {  # noqa: C402
        "/dev/fd": "/proc/self/fd",
        "/dev/stdin": "/proc/self/fd/0",
        "/dev/stdout": "/proc/self/fd/1",
        "/dev/stderr": "/proc/self/fd/2",
        "/dev/core": "/proc/kcore",
        "/dev/ptmx": "pts/ptmx",
    }
    assert found[place + 13].name == "bind"


def test_devices_that_are_asked_for() -> None:
    devices = [
        {"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o640, "gid": 6},
        {"path": "/dev/p", "type": "p"},
    ]
    nodes = [step for step in steps(spec(linux_devices=devices)) if step.name == "node"]
    assert nodes[6:] == [
        Step("node", "/dev/x", 0o60640, os.makedev(8, 1), 0, 6),
        Step("node", "/dev/p", 0o10666, 0, 0, 0),
    ]


def test_the_devices_are_made_in_the_root_where_nothing_is_mounted_on_dev() -> None:
    """config-linux.md, "Default Devices": they are there in every container."""
    mounted = [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/dev/shm", "type": "tmpfs"},
    ]
    found = steps(spec(mounts=mounted))
    assert order(found, "root", "node", "symlink", "mount")
    assert names(found).count("node") == 6
    assert names(found).count("symlink") == 6


def test_what_is_mounted_below_dev_comes_after_the_devices() -> None:
    below = {"destination": "/dev/null", "type": "bind", "source": "/h", "options": ["bind"]}
    found = steps(spec(mounts=[SPEC["mounts"][1], below]))
    assert order(found, "mount", "node", "symlink", "bind")


@pytest.mark.parametrize(
    "path",
    [
        "/dev/", "//dev", "/dev/.", "/./dev//", "/x/../dev",
    ],
)  # fmt: skip
def test_the_devices_come_after_dev_however_it_is_spelled(path: str) -> None:
    found = steps(spec(mounts=[{**SPEC["mounts"][1], "destination": path}]))
    assert order(found, "mount", "node", "symlink")


@pytest.mark.parametrize(
    ("options", "readonly"),
    [
        ([], False),
        (["rw"], False),
        (["rw", "ro"], True),
        (["ro", "rw"], False),
    ],
)
def test_the_last_word_about_dev_counts(options: list[str], readonly: bool) -> None:
    whole = {"destination": "/dev", "type": "tmpfs", "options": options}
    found = steps(spec(mounts=[whole], root_readonly=False))
    assert ("attributes" in names(found)) is readonly


@pytest.mark.parametrize("path", ["/dev", "/dev/"])
@pytest.mark.parametrize("word", ["ro", "rro"])
def test_a_dev_that_is_to_be_read_only_becomes_it_when_the_devices_are_made(
    path: str, word: str
) -> None:
    """Mknod(2) fails there."""
    whole = {"destination": path, "type": "tmpfs", "options": ["nosuid", word, "size=1m"]}
    below = {"destination": "/dev/null", "type": "bind", "source": "/h", "options": ["bind"]}
    found = steps(spec(mounts=[whole, below], root_readonly=False))
    assert one(found, "mount").args[3:5] == (ATTR_NOSUID, ("size=1m",))
    assert one(found, "attributes") == Step("attributes", "/dev", ATTR_RDONLY, 0, 0)
    assert order(found, "mount", "node", "symlink", "attributes", "bind")


def test_a_changed_dev_is_not_a_new_one() -> None:
    changed = {"destination": "/dev", "type": "tmpfs", "options": ["remount", "ro", "size=1m"]}
    found = steps(spec(mounts=[SPEC["mounts"][1], changed]))
    assert names(found).count("node") == 6
    assert order(found, "mount", "node", "symlink", "attributes")


def test_devices_are_made_once_whatever_is_mounted() -> None:
    found = steps(spec(mounts=[{"destination": "/dev", "type": "devtmpfs"}]))
    assert names(found).count("node") == 6


def test_nothing_is_made_in_a_dev_that_is_bound() -> None:
    mounts = [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}]
    found = steps(spec(mounts=mounts))
    assert "node" not in names(found)
    assert "symlink" not in names(found)


def test_rootless_shows_nodes_instead_of_making_them() -> None:
    found = steps(rootless=True, cgroup=False)
    assert "node" not in names(found)
    shown = [step for step in found if step.name == "bind" and step.args[1] == "/dev/null"]
    assert shown == [
        Step("bind", Handle("branch", "/dev/null"), "/dev/null", 0, 0, 0, 0, MS_PRIVATE)
    ]
    assert "cgroup" not in names(found)


# --------------------------------------------------------------------------------------- namespaces


JOINED = {"user": "/proc/5/ns/user", "pid": "/proc/5/ns/pid", "network": "/proc/5/ns/net"}


def joining(**paths: str) -> Any:
    """A configuration that joins namespaces, and makes those of mounts and names."""
    entries = [{"type": kind, "path": path} for kind, path in paths.items()]
    return spec(linux_namespaces=[*entries, {"type": "mount"}, {"type": "uts"}])


def test_joined_namespaces() -> None:
    found = steps(joining(**JOINED))
    assert one(found, "clone").args == (0x20000 | 0x4000000,)
    assert one(found, "join_first").args == (Handle("file", "/proc/5/ns/pid"), PID)
    assert names(found).index("join_first") < names(found).index("clone")
    joins = [step for step in found if step.name == "join"]
    assert joins == [
        Step("join", Handle("file", "/proc/5/ns/user"), USER),
        Step("join", Handle("file", "/proc/5/ns/net"), NETWORK),
    ]
    assert order(found, "clone", "join", "session")
    assert "loopback" not in names(found)  # it is the other's
    assert "unshare" not in names(found)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_detached_it_joins_before_the_clone_the_user_namespace_last(place: int) -> None:
    """With the rights of where it comes from; the new ones then belong to the joined user's."""
    paths = [item for item in JOINED.items() if item[0] != "user"]
    paths.insert(place, ("user", JOINED["user"]))
    found = steps(joining(**dict(paths)), Detached())
    assert "join" not in names(found)
    joins = [step for step in found if step.name == "join_first"]
    assert joins == [
        Step("join_first", Handle("file", JOINED["pid"]), PID),
        Step("join_first", Handle("file", JOINED["network"]), NETWORK),
        Step("join_first", Handle("file", JOINED["user"]), USER),
    ]
    assert order(found, "cgroup", "join_first", "clone", "identity", "session")
    assert one(found, "identity").args == (0, 0)
    assert one(found, "clone").args == (0x20000 | 0x4000000,)
    assert check(found) is None


def test_the_time_namespace_is_made_in_the_user_namespace_that_is_joined() -> None:
    entries = [{"type": "user", "path": "/u"}, {"type": "mount"}, {"type": "time"}]
    found = steps(spec(linux_namespaces=entries), Detached())
    assert order(found, "join_first", "time", "clone")


@pytest.mark.parametrize("detached", [None, Detached()])
@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "cgroup", "time", "pid"])
def test_each_kind_can_be_joined(kind: str, detached: Detached | None) -> None:
    entries = [{"type": kind, "path": "/n"}, {"type": "mount"}]
    found = steps(spec(linux_namespaces=entries), detached)
    name = "join_first" if detached or kind == "pid" else "join"
    assert one(found, name) == Step(name, Handle("file", "/n"), plan.CLONE_FLAGS[kind])
    assert one(found, "clone").args == (0x20000,)
    assert not {"unshare", "time", "identity", "loopback"} & {*names(found)}


@pytest.mark.parametrize("kind", sorted(plan.CLONE_FLAGS))
def test_clone_flags_are_the_kernels(kind: str) -> None:
    """A namespace's file tells its type, ioctl_nsfs(2)."""
    file = {"mount": "mnt", "network": "net"}.get(kind, kind)
    fd = os.open(f"/proc/self/ns/{file}", os.O_RDONLY)
    try:
        assert fcntl.ioctl(fd, NS_GET_NSTYPE) == plan.CLONE_FLAGS[kind]
    finally:
        os.close(fd)


def test_an_empty_path_is_a_new_namespace() -> None:
    """config-linux.md, "Namespaces": without a path a new one is made."""
    entries = [{"type": "mount"}, {"type": "ipc", "path": ""}]
    found = steps(spec(linux_namespaces=entries))
    assert one(found, "clone").args == (0x20000 | 0x8000000,)


def test_a_time_namespace_gets_its_offsets_before_the_clone() -> None:
    entries = [{"type": "mount"}, {"type": "time"}]
    offsets = {"monotonic": {"secs": 5, "nanosecs": 6}, "boottime": {"secs": -1}}
    found = steps(spec(linux_namespaces=entries, linux_timeOffsets=offsets))
    assert one(found, "time").args == ("monotonic 5 6\nboottime -1 0\n",)
    assert names(found).index("time") < names(found).index("clone")
    assert one(found, "clone").args == (0x20000,)


def test_a_time_namespace_without_offsets_is_made_all_the_same() -> None:
    entries = [{"type": "mount"}, {"type": "time"}]
    found = steps(spec(linux_namespaces=entries))
    assert one(found, "time").args == ("",)
    assert order(found, "time", "clone")


# ----------------------------------------------------------------------------------- user namespace

OWN_USER = [{"type": "user"}, {"type": "mount"}]


def owned(**more: Any) -> Any:
    return spec(linux_namespaces=OWN_USER, linux_uidMappings=MAPS["uidMappings"],
                linux_gidMappings=MAPS["gidMappings"], **more)  # fmt: skip


@pytest.mark.parametrize("detached", [None, Detached()])
def test_the_id_maps_are_written_before_anything_else_happens(detached: Detached | None) -> None:
    found = steps(owned(), detached)
    assert one(found, "clone").args == (0x20000 | USER,)
    assert one(found, "id_maps").args == ("0 1000 1\n", "0 2000 5\n")
    assert one(found, "identity").args == (0, 0)
    assert order(found, "clone", "id_maps", "oom_score", "identity", "session", "root")


def test_it_becomes_root_of_a_user_namespace_only_when_it_is_there() -> None:
    found = steps(joining(user="/u", ipc="/i"), Detached())
    assert order(found, "join_first", "clone", "identity", "session")


def test_a_user_namespace_that_was_entered_is_neither_made_nor_mapped() -> None:
    """The caller did it: an ordinary user's."""
    found = steps(owned(), Detached(entered=True))
    assert one(found, "clone").args == (0x20000,)
    assert not {"id_maps", "join_first", "join"} & {*names(found)}
    assert one(found, "identity").args == (0, 0)
    assert order(found, "clone", "sync", "oom_score", "identity", "session", "root")
    assert check(found) is None


def test_it_becomes_root_of_a_user_namespace_that_the_clone_joins() -> None:
    found = steps(joining(user="/u"))
    assert order(found, "clone", "join", "identity", "session")


@pytest.mark.parametrize("missing", ["uidMappings", "gidMappings"])
@pytest.mark.parametrize("empty", [None, []])
def test_a_user_namespace_needs_both_maps(missing: str, empty: Any) -> None:
    whole = owned()
    if empty is None:
        del whole["linux"][missing]
    else:
        whole["linux"][missing] = empty
    for detached in (None, Detached()):
        with pytest.raises(InvalidInput, match="uidMappings and gidMappings"):
            steps(whole, detached)


def test_without_a_user_namespace_nobody_becomes_its_root() -> None:
    assert not {"identity", "id_maps"} & {*names(steps()), *names(steps(None, Detached()))}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "mount namespace"),
        ([{"type": "mount", "path": "/x"}], "mount namespace"),
        ([{"type": "mount"}, {"type": "nonsense"}], "no such kind"),
        ([{"type": "mount"}, {"type": "pid"}, {"type": "pid"}], "twice"),
        ([{"type": "mount"}, {"type": "pid"}, {"type": "pid", "path": "/x"}], "twice"),
    ],
)
def test_namespaces_that_cannot_be(entries: list[dict[str, str]], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        steps(spec(linux_namespaces=entries))


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("shared", MS_SHARED),
        ("rshared", MS_SHARED | MS_REC),
        ("slave", MS_SLAVE),
        ("rslave", MS_SLAVE | MS_REC),
        ("unbindable", MS_UNBINDABLE),
        ("runbindable", MS_UNBINDABLE | MS_REC),
    ],
)
def test_propagation_of_the_root_comes_after_pivot_root(name: str, flag: int) -> None:
    """pivot_root(2) refuses a shared root."""
    found = steps(spec(linux_rootfsPropagation=name))
    place = names(found).index("pivot")
    assert found[place + 1] == Step("propagation", flag)
    assert one(found, "root").args == (plan.ROOT, "/", MS_SLAVE)
    assert names(found).count("propagation") == 2


@pytest.mark.parametrize("name", [None, "", "private", "rprivate"])
def test_a_private_root_is_private_from_the_start(name: str | None) -> None:
    found = steps(spec(linux_rootfsPropagation=name))
    assert one(found, "root").args == (plan.ROOT, "/", MS_PRIVATE)
    assert one(found, "propagation").args == (MS_REC | MS_SLAVE,)


# ---------------------------------------------------------------------------------- what it is told


def test_sysctls_come_right_before_the_pivot() -> None:
    """After the hooks, which make the interfaces; and while the host's /proc is in reach."""
    sysctls = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "2"}
    found = steps(spec(linux_sysctl=sysctls, hooks={"prestart": [{"path": "/h"}]}), Detached())
    place = names(found).index("pivot")
    assert found[place - 3 : place] == [
        Step("sync", plan.SYNC_HOOKS),
        Step("sysctl", "net/ipv4/ip_forward", "1"),
        Step("sysctl", "kernel/shmmax", "2"),
    ]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
        ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
    ],
)
def test_the_first_separator_of_a_sysctl_separates(key: str, path: str) -> None:
    """sysctl(8): the other one stands for itself."""
    assert one(steps(spec(linux_sysctl={key: "1"})), "sysctl").args == (path, "1")


def test_names_of_the_container() -> None:
    found = steps(spec(domainname="example.org"))
    assert one(found, "domainname").args == ("example.org",)
    assert order(found, "unshare", "session", "hostname", "domainname", "root")
    assert not {"hostname", "domainname"} & {*names(steps(spec(hostname="")))}


def test_the_domain_of_execution_stands_before_privileges_go() -> None:
    found = steps(spec(linux_personality={"domain": "LINUX32"}), seccomp=(b"", 0))
    assert one(found, "personality").args == (8,)
    assert order(found, "pivot", "rlimit", "personality", "cwd", "seccomp", "credentials")


def test_scheduling_and_labels_stand_before_privileges_go() -> None:
    process = {
        **SPEC["process"],
        "scheduler": {"policy": "SCHED_BATCH"},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
        "apparmorProfile": "profile",
    }
    found = steps(spec(process=process), seccomp=(b"", 0))
    words = ["pivot", "apparmor", "rlimit", "scheduler", "io_priority", "cwd"]
    assert order(found, *words, "seccomp", "credentials", "exec")


def test_the_profile_of_a_command_is_written_where_proc_is_the_hosts() -> None:
    found = execution(more={"apparmorProfile": "profile"})
    assert order(found, "clone", "apparmor", "join", "enter", "exec")
    assert "apparmor" not in names(execution())


def test_the_root_is_read_only_when_everything_in_it_is_made() -> None:
    found = steps(spec(process_terminal=True))
    assert order(found, "mount", "directory", "console", "readonly", "mask", "attributes", "pivot")
    assert "attributes" not in names(steps(spec(root_readonly=False)))
    assert "attributes" not in names(steps(spec(root_readonly=None)))


@pytest.mark.parametrize("cwd", ["/", "", None])
def test_the_root_is_not_made_as_a_working_directory(cwd: str | None) -> None:
    found = steps(spec(process_cwd=cwd))
    assert "directory" not in names(found)
    assert one(found, "cwd").args == ("/",)


# ---------------------------------------------------------------------------------- seccomp filters


def test_the_filter_without_no_new_privileges_stands_before_the_capabilities_go() -> None:
    found = steps(seccomp=(b"", 0))
    assert order(found, "ready", "seccomp", "credentials", "parent_death", "exec")
    assert "no_new_privs" not in names(found)


def test_the_filter_with_no_new_privileges_is_the_very_last() -> None:
    found = steps(spec(process_noNewPrivileges=True), seccomp=(b"", 0))
    assert order(found, "ready", "no_new_privs", "credentials", "parent_death", "seccomp", "exec")
    assert names(found)[-3:] == ["close", "seccomp", "exec"]


def test_detached_the_last_filter_comes_after_the_wait_and_its_hooks() -> None:
    """What a filter forbids, the hooks and the wait may need."""
    whole = spec(process_noNewPrivileges=True, hooks={"startContainer": [{"path": "/h"}]})
    found = steps(whole, Detached(state=STATES, inherit=1), seccomp=(b"", 0))
    assert names(found)[-5:] == ["hook", "inherit", "close", "seccomp", "exec"]
    assert order(found, "no_new_privs", "credentials", "umask", "lookup", "wait", "seccomp")


def test_detached_a_filter_that_needs_privileges_comes_before_the_wait() -> None:
    found = steps(None, Detached(), seccomp=(b"", 0))
    assert order(found, "seccomp", "credentials", "umask", "lookup", "wait", "exec")


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("other", [0, 2])
def test_a_listener_is_handed_out_while_the_runner_is_there(
    no_new_privileges: bool, other: int
) -> None:
    whole = spec(process_noNewPrivileges=no_new_privileges)
    found = steps(whole, Detached(), seccomp=(b"S" * 8, NEW_LISTENER | other))
    assert one(found, "seccomp").args == (b"S" * 8, NEW_LISTENER | other)
    if no_new_privileges:
        assert order(found, "no_new_privs", "credentials", "seccomp", "lookup", "wait")
    else:
        assert order(found, "seccomp", "credentials", "lookup", "wait")
    assert check(found) is None


def test_unconfined() -> None:
    for detached in (None, Detached()):
        for no_new_privileges in (False, True):
            found = steps(spec(process_noNewPrivileges=no_new_privileges), detached)
            assert not {"seccomp", "devices"} & {*names(found)}


def test_pdeathsig_stands_after_the_change_of_user_that_would_clear_it() -> None:
    assert order(steps(), "credentials", "parent_death")
    assert order(steps(spec(process_noNewPrivileges=True)), "credentials", "parent_death")


# ---------------------------------------------------------------------------------- without monitor

HOOKS: dict[str, Any] = {
    "prestart": [{"path": "/p"}],
    "createRuntime": [{"path": "/r"}],
    "createContainer": [
        {"path": "/c", "args": ["c", "1"], "env": ["A=1"], "timeout": 3},
        {"path": "/c2"},
    ],
    "startContainer": [{"path": "/s", "args": []}],
    "poststart": [{"path": "/after"}],
    "poststop": [{"path": "/end"}],
}


def test_the_order_of_a_whole_detached_container() -> None:
    found = steps(spec(hooks=HOOKS), Detached(state=STATES, inherit=2),
                  devices=b"D" * 8, seccomp=(b"S" * 8, 0))  # fmt: skip
    assert runs(found) == [
        "cgroup", "devices", "clone", "sync", "oom_score", "unshare", "session", "loopback",
        "hostname", "propagation", "root", "mount", "node", "symlink", "bind", "directory",
        "readonly", "mask", "attributes", "sync", "hook", "sysctl", "pivot", "rlimit", "cwd",
        "seccomp", "credentials", "umask", "lookup", "wait", "hook", "inherit", "close", "exec",
    ]  # fmt: skip
    assert check(found) is None


def test_detached_nobody_records_it_and_nobody_takes_it_along() -> None:
    assert not {"ready", "parent_death"} & {*names(steps(None, Detached()))}


def test_the_process_is_recorded_right_after_the_clone() -> None:
    found = steps(None, Detached())
    place = names(found).index("clone")
    assert found[place + 1] == Step("sync", plan.SYNC_CREATED)
    assert names(found).count("sync") == 1


def test_keyring_and_pivot() -> None:
    found = steps(None, Detached())
    assert (one(found, "session").args, one(found, "pivot").args) == ((1,), (1,))
    found = steps(None, Detached(keyring=False, pivot=False))
    assert (one(found, "session").args, one(found, "pivot").args) == ((0,), (0,))


def test_it_waits_with_the_program_found_as_the_user_that_it_runs_as() -> None:
    found = steps(None, Detached())
    assert one(found, "lookup").args == (("/a/sh", "/b/sh"),)
    assert one(found, "wait").args == (plan.FIFO, plan.FAILURE)
    assert names(found)[-5:] == ["umask", "lookup", "wait", "close", "exec"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_everything_else_is_closed_right_behind_them(count: int) -> None:
    """A filter that comes after it need not allow close_range(2)."""
    whole = spec(process_noNewPrivileges=True)
    found = steps(whole, Detached(inherit=count), seccomp=(b"", 0))
    assert one(found, "close").args == (3 + count,)
    assert names(found)[-3:] == ["close", "seccomp", "exec"]
    assert one(steps(), "close").args == one(execution(), "close").args == (3,)


def test_the_root_is_where_a_hook_of_the_container_looks_for_it() -> None:
    hook = [{"path": "/h"}]
    detached = Detached(state=STATES, rootfs="/bundle/rootfs")
    found = steps(spec(hooks={"createContainer": hook}), detached)
    assert one(found, "root").args == (plan.ROOT, "/bundle/rootfs", MS_PRIVATE)
    for kind in ("prestart", "createRuntime", "startContainer"):
        found = steps(spec(hooks={kind: hook, "createContainer": []}), detached)
        assert one(found, "root").args == (plan.ROOT, "/", MS_PRIVATE)


def test_a_container_without_a_process_is_created_and_waits() -> None:
    """config.md, "Process": only start needs it."""
    whole = spec()
    del whole["process"]
    found = steps(whole, Detached())
    assert names(found)[-4:] == ["umask", "wait", "close", "exec"]
    assert one(found, "exec").args[0] == (plan.NOTHING,)
    assert one(found, "credentials").args == (0, 0, b"", 0, 0, 0, 0, 0)
    assert not {"lookup", "directory", "console", "oom_score"} & {*names(found)}
    assert check(found) is None


def test_without_a_wait_there_is_no_start() -> None:
    found = steps(spec(hooks=HOOKS), Detached(wait=False, state=STATES))
    assert not {"lookup", "wait"} & {*names(found)}
    assert [step.args[0] for step in found if step.name == "hook"] == ["/c", "/c2"]
    assert names(found)[-4:] == ["credentials", "umask", "close", "exec"]


def test_descriptors_that_the_program_gets() -> None:
    found = steps(None, Detached(inherit=3))
    given_ = [step for step in found if step.name == "inherit"]
    assert given_ == [
        Step("inherit", Handle("given", f"inherited {number}"), number) for number in (3, 4, 5)
    ]
    assert [plan.inherited(number) for number in (3, 4, 5)] == [step.args[0] for step in given_]
    assert names(found)[-5:] == ["inherit", "inherit", "inherit", "close", "exec"]
    assert len({*handles(given_)}) == 3
    assert "inherit" not in names(steps(None, Detached()))
    kept = steps(None, inherit=3)
    assert [step for step in kept if step.name == "inherit"] == given_
    assert names(kept)[-5:] == ["inherit", "inherit", "inherit", "close", "exec"]
    assert "inherit" not in names(steps())


def test_a_mount_that_the_caller_brings() -> None:
    entries = [
        {"destination": "/a", "type": "bind", "source": "/h", "options": ["rbind", "ro"]},
        {"destination": "/b", "type": "bind", "source": "/h", "options": ["rbind"]},
    ]
    whole, brought = (
        [step for step in steps(spec(mounts=entries), handed=given) if step.name == "bind"]
        for given in ((), ("/a",))
    )
    assert brought[0].args == (plan.handed("/a"), *whole[0].args[1:])
    assert brought[1] == whole[1]


def test_hooks_stand_where_the_specification_has_them() -> None:
    """runtime.md, "Lifecycle": in the runtime's namespaces, in the container's before the pivot,
    and in the container when it is told to start.
    """
    found = steps(spec(hooks=HOOKS), Detached(state=STATES))
    first, second, started = [step for step in found if step.name == "hook"]
    assert first.args == ("/c", ("c", "1"), ("A=1",), 3000, *STATES["createContainer"])
    assert second.args == ("/c2", ("/c2",), (), 0, *STATES["createContainer"])
    assert started.args == ("/s", ("/s",), (), 0, *STATES["startContainer"])
    place = found.index(first)
    assert found[place - 1] == Step("sync", plan.SYNC_HOOKS)
    assert order(found, "attributes", "hook", "sysctl", "pivot")
    assert names(found)[-4:] == ["wait", "hook", "close", "exec"]
    assert [step.text for step in (first, started)] == [
        "run createContainer hook /c", "run startContainer hook /s",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_either_kind_of_hook_in_the_runtimes_namespaces_needs_the_sync_point(kind: str) -> None:
    found = steps(spec(hooks={kind: [{"path": "/h"}]}), Detached())
    assert [step.args for step in found if step.name == "sync"] == [
        (plan.SYNC_CREATED,), (plan.SYNC_HOOKS,),
    ]  # fmt: skip
    assert "hook" not in names(found)
    assert order(found, "clone", "sync", "mount", "attributes", "sysctl", "pivot")
    assert names(found).index("sync") < names(found).index("attributes")


@pytest.mark.parametrize(
    "hooks",
    [{}, {"prestart": []}, {"poststart": [{"path": "/h"}], "poststop": [{"path": "/h"}]}],
)
def test_other_hooks_are_none_of_the_plans(hooks: dict[str, Any]) -> None:
    assert steps(spec(hooks=hooks), Detached()) == steps(None, Detached())


def test_devices_of_a_detached_user_namespace_are_shown() -> None:
    found = steps(owned(), Detached(), rootless=True)
    assert "node" not in names(found)
    assert check(found) is None


# ----------------------------------------------------------------------------------- terminal, exec


def test_a_terminal_is_opened_in_the_new_root() -> None:
    found = steps(spec(process_terminal=True), size=(24, 80))
    assert one(found, "console").args == (24, 80, 1)
    assert order(found, "root", "console", "mask", "pivot")


@pytest.mark.parametrize("detached", [None, Detached()])
def test_a_terminal_of_its_own_comes_before_what_covers_it(detached: Detached | None) -> None:
    found = steps(spec(process_terminal=True), detached)
    assert order(found, "directory", "console", "readonly")
    assert "console" not in names(steps(spec(process_terminal=False), detached))


PROCESS = Handle("given", "process")
JOIN = Step("join", PROCESS, PID | 0x20000 | NETWORK)


def execution(
    join: Step = JOIN,
    detached: Detached | None = None,
    more: Any = None,
    personality: Any = None,
    **given_: Any,
) -> list[Step]:
    process = {**SPEC["process"], **(more or {})}
    settings_ = plan.Settings(**given_)
    return plan.execution(cast("Any", process), join, settings_, detached, personality)


def test_a_command_in_a_running_container() -> None:
    found = execution(more={"terminal": True}, seccomp=(b"", 0), size=(1, 2))
    assert names(found) == [
        "cgroup", "join_first", "clone", "oom_score", "join", "enter", "session", "console",
        "rlimit", "cwd", "ready", "seccomp", "credentials", "parent_death", "umask", "close",
        "exec",
    ]  # fmt: skip
    assert one(found, "join_first").args == (PROCESS, PID)
    assert one(found, "clone").args == (0,)
    assert one(found, "join").args == (PROCESS, 0x20000 | NETWORK)
    assert one(found, "session").args == (1,)
    assert one(found, "console").args == (1, 2, 0)


def test_a_detached_command_neither_waits_nor_is_recorded() -> None:
    detached = Detached(wait=False, keyring=False, inherit=1)
    found = execution(detached=detached, more={"noNewPrivileges": True}, seccomp=(b"", 0))
    assert names(found) == [
        "cgroup", "join_first", "clone", "oom_score", "join", "enter", "session", "rlimit", "cwd",
        "no_new_privs", "credentials", "umask", "inherit", "close", "seccomp", "exec",
    ]  # fmt: skip
    assert one(found, "session").args == (0,)
    assert check(found) is None


def test_a_command_in_the_hosts_pid_namespace_joins_none() -> None:
    found = execution(Step("join", PROCESS, 0x20000))
    assert "join_first" not in names(found)
    assert one(found, "join").args == (PROCESS, 0x20000)


def test_a_command_becomes_root_of_the_user_namespace_when_it_has_joined_it() -> None:
    found = execution(Step("join", PROCESS, USER | 0x20000))
    assert one(found, "identity").args == (0, 0)
    assert order(found, "clone", "join", "identity", "enter", "session", "credentials")
    assert "identity" not in names(execution())


def test_a_command_of_a_caller_in_the_user_namespace_becomes_its_root() -> None:
    found = execution(Step("join", PROCESS, 0x20000), Detached(entered=True, wait=False))
    assert one(found, "identity").args == (0, 0)
    assert order(found, "clone", "join", "identity", "enter", "session")


@pytest.mark.parametrize("detached", [None, Detached(wait=False)])
def test_a_command_has_the_containers_domain_of_execution(detached: Detached | None) -> None:
    found = execution(detached=detached, personality={"domain": "LINUX32"}, seccomp=(b"", 0))
    assert one(found, "personality").args == (8,)
    assert order(found, "enter", "session", "rlimit", "personality", "cwd", "seccomp", "exec")
    assert check(found) is None
    assert "personality" not in names(execution(detached=detached))


def test_a_command_outside_of_any_cgroup() -> None:
    assert "cgroup" not in names(execution(cgroup=False))


def test_a_command_runs_on_its_processors() -> None:
    """config.md, "execCPUAffinity": before it is moved to the container's cgroup, and after."""
    found = execution(more={"execCPUAffinity": {"initial": "0", "final": "1-2"}})
    assert one(found, "initial_affinity").args == (b"\1" + bytes(7),)
    assert one(found, "affinity").args == (b"\6" + bytes(7),)
    assert order(found, "initial_affinity", "join_first", "clone", "affinity", "join", "exec")
    assert check(found) is None


@pytest.mark.parametrize(
    ("asked", "name"), [("initial", "initial_affinity"), ("final", "affinity")]
)
def test_either_affinity_alone(asked: str, name: str) -> None:
    found = execution(more={"execCPUAffinity": {asked: "3"}})
    assert [step.name for step in found if "affinity" in step.name] == [name]


def test_the_container_itself_has_no_affinity() -> None:
    found = steps(spec(process_execCPUAffinity={"initial": "0", "final": "0"}))
    assert not {"initial_affinity", "affinity"} & {*names(found)}


def test_a_command_has_none_of_the_containers_own_steps() -> None:
    found = execution(detached=Detached(wait=False, state=STATES))
    assert not {"root", "mount", "pivot", "hook", "sync", "sysctl", "unshare"} & {*names(found)}


# -------------------------------------------------------------------------------------------- words


def plans_of_all_kinds() -> list[list[Step]]:
    whole = spec(process_terminal=True, process_noNewPrivileges=True, hooks=HOOKS,
                 domainname="d", linux_personality={"domain": "LINUX"},
                 linux_rootfsPropagation="rshared",
                 linux_devices=[{"path": "/dev/p", "type": "p"}])  # fmt: skip
    full = Detached(state=STATES, inherit=1)
    return [
        steps(spec(process_terminal=True, process_noNewPrivileges=True), seccomp=(b"", 0)),
        steps(whole, full, seccomp=(b"", 0), devices=bytes(8)),
        steps(joining(**JOINED), full),
        steps(owned(), full),
        steps(joining(**JOINED)),
        execution(more={"execCPUAffinity": {"initial": "0", "final": "1"}}, detached=full),
    ]


@pytest.mark.parametrize("place", range(6))
def test_every_step_that_does_something_has_words(place: int) -> None:
    found = plans_of_all_kinds()[place]
    assert [step.name for step in found if not step.text] == ["cgroup"]
    assert all(step.text[0].islower() and not step.text.endswith(".") for step in found[1:])


# -------------------------------------------------------------------------------- any configuration

words = st.sampled_from(
    [*mounts.ATTRIBUTES, *mounts.RECURSIVE, *mounts.PROPAGATION, "size=1", "tmpcopyup", "remount"]
)
filesystems = st.fixed_dictionaries(
    {
        "destination": st.sampled_from(["/proc", "/dev", "/a", "/a/b"]),
        "type": st.just("tmpfs"),
        # What is mounted already cannot be filled.
        "options": st.lists(words, max_size=4).filter(
            lambda options: not {"remount", "tmpcopyup"} <= {*options}
        ),
    }
)
binds = st.fixed_dictionaries(
    {
        "destination": st.sampled_from(["/dev", "/a", "/a/b"]),
        "source": st.sampled_from(["/x", "/y"]),
        "options": st.lists(
            st.sampled_from(["bind", "rbind", "ro", "rro", "rshared", "private", "idmap"]),
            max_size=4,
        ),
    }
)
processes = st.fixed_dictionaries(
    {"args": st.lists(st.sampled_from(["sh", "/x", "y"]), min_size=1, max_size=3)},
    optional={
        "terminal": st.booleans(),
        "noNewPrivileges": st.booleans(),
        "cwd": st.sampled_from(["/", "/a", ""]),
        "oomScoreAdj": st.integers(-1000, 1000),
        "env": st.lists(st.sampled_from(["PATH=/a", "B="]), max_size=2),
        "scheduler": st.sampled_from([{"policy": "SCHED_FIFO", "priority": 3}]),
        "ioPriority": st.sampled_from([{"class": "IOPRIO_CLASS_BE", "priority": 7}]),
        "apparmorProfile": st.sampled_from(["", "name"]),
        "execCPUAffinity": st.sampled_from([{}, {"initial": "0-70"}, {"final": "1,3"}]),
    },
)
namespaces = st.dictionaries(
    st.sampled_from([kind for kind in plan.CLONE_FLAGS if kind != "mount"]),
    st.sampled_from(["", "/ns"]),
).map(lambda found: [{"type": kind, "path": path} for kind, path in found.items()])
hooks = st.dictionaries(
    st.sampled_from([*HOOKS]),
    st.lists(st.just({"path": "/h", "timeout": 1}), max_size=2),
)
detachments = st.none() | st.builds(
    Detached,
    keyring=st.booleans(),
    pivot=st.booleans(),
    inherit=st.integers(0, 3),
    state=st.just(STATES),
    wait=st.booleans(),
    rootfs=st.just("/r"),
)


@settings(max_examples=200)
@given(
    process=processes,
    entries=namespaces,
    mounted=st.lists(filesystems | binds, max_size=4),
    hooked=hooks,
    detached=detachments,
    rootless=st.booleans(),
    filtered=st.sampled_from([None, (bytes(8), 0), (bytes(8), NEW_LISTENER)]),
    propagation=st.sampled_from(["", *mounts.PROPAGATION]),
)
def test_the_executor_takes_every_plan(
    process: dict[str, Any],
    entries: list[dict[str, str]],
    mounted: list[dict[str, Any]],
    hooked: dict[str, Any],
    detached: Detached | None,
    rootless: bool,
    filtered: tuple[bytes, int] | None,
    propagation: str,
) -> None:
    whole = {
        "root": {},
        "process": process,
        "mounts": mounted,
        "hooks": hooked,
        "linux": {
            "namespaces": [*entries, {"type": "mount"}],
            "rootfsPropagation": propagation,
            **MAPS,
        },
    }
    assert check(steps(whole, detached, rootless=rootless, seccomp=filtered)) is None
    join = Step("join", PROCESS, sum(plan.CLONE_FLAGS[entry["type"]] for entry in entries))
    given_ = plan.Settings(rootless=rootless, seccomp=filtered)
    assert check(plan.execution(cast("Any", process), join, given_, detached)) is None
