"""Paths of /proc and /sys that a container must not read or write.

Both file systems show the host's kernel, whatever the namespaces. A masked path is covered (a file
by /dev/null, a folder by an empty read-only tmpfs), a read-only path is bound onto itself
read-only. A path that this kernel does not have is skipped. These are docker's defaults;
``--privileged`` and ``--security-opt systempaths=unconfined`` take them away.
"""

from __future__ import annotations

import errno
import os

from pycontain.errors import kernel_error

_CPUS = "/sys/devices/system/cpu"

MASKED_PATHS: tuple[str, ...] = (
    "/proc/acpi",  # drives the machine's hardware: wake-up, on old kernels sleep and fans
    "/proc/asound",  # the host's sound cards and who plays
    "/proc/interrupts",  # timing of keys, disks and packets: a side channel between tenants
    "/proc/kcore",  # all physical memory
    "/proc/keys",  # keyrings are not fully namespaced: others' key descriptions
    "/proc/latency_stats",  # kernel stacks of other processes; writing resets them
    "/proc/sched_debug",  # every process of the host, with its cgroup
    "/proc/scsi",  # writing removes and adds the host's disks
    "/proc/timer_list",  # kernel addresses and the host's processes
    "/proc/timer_stats",  # which process of the host sets which timer
    "/sys/devices/virtual/powercap",  # energy counters: keys can be read from power use
    "/sys/firmware",  # ACPI tables and EFI variables of the machine
)

READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",  # PCI configuration space and USB devices
    "/proc/fs",  # tuning of the host's mounted file systems and NFS exports
    "/proc/irq",  # which processor serves an interrupt
    "/proc/sys",  # sysctls: those that have no namespace are the host's
    "/proc/sysrq-trigger",  # reboots, crashes and kills at a byte
)


def masked_paths() -> tuple[str, ...]:
    """Return `MASKED_PATHS` and each processor's thermal_throttle folder that exists here.

    The counters in those tell when another tenant works, as /proc/interrupts does; there is one
    folder for each processor, so they cannot be listed beforehand.

    Raises:
        KernelError: /sys is there and cannot be listed.
    """
    try:
        entries = os.listdir(_CPUS)
    except FileNotFoundError:
        return MASKED_PATHS
    except OSError as err:
        raise kernel_error("list processors", _CPUS, err.errno or errno.EIO) from err
    folders = (f"{_CPUS}/{name}/thermal_throttle" for name in sorted(entries) if _is_cpu(name))
    return MASKED_PATHS + tuple(folder for folder in folders if os.path.isdir(folder))


def _is_cpu(name: str) -> bool:
    return name.startswith("cpu") and name[3:].isdecimal()
