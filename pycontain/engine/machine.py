"""What this kernel and machine offer to containers, tried for real where that is cheap.

Nothing stays of a trial. ``oci.features`` says what the runtime knows; here it is what of that this
host carries out.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pycontain.errors import KernelError, PycontainError, kernel_error
from pycontain.kernel import capability, cgroup, devices, mount, process, release, userns
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain.store.layout import Layout

OK = "ok"
MISSING = "missing"

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_CONTROLLERS = {
    "cpu": "--cpus, --cpu-shares, --cpu-quota",
    "cpuset": "--cpuset-cpus, --cpuset-mems",
    "io": "--blkio-weight, --device-read-bps …",
    "memory": "--memory, --memory-swap",
    "pids": "--pids-limit",
    "hugetlb": "--cgroup-conf hugetlb.…",
    "rdma": "--cgroup-conf rdma.…",
}
_SYS_CLONE3 = 435  # of every architecture
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_LOAD = 5
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        state: ``OK`` or ``MISSING``.
        found: what there is, or why there is not.
        remedy: what would help where it is missing; empty where nothing is known.
        needed: without it no container runs.
    """

    name: str
    state: str
    found: str
    remedy: str
    needed: bool


def refused(name: str, error: PycontainError) -> Finding:
    """Return the finding for an error that no container can run with."""
    return Finding(name, MISSING, error.message, error.hint or "", True)


def outside() -> list[Finding]:
    """Return what can be said without a store, before any namespace is entered."""
    return [
        _look("kernel", _kernel, needed=True),
        _look("clone3", _clone3, "a seccomp filter around us refuses it", needed=True),
        _look("pidfd", _pidfd, "a seccomp filter around us refuses it", needed=True),
        _look("namespaces", _namespaces, "a kernel with CONFIG_NAMESPACES", needed=True),
        _look("seccomp", _seccomp, "apt-get install libseccomp2", needed=True),
        *_users(),
        _look("apparmor", _apparmor, "boot with apparmor=1 security=apparmor"),
        _look("selinux", _selinux),
        _look("tun device", _tun, "modprobe tun"),
        _look("image tool", _tool("mmdebstrap"), "apt-get install mmdebstrap"),
    ]


def inside(layout: Layout, *, rootless: bool) -> list[Finding]:
    """Return what has to be tried where containers are made.

    Args:
        layout: of the store, in which files are made and removed again.
        rootless: we are in the namespaces of an ordinary user.
    """
    work = layout.work
    found = [
        _look("overlay", lambda: _overlay(work, rootless=rootless), needed=True),
        _look("images", lambda: _images(layout)),
    ]
    if rootless:
        reason = "containers of ordinary users have no cgroup"
        return [
            *found,
            Finding("cgroup v2", MISSING, reason, "limits need root", False),
            _look("networks", lambda: _networks_of(layout), "apt-get install nftables"),
            _look("way out of networks", _way_out),
        ]
    return [
        *found,
        _look("idmapped mounts", lambda: _idmapped(work)),
        _look("capabilities", _capabilities, "give them to who starts this machine"),
        _look("cgroup v2", _cgroup, "mount -t cgroup2 none /sys/fs/cgroup"),
        *_controllers(),
        _look("device rules", _device_rules, "a kernel with CONFIG_CGROUP_BPF"),
        _look("networks", _networks, "apt-get install nftables"),
        _look("forwarding", _forwarding),
    ]


def _look(name: str, act: Callable[[], str], remedy: str = "", *, needed: bool = False) -> Finding:
    try:
        return Finding(name, OK, act(), "", needed)
    except PycontainError as err:
        return Finding(name, MISSING, err.message, err.hint or remedy, needed)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        subject = "" if err.filename is None else f"{os.fsdecode(err.filename)}: "
        return Finding(name, MISSING, f"{subject}{reason}", remedy, needed)


def _absent(reason: str, hint: str | None = None) -> PycontainError:
    return PycontainError(reason, hint)


# ---- the kernel ----


def _kernel() -> str:
    release.require()
    return os.uname().release


def _syscall(number: int, *arguments: object) -> int:
    """Call syscall(2); return what it returns, or minus errno."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    result: int = library.syscall(ctypes.c_long(number), *arguments)
    return -ctypes.get_errno() if result < 0 else result


def _clone3() -> str:
    # No struct of size 0 is right (clone(2)): a kernel that has the call says so.
    result = _syscall(_SYS_CLONE3, None, 0)
    if result != -errno.EINVAL:
        raise kernel_error("clone3", "", -result)
    return "with CLONE_INTO_CGROUP"  # Linux 5.7


def _pidfd() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return "pidfd_open"


def _namespaces() -> str:
    there = os.listdir("/proc/self/ns")
    missing = [name for name in _NAMESPACES if name not in there]
    if missing:
        raise _absent(f"no {', '.join(missing)}")
    return " ".join(_NAMESPACES)


def _seccomp() -> str:
    from pycontain.runtime import seccomp

    with open("/proc/sys/kernel/seccomp/actions_avail", encoding="ascii") as file:
        actions = file.read().split()
    return f"libseccomp {seccomp.library_version()}, {' '.join(actions)}"


# ---- users ----


def _users() -> Iterator[Finding]:
    ordinary = os.geteuid() != 0 and not userns.inside()
    yield _look("user namespaces", _user_namespaces, needed=ordinary)
    yield _look("newuidmap", _tool("newuidmap"), "apt-get install uidmap", needed=ordinary)
    if ordinary:
        yield _look("subordinate ids", _subordinate, needed=True)


def _user_namespaces() -> str:
    with open("/proc/sys/user/max_user_namespaces", encoding="ascii") as file:
        most = int(file.read())
    if not most:
        raise _absent("forbidden", "sysctl user.max_user_namespaces=10000")
    for name in ("unprivileged_userns_clone",):  # of Debian's and Arch's kernels
        try:
            with open(f"/proc/sys/kernel/{name}", encoding="ascii") as file:
                if file.read().strip() == "0":
                    raise _absent("forbidden to ordinary users", f"sysctl kernel.{name}=1")
        except FileNotFoundError:
            continue
    if os.geteuid() == 0:  # an ordinary user's are tried by entering them
        os.close(process.user_namespace("0 0 1", "0 0 1"))
    return f"at most {most}"


def _tool(program: str) -> Callable[[], str]:
    def find() -> str:
        import shutil

        place = shutil.which(program)
        if place is None:
            raise _absent(f"{program} is not installed")
        return place

    return find


def _subordinate() -> str:
    uid = os.geteuid()
    uids = userns.subordinate("/etc/subuid", uid)
    gids = userns.subordinate("/etc/subgid", uid)
    return f"{uids.size} uids from {uids.first}, {gids.size} gids from {gids.first}"


# ---- security modules, devices ----


def _apparmor() -> str:
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            enabled = file.read().strip() == "Y"
    except FileNotFoundError:
        enabled = False
    if not enabled:
        raise _absent("not enabled")
    return "enabled"


def _selinux() -> str:
    try:
        with open("/sys/fs/selinux/enforce", encoding="ascii") as file:
            enforcing = file.read().strip() == "1"
    except FileNotFoundError:
        raise _absent("not enabled") from None
    raise _absent(
        "enforcing" if enforcing else "permissive", "labels are not supported: they are not set"
    )


def _tun() -> str:
    os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    return "/dev/net/tun"


def _capabilities() -> str:
    bounding = capability.bounding_set()
    missing = [name for name in capability.DEFAULT if not bounding >> capability.NUMBERS[name] & 1]
    if missing:
        raise _absent(f"not in the bounding set, so not given: {' '.join(missing)}")
    return f"all {len(capability.DEFAULT)} of the default set"


# ---- file systems ----


def _overlay(work: str, *, rootless: bool) -> str:
    folder = f"{work}/check-{os.urandom(8).hex()}"
    try:
        for name in ("", "/lower", "/upper", "/work"):
            files.make_folder(folder + name)
        fd = mount.overlay(
            [f"{folder}/lower"], f"{folder}/upper", f"{folder}/work", user_xattr=rootless
        )
        try:
            # One that cannot be written is mounted all the same.
            os.mkdir("written", dir_fd=fd)
        finally:
            os.close(fd)
    finally:
        files.remove_tree(folder)
    new = "lowerdir+" if release.release() >= (6, 5) else "mount(2), before Linux 6.5"
    return f"{new}, userxattr" if rootless else new


def _images(layout: Layout) -> str:
    from pycontain.engine import disk

    if found := disk.image_obstacles(layout):
        raise found[0]
    return "what nothing leads to can be removed"


def _idmapped(work: str) -> str:
    namespace = process.user_namespace("0 100000 65536", "0 100000 65536")
    try:
        fd = mount.clone_tree(work, recursive=False)
        try:
            mount.map_owners(fd, namespace, recursive=False)
        finally:
            os.close(fd)
    finally:
        os.close(namespace)
    return f"on the file system of {work}"


# ---- cgroups ----


def _cgroup() -> str:
    os.close(cgroup.open_root())
    places = cgroup.mount_points()
    beside = " beside cgroup v1" if any(map(cgroup.in_version_1, _CONTROLLERS)) else ""
    return f"at {places[0]}{beside}" if places else f"not mounted, a mount of our own{beside}"


def _controllers() -> list[Finding]:
    try:
        root = cgroup.open_root()
    except KernelError:
        return []
    try:
        there = (cgroup.read(root, "cgroup.controllers") or "").split()
    finally:
        os.close(root)
    return [_controller(name, there) for name in _CONTROLLERS]


def _controller(name: str, there: list[str]) -> Finding:
    title = f"controller {name}"
    if name in there:
        return Finding(title, OK, _CONTROLLERS[name], "", False)
    without = f"without it no {_CONTROLLERS[name]}"
    if cgroup.in_version_1(name):
        remedy = f"cgroup v1 has it: boot with cgroup_no_v1={name}, or cgroup v2 alone"
    elif name == "memory":
        remedy = "boot with cgroup_enable=memory"
    else:
        remedy = "a kernel that has it, and does not have it in cgroup_disable="
    return Finding(title, MISSING, without, remedy, False)


def _networks() -> str:
    from pycontain.kernel import firewall

    path = firewall.program()
    firewall.chains("pycontain")  # the kernel answers
    return f"nf_tables, {path}"


def _networks_of(layout: Layout) -> str:
    """The same in an ordinary user's network namespace."""
    from pycontain.engine import rootless

    return rootless.there(lambda _: _networks())(layout)


def _way_out() -> str:
    """Without it `run` gives containers of an ordinary user no network, unless one is asked for."""
    from pycontain.network import outside

    return outside.check()


def _forwarding() -> str:
    """Between networks and the outside; what another firewall drops, ours cannot let through."""
    from pycontain.network import policy

    found = policy.obstacles()
    if found:
        raise _absent(f"{found[0].chain} drops it", found[0].remedy)
    with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
        is_on = file.read().strip() == "1"
    return "on" if is_on else "off; the first network that comes up switches it on"


def _device_rules() -> str:
    """Load the program of one rule, as every container has several; attach it nowhere."""
    import ctypes
    import struct

    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise _absent(f"cannot be tried on {os.uname().machine}")
    code = ctypes.create_string_buffer(devices.program([{"allow": False, "access": "rwm"}]))
    terms = ctypes.create_string_buffer(b"GPL")
    # union bpf_attr of BPF_PROG_LOAD (bpf(2), linux/bpf.h), up to expected_attach_type
    attributes = struct.pack(
        "=IIQQIIQII16sII", _BPF_PROG_TYPE_CGROUP_DEVICE, (len(code) - 1) // 8,
        ctypes.addressof(code), ctypes.addressof(terms), 0, 0, 0, 0, 0, b"", 0, _BPF_CGROUP_DEVICE,
    )  # fmt: skip
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = _syscall(number, _BPF_PROG_LOAD, buffer, len(attributes))
    if fd < 0:
        raise kernel_error("load device rules", "", -fd)
    os.close(fd)
    return "as BPF programs"
