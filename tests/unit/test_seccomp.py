"""The default seccomp profile, compiled and run by a small interpreter of classic BPF."""

import errno
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput, NotSupported
from pycontain.kernel import capability
from pycontain.runtime import seccomp, seccomp_default

try:
    from pycontain.runtime import seccomp_bpf
except NotSupported as err:
    pytest.skip(f"the native parts are not built: {err}", allow_module_level=True)

if TYPE_CHECKING:
    from pycontain.model import oci

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the system call numbers are those of x86-64"
)

ALLOW = 0x7FFF0000
KILL_THREAD = 0
KILL_PROCESS = 0x80000000
TRAP = 0x00030000
NOTIFY = 0x7FC00000
LOG = 0x7FFC0000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS

X86_64 = 0xC000003E
X86 = 0x40000003
ARM64 = 0xC00000B7
X32_BIT = 0x40000000
UINT64 = (1 << 64) - 1

SOCK_FILTER = struct.Struct("=HBBI")


def run(program: bytes, number: int, args: Sequence[int] = (), arch: int = X86_64) -> int:
    """Interpret `program` for one system call, as the kernel would; return the action."""
    values = [*args, *[0] * (6 - len(args))]
    data = struct.pack("=IIQ6Q", number, arch, 0, *(value & UINT64 for value in values))
    code = list(SOCK_FILTER.iter_unpack(program))
    accumulator = at = steps = 0
    while True:
        opcode, jt, jf, k = code[at]
        at += 1
        steps += 1
        if opcode == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif opcode == 0x54:
            accumulator &= k
        elif opcode == 0x05:
            at += k
        elif opcode in (0x15, 0x25, 0x35, 0x45):
            true = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[opcode]
            at += jt if true else jf
        elif opcode == 0x06:
            assert steps < 64, "not a tree"
            action: int = k
            return action
        else:
            raise AssertionError(f"opcode {opcode:#x}")


def call(name: str, token: int | None = None) -> int:
    lib = seccomp_bpf._lib
    native = lib.seccomp_arch_native() if token is None else token
    number: int = lib.seccomp_syscall_resolve_name_arch(native, name.encode())
    if number < 0:
        pytest.skip(f"this libseccomp does not know {name}")
    return number


_programs: dict[tuple[str, ...], bytes] = {}


def program(*capabilities: str) -> bytes:
    if capabilities not in _programs:
        profile = seccomp.default_profile(capabilities)
        _programs[capabilities] = seccomp.compile_filter(profile, None).program
    return _programs[capabilities]


# Facts: what a container with docker's capabilities may call, and what not.
ALLOWED = """
    openat2 read close_range io_submit memfd_secret mknod ptrace process_vm_readv pidfd_open
    clock_adjtime sched_setscheduler seccomp landlock_restrict_self socketpair futex_waitv chroot
    name_to_handle_at fanotify_mark arch_prctl modify_ldt pkey_mprotect capset setgroups prctl
    ioctl rt_sigreturn exit_group execveat statx epoll_pwait2 faccessat2 process_mrelease
"""
REFUSED = """
    unshare setns mount umount2 pivot_root fsopen fsmount move_mount open_tree mount_setattr
    keyctl add_key request_key bpf perf_event_open userfaultfd io_uring_setup io_uring_enter
    io_uring_register open_by_handle_at reboot kexec_load swapon swapoff init_module finit_module
    delete_module acct iopl ioperm settimeofday clock_settime syslog quotactl sethostname
    setdomainname vhangup mbind set_mempolicy get_mempolicy move_pages kcmp pidfd_getfd
    process_madvise lookup_dcookie nfsservctl uselib ustat sysfs vserver create_module
    fanotify_init _sysctl get_kernel_syms query_module
"""


@pytest.mark.parametrize("name", ALLOWED.split())
def test_allowed(name: str) -> None:
    assert run(program(*capability.DEFAULT), call(name)) == ALLOW


@pytest.mark.parametrize("name", REFUSED.split())
def test_refused(name: str) -> None:
    assert run(program(*capability.DEFAULT), call(name)) == EPERM


@pytest.mark.parametrize(
    ("cap", "names"),
    [
        (
            "CAP_SYS_ADMIN",
            """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
            mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
            sethostname setns syslog umount2 unshare""",
        ),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_BOOT", "reboot"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_MODULE", "init_module finit_module delete_module"),
        ("CAP_SYS_PACCT", "acct"),
        ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv ptrace"),
        ("CAP_SYS_RAWIO", "iopl ioperm"),
        ("CAP_SYS_TIME", "settimeofday clock_settime"),
        ("CAP_SYS_TTY_CONFIG", "vhangup"),
        ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
        ("CAP_SYSLOG", "syslog"),
    ],
)
def test_a_capability_brings_its_calls(cap: str, names: str) -> None:
    always = {"ptrace", "process_vm_readv"}
    for name in names.split():
        assert run(program(cap), call(name), [0x20000]) == ALLOW
        if name not in always:
            assert run(program(), call(name), [0x20000]) in (EPERM, ENOSYS)


def test_no_other_capability_changes_the_profile() -> None:
    others = set(capability.NAMES) - set(seccomp_default._CAPABILITY_CALLS)
    assert seccomp.default_profile(others) == seccomp.default_profile([])
    for cap in seccomp_default._CAPABILITY_CALLS:
        assert seccomp.default_profile([cap]) != seccomp.default_profile([])


NAMESPACES = {
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}


@pytest.mark.parametrize("flag", NAMESPACES.values(), ids=NAMESPACES.keys())
@given(others=st.integers(0, UINT64))
def test_clone_makes_no_namespace(flag: int, others: int) -> None:
    assert run(program(), call("clone"), [others | flag]) == EPERM


@given(flags=st.integers(0, UINT64))
def test_clone_is_free_without_namespaces(flags: int) -> None:
    flags &= ~sum(NAMESPACES.values())
    assert run(program(), call("clone"), [flags]) == ALLOW


def test_clone3_is_unknown_rather_than_refused() -> None:
    assert run(program(), call("clone3")) == ENOSYS
    assert run(program("CAP_SYS_ADMIN"), call("clone3")) == ALLOW


@given(family=st.one_of(st.integers(0, 64), st.integers(0, UINT64)))
def test_every_socket_but_vsock(family: int) -> None:
    expected = EPERM if family == 40 else ALLOW
    assert run(program(), call("socket"), [family, 1, 0]) == expected


@given(persona=st.one_of(st.integers(0, 0x40000), st.integers(0, UINT64)))
def test_personalities(persona: int) -> None:
    harmless = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    assert run(program(), call("personality"), [persona]) == (
        ALLOW if persona in harmless else EPERM
    )


@pytest.mark.parametrize("persona", [0, 8, 0x20000, 0x20008, 0xFFFFFFFF])
def test_harmless_personalities(persona: int) -> None:
    assert run(program(), call("personality"), [persona]) == ALLOW


def test_calls_newer_than_the_profile_are_unknown_rather_than_refused() -> None:
    newest = max(call(name) for name in ("futex_waitv", "process_mrelease"))
    assert run(program(), 100_000) == ENOSYS
    assert run(program(), X32_BIT | 100_000) == ENOSYS
    assert run(program(), 100_000, arch=X86) == ENOSYS
    assert run(program(), newest) == ALLOW
    assert run(program(), 0xFFFFFFFF) == ENOSYS


def test_the_other_calling_conventions_are_filtered_too() -> None:
    x86 = seccomp_bpf._token("SCMP_ARCH_X86")
    assert run(program(), call("getpid", x86), arch=X86) == ALLOW
    assert run(program(), call("waitpid", x86), arch=X86) == ALLOW
    assert run(program(), call("unshare", x86), arch=X86) == EPERM
    assert run(program(), call("clone3", x86), arch=X86) == ENOSYS
    assert run(program(), call("umount", x86), arch=X86) == EPERM
    assert run(program("CAP_SYS_TIME"), call("stime", x86), arch=X86) == ALLOW
    x32 = seccomp_bpf._token("SCMP_ARCH_X32")
    assert call("getpid", x32) & X32_BIT
    assert run(program(), call("getpid", x32)) == ALLOW
    assert run(program(), call("unshare", x32)) == EPERM


def test_a_foreign_architecture_is_killed() -> None:
    assert run(program(), 1, arch=ARM64) == KILL_THREAD


def test_profile_of_arm64() -> None:
    profile = seccomp.default_profile([], "aarch64")
    assert profile["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    names = profile["syscalls"][0]["names"]
    assert "sync_file_range2" in names
    assert "modify_ldt" not in names


def test_filter_of_arm64() -> None:
    """That libseccomp translates for any machine makes this testable on x86-64."""
    found = seccomp.compile_filter(seccomp.default_profile([], "aarch64"), None).program
    assert run(found, 172, arch=ARM64) == ALLOW  # getpid
    assert run(found, 97, arch=ARM64) == EPERM  # unshare
    assert run(found, 220, [0x10000000], ARM64) == EPERM  # clone
    assert run(found, 220, [17], ARM64) == ALLOW
    assert run(found, 435, arch=ARM64) == ENOSYS  # clone3
    assert run(found, 100_000, arch=ARM64) == ENOSYS
    assert run(found, 20, arch=0x40000028) == ALLOW  # getpid of 32-bit arm
    assert run(found, 100_000, arch=0x40000028) == ENOSYS
    assert run(found, 0xF0002, arch=0x40000028) == ALLOW  # cacheflush
    assert run(found, 0xF00FF, arch=0x40000028) == EPERM
    assert run(found, 20, arch=X86) == KILL_THREAD


def test_profile_of_an_unknown_machine() -> None:
    with pytest.raises(NotSupported, match="vax"):
        seccomp.default_profile([], "vax")


def test_no_call_is_named_twice() -> None:
    names = seccomp.default_profile([])["syscalls"][0]["names"]
    assert len(set(names)) == len(names)


def compiled(**profile: Any) -> seccomp.Filter:
    return seccomp.compile_filter(cast("oci.Seccomp", profile), None)


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **more}


@pytest.mark.parametrize(
    ("action", "more", "expected"),
    [
        ("SCMP_ACT_KILL", {}, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", {}, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", {}, KILL_PROCESS),
        ("SCMP_ACT_TRAP", {}, TRAP),
        ("SCMP_ACT_LOG", {}, LOG),
        ("SCMP_ACT_ERRNO", {}, EPERM),
        ("SCMP_ACT_ERRNO", {"errnoRet": 0}, 0x00050000),
        ("SCMP_ACT_ERRNO", {"errnoRet": 38}, ENOSYS),
        ("SCMP_ACT_TRACE", {}, 0x7FF00001),
        ("SCMP_ACT_TRACE", {"errnoRet": 7}, 0x7FF00007),
        ("SCMP_ACT_TRACE", {"errnoRet": 0xFFFF}, 0x7FF0FFFF),
    ],
)
def test_actions(action: str, more: dict[str, int], expected: int) -> None:
    found = compiled(defaultAction="SCMP_ACT_ALLOW", syscalls=[rule(action, "getpid", **more)])
    assert run(found.program, call("getpid")) == expected
    assert run(found.program, call("getppid")) == ALLOW
    found = compiled(
        defaultAction=action,
        defaultErrnoRet=more.get("errnoRet"),
        syscalls=[rule("SCMP_ACT_ALLOW", "getppid", "futex_waitv")],
    )
    assert run(found.program, call("getpid")) == expected
    assert run(found.program, call("getppid")) == ALLOW


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", LOG),
        ("SCMP_ACT_TRACE", 0x7FF00001),
        ("SCMP_ACT_ERRNO", ENOSYS),
        ("SCMP_ACT_KILL", ENOSYS),
    ],
)
def test_new_calls_under_each_default(default: str, expected: int) -> None:
    found = compiled(defaultAction=default, syscalls=[rule("SCMP_ACT_TRAP", "getpid")])
    assert run(found.program, 100_000) == expected


def test_new_calls_without_x32() -> None:
    found = compiled(
        defaultAction="SCMP_ACT_ERRNO",
        architectures=["SCMP_ARCH_X86_64"],
        syscalls=[rule("SCMP_ACT_ALLOW", "getpid")],
    )
    assert run(found.program, 100_000) == ENOSYS
    assert run(found.program, call("getpid")) == ALLOW
    assert run(found.program, X32_BIT | call("getpid")) == KILL_THREAD
    assert run(found.program, 20, arch=X86) == KILL_THREAD


COMPARE = {
    "SCMP_CMP_NE": lambda left, right: left != right,
    "SCMP_CMP_LT": lambda left, right: left < right,
    "SCMP_CMP_LE": lambda left, right: left <= right,
    "SCMP_CMP_EQ": lambda left, right: left == right,
    "SCMP_CMP_GE": lambda left, right: left >= right,
    "SCMP_CMP_GT": lambda left, right: left > right,
}
values = st.one_of(st.integers(0, 3), st.sampled_from([1 << 32, (1 << 32) + 1, UINT64]))


@given(op=st.sampled_from(sorted(COMPARE)), index=st.integers(0, 5), right=values, left=values)
def test_operators(op: str, index: int, right: int, left: int) -> None:
    args = [{"index": index, "value": right, "op": op}]
    found = compiled(
        defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("SCMP_ACT_ERRNO", "fcntl", args=args)]
    )
    given_args = [0] * index + [left]
    expected = EPERM if COMPARE[op](left, right) else ALLOW
    assert run(found.program, call("fcntl"), given_args) == expected


@given(mask=values, wanted=values, value=values)
def test_masked_operator(mask: int, wanted: int, value: Any) -> None:
    args = [{"index": 1, "value": mask, "valueTwo": wanted & mask, "op": "SCMP_CMP_MASKED_EQ"}]
    found = compiled(
        defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("SCMP_ACT_ERRNO", "fcntl", args=args)]
    )
    expected = EPERM if value & mask == wanted & mask else ALLOW
    assert run(found.program, call("fcntl"), [0, value]) == expected


def test_conditions_on_different_arguments_must_all_hold() -> None:
    args = [{"index": at, "value": 7, "op": "SCMP_CMP_EQ"} for at in (0, 1)]
    found = compiled(
        defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("SCMP_ACT_ALLOW", "fcntl", args=args)]
    )
    assert run(found.program, call("fcntl"), [7, 7]) == ALLOW
    assert run(found.program, call("fcntl"), [7, 8]) == EPERM


def test_conditions_on_the_same_argument_are_alternatives() -> None:
    args = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (7, 8)]
    found = compiled(
        defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("SCMP_ACT_ALLOW", "fcntl", args=args)]
    )
    results = [run(found.program, call("fcntl"), [value]) for value in (6, 7, 8, 9)]
    assert results == [EPERM, ALLOW, ALLOW, EPERM]


def test_unknown_calls_are_left_out() -> None:
    found = compiled(
        defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("SCMP_ACT_ALLOW", "no_such_call", "getpid")]
    )
    assert run(found.program, call("getpid")) == ALLOW


def test_a_rule_that_repeats_the_default_is_nothing() -> None:
    found = compiled(
        defaultAction="SCMP_ACT_ERRNO",
        syscalls=[rule("SCMP_ACT_ERRNO", "getpid"), rule("SCMP_ACT_ALLOW", "getppid")],
    )
    assert run(found.program, call("getpid")) == EPERM


def test_flags() -> None:
    found = compiled(
        defaultAction="SCMP_ACT_ALLOW",
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    )
    assert found.flags == 6
    assert compiled(defaultAction="SCMP_ACT_ALLOW").flags == 0


BAD_ARG = {"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, 'default action: unknown action ""'),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, 'unknown action "SCMP_ACT_MAYBE"'),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "default action: SCMP_ACT_NOTIFY would stop"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "takes no errno"),
        (
            {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096},
            "4096 is not 0 to 4095",
        ),
        ({"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}, "65536 is not 0 to 65535"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}, "SCMP_ARCH_VAX"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86"]}, '"X86"'),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_x86"]},
            '"SCMP_ARCH_x86"',
        ),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]},
            "architecture SCMP_ARCH_S390X: has another byte order",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["FAST"]}, 'unknown flag "FAST"'),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            },
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: no call has SCMP_ACT_NOTIFY",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("DENY", "bpf")]}, 'action "DENY"'),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_ALLOW")]},
            "without a system call",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [rule("SCMP_ACT_TRAP", "bpf", errnoRet=1)],
            },
            "takes no errno",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [rule("SCMP_ACT_TRAP", "bpf", args=[BAD_ARG])],
            },
            "argument index 6",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    rule("SCMP_ACT_TRAP", "bpf", args=[{**BAD_ARG, "index": 0, "op": "="}])
                ],
            },
            'operator "="',
        ),
        (
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    rule("SCMP_ACT_TRAP", "bpf", args=[{**BAD_ARG, "index": 0, "value": -1}])
                ],
            },
            "value -1",
        ),
    ],
)
def test_profiles_that_are_refused(profile: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        seccomp.compile_filter(profile, None)
    assert words in str(caught.value)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pycontain.runtime.seccomp_bpf")
    monkeypatch.setitem(sys.modules, "pycontain._native._seccomp", None)
    import pycontain.runtime

    monkeypatch.delattr(pycontain.runtime, "seccomp_bpf", raising=False)
    with pytest.raises(NotSupported, match="load libseccomp") as caught:
        seccomp.compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, None)
    assert "seccomp=unconfined" in (caught.value.hint or "")


def notifying(*names: str, default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {
        "defaultAction": default,
        "listenerPath": "/run/agent.sock",
        "syscalls": [rule("SCMP_ACT_NOTIFY", *names)],
        **more,
    }


def test_notify_makes_a_listener() -> None:
    found = compiled(**notifying("mkdir", "no_such_call"))
    assert found.flags == seccomp.NEW_LISTENER
    assert run(found.program, call("mkdir")) == NOTIFY
    assert run(found.program, call("sendmsg")) == ALLOW


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # With a listener, TSYNC goes only with TSYNC_ESRCH (1 << 4), seccomp(2).
        (["TSYNC"], 1 | 1 << 3 | 1 << 4),
        (["WAIT_KILLABLE_RECV"], 1 << 3 | 1 << 5),
        (["LOG", "SPEC_ALLOW"], 1 << 1 | 1 << 2 | 1 << 3),
    ],
)
def test_flags_beside_a_listener(flags: list[str], expected: int) -> None:
    names = [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags]
    assert compiled(**notifying("mkdir", flags=names)).flags == expected


def test_tsync_alone_is_tsync_alone() -> None:
    assert compiled(defaultAction="SCMP_ACT_LOG", flags=["SECCOMP_FILTER_FLAG_TSYNC"]).flags == 1


def test_notify_for_calls_that_nobody_knows_makes_no_listener() -> None:
    profile = notifying("no_such_call", "getpid\0x", "\ud800")
    del profile["listenerPath"]
    found = compiled(**profile)
    assert found.flags == 0
    assert run(found.program, call("getpid")) == ALLOW


def test_a_listener_path_without_notify_is_nothing() -> None:
    assert compiled(defaultAction="SCMP_ACT_ALLOW", listenerPath="/run/agent.sock").flags == 0


@pytest.mark.parametrize("path", [None, ""])
def test_notify_without_anybody_to_answer(path: str | None, tmp_path: Path) -> None:
    profile = {**notifying("mkdir"), "listenerPath": path}
    if path is None:
        del profile["listenerPath"]
    for _ in range(2):  # compiled, and from the cache
        with pytest.raises(InvalidInput, match="without listenerPath"):
            seccomp.compile_filter(cast("oci.Seccomp", profile), str(tmp_path))


EQUAL = {"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("default", "rules", "words"),
    [
        ("SCMP_ACT_ALLOW", [rule("SCMP_ACT_NOTIFY", "sendmsg")], "sendmsg: SCMP_ACT_NOTIFY would"),
        (
            "SCMP_ACT_ALLOW",
            [rule("SCMP_ACT_NOTIFY", "bpf", "sendmsg", args=[EQUAL])],
            "sendmsg: SCMP_ACT_NOTIFY would",
        ),
        ("SCMP_ACT_ALLOW", [rule("SCMP_ACT_ERRNO", "sendmsg")], "sendmsg: must be allowed"),
        ("SCMP_ACT_ERRNO", [], "sendmsg: must be allowed"),
        ("SCMP_ACT_ERRNO", [rule("SCMP_ACT_ALLOW", "sendto")], "sendmsg: must be allowed"),
        ("SCMP_ACT_ERRNO", [rule("SCMP_ACT_TRACE", "sendmsg")], "sendmsg: must be allowed"),
        ("SCMP_ACT_KILL", [], "sendmsg: must be allowed"),
        ("SCMP_ACT_TRACE", [], "sendmsg: must be allowed"),
        ("SCMP_ACT_ALLOW", [rule("SCMP_ACT_ERRNO", "sendmsg", args=[EQUAL])], ""),
        ("SCMP_ACT_ERRNO", [rule("SCMP_ACT_ALLOW", "sendmsg")], ""),
        ("SCMP_ACT_KILL", [rule("SCMP_ACT_LOG", "sendmsg")], ""),
        ("SCMP_ACT_LOG", [], ""),
    ],
)
def test_the_listener_can_be_handed_over(default: str, rules: Any, words: str) -> None:
    profile = notifying("mkdir", default=default)
    profile["syscalls"] += rules
    if not words:
        assert compiled(**profile).flags == seccomp.NEW_LISTENER
        return
    with pytest.raises(InvalidInput) as caught:
        compiled(**profile)
    assert words in str(caught.value)


def test_sendmsg_may_be_anything_without_a_listener() -> None:
    found = compiled(defaultAction="SCMP_ACT_ERRNO", syscalls=[rule("SCMP_ACT_KILL", "sendmsg")])
    assert run(found.program, call("sendmsg")) == KILL_THREAD


def test_known_words_are_those_that_compile() -> None:
    for action in seccomp.known_actions():
        profile = notifying("bpf")
        profile["syscalls"].append(rule(action, "mkdir"))
        assert compiled(**profile).flags == seccomp.NEW_LISTENER
    for op in seccomp.known_operators():
        args = [{"index": 0, "value": 1, "valueTwo": 1, "op": op}]
        compiled(
            defaultAction="SCMP_ACT_ALLOW", syscalls=[rule("SCMP_ACT_LOG", "fcntl", args=args)]
        )
    for flag in seccomp.known_flags():
        compiled(**notifying("mkdir", flags=[flag]))
    big_endian = 0
    for name in seccomp.known_architectures():
        try:
            compiled(defaultAction="SCMP_ACT_ALLOW", architectures=[name])
        except InvalidInput as err:
            assert "another byte order" in str(err)
            big_endian += 1
    assert 0 < big_endian < len(seccomp.known_architectures())


# config-linux.md, "Seccomp": what libseccomp 2.5.0 knows.
SPECIFIED = """
    X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE
    S390 S390X PARISC PARISC64 RISCV64
"""


def test_the_words_of_the_specification_are_known() -> None:
    architectures = {f"SCMP_ARCH_{word}" for word in SPECIFIED.split()}
    assert architectures <= set(seccomp.known_architectures())
    actions = "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG NOTIFY"
    assert seccomp.known_actions() == sorted(f"SCMP_ACT_{word}" for word in actions.split())
    operators = "NE LT LE EQ GE GT MASKED_EQ"
    assert seccomp.known_operators() == sorted(f"SCMP_CMP_{word}" for word in operators.split())
    flags = "TSYNC LOG SPEC_ALLOW WAIT_KILLABLE_RECV"
    assert seccomp.known_flags() == sorted(f"SECCOMP_FILTER_FLAG_{word}" for word in flags.split())


def test_an_architecture_that_only_a_newer_libseccomp_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seccomp_bpf, "_resolve", lambda _name: 0)
    with pytest.raises(InvalidInput, match=r"RISCV64: libseccomp \d+\.\d+\.\d+ does not know it"):
        compiled(defaultAction="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_RISCV64"])


def test_supported_flags_are_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    known = seccomp.known_flags()
    assert set(seccomp.supported_flags()) <= set(known)
    monkeypatch.setitem(seccomp_bpf._FLAGS, "a flag of the future", 1 << 31)
    assert "a flag of the future" not in seccomp.supported_flags()
