"""``features``: what this runtime knows, for managers (runtime-spec, features.md).

Read off the tables that the runtime itself goes by, and of no host: whether this kernel has it is
another question. Only ``supportedFlags`` of seccomp is about the kernel, as the specification says.
"""

from __future__ import annotations

from pycontain.errors import NotSupported
from pycontain.kernel import capability
from pycontain.oci import document, state
from pycontain.runtime import check, mounts, plan, privileges, resources, seccomp, steps, systemd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.main import Command

VERSION_MIN = "1.0.0"
HOOKS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip
# What ``mounts`` knows beside its tables, and what every file system's own mount takes.
_MOUNT_WORDS = (
    "bind", "rbind", "remount", "tmpcopyup", "silent", "loud", "iversion", "noiversion",
    "sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime",
)  # fmt: skip


def show_features(command: Command) -> int:
    """``features``: the features document."""
    command.words(0, 0)
    command.print(document.dump(features(), indent=True))
    return 0


def features() -> dict[str, object]:
    """Return the features document (features.md, features-linux.md)."""
    return {
        "ociVersionMin": VERSION_MIN,
        "ociVersionMax": state.SPEC_VERSION,
        "hooks": [*HOOKS],
        "mountOptions": _mount_options(),
        "linux": _linux(),
        "annotations": _annotations(),
        # With --systemd-cgroup they become properties of the unit.
        "potentiallyUnsafeConfigAnnotations": [systemd.ANNOTATION],
    }


def _mount_options() -> list[str]:
    tables = (mounts.ATTRIBUTES, mounts.RECURSIVE, mounts.PROPAGATION, mounts.IDMAP, _MOUNT_WORDS)
    return sorted(word for table in tables for word in table)


def _linux() -> dict[str, object]:
    operations = {name for name, _ in steps.OPERATIONS}
    return {
        "namespaces": sorted(plan.CLONE_FLAGS),
        "capabilities": [*capability.NAMES],
        "cgroup": {
            "v1": False,
            "v2": True,
            "systemd": True,
            "systemdUser": False,
            "rdma": "rdma.max" in resources.NESTED,
        },
        "seccomp": _seccomp(),
        "apparmor": {"enabled": "apparmor" in operations},
        "selinux": {"enabled": _is_supported("process.selinuxLabel")},
        "intelRdt": {"enabled": _is_supported("linux.intelRdt"), "schemata": False},
        "memoryPolicy": {
            "modes": [*privileges.MEMORY_MODES],
            "flags": [*privileges.MEMORY_FLAGS],
        },
        "mountExtensions": {"idmap": {"enabled": bool(mounts.IDMAP)}},
        "netDevices": {"enabled": _is_supported("linux.netDevices")},
    }


def _is_supported(path: str) -> bool:
    return path not in {row[0] for row in check.UNSUPPORTED}


def _seccomp() -> dict[str, object]:
    try:
        return {
            "enabled": True,
            "actions": seccomp.known_actions(),
            "operators": seccomp.known_operators(),
            "archs": seccomp.known_architectures(),
            "knownFlags": seccomp.known_flags(),
            "supportedFlags": seccomp.supported_flags(),
        }
    except NotSupported:  # libseccomp is missing
        return {"enabled": False}


def _annotations() -> dict[str, str]:
    from pycontain import __version__
    from pycontain.oci.main import VERBS

    found = {
        "org.pycontain.runtime.version": __version__,
        "org.pycontain.runtime.checkpoint.enabled": str("checkpoint" in VERBS).lower(),
    }
    try:
        found["io.github.seccomp.libseccomp.version"] = seccomp.library_version()
    except NotSupported:
        return found  # libseccomp is missing
    return found
