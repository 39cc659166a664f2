"""The reader of config.json under any JSON, and under a good one with a part replaced."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.runtime.check import check, check_process, check_resources, unknown_capabilities

MAP = {"containerID": 0, "hostID": 100000, "size": 65536}
THROTTLE = {"major": 8, "minor": 0, "rate": 600}
HOOK = {"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}

# Every field of the specification that pycontain reads.
GOOD: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "box",
    "domainname": "example.org",
    "annotations": {"org.example.key": "value"},
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
        "args": ["sh", "-c", "true"],
        "env": ["PATH=/bin"],
        "cwd": "/tmp",
        "capabilities": {
            kind: ["CAP_KILL"]
            for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
        },
        "rlimits": [
            {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ],
        "noNewPrivileges": True,
        "oomScoreAdj": 7,
        "apparmorProfile": "profile",
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": 0,
            "priority": 0,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 2000,
            "deadline": 3000,
            "period": 4000,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0", "final": "0-3,7"},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {
            "destination": "/data",
            "source": "data",
            "options": ["rbind", "rprivate", "idmap"],
            "uidMappings": [MAP],
            "gidMappings": [MAP],
        },
    ],
    "hooks": {
        kind: [HOOK]
        for kind in (
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        )
    },
    "linux": {
        "namespaces": [
            {"type": "pid", "path": "/proc/1/ns/pid"},
            *({"type": kind} for kind in "network mount ipc uts user cgroup time".split()),
        ],
        "uidMappings": [MAP],
        "gidMappings": [MAP],
        "timeOffsets": {"monotonic": {"secs": -1, "nanosecs": 5}},
        "devices": [
            {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438,
             "uid": 0, "gid": 0},
        ],
        "cgroupsPath": "/a/b",
        "rootfsPropagation": "slave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "sysctl": {"net.core.somaxconn": "256", "kernel.shmmax": "1"},
        "personality": {"domain": "LINUX32", "flags": []},
        "resources": {
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}],
            "memory": {
                "limit": 1, "reservation": 1, "swap": -1, "kernel": 1, "kernelTCP": 1,
                "swappiness": 1, "disableOOMKiller": False, "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1, "quota": -1, "burst": 1, "period": 1, "realtimeRuntime": 1,
                "realtimePeriod": 1, "cpus": "0-1", "mems": "0", "idle": 1,
            },
            "pids": {"limit": 5},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 5, "leafWeight": 5}],
                "throttleReadBpsDevice": [THROTTLE],
                "throttleWriteBpsDevice": [THROTTLE],
                "throttleReadIOPSDevice": [THROTTLE],
                "throttleWriteIOPSDevice": [THROTTLE],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 5}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}},
            "unified": {"memory.high": "max"},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "data",
            "syscalls": [
                {
                    "names": ["getcwd", "chmod"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 38,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
                },
            ],
        },
    },
}  # fmt: skip


def places(value: Any, path: str = "") -> list[tuple[str, Any, Any, Any]]:
    """Each part of `value`: its path as the reader writes it, what holds it, its key, the part."""
    found: list[tuple[str, Any, Any, Any]] = []
    if isinstance(value, dict):
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            if path.endswith(("sysctl", "unified", "rdma", "annotations", "timeOffsets")):
                here = f'{path}["{key}"]'
            found += [(here, value, key, item), *places(item, here)]
    elif isinstance(value, list):
        for at, item in enumerate(value):
            here = f"{path}[{at}]"
            found += [(here, value, at, item), *places(item, here)]
    return found


PATHS = [place[0] for place in places(GOOD)]

WORDS = sorted({part for *_, part in places(GOOD) if isinstance(part, str)})
TEXT = st.one_of(st.sampled_from(WORDS), st.text(), st.sampled_from(["\0", "\n", "\udc80", ".."]))
EDGES = [1 << power for power in (12, 16, 20, 31, 32, 63, 64, 200)]
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([number + by for number in EDGES for by in (-1, 0, 1)]),
    st.sampled_from(EDGES).map(lambda number: -number - 1),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), TEXT)
KEYS = st.one_of(st.sampled_from(sorted({path.split(".")[-1] for path in PATHS})), st.text())
ANY = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=6)),
    max_leaves=40,
)

often = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def outcome(document: Any) -> str:
    """The text of the refusal, empty where there is none."""
    try:
        spec = check(document)
    except InvalidInput as err:
        assert err.message.isprintable()
        assert len(err.message) < 400
        return err.message
    unknown_capabilities(spec)
    assert check(copy.deepcopy(spec)) == spec, "what was read is read the same again"
    return ""


def replaced(path: str, value: Any) -> dict[str, Any]:
    # Not deepcopy, which keeps one object where GOOD has the same in two places.
    whole: dict[str, Any] = json.loads(json.dumps(GOOD))
    (holder, key) = next((place[1], place[2]) for place in places(whole) if place[0] == path)
    holder[key] = value
    return whole


def test_the_good_one_is_good() -> None:
    assert check(GOOD) == GOOD


@often
@given(ANY)
def test_any_json(value: Any) -> None:
    outcome(value)
    for reader in (check_process, check_resources):
        try:
            reader(value)
        except InvalidInput as err:
            assert err.message.isprintable()


@often
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), ANY))
def test_any_fields(more: dict[str, Any]) -> None:
    outcome({**GOOD, **more})


@often
@given(st.sampled_from(PATHS), ANY)
def test_one_part_replaced(path: str, value: Any) -> None:
    text = outcome(replaced(path, value))
    if not text:
        return
    where = text.removeprefix("config.json: ").partition(": ")[0]
    if not where.startswith(path):
        # A rule that needs both: it names the other one, which is there, or should be.
        assert where in PATHS or where.rpartition(".")[0] in PATHS, text


def other_types(part: Any) -> list[Any]:
    others: list[Any] = [True, 1.0, math.inf, "text", [[]], {"a": {}}]
    wrong = [other for other in others if type(other) is not type(part)]
    return wrong if type(part) is int else [*wrong, 1]


@pytest.mark.parametrize("path", PATHS)
def test_another_type_is_refused_where_it_is(path: str) -> None:
    part = next(place[3] for place in places(GOOD) if place[0] == path)
    for value in other_types(part):
        text = outcome(replaced(path, value))
        assert text.startswith(f"config.json: {path}"), (value, text)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_accepted_only_where_it_is_absent(path: str) -> None:
    """Null is as if the field were not there, and it is not there afterwards."""
    whole = replaced(path, None)
    holder, key = next((place[1], place[2]) for place in places(whole) if place[0] == path)
    null = outcome(whole)
    if path.endswith("]"):
        assert null, "a list or a map holds no null"
        return
    del holder[key]
    assert outcome(whole) == null


@pytest.mark.parametrize(
    ("path", "item"),
    [
        ("process.args", "x"),
        ("linux.uidMappings", MAP),
        ("linux.namespaces", {"type": "pid"}),
        ("linux.seccomp.syscalls", {"names": ["a"], "action": "SCMP_ACT_LOG"}),
        ("process.rlimits", {"type": "RLIMIT_AS", "soft": 1, "hard": 1}),
        ("mounts", {"destination": "/a", "type": "tmpfs"}),
    ],
)
def test_time_grows_with_the_size(path: str, item: Any) -> None:
    document = replaced(path, [item] * 100_000)
    start = time.process_time()
    with contextlib.suppress(InvalidInput):  # some is given twice, or too long for the kernel
        check(document)
    assert time.process_time() - start < 3
