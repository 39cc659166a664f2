"""The compiled seccomp filter on the real kernel: what a process under it may still call.

Needs no root but where the executor itself installs the filter: with no_new_privs anybody may,
seccomp(2).
"""

import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from pace import seconds

from pycontain.errors import InvalidInput
from pycontain.kernel import capability
from pycontain.runtime import plan, privileges, runner, seccomp
from pycontain.runtime.steps import Step

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


def calls_under(filter_: seccomp.Filter, folder: Path) -> dict[str, int]:
    program, flags = filter_.program, filter_.flags
    command = [
        sys.executable,
        "-c",
        CHILD,
        program.hex(),
        str(flags),
        json.dumps(CALLS),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(30))
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


def compiled(*caps: str, **more: Any) -> seccomp.Filter:
    profile = cast("oci.Seccomp", {**seccomp.default_profile(caps), **more})
    return seccomp.compile_filter(profile, None)


@pytest.mark.in_vm
def test_default_filter(tmp_path: Path) -> None:
    bare = calls_under(seccomp.Filter(b"", 0), tmp_path)
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


# The agent's part, linux/seccomp.h: struct seccomp_notif, struct seccomp_notif_resp, and the two
# requests that take and answer them.
NOTIF = struct.Struct("=QIIiIQ6Q")
RESPONSE = struct.Struct("=QqiI")
RECEIVE = 3 << 30 | NOTIF.size << 16 | ord("!") << 8 | 0
SEND = 3 << 30 | RESPONSE.size << 16 | ord("!") << 8 | 1
CONTINUE = 1

NOTIFIED = """if True:
    import ctypes, os, socket, sys
    program, flags = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
    peer = socket.socket(fileno=int(sys.argv[3]))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    assert libc.prctl(38, 1, 0, 0, 0) == 0, "no_new_privs"
    fprog = Program(len(program) // 8, program)
    listener = libc.syscall(317, 1, flags, ctypes.byref(fprog))
    if listener < 0:
        sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
    socket.send_fds(peer, [b"x"], [listener])
    os.close(listener)
    try:
        os.mkdir(sys.argv[4])
    except OSError as err:
        print(err.errno)
    else:
        print(0)
"""


def notifying(*names: str, **more: Any) -> seccomp.Filter:
    rules = [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}]
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/agent",
        "syscalls": rules,
        **more,
    }
    return seccomp.compile_filter(cast("oci.Seccomp", profile), None)


def answer(listener: int, decide: Callable[[int], tuple[int, int]]) -> list[int]:
    """Answer until nobody is left under the filter; return the numbers of the calls."""
    seen: list[int] = []
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        (_, event), *_ = poll.poll(20_000) or [(0, 0)]
        if not event & select.POLLIN:
            assert event & select.POLLHUP, "nobody asks, and somebody is left"
            return seen
        request = bytearray(NOTIF.size)
        try:
            fcntl.ioctl(listener, RECEIVE, request)
            number, call = (NOTIF.unpack(request)[at] for at in (0, 3))
            seen.append(call)
            error, flags = decide(call)
            fcntl.ioctl(listener, SEND, bytearray(RESPONSE.pack(number, 0, error, flags)))
        except FileNotFoundError:
            continue  # the caller was killed meanwhile


@pytest.mark.parametrize("flags", [[], ["TSYNC"], ["WAIT_KILLABLE_RECV"], ["LOG", "SPEC_ALLOW"]])
@pytest.mark.parametrize("reply", [(-errno.EXDEV, 0), (0, CONTINUE)], ids=["errno", "continue"])
def test_an_agent_decides(reply: tuple[int, int], flags: list[str], tmp_path: Path) -> None:
    found = notifying("mkdir", "mkdirat", flags=[f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags])
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", NOTIFIED, found.program.hex(), str(found.flags),
                 str(theirs.fileno()), str(tmp_path / "folder")],
                stdout=subprocess.PIPE, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        with child:
            _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
            try:
                assert len(answer(listener, lambda _call: reply)) == 1
            finally:
                os.close(listener)
            output, _ = child.communicate(timeout=seconds(20))
    assert int(output) == -reply[0]
    assert (tmp_path / "folder").exists() == (reply == (0, CONTINUE))


def carry_out(found: seccomp.Filter, process: "oci.Process") -> tuple[int, list[int]]:
    """Start /bin/true under a filter as the OCI face does, with an agent that lets all go on.

    Returns:
        The wait status, and the calls that the agent was asked about.
    """
    drop = privileges.Drop(process, (found.program, found.flags))
    steps = [
        Step("clone", 0, text="clone a process"),
        *drop.first,
        privileges.umask(process),
        Step("lookup", tuple(privileges.candidates(process)), text="find /bin/true"),
        Step("wait", plan.FIFO, plan.FAILURE, text="wait for start"),
        *drop.last,
        privileges.program(process),
    ]
    seen: list[int] = []
    agents = []

    def notify(listener: int, _pid: int) -> None:
        kept = os.dup(listener)

        def serve() -> None:
            try:
                seen.extend(answer(kept, lambda _call: (0, CONTINUE)))
            finally:
                os.close(kept)

        agents.append(threading.Thread(target=serve))
        agents[0].start()

    read, write = os.pipe()
    failure = os.memfd_create("failure")
    null = os.open("/dev/null", os.O_RDWR)
    given = {plan.FIFO: read, plan.FAILURE: failure, **dict.fromkeys(runner.STREAMS, null)}
    try:
        late: list[tuple[int, str, str]] = []
        listener = runner.Listener({}, notify=notify, done=late.extend)
        pid = runner.start(steps, given, listener)
        os.write(write, b"x")
        status = os.waitpid(pid, 0)[1]
        assert runner.late_failure(late, failure) is None
        return status, seen
    finally:
        for fd in (read, write, failure, null):
            os.close(fd)
        for agent in agents:
            agent.join(20)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives capabilities up")
@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_every_call_but_the_handing_over_may_be_notified(no_new_privileges: bool) -> None:
    """What the executor calls between filter and exec waits for the agent like any other call."""
    names = {name for rule in seccomp.default_profile(capability.NAMES)["syscalls"]
             for name in rule["names"]}  # fmt: skip
    found = notifying(*sorted(names - {"sendmsg"}))
    process: oci.Process = {
        "args": ["/bin/true"],
        "cwd": "/",
        "env": [],
        "user": {"uid": 1, "gid": 1},
        "noNewPrivileges": no_new_privileges,
    }
    status, seen = carry_out(found, process)
    assert status == 0
    called = {"close": 3, "read": 0, "execve": 59, "umask": 95, "exit_group": 231}
    assert set(called.values()) <= set(seen)
    # capset comes after the filter only where no_new_privs does not allow it to come before.
    assert (126 in seen) is not no_new_privileges


def test_the_handing_over_may_not() -> None:
    with pytest.raises(InvalidInput, match="sendmsg"):
        notifying("sendmsg")
