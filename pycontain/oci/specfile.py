"""``spec``: a configuration to begin with."""

from __future__ import annotations

import os

from pycontain.errors import Conflict, StoreError
from pycontain.oci import document, state
from pycontain.oci.flags import SWITCH, VALUE, Flag
from pycontain.runtime import masks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.model import oci
    from pycontain.oci.main import Command

FLAGS = (
    Flag("bundle b", VALUE, "folder for config.json; the current folder by default"),
    Flag("rootless", SWITCH, "for an ordinary user: in a user namespace"),
)
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SAFE = ("nosuid", "noexec", "nodev")


def write_spec(command: Command) -> int:
    """``spec``: write config.json, where there is none."""
    command.words(0, 0)
    owner = (os.geteuid(), os.getegid()) if command.values.on("rootless") else None
    path = os.path.join(command.values.text("bundle") or ".", "config.json")
    _write_new(path, document.dump(configuration(owner), indent=True) + "\n")
    return 0


def _write_new(path: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path}: there is one already", "move it away first") from None
    except OSError as err:
        raise StoreError(f"write {path}: {os.strerror(err.errno or 0).lower()}") from err


def configuration(owner: tuple[int, int] | None = None) -> oci.Spec:
    """Return the configuration of a container that runs a shell, shut in as far as that allows.

    Args:
        owner: uid and gid of an ordinary user, who is root in the container; None for root.
    """
    spec: oci.Spec = {
        "ociVersion": state.SPEC_VERSION,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pycontain",
        "mounts": _mounts(rootless=owner is not None),
        "linux": _linux(),
    }
    if owner is not None:
        _give(spec["linux"], *owner)
    return spec


def _process() -> oci.Process:
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [f"PATH={_PATH}", "TERM=xterm"],
        "cwd": "/",
        # No ambient ones: a program that is not root's would keep them over its exec.
        "capabilities": {
            "bounding": [*_CAPABILITIES],
            "effective": [*_CAPABILITIES],
            "permitted": [*_CAPABILITIES],
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(*, rootless: bool) -> list[oci.Mount]:
    # An ordinary user has no gid 5 (tty) to give, and sysfs belongs to the host's network.
    tty = () if rootless else ("gid=5",)
    sysfs = ("none", "/sys", "rbind", "rro") if rootless else ("sysfs", "sysfs", "ro")
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance",
               "ptmxmode=0666", "mode=0620", *tty),
        _mount("/dev/shm", "tmpfs", "shm", *_SAFE, "mode=1777", "size=65536k"),  # noqa: S108
        _mount("/dev/mqueue", "mqueue", "mqueue", *_SAFE),
        _mount("/sys", *sysfs, *_SAFE),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *_SAFE, "relatime", "ro"),
    ]  # fmt: skip


def _mount(target: str, kind: str, source: str, *options: str) -> oci.Mount:
    mount: oci.Mount = {"destination": target, "type": kind, "source": source}
    if options:
        mount["options"] = [*options]
    return mount


def _linux() -> oci.Linux:
    return {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [
            {"type": "pid"},
            {"type": "network"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "mount"},
            {"type": "cgroup"},
        ],
        "maskedPaths": [*masks.MASKED_PATHS],
        "readonlyPaths": [*masks.READONLY_PATHS],
    }


def _give(linux: oci.Linux, uid: int, gid: int) -> None:
    """An ordinary user's: root is that user, the network the host's, and there is no cgroup."""
    del linux["resources"]
    linux["namespaces"] = [
        {"type": "user"},
        *(entry for entry in linux["namespaces"] if entry["type"] != "network"),
    ]
    linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
