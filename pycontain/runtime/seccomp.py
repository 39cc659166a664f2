"""Seccomp: the default profile, and any profile as the BPF program that seccomp(2) takes.

Owns which system calls a container may make when nobody said otherwise, and the cache of compiled
filters. Reading a profile that a user wrote is in ``seccomp_file``, compiling one in
``seccomp_bpf`` with libseccomp; both are imported only when they are needed, because every start of
a container comes through here. The filter is installed by the executor, which gets bytes and flags.

The default profile allows and refuses what docker's does (moby, profiles/seccomp). What it refuses
falls into four kinds: calls that reach what no namespace divides (the clock, kernel modules, swap,
the kernel's keyrings), calls that make or join namespaces and mounts (each opens the parts of the
kernel where most of its holes were), calls with a bad record (io_uring, userfaultfd, AF_VSOCK), and
what only old programs knew. A capability brings the calls that are useless without it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import InvalidInput, NotFound, NotSupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model import oci


class Filter(NamedTuple):
    """A compiled profile.

    Attributes:
        program: an array of struct sock_filter (linux/filter.h), in the machine's byte order.
        flags: SECCOMP_FILTER_FLAG_* for seccomp(2).
    """

    program: bytes
    flags: int


# SECCOMP_FILTER_FLAG_*, linux/seccomp.h. WAIT_KILLABLE_RECV is not here: the kernel takes it only
# together with a listener, for which SCMP_ACT_NOTIFY is needed.
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
}
_NEED_LISTENER = ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)

_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"

_AF_VSOCK = 40

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET, linux/sched.h. NEWTIME is not
# among them: its bit belongs to the exit signal in clone(2), only unshare(2) and clone3(2) take it.
_CLONE_NAMESPACES = 0x7E020000

# PER_LINUX, PER_LINUX32, UNAME26 with each, and 0xffffffff, which asks and changes nothing,
# personality(2). The others switch off address randomisation and W^X.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

# machine, uname(2): the architectures whose calls are filtered, the machine's own first. A call by
# an architecture that is not in the filter kills the caller.
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}

# Names ending in 32 or 64, or starting with an underscore, are what 32-bit architectures call the
# same thing. libseccomp leaves out a name that an architecture does not have.
_CALLS = {
    "opening and closing": """
        open openat openat2 creat close close_range memfd_create memfd_secret
        pipe pipe2 dup dup2 dup3 fcntl fcntl64 ioctl name_to_handle_at
    """,
    "reading and writing": """
        read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek
        sendfile sendfile64 copy_file_range splice tee vmsplice readahead fadvise64 fadvise64_64
        truncate truncate64 ftruncate ftruncate64 fallocate
        fsync fdatasync sync syncfs sync_file_range flock cachestat
    """,
    "asynchronous input and output": """
        io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
    """,
    "names and folders": """
        mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat
        rename renameat renameat2 readlink readlinkat getdents getdents64 chdir fchdir getcwd
    """,
    "attributes of files": """
        stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx
        statfs statfs64 fstatfs fstatfs64 statmount listmount access faccessat faccessat2
        chmod fchmod fchmodat fchmodat2 umask utime utimes futimesat utimensat utimensat_time64
        chown chown32 fchown fchown32 lchown lchown32 fchownat
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat
        removexattr lremovexattr fremovexattr removexattrat
    """,
    "watching": """
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
        select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old
        epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
        timerfd_create timerfd_settime timerfd_settime64 timerfd_gettime timerfd_gettime64
    """,
    "sockets": """
        socketcall socketpair bind listen accept accept4 connect shutdown
        getsockname getpeername getsockopt setsockopt
        send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
    """,
    "memory": """
        brk mmap mmap2 munmap mremap remap_file_pages mprotect msync madvise mincore membarrier
        mlock mlock2 mlockall munlock munlockall mseal map_shadow_stack
        pkey_alloc pkey_free pkey_mprotect
    """,
    "processes and threads": """
        fork vfork execve execveat exit exit_group wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid
        kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease prctl
        set_tid_address set_thread_area get_thread_area set_robust_list get_robust_list rseq
        futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue
        restart_syscall uretprobe
    """,
    # Since Linux 4.8 a tracer cannot change a call after seccomp has judged it.
    "tracing": "ptrace process_vm_readv process_vm_writev",
    "signals": """
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
        sigaltstack sigprocmask sigreturn pause
    """,
    "System V and POSIX messages": """
        ipc msgget msgsnd msgrcv msgctl semget semop semtimedop semtimedop_time64 semctl
        shmget shmat shmdt shmctl mq_open mq_unlink mq_notify mq_getsetattr
        mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
    """,
    "users and capabilities": """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32
        getresuid getresuid32 getresgid getresgid32 getgroups getgroups32
        setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32
        setresuid setresuid32 setresgid setresgid32 setgroups setgroups32
        setfsuid setfsuid32 setfsgid setfsgid32 capget capset
    """,
    "time": """
        time times gettimeofday nanosleep alarm getitimer setitimer
        clock_gettime clock_gettime64 clock_getres clock_getres_time64
        clock_nanosleep clock_nanosleep_time64
        timer_create timer_delete timer_getoverrun
        timer_gettime timer_gettime64 timer_settime timer_settime64
        adjtimex clock_adjtime clock_adjtime64
    """,
    "scheduling and limits": """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr
        sched_getparam sched_setparam sched_getscheduler sched_setscheduler
        sched_get_priority_max sched_get_priority_min
        sched_rr_get_interval sched_rr_get_interval_time64
        getpriority setpriority ioprio_get ioprio_set
        getrlimit ugetrlimit setrlimit prlimit64 getrusage
    """,
    "the machine": "uname sysinfo getcpu getrandom riscv_hwprobe",
    "giving up rights": """
        seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
}

_MACHINE_CALLS = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": """
        arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls
    """,
}

# A capability: the calls that come with it.
_CAPABILITY_CALLS = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        clone clone3 unshare setns sethostname setdomainname
        mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick
        quotactl quotactl_fd fanotify_init bpf perf_event_open syslog lookup_dcookie
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}


def default_profile(capabilities: Iterable[str], machine: str | None = None) -> oci.Seccomp:
    """Return the profile of a container that asked for none (runtime-spec, config-linux.md).

    Args:
        capabilities: the names (``CAP_…``) in the container's bounding set.
        machine: as in uname(2); None is this one.

    Raises:
        NotSupported: there is no profile for this machine.
    """
    machine = machine or os.uname().machine
    if machine not in _ARCHITECTURES:
        raise NotSupported("make seccomp profile", machine, errno.EOPNOTSUPP)
    granted = set(capabilities)
    rules = [_allow(_always(machine)), *_conditional(), *_clone("CAP_SYS_ADMIN" in granted)]
    rules += [_allow(_CAPABILITY_CALLS[cap].split()) for cap in _CAPABILITY_CALLS if cap in granted]
    return {
        "defaultAction": _ERRNO,
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(_ARCHITECTURES[machine]),
        "syscalls": rules,
    }


def load_profile(path: str, capabilities: Iterable[str]) -> oci.Seccomp:
    """Return the profile in the JSON file `path`, in OCI's form or in docker's.

    Args:
        path: the file that the user named.
        capabilities: the names in the container's bounding set, which docker's ``includes`` and
            ``excludes`` ask for.

    Raises:
        InvalidInput: it cannot be read or is no profile; says where.
    """
    from pycontain.runtime import seccomp_file

    return seccomp_file.load(path, capabilities)


def compile_filter(profile: oci.Seccomp, cache_folder: str | None) -> Filter:
    """Return `profile` compiled for this machine and kernel.

    A compiled filter is kept in `cache_folder` and used again for the same profile on the same
    kernel with the same libseccomp; a damaged entry is made anew. Nothing removes old entries, so a
    folder that dies with the boot is the right one. Whoever can write there decides what containers
    may do: it is made with mode 0700.

    Args:
        profile: an OCI seccomp object.
        cache_folder: made when missing; None compiles every time.

    Raises:
        InvalidInput: the profile names an unknown action, flag, operator or architecture.
        NotSupported: libseccomp is missing.
        StoreError: the cache cannot be read or written.
    """
    flags = _flags(profile.get("flags") or [])
    if cache_folder is None:
        return Filter(_compile(profile), flags)
    key = _key(profile)
    path = f"{cache_folder}/{_name(key)}"
    program = _cached(path, key)
    if program is None:
        program = _compile(profile)
        _keep(cache_folder, path, key, program)
    return Filter(program, flags)


def _always(machine: str) -> list[str]:
    return " ".join([*_CALLS.values(), _MACHINE_CALLS[machine]]).split()


def _allow(names: list[str], *args: oci.SeccompArg) -> oci.SeccompRule:
    if not args:
        return {"names": names, "action": _ALLOW}
    return {"names": names, "action": _ALLOW, "args": list(args)}


def _conditional() -> list[oci.SeccompRule]:
    # On x86 and arm, socket(2) is also reached through socketcall(2), whose arguments are behind a
    # pointer that a filter cannot read: there AF_VSOCK stays open, as it does with docker.
    socket = _allow(["socket"], {"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_NE"})
    return [
        socket,
        *(
            _allow(["personality"], {"index": 0, "value": value, "op": "SCMP_CMP_EQ"})
            for value in _PERSONALITIES
        ),
    ]


def _clone(admin: bool) -> list[oci.SeccompRule]:
    if admin:
        return []  # CAP_SYS_ADMIN's own rule allows both
    # The flags of clone3(2) are behind a pointer. ENOSYS, unlike EPERM, makes libc use clone(2).
    return [
        _allow(
            ["clone"],
            {
                "index": 0,
                "value": _CLONE_NAMESPACES,
                "valueTwo": 0,
                "op": "SCMP_CMP_MASKED_EQ",
            },
        ),
        {"names": ["clone3"], "action": _ERRNO, "errnoRet": errno.ENOSYS},
    ]


def _flags(names: Iterable[str]) -> int:
    result = 0
    for name in names:
        if name in _NEED_LISTENER:
            raise InvalidInput(f"seccomp profile: flag {name}: SCMP_ACT_NOTIFY is not supported")
        if name not in _FLAGS:
            raise InvalidInput(f"seccomp profile: flag {name}: unknown")
        result |= _FLAGS[name]
    return result


def _compile(profile: oci.Seccomp) -> bytes:
    from pycontain.runtime import seccomp_bpf

    return seccomp_bpf.compile_profile(profile)


# The cache. An entry is the key in full, the libseccomp that compiled it, and the program, behind a
# header with their lengths and a checksum. Comparing the whole key leaves nothing to collisions of
# the name, and saves the 5 ms that importing hashlib or json costs.

_MAGIC = b"pcsf\x00\x00\x00\x01"
_WORD = 4
_HEADER = len(_MAGIC) + 4 * _WORD


def _key(profile: oci.Seccomp) -> bytes:
    # The kernel's release stands for the actions and calls that it knows. Two orders of the same
    # keys are two entries, which costs a compilation and nothing else.
    host = os.uname()
    return f"{host.machine}\n{host.release}\n{profile!r}".encode("utf-8", "surrogateescape")


def _name(key: bytes) -> str:
    import zlib

    return f"{zlib.crc32(key):08x}-{len(key)}.bpf"


def _cached(path: str, key: bytes) -> bytes | None:
    """Return the program of the entry `path`; None: absent, damaged, another's or outdated."""
    from pycontain.store import files

    try:
        data = files.read(path)
    except NotFound:
        return None
    parts = _unpack(data)
    if parts is None or parts[0] != key or not _is_current(parts[1]):
        return None
    return parts[2]


def _unpack(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    import zlib

    words = [
        int.from_bytes(data[at : at + _WORD], "little") for at in range(len(_MAGIC), _HEADER, _WORD)
    ]
    body = data[_HEADER:]
    whole = data.startswith(_MAGIC) and len(body) == sum(words[1:])
    if not whole or zlib.crc32(data[len(_MAGIC) + _WORD :]) != words[0]:
        return None
    _, key, library, _ = words
    return body[:key], body[key : key + library], body[key + library :]


def _keep(folder: str, path: str, key: bytes, program: bytes) -> None:
    import zlib

    from pycontain.runtime import seccomp_bpf
    from pycontain.store import files

    library = _identity(seccomp_bpf.library_path())
    parts = (key, library, program)
    rest = b"".join([*(len(part).to_bytes(_WORD, "little") for part in parts), *parts])
    files.make_folders(folder)
    checksum = zlib.crc32(rest).to_bytes(_WORD, "little")
    files.write_atomic(path, _MAGIC + checksum + rest, durable=False)


def _identity(path: str) -> bytes:
    """Return what tells this libseccomp from another, without loading it: a newer knows more."""
    info = os.stat(path)
    return f"{info.st_dev} {info.st_ino} {info.st_size} {info.st_mtime_ns} {path}".encode(
        "utf-8", "surrogateescape"
    )


def _is_current(library: bytes) -> bool:
    path = library.split(b" ", 4)[-1].decode("utf-8", "surrogateescape")
    try:
        return _identity(path) == library
    except OSError:
        return False  # moved or removed: compile with what is there now
