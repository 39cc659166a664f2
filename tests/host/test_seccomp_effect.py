"""The compiled seccomp filter on the real kernel: what a process under it may still call.

Needs no root: with no_new_privs anybody may install a filter, seccomp(2).
"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pycontain.kernel import capability
from pycontain.runtime import seccomp

if TYPE_CHECKING:
    from pycontain.model import oci

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86-64"),
]

# Every call is harmless where it is allowed: it asks, or has arguments that the kernel refuses.
CALLS = {
    "unshare": (272, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, -3, 0),  # KEYCTL_GET_KEYRING_ID of the session
    "clone3": (435, 0, 0),
    "io_uring_setup": (425, 0, 0),
    "bpf": (321, -1, 0, 0),
    "personality": (135, 0xFFFFFFFF),
    "personality of READ_IMPLIES_EXEC": (135, 0x0400000),
    "socket of AF_VSOCK": (41, 40, 1, 0),
    "socket of AF_UNIX": (41, 1, 1, 0),
    "clone with NEWUSER and THREAD": (56, 0x10000000 | 0x00010000, 0),
    "getpid": (39,),
    "a call of the future": (1000,),
}

CHILD = """if True:
    import ctypes, json, os, sys
    program, flags, calls = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    if program:
        assert libc.prctl(38, 1, 0, 0, 0) == 0, "no_new_privs"
        fprog = Program(len(program) // 8, program)
        if libc.syscall(317, 1, flags, ctypes.byref(fprog)) != 0:
            sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
    result = {}
    for name, call in calls.items():
        ctypes.set_errno(0)
        value = libc.syscall(*[ctypes.c_long(part) for part in call])
        result[name] = ctypes.get_errno() if value == -1 else 0
    path = sys.argv[4] + "/file"
    with open(path, "w") as file:
        file.write("text")
    os.rename(path, path + "2")
    result["file"] = os.stat(path + "2").st_size
    result["child"] = os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]
    print(json.dumps(result))
"""


def calls_under(filter_: tuple[bytes, int], folder: Path) -> dict[str, int]:
    program, flags = filter_
    command = [
        sys.executable,
        "-c",
        CHILD,
        program.hex(),
        str(flags),
        json.dumps(CALLS),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


def compiled(*caps: str, **more: Any) -> seccomp.Filter:
    profile = cast("oci.Seccomp", {**seccomp.default_profile(caps), **more})
    return seccomp.compile_filter(profile, None)


def test_default_filter(tmp_path: Path) -> None:
    bare = calls_under((b"", 0), tmp_path)
    found = calls_under(compiled(*capability.DEFAULT), tmp_path)
    refused = {
        "unshare",
        "mount",
        "keyctl",
        "io_uring_setup",
        "bpf",
        "personality of READ_IMPLIES_EXEC",
        "socket of AF_VSOCK",
        "clone with NEWUSER and THREAD",
    }
    assert {name for name, code in found.items() if code == errno.EPERM} == refused
    assert found["clone3"] == found["a call of the future"] == errno.ENOSYS
    allowed = {"personality", "socket of AF_UNIX", "getpid", "file", "child"}
    assert {name: found[name] for name in allowed} == {name: bare[name] for name in allowed}
    assert (found["file"], found["child"]) == (4, 0)
    # Without the filter none of them fails this way, so it is the filter that refuses.
    for name in refused:
        assert bare[name] != errno.EPERM, name
    assert bare["clone3"] == errno.EINVAL


def test_sys_admin_brings_namespaces(tmp_path: Path) -> None:
    found = calls_under(compiled("CAP_SYS_ADMIN"), tmp_path)
    assert found["unshare"] == 0
    assert found["clone3"] == errno.EINVAL
    assert found["keyctl"] == errno.EPERM


@pytest.mark.parametrize("flag", ["TSYNC", "LOG", "SPEC_ALLOW"])
def test_the_kernel_takes_the_flags(flag: str, tmp_path: Path) -> None:
    filter_ = compiled(flags=[f"SECCOMP_FILTER_FLAG_{flag}"])
    assert filter_.flags
    assert calls_under(filter_, tmp_path)["unshare"] == errno.EPERM


def test_a_filter_from_the_cache_is_the_same(tmp_path: Path) -> None:
    profile = seccomp.default_profile([])
    cache = str(tmp_path / "cache")
    first = seccomp.compile_filter(profile, cache)
    assert os.listdir(cache)
    assert seccomp.compile_filter(profile, cache) == first == seccomp.compile_filter(profile, None)
