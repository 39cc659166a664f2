"""config-linux.md, seccomp: actions, errnos, arguments, flags, and the listener."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import PATIENCE, Listener, differs, field, older, spec, wait_until

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="call numbers of x86-64"),
]

GETPPID, GETPRIORITY, SOCKET, MKDIR = "110", "140", "41", "83"
CALL, NAME = GETPRIORITY, "getpriority"
"""The call that filters catch here: neither a shell nor a runtime needs it for itself."""


def rule(names: list[str], action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"names": names, "action": action} | more


def allow_all_but(bundle: Bundle, *rules: dict[str, Any], **more: Any) -> None:
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules)} | more


def probe(bundle: Bundle, *call: str) -> str:
    return bundle.out("probe", *call).strip()


# ------------------------------------------------------------------------------------------ actions


def test_errno_is_eperm_where_none_is_given(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME]))
    assert probe(bundle, CALL) == "EPERM"
    assert probe(bundle, GETPPID) == "ok"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOMEM, errno.EDOM])
def test_errno_of_a_rule(bundle: Bundle, number: int) -> None:
    allow_all_but(bundle, rule([NAME], errnoRet=number))
    assert probe(bundle, CALL) == errno.errorcode[number]


def test_errno_of_the_default_action(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno.ENOSYS,
        "syscalls": [rule(EVERYDAY, "SCMP_ACT_ALLOW")],
    }  # fmt: skip
    assert probe(bundle, CALL) == "ENOSYS"


EVERYDAY = (
    "execve brk arch_prctl mmap munmap mprotect read write readv writev open openat close fstat "
    "newfstatat set_tid_address set_robust_list rseq prlimit64 getrandom exit exit_group readlink "
    "readlinkat futex ioctl getuid geteuid getgid getegid rt_sigaction rt_sigprocmask rt_sigreturn "
    "uname prctl lseek dup dup2 dup3 fcntl fork vfork clone clone3 wait4 pipe pipe2 getpid "
    "sched_yield stat lstat access getcwd chdir getdents64 nanosleep clock_nanosleep poll "
    "fstatfs madvise getppid getdents capget capset setuid setgid setgroups epoll_create1 "
    "epoll_ctl epoll_pwait tgkill gettid "
    "sigaltstack sched_getaffinity kill statx faccessat faccessat2"
).split()


def test_a_list_of_what_is_allowed(bundle: Bundle) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [rule(EVERYDAY, "SCMP_ACT_ALLOW")],
    }  # fmt: skip
    assert probe(bundle, MKDIR, "=/x", "0") == "EPERM"
    assert bundle.sh("echo x") == "x\n"


@pytest.mark.parametrize(
    "action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
)
def test_actions_that_end_the_process(bundle: Bundle, action: str) -> None:
    allow_all_but(bundle, rule([NAME], action))
    assert bundle.code(f"probe {CALL}; exit $(($? == 128 + {int(signal.SIGSYS)} ? 77 : 1))") == 77


def test_actions_that_let_go_on(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME], "SCMP_ACT_LOG"))
    assert probe(bundle, CALL) == "ok"
    allow_all_but(bundle, rule([NAME], "SCMP_ACT_TRACE", errnoRet=5))
    assert probe(bundle, CALL) == "ENOSYS"  # seccomp(2): nobody traces


def test_names_that_no_kernel_knows_are_skipped(bundle: Bundle) -> None:
    """Profiles name calls of other architectures and of later kernels."""
    allow_all_but(bundle, rule([NAME, "no_such_call", "arm_fadvise64_64"]))
    assert probe(bundle, CALL) == "EPERM"


OPERATORS = [
    ("SCMP_CMP_EQ", 7, {7}), ("SCMP_CMP_NE", 7, {6, 8}), ("SCMP_CMP_LT", 7, {6}),
    ("SCMP_CMP_LE", 7, {6, 7}), ("SCMP_CMP_GT", 7, {8}), ("SCMP_CMP_GE", 7, {7, 8}),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "value", "hit"), OPERATORS)
def test_conditions_on_arguments(bundle: Bundle, operator: str, value: int, hit: set[int]) -> None:
    entry = {"index": 1, "value": value, "op": operator}
    allow_all_but(bundle, rule([NAME], errnoRet=errno.EDOM, args=[entry]))
    script = f"for n in 6 7 8; do probe {GETPRIORITY} 0 $n; done"
    said = bundle.sh(script).split()
    assert {number for number, word in zip((6, 7, 8), said, strict=True) if word == "EDOM"} == hit


def test_a_masked_condition(bundle: Bundle) -> None:
    entry = {"index": 0, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}
    allow_all_but(bundle, rule(["socket"], errnoRet=errno.EDOM, args=[entry]))
    script = f"probe {SOCKET} 0x1f 1 0; probe {SOCKET} 0x2f 1 0"
    assert bundle.sh(script).split()[0] == "EDOM"
    assert "EDOM" not in bundle.sh(script).split()[1:]


def test_several_conditions_are_all_to_hold(bundle: Bundle) -> None:
    args = [
        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 7, "op": "SCMP_CMP_EQ"},
    ]
    allow_all_but(bundle, rule([NAME], errnoRet=errno.EDOM, args=args))
    said = bundle.sh(f"probe {GETPRIORITY} 0 7; probe {GETPRIORITY} 1 7; probe {GETPRIORITY} 0 6")
    assert [word == "EDOM" for word in said.split()] == [True, False, False]


def test_other_architectures(bundle: Bundle) -> None:
    names = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    allow_all_but(bundle, rule([NAME]), architectures=names)
    assert probe(bundle, CALL) == "EPERM"


@pytest.mark.parametrize("confined", [True, False])
def test_with_and_without_no_new_privileges(bundle: Bundle, confined: bool) -> None:
    bundle.process["noNewPrivileges"] = confined
    bundle.process["user"] = {"uid": 7, "gid": 7}
    allow_all_but(bundle, rule([NAME]))
    assert probe(bundle, CALL) == "EPERM"
    assert "Seccomp:\t2" in bundle.out("cat", "/proc/self/status")


def test_an_exec_has_the_filter_too(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME]))
    bundle.up()
    assert bundle.exec("probe", CALL).stdout == "EPERM\n"


def test_without_seccomp_there_is_no_filter(bundle: Bundle) -> None:
    bundle.up()
    assert field(bundle.pid, "Seccomp") == field(os.getpid(), "Seccomp")


# -------------------------------------------------------------------------------------------- flags


@older("it knows no flags but TSYNC and LOG", runc="1.2")
@pytest.mark.parametrize(
    "flags",
    [
        ["SECCOMP_FILTER_FLAG_LOG"],
        ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        ["SECCOMP_FILTER_FLAG_TSYNC"],
        ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        [],
    ],
)
def test_flags(bundle: Bundle, flags: list[str]) -> None:
    allow_all_but(bundle, rule([NAME]), flags=flags)
    assert probe(bundle, CALL) == "EPERM"
    bundle.up()
    if "SECCOMP_FILTER_FLAG_SPEC_ALLOW" in flags:
        assert "force" not in field(bundle.pid, "Speculation_Store_Bypass")


# ----------------------------------------------------------------------------------------- refusals


@spec("config-linux.md#configLinuxSeccomp: an errno for an action without one is an error")
@differs("it is ignored", "runc", "crun")
@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_KILL", "SCMP_ACT_LOG"])
def test_an_errno_for_an_action_without_one(bundle: Bundle, action: str) -> None:
    allow_all_but(bundle, rule([NAME], action, errnoRet=5))
    bundle.refused()


@spec("config-linux.md#configLinuxSeccomp: an errno for an action without one is an error")
@differs("it is ignored", "runc", "crun")
def test_a_default_errno_for_an_action_without_one(bundle: Bundle) -> None:
    allow_all_but(bundle, defaultErrnoRet=5)
    bundle.refused()


@spec("config-linux.md#configLinuxSeccomp: a rule has a name")
@differs("it is taken", "crun")
@pytest.mark.parametrize("names", [[], None])
def test_a_rule_without_names(bundle: Bundle, names: list[str] | None) -> None:
    allow_all_but(bundle, {"names": names, "action": "SCMP_ACT_ERRNO"})
    from .bundle import KIND

    if KIND == "runc":
        pytest.skip("runc: a rule without names is passed over")
    bundle.refused()


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, marks=differs("it is no filter", "runc")),
        {"defaultAction": "SCMP_ACT_NOTHING"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOTHING"]},
        pytest.param(
            {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOTHING"]},
            marks=differs("flags without rules are not looked at", "runc"),
        ),
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule([NAME], "SCMP_ACT_NOTHING")]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            rule([NAME], args=[{"index": 0, "value": 1, "op": "SCMP_CMP_NOTHING"}])]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            rule([NAME], args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            rule([NAME], args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": ["x"]},
        {"defaultAction": 5},
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be(bundle: Bundle, given: dict[str, Any]) -> None:
    bundle.linux["seccomp"] = given
    bundle.refused()


@spec("config-linux.md#configLinuxSeccomp: listenerMetadata needs a listenerPath")
def test_metadata_without_a_path(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME], "SCMP_ACT_NOTIFY"), listenerMetadata="x")
    bundle.refused()


# ----------------------------------------------------------------------------------------- listener

SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101


def answer(fd: int, number: int) -> int:
    """Answer one notification with an errno, seccomp_unotify(2); the pid that asked."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(PATIENCE * 1000), "nobody has asked"
    request = bytearray(80)
    fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, request)
    identity, pid = struct.unpack_from("=QI", request)
    fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, struct.pack("=QqiI", identity, 0, -number, 0))
    return int(pid)


@spec(
    "config-linux.md#configLinuxSeccomp: the listener is a stream socket",
    "config-linux.md#configLinuxSeccomp: one state for each connection",
    "config-linux.md#configLinuxSeccomp: the connection is closed after the state",
    "config-linux.md#containerprocessstate: the state is JSON, the descriptor comes as SCM_RIGHTS",
    "config-linux.md#containerprocessstate: descriptors come with the first message",
)
@pytest.mark.parametrize("metadata", [None, "any \n text"])
def test_the_listener(bundle: Bundle, metadata: str | None) -> None:
    bundle.config["annotations"] = {"key": "value"}
    with Listener(bundle) as listener:
        more = {"listenerMetadata": metadata} if metadata else {}
        allow_all_but(bundle, rule([NAME], "SCMP_ACT_NOTIFY"), listenerPath=listener.path, **more)
        bundle.process["args"] = ["probe", CALL]
        bundle.create()
        data, fds = listener.receive()
        message = json.loads(data)
        assert message["ociVersion"]
        assert message["fds"] == ["seccompFd"]
        assert len(fds) == 1
        assert message["pid"] == bundle.pid
        assert message.get("metadata", "") == (metadata or "")
        state = message["state"]
        assert (state["id"], state["bundle"]) == (bundle.id, bundle.folder)
        assert state["annotations"] == {"key": "value"}
        assert state["status"] in ("creating", "created")
        bundle.start()
        answer(fds[0], errno.EDOM)
        os.close(fds[0])
        bundle.ended()
        assert bundle.output() == "EDOM\n"


@pytest.mark.in_vm
@differs("the connection stays open", "runc")
def test_the_listener_hears_of_an_exec(bundle: Bundle) -> None:
    with Listener(bundle) as listener:
        allow_all_but(bundle, rule([NAME], "SCMP_ACT_NOTIFY"), listenerPath=listener.path)
        bundle.up()
        _, first = listener.receive()
        os.close(first[0])
        got: list[Any] = []

        def agent() -> None:
            data, fds = listener.receive()
            got.append(json.loads(data))
            answer(fds[0], errno.EDOM)
            os.close(fds[0])

        thread = threading.Thread(target=agent)
        thread.start()
        try:
            said = bundle.exec("probe", CALL).stdout
        finally:
            thread.join()
        assert said == "EDOM\n"
        assert got[0]["state"]["status"] == "running"
        assert got[0]["pid"] != bundle.pid


@spec("config-linux.md#configLinuxSeccomp: a state that cannot be sent is an error")
@pytest.mark.parametrize("path", ["/nonexistent/socket", "closed"])
def test_a_listener_that_does_not_hear(bundle: Bundle, path: str) -> None:
    with Listener(bundle) as listener:
        closed = listener.path
    place = closed if path == "closed" else path
    allow_all_but(bundle, rule([NAME], "SCMP_ACT_NOTIFY"), listenerPath=place)
    bundle.refused()


def test_notify_without_a_listener(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME], "SCMP_ACT_NOTIFY"))
    bundle.refused()


def test_a_listener_without_notify_is_ignored(bundle: Bundle) -> None:
    allow_all_but(bundle, rule([NAME]), listenerPath="/nonexistent/socket")
    assert probe(bundle, CALL) == "EPERM"


@pytest.mark.parametrize("name", ["write", "execve"])
def test_notify_of_calls_that_the_runtime_needs_itself(bundle: Bundle, name: str) -> None:
    """Waiting for an agent to answer its own call, the start would never end."""
    with Listener(bundle) as listener:
        allow_all_but(bundle, rule([name], "SCMP_ACT_NOTIFY"), listenerPath=listener.path)
        bundle.process["args"] = ["true"]
        done = bundle.create(ok=False)
        if done.returncode == 0:
            bundle.kill()
            wait_until(lambda: bundle.status == "stopped")
            bundle.ended()
