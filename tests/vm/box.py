"""A Vagrant box of our own, for libvirt where there is no KVM: made once for equal inputs.

The root file system of :mod:`tests.vm.disk` and what Vagrant wants of a box: sshd, sudo, rsync and
the user ``vagrant`` with Vagrant's well-known key (Vagrant's manual, "Creating a Base Box"). It has
what native/install.sh asks for too, so that the installation runs where no network reaches.

libvirt's disks and network cards are virtio, which the cloud kernel has as modules: an initrd loads
them. Box, kernel and initrd go to the Vagrantfile through the environment.
"""

from __future__ import annotations

import json
import lzma
import shutil
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.vm import disk

PACKAGES = (
    *disk.PACKAGES, "openssh-server", "sudo", "rsync", "iputils-ping",
    # BUILD_PACKAGES of native/debian.sh, the rest of them.
    "gcc", "libc6-dev", "libseccomp-dev", "python3-dev", "python3-venv",
)  # fmt: skip
MODULES = ("virtio_pci", "virtio_blk", "virtio_net")
# Where native/install.sh has its virtual environment.
ENVIRONMENT = "usr/local/lib/pycontain"
# Vagrant's keys/vagrant.pub, whose private half is public too: not for a machine that others reach.
KEY = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNl"
    "tGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8"
    "dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnA"
    "mCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRd"
    "K8jlqm8tehUc9c9WhQ=="
)

_INIT = """\
#!/busybox sh
/busybox mount -t proc proc /proc
/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    /busybox insmod "$module" || echo "initrd: $module: not loaded"
done
for word in $(/busybox cat /proc/cmdline); do
    case $word in
    root=*) root=${word#root=} ;;
    esac
done
until [ -b "$root" ]; do
    /busybox sleep 0.1
done
/busybox mount -t ext4 "$root" /new
/busybox mount -o move /dev /new/dev
/busybox umount /proc
exec /busybox switch_root /new /sbin/init
"""

_NETWORK = """\
[Unit]
Description=The address that libvirt gives
Before=network.target ssh.service
Wants=network.target

[Service]
# The client sends nothing on an interface that is down.
ExecStartPre=/usr/sbin/ip link set eth0 up
ExecStart=/usr/bin/busybox udhcpc -f -i eth0 -s /usr/local/sbin/box-address
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""

_ADDRESS = """\
#!/bin/sh
# Called by busybox udhcpc: $1 is what happened, the rest is in the environment.
set -eu
case $1 in
bound | renew)
    ip address replace "$ip/$mask" dev "$interface"
    [ -z "${router-}" ] || ip route replace default via "${router%% *}"
    : >/etc/resolv.conf
    for server in ${dns-}; do
        echo "nameserver $server" >>/etc/resolv.conf
    done
    ;;
deconfig) ip address flush dev "$interface" ;;
esac
"""

# What install.sh needs of the Python packages is there: pip shall take that. (For pip, "false" is
# what the flag of that name sets: no isolation.)
_PIP = """\
[global]
no-index = true
no-build-isolation = false
disable-pip-version-check = true
"""

_VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.ssh.insert_key = false
end
"""


@dataclass(frozen=True)
class Box:
    """What the Vagrantfile gets through the environment.

    Attributes:
        archive: for ``vagrant box add``, for the provider libvirt.
        kernel: a bzImage or Image.
        initrd: loads what the kernel has not built in, and starts the root file system's init.
    """

    archive: Path
    kernel: Path
    initrd: Path


def build_requirements() -> list[str]:
    """The Python packages that compile and install pycontain."""
    with (disk.CHECKOUT / "pyproject.toml").open("rb") as file:
        asked = tomllib.load(file)
    found: list[str] = [*asked["build-system"]["requires"], *asked["project"]["dependencies"]]
    return found


def get() -> Box:
    """Return the box, made now if it is not there yet.

    Raises:
        Unbuildable: naming the program, the step and the reason.
    """
    name = disk.release()
    asked = (disk.requirements(), build_requirements())
    with disk.made_once(
        f"box-{disk.key(name, PACKAGES, asked, Path(__file__), Path(disk.__file__))}"
    ) as (place, new):
        if new:
            build(name, new)
    return Box(place / "debian.box", place / "vmlinuz", place / "initrd")


def build(name: str, target: Path) -> None:
    """Make box, kernel and initrd of one release in an empty folder."""
    if not shutil.which("qemu-img"):
        raise disk.Unbuildable("not installed: qemu-img (qemu-utils)")
    root = target.parent / "root"
    disk.bootstrap(name, root, PACKAGES)
    add_python(root)
    add_user(root)
    add_network(root)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    kernel.rename(target / "vmlinuz")
    make_initrd(root, version, target / "initrd")
    make_box(root, target / "debian.box")


def add_python(root: Path) -> None:
    """What the tests import, and the virtual environment of native/install.sh."""
    packages = root / f"usr/local/lib/{disk.python()}/dist-packages"
    disk.install_python(packages, disk.requirements())
    disk.step("venv", "chroot", root, "python3", "-m", "venv", f"/{ENVIRONMENT}")
    wheels = root / "wheels"
    asked = build_requirements()
    disk.step("pip", sys.executable, "-m", "pip", "-q", "download", "--dest", wheels, *asked)
    pip = ("chroot", root, f"/{ENVIRONMENT}/bin/pip", "-q", "install")
    disk.step("pip", *pip, "--no-index", "--find-links", "/wheels", *asked)
    shutil.rmtree(wheels)
    (root / "etc/pip.conf").write_text(_PIP)


def add_user(root: Path) -> None:
    """``vagrant``, who may do anything with sudo."""
    disk.step("useradd", "chroot", root, "useradd", "-m", "-s", "/bin/bash", "vagrant")
    (root / "etc/sudoers.d/vagrant").write_text("vagrant ALL=(ALL) NOPASSWD: ALL\n")
    (root / "etc/sudoers.d/vagrant").chmod(0o440)
    folder = root / "home/vagrant/.ssh"
    folder.mkdir(mode=0o700)
    keys = folder / "authorized_keys"
    keys.write_text(f"{KEY} vagrant insecure public key\n")
    keys.chmod(0o600)
    disk.step("chown", "chroot", root, "chown", "-R", "vagrant:", "/home/vagrant/.ssh")


def add_network(root: Path) -> None:
    """An address for eth0, from whom it may come; sshd; a name."""
    address = root / "usr/local/sbin/box-address"
    address.write_text(_ADDRESS)
    address.chmod(0o755)
    (root / "etc/systemd/system/box-network.service").write_text(_NETWORK)
    disk.step("systemctl", "systemctl", "--root", root, "-q", "enable", "ssh", "box-network")
    (root / "etc/hostname").write_text("box\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost box\n::1 localhost\n")


def make_initrd(root: Path, version: str, target: Path) -> None:
    """A cpio archive: busybox, the modules in the order of their dependences, and their loader."""
    entries = [("dev", 0o040755, b""), ("proc", 0o040755, b""), ("new", 0o040755, b"")]
    entries += [("busybox", 0o100755, (root / "usr/bin/busybox").read_bytes())]
    entries += [("init", 0o100755, _INIT.encode()), ("modules", 0o040755, b"")]
    for number, path in enumerate(module_order(root / "usr/lib/modules" / version)):
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        name = path.name.removesuffix(".xz")
        entries.append((f"modules/{number:02}-{name}", 0o100644, content))
    target.write_bytes(b"".join(cpio(*one) for one in [*entries, ("TRAILER!!!", 0, b"")]))


def module_order(folder: Path) -> list[Path]:
    """The files of MODULES and of what they need, each after what it needs (modules.dep(5))."""
    needs: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        names[Path(path).name.partition(".ko")[0].replace("-", "_")] = path
    order: list[str] = []
    for module in MODULES:
        # modules.dep lists all of them, the one that is loaded first comes last.
        order += [*reversed(needs[names[module]]), names[module]]
    return [folder / path for path in dict.fromkeys(order)]


def cpio(name: str, mode: int, content: bytes) -> bytes:
    """One entry of a cpio archive, format "newc" (the kernel's initramfs buffer format)."""
    path = name.encode() + b"\0"
    # c_ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)


def make_box(root: Path, target: Path) -> None:
    """A tar archive of the disk, as QEMU's own format, and two files about it."""
    folder = target.with_suffix(".new")
    folder.mkdir()
    raw = folder / "raw"
    disk.make_image(root, raw)
    disk.step("qemu-img", "qemu-img", "convert", "-O", "qcow2", raw, folder / "box.img")
    size = disk.size_of(disk.SIZE) >> 30
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": size}
    (folder / "metadata.json").write_text(json.dumps(about))
    (folder / "Vagrantfile").write_text(_VAGRANTFILE)
    with tarfile.open(target, "w") as archive:
        for name in ("metadata.json", "Vagrantfile", "box.img"):
            archive.add(folder / name, name)
    shutil.rmtree(folder)


if __name__ == "__main__":
    box = get()
    print(f"PYCONTAIN_VM_BOX={box.archive}")
    print(f"PYCONTAIN_VM_KERNEL={box.kernel}")
    print(f"PYCONTAIN_VM_INITRD={box.initrd}")
