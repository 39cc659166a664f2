"""The reader of config.json: what it takes, what it refuses, and where it says that it is wrong."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any, cast

import pytest

from pycontain.errors import InvalidInput
from pycontain.runtime import check as reader
from pycontain.runtime.check import check, check_process, check_resources, sysctl_path
from pycontain.runtime.fields import cpu_list

LONG = "x" * 100
LAST_ID = 4294967294


def document(**more: Any) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2-dev",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": kind} for kind in ("mount", "uts", "ipc", "network")]},
        **more,
    }


def keys_of(path: str) -> list[str | int]:
    """``a.b[0].c`` as keys."""
    words: list[str | int] = []
    for word in path.split("."):
        name, *places = word.split("[")
        words += [name, *(int(place[:-1]) for place in places)]
    return words


def changed(path: str, value: Any) -> dict[str, Any]:
    """The document with `value` at `path`; what is on the way is made."""
    whole = document()
    keys = keys_of(path)
    last, place = keys[-1], cast("Any", whole)
    for key, inner in pairwise(keys):
        if isinstance(place, dict):
            place.setdefault(key, [] if isinstance(inner, int) else {})
        place = place[key]
    if isinstance(place, list):
        assert isinstance(last, int)
        place[last:] = [value]
    else:
        place[last] = value
    return whole


def refusal(value: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        check(value)
    return caught.value.message


def test_the_least_that_there_is() -> None:
    least = {"ociVersion": "1.0.0", "root": {"path": "/r"}}
    assert check(least) == least


def test_without_a_process() -> None:
    """config.md, "Process": it is needed when start is called."""
    least = document()
    del least["process"]
    assert "process" not in check(least)


def test_the_document_is_not_changed() -> None:
    given = document(mounts=[{"destination": "a", "type": "tmpfs"}], hostname=None, extra=1)
    before = copy.deepcopy(given)
    check(given)
    assert given == before


def test_unknown_fields_are_ignored() -> None:
    spec: Any = check(document(extra={"deep": [[[]]]}, linux={"more": 1, "namespaces": []}))
    assert "extra" not in spec
    assert spec["linux"] == {"namespaces": []}


def test_null_is_absent() -> None:
    given = document(mounts=None, hooks=None, annotations=None, linux=None, vm=None, hostname=None)
    given["process"] |= {"env": None, "capabilities": {"bounding": None}, "selinuxLabel": None}
    spec = check(given)
    assert sorted(spec) == ["ociVersion", "process", "root"]
    assert spec["process"]["capabilities"] == {}
    given["process"]["cwd"] = None
    assert refusal(given) == "config.json: process.cwd: missing"


@pytest.mark.parametrize("value", [None, 1, [], "{}", 1.5, True])
def test_no_object(value: object) -> None:
    assert refusal(value).startswith("config.json: must be an object, not ")


@pytest.mark.parametrize(
    "version", ["1.0.0", "1.3.0", "1.99.0", "1.0.2-dev", "1.1.0+dev", "1.0.0-rc.1-x.0+001.a-b"]
)
def test_versions(version: str) -> None:
    assert check(changed("ociVersion", version))["ociVersion"] == version


@pytest.mark.parametrize(
    "version",
    ["", "1", "1.0", "1.0.0.0", "01.0.0", "1.0.00", "v1.0.0", "1.0.0-", "1.0.0+", "1.0.0-01",
     "1.0.0-a..b", "1.0.0-é", "1.0.0+a+b", "1.0.٣", "1.0.0 ", "-1.0.0", "1.0.0-a_b"],
)  # fmt: skip
def test_no_versions(version: str) -> None:
    wanted = "config.json: ociVersion: must be a semantic version, not "
    assert refusal(changed("ociVersion", version)).startswith(wanted)


@pytest.mark.parametrize("version", ["0.9.0", "2.0.0", "10.0.0"])
def test_other_major_versions(version: str) -> None:
    given: dict[str, Any] = {"ociVersion": version, "what": "else there is does not matter"}
    wanted = f'config.json: ociVersion: version "{version}" is not supported, only 1'
    assert refusal(given) == wanted


REFUSED = [
    ("process.args[0]", 3, ": must be a string, not 3"),
    ("process.args", [], ": must not be empty"),
    ("process.args", "sh", ': must be a list, not "sh"'),
    ("process.args[0]", "a\0b", r': NUL in "a\x00b"'),
    ("process.args[0]", "\udc80", r': half a surrogate pair in "\udc80"'),
    ("process.args[0]", None, ": must be a string, not null"),
    ("process.env[0]", "A=\0", r': NUL in "A=\x00"'),
    ("process.cwd", "tmp", ': must be an absolute path, not "tmp"'),
    ("process.cwd", LONG, f': must be an absolute path, not "{LONG[:60]}…"'),
    ("process.terminal", 1, ": must be true or false, not 1"),
    ("process.user.uid", True, ": must be a whole number from 0 to 4294967294, not true"),
    ("process.user.uid", 1.0, ": must be a whole number from 0 to 4294967294, not 1.0"),
    ("process.user.uid", 1e3, ": must be a whole number from 0 to 4294967294, not 1000.0"),
    ("process.user.uid", -1, ": must be a whole number from 0 to 4294967294, not -1"),
    ("process.user.uid", 1 << 32, ": must be a whole number from 0 to 4294967294, not 4294967296"),
    ("process.user.gid", 10**5000,
     ": must be a whole number from 0 to 4294967294, not a number of 16610 bits"),
    # setresuid(2) leaves the id as it is, root's, when it is told 2^32 - 1.
    ("process.user.uid", 4294967295,
     ": must be a whole number from 0 to 4294967294, not 4294967295"),
    ("process.user.umask", 0o1000, ": must be a whole number from 0 to 511, not 512"),
    ("process.user.additionalGids[0]", "5",
     ': must be a whole number from 0 to 4294967294, not "5"'),
    ("process.user", {"uid": 0}, ".gid: missing"),
    ("process.oomScoreAdj", 1001, ": must be a whole number from -1000 to 1000, not 1001"),
    ("process.capabilities.bounding", {"a": 1}, ": must be a list, not an object"),
    ("process.apparmorProfile", "a\nb", r': newline in "a\nb"'),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_NONE", "priority": 0},
     '.class: unknown class "IOPRIO_CLASS_NONE"'),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_RT", "priority": 8},
     ".priority: must be a whole number from 0 to 7, not 8"),
    ("process.execCPUAffinity.final", "0-3,", ': must be a list such as 0-3,7, not "0-3,"'),
    ("process.scheduler", {"policy": "SCHED_ISO"},
     '.policy: unknown scheduling policy "SCHED_ISO"'),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20},
     ".nice: must be a whole number from -20 to 19, not 20"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]},
     '.flags[0]: unknown scheduling flag "SCHED_FLAG_NONE"'),
    ("process.scheduler", {"policy": "SCHED_FIFO"},
     ".priority: must be from 1 to 99 for SCHED_FIFO, not 0"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "priority": 1},
     ".priority: must be 0 for SCHED_OTHER, not 1"),
    ("process.scheduler", {"policy": "SCHED_BATCH", "period": 1},
     ".period: SCHED_BATCH takes none, only SCHED_DEADLINE"),
    ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1000},
     ": must have 1024 <= runtime <= deadline <= period"),
    ("process.rlimits[0]", {"type": "NOFILE", "soft": 1, "hard": 1},
     '.type: unknown resource "NOFILE"'),
    ("process.rlimits[0]", {"type": "RLIMIT_NOFILE", "soft": 1}, ".hard: missing"),
    ("process.rlimits[0]", {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1},
     ".soft: 2 is above hard, 1"),
    ("process.rlimits[0]", {"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 << 64},
     ".hard: must be a whole number from 0 to 18446744073709551615, not 18446744073709551616"),
    ("root", None, ": missing"),
    ("root.path", "", ": must not be empty"),
    ("hostname", "h" * 65, f': must be 64 bytes or shorter, not "{"h" * 60}…"'),
    ("hostname", "a\nb", r': newline in "a\nb"'),
    ("domainname", "é" * 33, f': must be 64 bytes or shorter, not "{"é" * 33}"'),
    ("annotations", {"": "x"}, '[""]: must not be empty'),
    ("annotations", {"a.b": 1}, '["a.b"]: must be a string, not 1'),
    ("hooks.prestart", [{"path": "x"}], '[0].path: must be an absolute path, not "x"'),
    ("hooks.poststop", [{"path": "/x", "timeout": 0}],
     "[0].timeout: must be a whole number from 1 to 2147483647, not 0"),
    ("hooks.startContainer", [{"args": []}], "[0].path: missing"),
    ("mounts", [{"type": "tmpfs"}], "[0].destination: missing"),
    ("mounts", [{"destination": "", "type": "tmpfs"}], "[0].destination: must not be empty"),
    ("mounts", [{"destination": "/a"}], "[0].type: missing, and neither bind nor rbind in options"),
    ("mounts", [{"destination": "/a", "options": ["bind"]}],
     "[0].source: missing for a bind mount"),
    ("mounts", [{"destination": "/a", "type": "tmpfs", "options": ["shared", "rslave"]}],
     "[0].options: rslave and shared exclude each other"),
    ("mounts", [{"destination": "/a", "source": "b", "options": ["bind", "idmap"]}],
     "[0].options: idmap without mappings, and no user namespace in linux.namespaces"),
    ("mounts", [{"destination": "/a", "source": "b", "options": ["bind", "idmap", "ridmap"]}],
     "[0].options: idmap and ridmap exclude each other"),
    ("mounts", [{"destination": "/a", "type": "tmpfs",
                 "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}],
     "[0].gidMappings: uidMappings and gidMappings need each other"),
    ("linux.namespaces[0]", {"type": "net"}, '.type: unknown namespace "net"'),
    ("linux.namespaces[0]", {"path": "/x"}, ".type: missing"),
    ("linux.namespaces[0]", {"type": "pid", "path": "x"},
     '.path: must be an absolute path, not "x"'),
    ("linux.namespaces[1]", {"type": "mount", "path": "/x"}, '.type: "mount" is given twice'),
    ("linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}],
     ": no user namespace in linux.namespaces"),
    ("linux.timeOffsets", {"monotonic": {"secs": 1}},
     ": no new time namespace in linux.namespaces"),
    ("linux.timeOffsets", {"realtime": {}}, '["realtime"]: unknown clock "realtime"'),
    ("linux.timeOffsets", {"boottime": {"nanosecs": 10**9}},
     '["boottime"].nanosecs: must be a whole number from 0 to 999999999, not 1000000000'),
    ("linux.maskedPaths[0]", "proc", ': must be an absolute path, not "proc"'),
    ("linux.readonlyPaths[0]", "", ': must be an absolute path, not ""'),
    ("linux.cgroupsPath", "/a\nb", r': newline in "/a\nb"'),
    ("linux.cgroupsPath", "/a/../../b", ': leaves its hierarchy: "/a/../../b"'),
    ("linux.rootfsPropagation", "public", ': unknown propagation "public"'),
    ("linux.personality", {"domain": "BSD"}, '.domain: unknown domain "BSD"'),
    ("linux.personality", {"domain": "LINUX", "flags": ["X"]},
     '.flags[0]: unknown personality flag "X"'),
    ("linux.devices", [{"type": "x", "path": "/dev/x"}], '[0].type: unknown device type "x"'),
    ("linux.devices", [{"type": "c", "path": "/dev/x", "major": 1}], "[0].minor: missing"),
    ("linux.devices", [{"type": "p", "path": "x"}], '[0].path: must be an absolute path, not "x"'),
    ("linux.devices", [{"type": "c", "path": "/x", "major": -1, "minor": 0}],
     "[0].major: must be a whole number from 0 to 4095, not -1"),
    ("linux.resources.devices", [{"access": "rwm"}], "[0].allow: missing"),
    ("linux.resources.devices", [{"allow": True, "access": "rx"}],
     '[0].access: must be made of r, w and m, not "rx"'),
    ("linux.resources.unified", {"../cgroup.procs": "0"},
     '["../cgroup.procs"]: must be a file name, not "../cgroup.procs"'),
    ("linux.resources.memory.limit", 1.5,
     ": must be a whole number from -9223372036854775808 to 9223372036854775807, not 1.5"),
    ("linux.resources.blockIO.weight", 65536,
     ": must be a whole number from 0 to 65535, not 65536"),
    ("linux.resources.blockIO.weightDevice", [{"major": 8, "minor": 0}],
     "[0]: needs weight or leafWeight"),
    ("linux.resources.rdma", {"mlx5_1": {}}, '["mlx5_1"]: needs hcaHandles or hcaObjects'),
    ("linux.resources.hugepageLimits", [{"limit": 1}], "[0].pageSize: missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "rest"), REFUSED, ids=[f"{row[0]}-{row[2][:30]!a}" for row in REFUSED]
)
def test_refused(path: str, value: Any, rest: str) -> None:
    assert refusal(changed(path, value)) == f"config.json: {path}{rest}"


ACCEPTED = [
    ("process.args[0]", ""),
    ("process.args[0]", "é"),
    ("process.env[0]", "A=two\nlines"),
    ("process.env[0]", "no equals sign"),
    ("process.user.uid", LAST_ID),
    ("process.oomScoreAdj", -1000),
    ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]),
    ("process.capabilities", {"bounding": ["CAP_OF_THE_FUTURE"], "ambient": []}),
    ("process.scheduler", {"policy": "SCHED_RR", "priority": 99}),
    ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2000}),
    ("process.execCPUAffinity", {"initial": "", "final": "0-3,7"}),
    ("process.apparmorProfile", ""),
    ("hostname", "é" * 32),
    ("hostname", ""),
    ("annotations", {"a": ""}),
    ("hooks.createRuntime", [{"path": "/x", "args": ["x"], "env": [], "timeout": 1}]),
    ("mounts", [{"destination": "/a b\n", "type": "tmpfs", "options": ["size=1"]}]),
    ("mounts", [{"destination": "/a", "source": "b", "options": ["rbind", "rprivate"]}]),
    ("mounts", [{"destination": "/a", "options": ["remount", "ro"]}]),
    ("linux.namespaces[0]", {"type": "time", "path": ""}),
    ("linux.rootfsPropagation", "runbindable"),
    ("linux.cgroupsPath", "system.slice:pycontain:..a"),
    ("linux.devices", [{"type": "p", "path": "/x", "fileMode": 0o20666}]),
    ("linux.resources.devices", [{"allow": False, "type": "a", "major": -1, "access": ""}]),
    ("linux.resources.rdma", {"mlx5_1": {"hcaHandles": 3}}),
    ("linux.resources.unified", {"memory.high": "max"}),
    ("linux.personality", {"domain": "LINUX32", "flags": []}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_accepted(path: str, value: Any) -> None:
    given = changed(path, value)
    assert check(given) == given


def test_a_relative_destination_begins_at_the_root() -> None:
    spec = check(document(mounts=[{"destination": "a/b", "type": "tmpfs"}]))
    assert spec["mounts"][0]["destination"] == "/a/b"


def test_console_size_matters_with_a_terminal_only() -> None:
    given = document()
    given["process"] |= {"consoleSize": "nothing", "terminal": False}
    assert "consoleSize" not in check(given)["process"]
    assert "consoleSize" in given["process"]
    given["process"]["terminal"] = True
    assert refusal(given) == ('config.json: process.consoleSize: must be an object, not "nothing"')
    given["process"]["consoleSize"] = {"height": 65536, "width": 0}
    assert "process.consoleSize.height: must be a whole number from 0 to 65535" in refusal(given)


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_names_need_a_uts_namespace(key: str) -> None:
    given = document(linux={"namespaces": [{"type": "mount"}]}, **{key: "box"})
    assert refusal(given) == (
        f"config.json: {key}: no uts namespace in linux.namespaces: it would be the host's"
    )
    given["linux"]["namespaces"].append({"type": "uts", "path": "/run/uts"})
    assert check(given) == given


def mapped(*entries: tuple[int, int, int], **user: Any) -> dict[str, Any]:
    mappings = [dict(zip(("containerID", "hostID", "size"), line, strict=True)) for line in entries]
    given = document()
    given["linux"]["namespaces"].append({"type": "user"})
    given["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
    given["process"]["user"] |= user
    return given


def test_id_mappings() -> None:
    given = mapped((0, 1000, 10), (10, 2000, LAST_ID - 2009))
    assert check(given) == given


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([(0, 0, 10), (9, 100, 1)], "[1].containerID: overlaps another entry"),
        ([(0, 0, 10), (10, 9, 1)], "[1].hostID: overlaps another entry"),
        ([(5, 0, 10), (0, 100, 6)], "[0].containerID: overlaps another entry"),
        ([(0, 0, 0)], "[0].size: must be a whole number from 1 to 4294967295, not 0"),
        ([(0, 1, LAST_ID + 1)], f"[0].size: ends beyond the last id, {LAST_ID}"),
        ([(at, at, 1) for at in range(341)], ": the kernel takes 340 entries, not 341"),
    ],
)  # fmt: skip
def test_id_mappings_refused(entries: list[tuple[int, int, int]], reason: str) -> None:
    assert refusal(mapped(*entries)) == f"config.json: linux.uidMappings{reason}"


@pytest.mark.parametrize(
    ("user", "where"),
    [
        ({"uid": 10}, "uid: 10"),
        ({"gid": 11}, "gid: 11"),
        ({"additionalGids": [1, 12]}, "additionalGids[1]: 12"),
    ],
)
def test_the_user_is_mapped(user: dict[str, Any], where: str) -> None:
    wanted = f"config.json: process.user.{where} is not mapped into the user namespace"
    assert refusal(mapped((0, 1000, 10), **user)) == wanted
    joined = mapped((0, 1000, 10), **user)
    joined["linux"]["namespaces"][-1]["path"] = "/proc/1/ns/user"
    check(joined)  # its maps are not in the configuration


def test_time_offsets() -> None:
    given = changed("linux.namespaces[0]", {"type": "time"})
    given["linux"]["timeOffsets"] = {"monotonic": {"secs": -5}, "boottime": {"nanosecs": 1}}
    assert check(given) == given
    given["linux"]["namespaces"][0]["path"] = "/proc/1/ns/time"
    assert "linux.timeOffsets: no new time namespace" in refusal(given)


def test_rlimits_given_twice() -> None:
    given = document()
    limit = {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}
    given["process"]["rlimits"] = [limit, {**limit, "type": "RLIMIT_CORE"}, limit]
    wanted = "config.json: process.rlimits[2].type: RLIMIT_NOFILE is given twice"
    assert refusal(given) == wanted


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
        ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
        ("plain", "plain"),
    ],
)
def test_sysctl_path(key: str, path: str) -> None:
    assert sysctl_path(key) == path


@pytest.mark.parametrize(
    "key",
    ["net.core.somaxconn", "net/core/somaxconn", "kernel.shmmax", "kernel/sem",
     "fs.mqueue.msg_max", "kernel.domainname"],
)  # fmt: skip
def test_sysctls(key: str) -> None:
    given = changed("linux.sysctl", {key: "1"})
    assert check(given) == given
    given["linux"]["namespaces"] = [{"type": "mount"}]
    assert "namespace in linux.namespaces: it would be the host's" in refusal(given)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("kernel.core_pattern", "belongs to no namespace: it would be the host's"),
        ("kernel.shm", "belongs to no namespace: it would be the host's"),
        ("vm.swappiness", "belongs to no namespace: it would be the host's"),
        ("user.max_user_namespaces",
         "no user namespace in linux.namespaces: it would be the host's"),
        ("kernel.hostname", "is set by the field hostname"),
        ("", "is not the name of a kernel parameter"),
        ("net/../kernel/core_pattern", "is not the name of a kernel parameter"),
        ("net./.core", "is not the name of a kernel parameter"),
        ("/net/core/somaxconn", "is not the name of a kernel parameter"),
        ("net.core.", "is not the name of a kernel parameter"),
    ],
)  # fmt: skip
def test_sysctls_refused(key: str, reason: str) -> None:
    wanted = f'config.json: linux.sysctl["{key}"]: {reason}'
    assert refusal(changed("linux.sysctl", {key: "1"})) == wanted


def seccomp(**more: Any) -> dict[str, Any]:
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule], **more}
    return changed("linux.seccomp", profile)


def test_seccomp() -> None:
    argument = {"index": 5, "value": (1 << 64) - 1, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    given = seccomp(
        defaultErrnoRet=38,
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_LOONGARCH64"],
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        listenerPath="/run/agent.sock",
        listenerMetadata="x",
        syscalls=[
            {"names": ["a"], "action": "SCMP_ACT_NOTIFY", "args": [argument]},
            {"names": ["b"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535},
        ],
    )
    assert check(given) == given


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"defaultAction": None}, "defaultAction: missing"),
        ({"defaultAction": "ALLOW"}, 'defaultAction: unknown seccomp action "ALLOW"'),
        ({"architectures": ["x86"]}, 'architectures[0]: unknown seccomp architecture "x86"'),
        ({"flags": ["NEW_LISTENER"]}, 'flags[0]: unknown seccomp flag "NEW_LISTENER"'),
        ({"syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
         "syscalls[0].names: must not be empty"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG", "errnoRet": 1}]},
         "syscalls[0].errnoRet: SCMP_ACT_LOG takes no errno"),
        ({"defaultErrnoRet": 4096}, "defaultErrnoRet: must be 4095 or less, not 4096"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]},
         "listenerPath: missing for SCMP_ACT_NOTIFY"),
        ({"listenerMetadata": "x"}, "listenerMetadata: is nothing without listenerPath"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
                        "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
         "syscalls[0].args[0].index: must be a whole number from 0 to 5, not 6"),
        ({"syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG",
                        "args": [{"index": 0, "value": 0, "op": "=="}]}]},
         'syscalls[0].args[0].op: unknown seccomp operator "=="'),
    ],
)  # fmt: skip
def test_seccomp_refused(more: dict[str, Any], reason: str) -> None:
    assert refusal(seccomp(**more)) == f"config.json: linux.seccomp.{reason}"


@pytest.mark.parametrize(("path", "nothing", "reason"), reader.UNSUPPORTED)
def test_unsupported(path: str, nothing: Any, reason: str) -> None:
    assert refusal(changed(path, {"any": "thing"})) == f"config.json: {path}: {reason}"
    check(changed(path, nothing))
    check(changed(path, None))


@pytest.mark.parametrize("path", ["linux.intelRdt", "vm"])
def test_unsupported_even_empty(path: str) -> None:
    """Present is asked for: intelRdt without a field means a group of the container's own."""
    assert refusal(changed(path, {})).startswith(f"config.json: {path}: ")


def test_unknown_capabilities() -> None:
    spec = check(
        changed(
            "process.capabilities",
            {"bounding": ["CAP_Z", "CAP_KILL", "CAP_A"], "ambient": ["CAP_A", "kill"]},
        )
    )
    assert reader.unknown_capabilities(spec) == ["CAP_A", "CAP_Z", "kill"]
    assert reader.unknown_capabilities({}) == []


def test_a_process_alone() -> None:
    given = {"args": ["a"], "cwd": "/", "terminal": False, "consoleSize": 1, "env": None}
    assert check_process(given) == {"args": ["a"], "cwd": "/", "terminal": False}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"args": [1]}, "p: args[0]: must be a string, not 1"),
        ({"cwd": None}, "p: cwd: missing"),
        ({"selinuxLabel": "a"}, "p: selinuxLabel: SELinux labels are not supported"),
        ({"user": {"uid": 10, "gid": 0}},
         "p: user.uid: 10 is not mapped into the user namespace"),
        ({"rlimits": [{"type": "RLIMIT_AS", "soft": 1, "hard": 0}]},
         "p: rlimits[0].soft: 1 is above hard, 0"),
    ],
)  # fmt: skip
def test_a_process_alone_refused(more: dict[str, Any], text: str) -> None:
    spec = check(mapped((0, 1000, 10)))
    with pytest.raises(InvalidInput) as caught:
        check_process({"args": ["a"], "cwd": "/", **more}, spec=spec, name="p")
    assert caught.value.message == text


def test_resources_alone() -> None:
    assert check_resources({"pids": {"limit": -1}, "cpu": None}) == {"pids": {"limit": -1}}
    with pytest.raises(InvalidInput, match=r"^-: pids\.limit: must be a whole number from -"):
        check_resources({"pids": {"limit": "1"}}, name="-")


@pytest.mark.parametrize(
    ("text", "numbers"), [("", []), ("3", [3]), ("0-2,7,1", [0, 1, 2, 7]), ("8191", [8191])]
)
def test_cpu_lists(text: str, numbers: list[int]) -> None:
    assert cpu_list(text) == numbers


@pytest.mark.parametrize(
    "text", [",", "1,", "-", "1-", "-1", "a", " 1", "3-1", "8192", "0-99999999999", "1--2", "٣"]
)
def test_no_cpu_lists(text: str) -> None:
    with pytest.raises(InvalidInput):
        cpu_list(text)


def test_deep_documents() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    check(document(extra=deep))
    text = "config.json: process.args[0]: must be a string, not a list"
    assert refusal(changed("process.args[0]", deep)) == text
    while deep:  # unwound by hand: freeing it recurses, and copies of it would
        deep = deep.pop()


def test_messages_are_one_short_line() -> None:
    key = "\n\x1b[31m" + LONG * 1000
    for given in (
        changed("annotations", {key: 1}),
        changed("linux.sysctl", {key: "1"}),
        changed("process.args[0]", key + "\0"),
        changed("linux.seccomp", {"defaultAction": key}),
    ):
        message = refusal(given)
        assert len(message) < 250
        assert message.isprintable()


def test_what_is_imported() -> None:
    """The OCI command line starts for each verb: what costs milliseconds stays out of this reader.

    kernel.capability, which knows the names, answers for itself.
    """
    code = (
        "import sys; from pycontain.runtime import fields, schema;"
        "print([m for m in ('typing', 're', 'enum', 'dataclasses', 'msgspec', 'json')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"


def test_it_is_quick() -> None:
    """A manager's document has some 400 names of system calls; 2 ms are a tenth of a create."""
    rules = [{"allow": True, "type": "c", "major": 1, "minor": at, "access": "rwm"}
             for at in range(60)]  # fmt: skip
    names = {"names": [f"call{at}" for at in range(400)], "action": "SCMP_ACT_ALLOW"}
    given = changed("linux.resources.devices", rules)
    given["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [names]}

    def took() -> float:
        start = time.perf_counter()
        check(given)
        return time.perf_counter() - start

    assert min(took() for _ in range(20)) < 0.002


def test_what_docker_writes() -> None:
    """With the device bits in fileMode, a size of nothing, and limits of nothing."""
    given: dict[str, Any] = json.loads(
        """{"ociVersion": "1.0.2-dev", "hostname": "4f1c", "root": {"path": "/var/r"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["PATH=/bin"],
          "cwd": "/", "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
          "oomScoreAdj": 0},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc",
          "options": ["nosuid"]}, {"destination": "/etc/hosts", "type": "bind",
          "source": "/var/h", "options": ["rbind", "rprivate"]}],
        "hooks": {"prestart": [{"path": "/proc/7/exe", "args": ["x", "-exec-root=/r"]}]},
        "linux": {"sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
          "resources": {"devices": [{"allow": false, "access": "rwm"}, {"allow": true,
            "type": "c", "major": 1, "minor": 5, "access": "rwm"}],
            "memory": {}, "cpu": {"shares": 0}, "pids": {"limit": 0}, "blockIO": {"weight": 0}},
          "cgroupsPath": "/docker/4f1c",
          "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "uts"},
            {"type": "pid"}, {"type": "ipc"}, {"type": "cgroup"}],
          "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
            "fileMode": 8630, "uid": 0, "gid": 0}],
          "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/bus"]}}"""
    )
    assert check(given) == given
