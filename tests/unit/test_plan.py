"""An OCI configuration to kernel steps, by value: which, and in which order."""

from __future__ import annotations

import copy
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
from pycontain.kernel import capability
from pycontain.kernel.mount import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from pycontain.runtime import plan
from pycontain.runtime.steps import Handle, Step, encode, handles, indexes

SAFE = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")

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
        {"destination": "/data", "type": "bind", "source": "/host", "options": ["rbind", "ro"]},
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


def steps(found: Any = None, **given_: Any) -> list[Step]:
    return plan.container(cast("Any", found or spec()), plan.Settings(**given_))


def names(found: list[Step]) -> list[str]:
    return [step.name for step in found]


def one(found: list[Step], name: str) -> Step:
    wanted = [step for step in found if step.name == name]
    assert len(wanted) == 1, name
    return wanted[0]


def test_the_order_of_a_whole_container() -> None:
    found = steps(devices=b"D" * 8, seccomp=(b"S" * 8, 0))
    runs = [name for name, _ in itertools.groupby(names(found))]
    assert runs == [
        "cgroup", "devices", "clone", "oom_score", "unshare", "session", "loopback", "hostname",
        "sysctl", "propagation", "root", "mount", "node", "symlink", "bind", "directory",
        "readonly", "mask", "attributes", "pivot", "rlimit", "cwd", "ready", "seccomp",
        "credentials", "parent_death", "umask", "exec",
    ]  # fmt: skip


def test_the_values_of_a_whole_container() -> None:
    found = steps(devices=b"D" * 8, seccomp=(b"S" * 8, 4))
    chown, kill = 1 << 0, 1 << 5
    assert found[:2] == [Step("cgroup", plan.CGROUP), Step("devices", plan.CGROUP, b"D" * 8)]
    assert one(found, "clone").args == (0x20000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000,)
    assert one(found, "unshare").args == (0x2000000,)
    assert one(found, "oom_score").args == ("5",)
    assert one(found, "propagation").args == (MS_REC | MS_SLAVE,)
    assert one(found, "root").args == (plan.ROOT, MS_PRIVATE)
    mounts = [step for step in found if step.name == "mount"]
    assert mounts == [
        Step("mount", "proc", "proc", "/proc", SAFE, ()),
        Step("mount", "tmpfs", "tmpfs", "/dev", ATTR_NOSUID, ("mode=755",)),
    ]
    bind = Step("bind", Handle("tree", "/host"), "/data", ATTR_RDONLY, 0, MS_PRIVATE, 0)
    assert one(found, "bind") == bind
    assert one(found, "directory").args == ("/work", 0o755)
    assert one(found, "readonly").args == (("/proc/sys",),)
    assert one(found, "mask").args == (("/proc/kcore", "/proc/keys"),)
    assert one(found, "attributes").args == ("/", ATTR_RDONLY, 0)
    assert one(found, "hostname").args == ("box",)
    assert one(found, "sysctl").args == ("net/ipv4/ip_forward", "1")
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
    assert names(found) == [
        "clone", "session", "propagation", "root", "pivot", "cwd", "ready", "credentials",
        "parent_death", "umask", "exec",
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


def test_nothing_is_made_in_a_dev_that_is_bound() -> None:
    mounts = [{"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}]
    found = steps(spec(mounts=mounts))
    assert "node" not in names(found)
    assert "symlink" not in names(found)


def test_rootless_shows_nodes_instead_of_making_them() -> None:
    found = steps(rootless=True, cgroup=False)
    assert "node" not in names(found)
    shown = [step for step in found if step.name == "bind" and step.args[1] == "/dev/null"]
    assert shown == [Step("bind", Handle("branch", "/dev/null"), "/dev/null", 0, 0, MS_PRIVATE, 0)]
    assert "cgroup" not in names(found)


# --------------------------------------------------------------------------------------- namespaces


def test_joined_namespaces() -> None:
    joined = {"pid": "/proc/5/ns/pid", "network": "/proc/5/ns/net", "user": "/proc/5/ns/user"}
    entries = [
        *({"type": kind, "path": path} for kind, path in joined.items()),
        {"type": "mount"},
        {"type": "uts"},
    ]
    found = steps(spec(linux_namespaces=entries))
    assert one(found, "clone").args == (0x20000 | 0x4000000,)
    assert one(found, "join_pid").args == (Handle("file", "/proc/5/ns/pid"),)
    assert names(found).index("join_pid") < names(found).index("clone")
    joins = [step for step in found if step.name == "join"]
    assert joins == [
        Step("join", Handle("file", "/proc/5/ns/user"), 0x10000000),
        Step("join", Handle("file", "/proc/5/ns/net"), 0x40000000),
    ]
    assert "loopback" not in names(found)  # it is the other's
    assert "unshare" not in names(found)


def test_a_time_namespace_gets_its_offsets_before_the_clone() -> None:
    entries = [{"type": "mount"}, {"type": "time"}]
    offsets = {"monotonic": {"secs": 5, "nanosecs": 6}, "boottime": {"secs": -1}}
    found = steps(spec(linux_namespaces=entries, linux_timeOffsets=offsets))
    assert one(found, "time").args == ("monotonic 5 6\nboottime -1 0\n",)
    assert names(found).index("time") < names(found).index("clone")
    assert one(found, "clone").args == (0x20000,)


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


@pytest.mark.parametrize("name", ["shared", "slave", "rshared", "rslave"])
def test_propagation_of_the_root_comes_after_pivot_root(name: str) -> None:
    """pivot_root(2) refuses a shared root."""
    found = steps(spec(linux_rootfsPropagation=name))
    flag = (MS_SHARED if "shared" in name else MS_SLAVE) | (MS_REC if name[0] == "r" else 0)
    place = names(found).index("pivot")
    assert found[place + 1] == Step("propagation", flag)
    assert one(found, "root").args == (plan.ROOT, MS_PRIVATE)


# ------------------------------------------------------------------------------------------- mounts


@pytest.mark.parametrize(
    ("words", "set_", "clear", "data"),
    [
        ([], 0, 0, []),
        (["ro"], ATTR_RDONLY, 0, []),
        (["ro", "rw"], 0, ATTR_RDONLY, []),
        (["rw", "ro"], ATTR_RDONLY, 0, []),
        (["nosuid", "nodev", "noexec"], SAFE, 0, []),
        (["noexec", "exec"], 0, ATTR_NOEXEC, []),
        (["noatime"], 0x10, 0x70, []),
        (["relatime"], 0, 0x70, []),
        (["strictatime"], 0x20, 0x70, []),
        (["noatime", "strictatime"], 0x20, 0x70, []),
        (["nodiratime", "nosymfollow"], 0x80 | 0x200000, 0, []),
        (["size=5", "ro", "mode=7"], ATTR_RDONLY, 0, ["size=5", "mode=7"]),
        (["defaults"], 0, 0, []),
    ],
)
def test_words_of_a_mount(words: list[str], set_: int, clear: int, data: list[str]) -> None:
    found = plan.MountWords(words)
    assert (found.set, found.clear, found.data) == (set_, clear, data)


def test_a_bit_is_never_set_and_cleared_but_for_the_atime_field() -> None:
    words = [*plan._ATTRIBUTES]
    for first, second in itertools.product(words, words):
        found = plan.MountWords([first, second])
        assert found.set & found.clear & ~0x70 == 0, (first, second)


@pytest.mark.parametrize(
    ("words", "kind", "propagation", "reach"),
    [
        (["bind"], "branch", MS_PRIVATE, 0),
        (["rbind"], "tree", MS_PRIVATE, 0),
        (["rbind", "rprivate"], "tree", MS_PRIVATE, 2),
        (["rbind", "rslave"], "tree", MS_SLAVE, 2),
        (["rbind", "shared"], "tree", MS_SHARED, 0),
        (["rbind", "rro"], "tree", MS_PRIVATE, 1),
        (["rbind", "rro", "rshared"], "tree", MS_SHARED, 3),
    ],
)
def test_binds(words: list[str], kind: str, propagation: int, reach: int) -> None:
    mounts = [{"destination": "/m", "source": "/h", "options": words}]
    bind = one(steps(spec(mounts=mounts)), "bind")
    assert bind.args[0] == Handle(kind, "/h")
    assert bind.args[4:] == (propagation, reach)


def test_a_word_that_a_bind_does_not_know() -> None:
    mounts = [{"destination": "/m", "source": "/h", "options": ["bind", "size=5"]}]
    with pytest.raises(InvalidInput, match=r"/m: unknown option 'size=5'"):
        steps(spec(mounts=mounts))


def test_cgroup_is_the_second_version() -> None:
    mounts = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]
    assert one(steps(spec(mounts=mounts)), "mount").args[0] == "cgroup2"


# --------------------------------------------------------------------------------------- privileges


def order(found: list[Step], *wanted: str) -> bool:
    places = [names(found).index(name) for name in wanted]
    return places == sorted(places)


def test_the_filter_without_no_new_privileges_stands_before_the_capabilities_go() -> None:
    found = steps(seccomp=(b"", 0))
    assert order(found, "ready", "seccomp", "credentials", "parent_death", "exec")
    assert "no_new_privs" not in names(found)


def test_the_filter_with_no_new_privileges_is_the_very_last() -> None:
    found = steps(spec(process_noNewPrivileges=True), seccomp=(b"", 0))
    assert order(found, "ready", "no_new_privs", "credentials", "parent_death", "seccomp", "exec")
    assert names(found)[-2:] == ["seccomp", "exec"]


def test_unconfined() -> None:
    assert "seccomp" not in names(steps())
    assert "devices" not in names(steps())


def test_pdeathsig_stands_after_the_change_of_user_that_would_clear_it() -> None:
    assert order(steps(), "credentials", "parent_death")
    assert order(steps(spec(process_noNewPrivileges=True)), "credentials", "parent_death")


@pytest.mark.parametrize(
    "limit",
    [{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}, {"type": "x", "soft": 1, "hard": 1}],
)
def test_a_limit_that_there_is_not(limit: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=limit["type"].removeprefix("RLIMIT_")):
        steps(spec(process_rlimits=[limit]))


def test_limits_have_the_kernels_numbers() -> None:
    import resource

    for number, name in enumerate(plan.RLIMITS):
        known = getattr(resource, f"RLIMIT_{name}", number)
        assert known == number, name


def test_capability_sets() -> None:
    every = {name: ["CAP_CHOWN", "CAP_SYS_ADMIN"] for name in
             ("bounding", "permitted", "effective", "inheritable", "ambient")}  # fmt: skip
    found = one(steps(spec(process_capabilities=every)), "credentials")
    assert found.args[3:] == (capability.mask(["CAP_CHOWN", "CAP_SYS_ADMIN"]),) * 5


@pytest.mark.parametrize(
    ("program", "env", "paths"),
    [
        ("sh", ["PATH=/a:/b"], ["/a/sh", "/b/sh"]),
        ("/bin/sh", ["PATH=/a"], ["/bin/sh"]),
        ("./sh", ["PATH=/a"], ["./sh"]),
        ("a/b", [], ["a/b"]),
        ("sh", ["PATH=/a", "PATH=/b"], ["/b/sh"]),
        ("sh", ["PATH=/a::/b"], ["/a/sh", "./sh", "/b/sh"]),
        ("sh", ["XPATH=/a"], [f"{folder}/sh" for folder in plan.DEFAULT_PATH.split(":")]),
        ("sh", ["PATH="], ["./sh"]),
    ],
)
def test_candidates(program: str, env: list[str], paths: list[str]) -> None:
    assert plan.candidates({"args": [program], "env": env}) == paths


# ----------------------------------------------------------------------------------- terminal, exec


def test_a_terminal_is_opened_in_the_new_root() -> None:
    found = steps(spec(process_terminal=True), size=(24, 80))
    assert one(found, "console").args == (24, 80, 1)
    assert order(found, "root", "console", "mask", "pivot")


def test_a_command_in_a_running_container() -> None:
    process = spec(process_terminal=True)["process"]
    join = Step("join", Handle("given", "process"), 0x20000000 | 0x20000 | 0x40000000)
    found = plan.execution(process, join, plan.Settings(seccomp=(b"", 0), size=(1, 2)))
    assert names(found) == [
        "cgroup", "join_pid", "clone", "oom_score", "join", "enter", "session", "console",
        "rlimit", "cwd", "ready", "seccomp", "credentials", "parent_death", "umask", "exec",
    ]  # fmt: skip
    assert one(found, "clone").args == (0,)
    assert one(found, "join").args == (Handle("given", "process"), 0x20000 | 0x40000000)
    assert one(found, "console").args == (1, 2, 0)


def test_every_step_that_does_something_has_words() -> None:
    found = steps(spec(process_terminal=True, process_noNewPrivileges=True), seccomp=(b"", 0))
    assert [step.name for step in found if not step.text] == ["cgroup"]
    assert all(step.text[0].islower() and not step.text.endswith(".") for step in found[1:])


# -------------------------------------------------------------------------------- any configuration

words = st.sampled_from([*plan._ATTRIBUTES, *plan._PROPAGATION, "size=1"])
mounts = st.fixed_dictionaries(
    {
        "destination": st.sampled_from(["/proc", "/dev", "/a", "/a/b"]),
        "type": st.sampled_from(["tmpfs", "proc", "sysfs"]),
        "options": st.lists(words, max_size=4),
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
    },
)


@settings(deadline=None, max_examples=150)
@given(
    process=processes,
    kinds=st.sets(st.sampled_from([*KINDS, "user"])),
    mounted=st.lists(mounts, max_size=4),
    rootless=st.booleans(),
    filtered=st.booleans(),
)
def test_the_executor_takes_every_plan(
    process: dict[str, Any],
    kinds: set[str],
    mounted: list[dict[str, Any]],
    rootless: bool,
    filtered: bool,
) -> None:
    found = steps(
        {
            "root": {},
            "process": process,
            "mounts": mounted,
            "linux": {"namespaces": [{"type": kind} for kind in sorted(kinds | {"mount"})]},
        },
        rootless=rootless,
        seccomp=(bytes(8), 0) if filtered else None,
    )
    wanted = handles(found)
    data = encode(found, indexes(wanted), len(wanted))
    why = lib.plan_check(data, len(data))
    assert why == ffi.NULL, ffi.string(why)
