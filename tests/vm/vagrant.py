"""Take a Vagrant machine from ``up`` to ``destroy``, with the Vagrantfile of the checkout::

    python -m tests.vm.vagrant

The box is the one of :mod:`tests.vm.box`, emulated unless PYCONTAIN_VM_DRIVER says "kvm". In the
machine native/install.sh installs pycontain, and a few tests run over ``vagrant ssh``. It ends with
code 0; with 1 where something failed; with 3, saying why, where this host cannot do it.

Vagrant, libvirt and QEMU run in namespaces of their own, with folders of their own: nothing of a
libvirt that the host may have is seen or changed, and whatever a failure leaves ends with them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm import disk
from tests.vm.box import ENVIRONMENT, Box, get
from tests.vm.run import CANNOT, FAILED, say

if TYPE_CHECKING:
    from collections.abc import Iterator

# Each with the Debian package that has it.
PROGRAMS = {
    "vagrant": "vagrant", "libvirtd": "libvirt-daemon", "virsh": "libvirt-clients",
    "dnsmasq": "dnsmasq-base", "iptables": "iptables", "rsync": "rsync", "ssh": "openssh-client",
    "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils",
}  # fmt: skip
PLUGIN = "vagrant-libvirt"
# libvirt's, which cannot be moved by its configuration.
FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
# Whom libvirtd looks up at its start, whatever qemu.conf says. Debian's libvirt-daemon-system makes
# them, and brings systemd.
USERS = {
    "/etc/passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    "/etc/group": "libvirt-qemu:x:64055:\nkvm:x:64056:\n",
}
# Without a daemon of its own for the guest's console (virtlogd), AppArmor, or cgroups.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
# A quiet machine takes a tenth of it.
LIMIT = 1800
MACHINE = "bookworm"
BOX = "pycontain-test"
TESTS = (
    "tests/vm/guest/test_machine.py",
    "tests/host/test_run.py::test_the_commands_code_is_the_containers",
    "tests/host/test_run.py::test_streams_are_apart",
    "tests/host/test_run.py::test_every_namespace_is_its_own",
    "tests/host/test_run.py::test_its_cgroup_is_its_root",
    "tests/host/test_lifecycle.py::test_the_whole_life",
)


class Failed(Exception):
    """A step failed; the text has the end of what it printed."""


class Run:
    """One run, inside of the namespaces: a folder with everything it writes."""

    def __init__(self, folder: Path, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.environment = {
            **os.environ,
            "HOME": f"{folder}/home",
            "VAGRANT_HOME": f"{folder}/vagrant",
            "VAGRANT_DOTFILE_PATH": f"{folder}/machines",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "PYCONTAIN_VM_DRIVER": os.environ.get("PYCONTAIN_VM_DRIVER") or "qemu",
            "PYCONTAIN_VM_BOX": BOX,
            "PYCONTAIN_VM_KERNEL": str(box.kernel),
            "PYCONTAIN_VM_INITRD": str(box.initrd),
        }

    def call(self, *argv: str, code: int = 0) -> str:
        """Return what a program printed, which must end with `code`.

        Raises:
            Failed: it ended with another, or not in time.
        """
        log = self.folder / "step.log"
        with log.open("wb") as out:
            try:
                done = subprocess.run(
                    argv, cwd=disk.CHECKOUT, env=self.environment, stdin=subprocess.DEVNULL,
                    stdout=out, stderr=subprocess.STDOUT, timeout=LIMIT, check=False,
                )  # fmt: skip
                ended = f"exit code {done.returncode}" if done.returncode != code else ""
            except subprocess.TimeoutExpired:
                ended = f"not over after {LIMIT} s"
        text = log.read_text(errors="replace")
        if ended:
            end = "\n".join(text.splitlines()[-60:])
            raise Failed(f"{' '.join(argv)}: {ended}\n{end}")
        return text

    def vagrant(self, *words: str, code: int = 0) -> str:
        """Call Vagrant, and say how long it took."""
        start = time.monotonic()
        text = self.call("vagrant", *words, code=code)
        say(f"{time.monotonic() - start:.1f} s: vagrant {' '.join(words)[:100]}")
        return text

    def ssh(self, script: str, code: int = 0) -> str:
        """Run a shell script in the machine."""
        return self.vagrant("ssh", MACHINE, "-c", script, code=code)

    def virsh(self, *words: str) -> str:
        """Ask libvirt."""
        return self.call("virsh", "-q", "-c", "qemu:///system", *words).strip()

    # ------------------------------------------------------------------ libvirt

    @contextlib.contextmanager
    def libvirt(self) -> Iterator[None]:
        """A libvirtd with its folders here, until the end."""
        # Not single files of it: who renames another over one, as useradd(8) does, takes away what
        # other namespaces have mounted there. What goes while it is copied is left out.
        etc = self.folder / "etc"
        subprocess.run(["cp", "-a", "/etc", etc], check=False)
        for place, more in USERS.items():
            (etc / Path(place).name).write_text(Path(place).read_text() + more)
        mount("--bind", str(etc), "/etc")
        for number, place in enumerate(FOLDERS):
            ours = self.folder / f"libvirt{number}"
            ours.mkdir()
            mount("--bind", str(ours), place)
        mount("-t", "tmpfs", "tmpfs", "/run")
        Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with (self.folder / "libvirtd.log").open("wb") as log:
            daemon = subprocess.Popen(
                ["libvirtd"], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.wait_for(daemon)
            yield
        finally:
            daemon.terminate()
            daemon.wait()

    def wait_for(self, daemon: subprocess.Popen[bytes]) -> None:
        """Wait until libvirtd answers."""
        end = time.monotonic() + 120
        while True:
            try:
                self.virsh("version")
            except Failed as err:
                if daemon.poll() is not None or time.monotonic() > end:
                    said = (self.folder / "libvirtd.log").read_text(errors="replace")[-2000:]
                    raise Failed(f"libvirtd: {said}\n{err}") from None
                time.sleep(0.5)
            else:
                return

    def check_nothing_left(self) -> None:
        """What the machine had of libvirt is gone: domain, network, and volumes but the box's."""
        # Vagrant keeps the box's disk as a volume, as for the next machine; no command removes it.
        for volume in self.virsh("vol-list", "default").splitlines():
            name = volume.split()[0]
            if BOX in name:
                self.virsh("vol-delete", name, "default")
        asked = (
            ("list", "--all", "--name"),
            ("net-list", "--all", "--name"),
            ("vol-list", "default"),
        )
        for words in asked:
            left = self.virsh(*words)
            if left:
                raise Failed(f"virsh {' '.join(words)}: left behind: {left}")

    # ------------------------------------------------------------------ the steps

    def all(self) -> None:
        """Every step. Raises Failed."""
        self.vagrant("validate")
        self.vagrant("box", "add", "--name", BOX, str(self.box.archive))
        try:
            # The other provisioner, "tests", downloads Python packages.
            self.vagrant("up", MACHINE, "--provision-with", "install")
            self.smoke()
        finally:
            self.vagrant("destroy", "-f")
        self.vagrant("box", "remove", BOX)
        self.check_nothing_left()

    def smoke(self) -> None:
        """A few tests over ssh."""
        self.ssh("exit 42", code=42)
        said = self.ssh("sudo pycontain run --rm --network none busybox echo from a container")
        if "from a container" not in said:
            raise Failed(f"pycontain run: {said}")
        native = f"/{ENVIRONMENT}/lib/{disk.python()}/site-packages/pycontain/_native"
        pytest = "python3 -m pytest -q -p no:cacheprovider -p no:randomly"
        said = self.ssh(
            f"cd /vagrant && sudo cp -r {native} pycontain/ && "
            f"sudo PYCONTAIN_TEST_VM=1 {pytest} {' '.join(TESTS)}"
        )
        print(said, flush=True)  # our end is os._exit


def mount(*words: str) -> None:
    """Mount in our mount namespace."""
    subprocess.run(["mount", *words], check=True)


def missing() -> str:
    """What this host lacks, in words; empty where there is nothing."""
    if os.geteuid() != 0:
        return "not root: namespaces, bridges and mounts need it"
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if "vagrant" not in packages:
        # In a home of its own, as in the run: plugins of a user's do not count.
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                ["vagrant", "plugin", "list"],
                env={**os.environ, "VAGRANT_HOME": home},
                capture_output=True,
                check=False,
            )
        if PLUGIN not in done.stdout.decode(errors="replace"):
            packages.append(PLUGIN)
    return f"not installed: {' '.join(packages)}" if packages else ""


@contextlib.contextmanager
def mount_points() -> Iterator[None]:
    """The folders that our mounts need; those that were not there go again.

    One run at a time: rmdir(2) of a mount point detaches what other namespaces mounted there.
    """
    made: list[str] = []
    with (disk.cache() / "vagrant.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for place in FOLDERS:
            if not Path(place).exists():
                Path(place).mkdir()
                made.append(place)
        try:
            yield
        finally:
            for place in made:
                Path(place).rmdir()


def apart(folder: Path) -> int:
    """Run ourselves again in new namespaces; return the exit code."""
    words = ["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    with mount_points():
        done = subprocess.run(
            ["unshare", *words, sys.executable, "-m", "tests.vm.vagrant", "--inside", folder],
            cwd=disk.CHECKOUT,
            check=False,
        )
    return done.returncode


def first_process(folder: Path) -> int:
    """The first process of the process namespace: waits for whoever has no parent any more.

    libvirt's QEMU and dnsmasq are such. It takes one that nobody waits for as running, and its
    ``destroy`` tries for a minute to end it.
    """
    child = os.fork()
    if child == 0:
        os._exit(inside(folder))
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else FAILED


def inside(folder: Path) -> int:
    """The run itself, in the namespaces."""
    run = Run(folder, get())
    (folder / "home").mkdir()
    try:
        with run.libvirt():
            run.all()
    except Failed as err:
        say(f"Vagrant: {err}")
        return FAILED
    return 0


def main() -> int:
    """Make the box, then the run."""
    parser = argparse.ArgumentParser(prog="tests.vm.vagrant", description=__doc__)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        return first_process(asked.inside)
    # So that folders go then too; the namespaces end with whoever made them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    lacking = missing()
    if lacking:
        say(f"Vagrant: skipped: {lacking}")
        return CANNOT
    start = time.monotonic()
    try:
        get()
    except disk.Unbuildable as err:
        say(f"Vagrant: skipped: the box cannot be made: {err}")
        return CANNOT
    say(f"{time.monotonic() - start:.1f} s: the box")
    with tempfile.TemporaryDirectory(dir=disk.cache(), prefix=".vagrant-") as folder:
        code = apart(Path(folder))
    say(f"{time.monotonic() - start:.1f} s: all of it: {'passed' if code == 0 else 'failed'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
