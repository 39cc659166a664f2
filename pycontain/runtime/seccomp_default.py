"""The default seccomp profile: which calls a container may make when nobody said otherwise.

It allows and refuses what docker's does (moby, profiles/seccomp). What it refuses falls into four
kinds: calls that reach what no namespace divides (the clock, kernel modules, swap, the kernel's
keyrings), calls that make or join namespaces and mounts (each opens the parts of the kernel where
most of its holes were), calls with a bad record (io_uring, userfaultfd, AF_VSOCK), and what only
old programs knew. A capability brings the calls that are useless without it.

Apart from ``seccomp``, because who brings a profile of their own has no use for these tables.
"""

from __future__ import annotations

import errno
import os

from pycontain.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycontain.model import oci

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


def profile(capabilities: Iterable[str], machine: str | None = None) -> oci.Seccomp:
    """Return the profile; see ``seccomp.default_profile``.

    Raises:
        NotSupported: there is none for this machine.
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
