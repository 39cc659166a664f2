"""The reader of plans under mutated plans, with ASan and UBSan watching."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.model.network import Attachment
from pycontain.runtime import handover, links, plan, runner
from pycontain.runtime.steps import OPERATIONS, Handle, Step, encode, handles, indexes

if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.runtime.steps import Argument

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
SECONDS = 4
SANITIZERS = "address,undefined"
CC = shutil.which("cc")
CLANG = shutil.which("clang")

SPEC: dict[str, Any] = {
    "root": {},
    "hostname": "box",
    "process": {
        "args": ["sh", "-c", "true"],
        "env": ["PATH=/bin", "A="],
        "cwd": "/tmp",
        "terminal": True,
        "user": {"uid": 1, "gid": 2, "additionalGids": [3, 4]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}],
        "noNewPrivileges": True,
        "oomScoreAdj": 7,
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "options": ["nosuid"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}
SCHEDULING: dict[str, Any] = {
    "scheduler": {"policy": "SCHED_BATCH", "nice": 5},
    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 3},
    "execCPUAffinity": {"initial": "0-1", "final": "1,3"},
}
DETACHED: dict[str, Any] = {
    "root": {"readonly": True},
    "domainname": "example",
    "process": {**SPEC["process"], "args": ["sh"]},
    "mounts": [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/run", "type": "tmpfs", "options": ["tmpcopyup", "mode=755"]},
        {
            "destination": "/data", "source": "/srv", "options": ["rbind", "rro", "rslave"],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        },
    ],
    "hooks": {
        kind: [{"path": "/hook", "args": ["hook", ""], "env": ["A=B"], "timeout": 3}]
        for kind in ("prestart", "createContainer", "startContainer")
    },
    "linux": {
        "namespaces": [
            {"type": "mount"}, {"type": "cgroup"}, {"type": "time"}, {"type": "user"},
            {"type": "pid", "path": "/proc/1/ns/pid"},
            {"type": "network", "path": "/proc/1/ns/net"},
        ],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 6}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "rootfsPropagation": "rslave",
        "personality": {"domain": "LINUX32"},
    },
}  # fmt: skip
ARGUMENTS: dict[str, Argument] = {
    "n": 1, "s": "text", "l": ("one", "", "three"), "b": bytes(range(16)),
    "f": Handle("given", "it"),
}  # fmt: skip


def steps_of_a_container() -> list[Step]:
    settings = [
        Step("run", "r" * 16, "b" * 36),
        Step("owner", handover.OWNER, 1, 0),
        Step("stdio", 1, 1, 0),
        Step("log", "k8s-file", 1 << 20, 3),
        Step("cleanup", ("python", "-c", "pass"), ("PATH=/bin",)),
    ]
    asked = plan.Settings(seccomp=(bytes(64), 0))
    asked.links = devices()
    return settings + plan.container(cast("oci.Spec", SPEC), asked)


def devices() -> links.Links:
    attachment = Attachment(
        network="n" * 64, name="bridge", device="pyc-1", device_index=7,
        host_interface="veth12345678", mac="02:42:0a:01:00:02",
        addresses=("10.1.0.2/24", "fd00::2/64"), gateways=("10.1.0.1",),
    )  # fmt: skip
    return links.steps([attachment], ipv6=True, published=True)


def steps_of_a_detached_container() -> list[Step]:
    """As the OCI runtime face asks for it: joins, sync points, hooks, a wait, descriptors."""
    state = dict.fromkeys(("createContainer", "startContainer"), ('{"pid":', ',"id":"it"}'))
    detached = plan.Detached(inherit=2, state=state)
    steps = plan.container(cast("oci.Spec", DETACHED), plan.Settings(), detached)
    return [Step("owner", handover.OWNER, 0, 0), Step("streams", *runner.STREAMS), *steps]


def steps_of_an_execution() -> list[Step]:
    join = Step("join", Handle("given", "container process"), plan.CLONE_FLAGS["pid"])
    process = cast("oci.Process", {**SPEC["process"], **SCHEDULING})
    return plan.execution(process, join, plan.Settings(), plan.Detached(wait=False))


def steps_of_every_kind() -> list[Step]:
    """Each operation once, in the order of the table: settings, host, clone, container, exec."""
    made = {step.name: step for step in (*devices().host, *devices().container)}
    return [
        made.get(name) or Step(name, *(ARGUMENTS[kind] for kind in kinds))
        for name, kinds in OPERATIONS
        if name
    ]


def wire(steps: list[Step]) -> bytes:
    wanted = handles(steps)
    return encode(steps, indexes(wanted), len(wanted))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    plans = (
        steps_of_a_container(),
        steps_of_a_detached_container(),
        steps_of_an_execution(),
        steps_of_every_kind(),
    )
    for number, steps in enumerate(plans):
        (folder / str(number)).write_bytes(wire(steps))
    return folder


def build(
    compiler: str | None, folder: Path, *flags: str, reader: Path = NATIVE / "plan.c"
) -> Path:
    """Build the fuzzer of a reader, or skip and say why."""
    if compiler is None:
        pytest.skip("the compiler is not installed")
    program = folder / "plan_fuzz"
    result = subprocess.run(
        [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror",
         "-fno-sanitize-recover=all", f"-I{NATIVE}", *flags, "-o", program,
         HERE / "plan_fuzz.c", reader, NATIVE / "netlink.c"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode and ("cannot find" in result.stderr or "unable to find" in result.stderr):
        pytest.skip(f"{compiler} comes without its sanitizers: {result.stderr.splitlines()[0]}")
    assert result.returncode == 0, result.stderr
    return program


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    # Leaks are looked for by tracing the own process, which not every machine allows.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=120, env=environment
    )


def mutator(folder: Path, reader: Path = NATIVE / "plan.c") -> Path:
    return build(CC, folder, f"-fsanitize={SANITIZERS}", "-DSTANDALONE", reader=reader)


def test_good_plans_are_accepted(corpus: Path) -> None:
    from pycontain._native._kernel import ffi, lib

    for path in corpus.iterdir():
        data = path.read_bytes()
        why = lib.plan_check(data, len(data))
        assert why == ffi.NULL, ffi.string(why)


def test_mutated_plans(corpus: Path, tmp_path: Path) -> None:
    seed = str(random.randrange(1 << 32))
    result = run(mutator(tmp_path), str(SECONDS), seed, *sorted(corpus.iterdir()))
    assert result.returncode == 0, f"seed {seed}: {result.stderr}"
    assert int(result.stdout) > 1000


def test_fuzzed_plans(corpus: Path, tmp_path: Path) -> None:
    """The same with libFuzzer, which looks for inputs that reach new code."""
    program = build(CLANG, tmp_path, f"-fsanitize=fuzzer,{SANITIZERS}")
    limits = (f"-max_total_time={SECONDS}", "-max_len=16384", f"-artifact_prefix={tmp_path}/")
    # libFuzzer adds what it finds to its folder.
    found = shutil.copytree(corpus, tmp_path / "corpus")
    result = run(program, *limits, found)
    assert result.returncode == 0, result.stderr


def test_a_reader_that_leaves_its_buffer_is_seen(corpus: Path, tmp_path: Path) -> None:
    """The test of the tests: a reader without one of its checks does not survive."""
    source = (NATIVE / "plan.c").read_text()
    check = "if (arg->size > size - offset || (arg->size + 7ull) / 8 * 8 > size - offset)"
    assert check in source
    (tmp_path / "plan.c").write_text(source.replace(check, "if (0)"))
    program = mutator(tmp_path, tmp_path / "plan.c")
    result = run(program, str(SECONDS), "1", *sorted(corpus.iterdir()))
    assert result.returncode != 0
    assert "Sanitizer" in result.stderr or "plan_fuzz" in result.stderr
