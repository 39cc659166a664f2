"""The kernel's release, and the oldest that will do."""

from __future__ import annotations

import os

from pycontain.errors import NotSupported

OLDEST = (6, 1)


def release(text: str | None = None) -> tuple[int, int]:
    """Return major and minor number of a release like ``6.1.0-18-amd64``; default this kernel's."""
    major, minor = (text or os.uname().release).split(".")[:2]
    digits = len(minor) - len(minor.lstrip("0123456789"))
    return int(major), int(minor[:digits])


def has_apparmor() -> bool:
    """Whether the kernel confines by AppArmor (Documentation/admin-guide/LSM/apparmor.rst)."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def require(text: str | None = None) -> None:
    """Refuse a kernel that is too old.

    Raises:
        NotSupported: with the release.
    """
    if release(text) < OLDEST:
        raise NotSupported(
            "start", f"kernel {text or os.uname().release} is older than 6.1", 38,
            "pycontain needs Linux 6.1 (Debian 12) or newer",
        )  # fmt: skip
