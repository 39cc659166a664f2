"""The device program on the real kernel: loaded, attached to a cgroup, and asked by a child."""

import ctypes
import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pace import seconds

from pycontain.kernel import devices
from pycontain.model import oci

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: loads and attaches a BPF program"),
    pytest.mark.skipif(
        os.uname().machine not in ("x86_64", "aarch64"), reason="number of bpf(2) unknown"
    ),
]

BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, -1)
PROG_LOAD, PROG_ATTACH = 5, 8
TYPE_CGROUP_DEVICE, ATTACH_CGROUP_DEVICE = 15, 6

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"bpf {command}")
    return result


def load(program: bytes) -> int:
    """BPF_PROG_LOAD, with the verifier's words in the error."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(1 << 24)
    attributes = struct.pack(
        "=IIQQIIQII",
        TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        1,
        len(log),
        ctypes.addressof(log),
        0,
        0,
    )
    try:
        return bpf(PROG_LOAD, attributes)
    except OSError as err:
        raise AssertionError(f"{err}: {log.value.decode()}") from err


def cgroup2() -> str:
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                return fields[4]
    pytest.skip("no cgroup2 is mounted")


@pytest.fixture
def cgroup() -> Iterator[str]:
    path = f"{cgroup2()}/pycontain-test-{os.getpid()}"
    os.mkdir(path)
    yield path
    os.rmdir(path)


CHILD = """if True:
    import os, sys
    with open(sys.argv[1] + "/cgroup.procs", "w") as file:
        file.write("0")
    for path, flags in [part.split(":") for part in sys.argv[2:]]:
        try:
            os.close(os.open(path, int(flags) | os.O_NONBLOCK))
            print(0)
        except OSError as err:
            print(err.errno)
"""


def attach(cgroup: str, rules: Iterable[oci.DeviceRule]) -> None:
    program = load(devices.program(rules))
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bpf(PROG_ATTACH, struct.pack("=IIII", target, program, ATTACH_CGROUP_DEVICE, 0))
    finally:
        os.close(target)
        os.close(program)


def opens(cgroup: str, *requests: tuple[str, int]) -> list[int]:
    """Open each (path, flags) in a child in `cgroup`; return the errno of each, 0 for none."""
    asked = [f"{path}:{flags}" for path, flags in requests]
    command = [sys.executable, "-c", CHILD, cgroup, *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(30), check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.fixture
def node(tmp_path: Path) -> str:
    """A node of a device that nobody is given by default: kmsg, 1:11. Reading it is harmless."""
    path = str(tmp_path / "kmsg")
    try:
        os.mknod(path, 0o20600, os.makedev(1, 11))
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        pytest.skip("device nodes cannot be made and opened here")
    return path


@pytest.mark.in_vm
def test_default_rules(cgroup: str, node: str) -> None:
    null = "/dev/null"
    before = opens(cgroup, (null, os.O_RDWR), (node, os.O_RDONLY))
    assert before == [0, 0]
    attach(cgroup, devices.DEFAULT_RULES)
    after = opens(cgroup, (null, os.O_RDWR), (node, os.O_RDONLY), ("/dev/urandom", os.O_RDONLY))
    assert after == [0, errno.EPERM, 0]


def test_fuse_is_closed(cgroup: str) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    attach(cgroup, devices.DEFAULT_RULES)
    assert opens(cgroup, ("/dev/fuse", os.O_RDWR)) == [errno.EPERM]


def test_partial_rules_add_up_and_later_ones_win(cgroup: str, node: str) -> None:
    rule: oci.DeviceRule = {"allow": True, "type": "c", "major": 1, "minor": 11}
    parts: list[oci.DeviceRule] = [{**rule, "access": "r"}, {**rule, "access": "w"}]
    modes = [(node, os.O_RDONLY), (node, os.O_WRONLY), (node, os.O_RDWR)]
    attach(cgroup, parts)
    assert opens(cgroup, *modes) == [0, 0, 0]
    attach(cgroup, [*parts, {"type": "a", "allow": False, "access": "w"}])
    assert opens(cgroup, *modes) == [0, errno.EPERM, errno.EPERM]


@pytest.mark.parametrize(
    "rules",
    [
        [],
        devices.ALLOW_ALL,
        [{"allow": False, "access": "rwm"}] * 3,
        [{"allow": True, "type": "b", "major": 0xFFFFFFFF, "minor": 1 << 31, "access": "m"}],
        [{"allow": True, "type": "c", "minor": n, "access": "rw"} for n in range(5000)],
    ],
    ids=["none", "all", "denials", "large numbers", "many"],
)
def test_the_verifier_takes_it(rules: list[oci.DeviceRule]) -> None:
    os.close(load(devices.program(rules)))
