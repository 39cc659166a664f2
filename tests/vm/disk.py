"""The disk that the virtual machine boots: Debian, from its packages, made once for equal inputs.

What is on it: a minimal Debian with the tools of the tests, the Python packages that pyproject.toml
asks for, and :file:`init`. The kernel lies beside it: the cloud kernel has NVMe and ext4 built in,
so it boots without an initrd. The project is not on it: see :mod:`tests.vm.machine`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
# The release whose Python is the one that compiled our extension modules.
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
KERNEL = {"x86_64": "linux-image-cloud-amd64", "aarch64": "linux-image-cloud-arm64"}
PACKAGES = (
    "python3", "busybox-static", "iproute2", "procps", "strace", "uidmap", "kmod", "util-linux",
    "systemd", "systemd-sysv", "dbus", "apparmor", "podman", "runc", "crun", "e2fsprogs",
    "criu", "nftables",
)  # fmt: skip
# Of the extra "test", what checks code, and what unit tests alone use, is of no use there.
NOT_THERE = ("mypy", "ruff", "pytest-xdist", "kubernetes")
SIZE = "3G"  # sparse
# Device nodes, owners and the kernel's modules want root; so does mmdebstrap's plain mode.
TOOLS = ("mmdebstrap", "mke2fs", "dpkg-deb", "apt-get")
APT = ('Acquire::Languages "none"', 'APT::Install-Recommends "false"')
EXCLUDED = ("doc", "man", "locale", "info", "lintian")


@dataclass(frozen=True)
class Disk:
    """What a machine boots.

    Attributes:
        image: an ext4 file system, never written: machines write to a layer of their own.
        kernel: a bzImage or Image.
    """

    image: Path
    kernel: Path


class Unbuildable(Exception):
    """The disk cannot be made on this machine; the text says why."""


def release() -> str:
    """The Debian whose Python fits ours. Raises Unbuildable where there is none."""
    version = sys.version_info[:2]
    try:
        return RELEASES[version]
    except KeyError:
        known = ", ".join(f"{major}.{minor} ({name})" for (major, minor), name in RELEASES.items())
        raise Unbuildable(
            f"Python {version[0]}.{version[1]} is no Debian release's: run the tests with {known}"
        ) from None


def requirements() -> list[str]:
    """The Python packages that the tests need."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [one for one in asked if not one.startswith(NOT_THERE)]


def cache() -> Path:
    """The folder of what is made once: ``$XDG_CACHE_HOME/pycontain-tests``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pycontain-tests" / "vm"


def key(*inputs: object) -> str:
    """A name for what is made from `inputs`; a path stands for the content of its file."""
    digest = hashlib.sha256()
    for one in inputs:
        content = one.read_bytes() if isinstance(one, Path) else repr(one).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def made_once(name: str) -> Iterator[tuple[Path, Path | None]]:
    """Yield a folder of the cache, and, when it is not there yet, the one to fill in its place.

    Whoever asks for the same at the same time waits. What older inputs made goes, after success.
    """
    cache().mkdir(parents=True, exist_ok=True)
    kind = name.rpartition("-")[0]
    with (cache() / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = cache() / name
        if place.exists():
            yield place, None
            return
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{kind}-") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            yield place, new
            new.rename(place)
        for other in cache().glob(f"{kind}-*"):
            if other != place:
                shutil.rmtree(other)


def get(said: Path | None = None) -> Disk:
    """Return the disk, made now if it is not there yet.

    Args:
        said: what the programs print goes to this file; the terminal otherwise.

    Raises:
        Unbuildable: naming the program, the step and the reason.
    """
    name = release()
    inputs = (name, PACKAGES, requirements(), SIZE, Path(__file__), HERE / "init", HERE / "service")
    with made_once(f"disk-{key(*inputs)}") as (place, new):
        if new:
            build(name, new)
    return Disk(place / "disk.img", place / "vmlinuz")


def build(name: str, target: Path) -> None:
    """Make the disk of one release in an empty folder."""
    root = target.parent / "root"
    bootstrap(name, root, PACKAGES)
    install_python(root / f"usr/local/lib/{python()}/dist-packages", requirements())
    shutil.copy(HERE / "init", root / "usr/sbin/vm-init")
    shutil.copy(HERE / "service", root / "etc/systemd/system/vm-agent.service")
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "vm-agent.service").symlink_to("../vm-agent.service")
    (root / "etc/hostname").write_text("vm\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost vm\n::1 localhost\n")
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    kernel.rename(target / "vmlinuz")
    make_image(root, target / "disk.img")


def python() -> str:
    """The name of our Python's folders: ``python3.11``."""
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def install_python(folder: Path, packages: Sequence[str]) -> None:
    """Install Python packages, by name, for the release whose Python is ours."""
    step("pip", sys.executable, "-m", "pip", "-q", "install", "--target", folder, *packages)


def make_image(root: Path, image: Path) -> None:
    """Make an ext4 file system, without a partition table, of what is in `root`."""
    with image.open("wb") as file:
        file.truncate(size_of(SIZE))
    step("mke2fs", "mke2fs", "-q", "-t", "ext4", "-d", root, "-E", "root_owner=0:0", image)


def bootstrap(name: str, root: Path, packages: Sequence[str]) -> None:
    """Unpack and configure the packages; the kernel's is only unpacked: it needs no initrd.

    Raises:
        Unbuildable: also when a program for it is missing, or root.
    """
    if os.geteuid() != 0:
        raise Unbuildable("not root: a Debian system is unpacked with its owners and devices")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        raise Unbuildable(f"not installed: {' '.join(missing)}")
    kernel = KERNEL[os.uname().machine]
    fetch = (
        "export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; "
        f"name=$(apt-cache depends {kernel} | sed -n 's/ *Depends: //p'); "
        'cd "$1/tmp" && apt-get -q download "$name" && dpkg-deb -x ./*.deb new && rm ./*.deb && '
        # Its /lib would take the place of the link of that name.
        'mv new/boot/* "$1/boot" && mv new/lib/modules new/usr/lib/modules "$1/usr/lib"; '
        "rm -r new; "
        'chroot "$1" /usr/sbin/depmod "${name#linux-image-}"'
    )
    step(
        # Whatever it leaves mounted in the new root goes with its mount namespace.
        "mmdebstrap", "unshare", "--mount", "mmdebstrap", "-q", "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--aptopt={option}" for option in APT),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in EXCLUDED),
        f"--customize-hook={fetch}", name, root,
    )  # fmt: skip


def size_of(text: str) -> int:
    """Bytes of ``3G``."""
    return int(text[:-1]) << {"M": 20, "G": 30}[text[-1]]


def step(name: str, *argv: str | Path) -> None:
    """Run one program. Raises Unbuildable with the end of what it said."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-15:]
        raise Unbuildable(f"{name}: exit code {done.returncode}:\n" + "\n".join(said))


if __name__ == "__main__":
    print(get().image)
