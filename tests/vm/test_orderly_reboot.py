"""A reboot by systemd, with the unit of ``system unit``: all ends in order, and comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vm import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.host, pytest.mark.slow]

LIMIT = 900.0
# On the disk: the unit begins before the project is unpacked.
INSTALL = """\
set -eu
cp -a /run/project /opt/project
sed 's|/run/project|/opt/project|' /run/project/pycontain.program >/usr/local/bin/pycontain
chmod 755 /usr/local/bin/pycontain
pycontain system unit >/etc/systemd/system/pycontain.service
systemctl daemon-reload
systemctl enable pycontain
systemctl start pycontain
"""
SETUP = """\
set -eu
export PYCONTAIN_NETWORK=none
wait='while :; do sleep 0.2; done'
pycontain run -d --name box --restart on-failure busybox \
    sh -c "trap 'echo ended; exit 0' TERM; echo up; $wait"
pycontain kube apply - <<END
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: OnFailure
  volumes: [{name: notes, emptyDir: {}}]
  initContainers:
  - name: side
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "trap 'echo side >>/notes/ends; exit 0' TERM; echo up; $wait"]
    volumeMounts: [{name: notes, mountPath: /notes}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "trap 'echo main >>/notes/ends; exit 0' TERM; echo up; $wait"]
    volumeMounts: [{name: notes, mountPath: /notes}]
END
for name in box web-side web-main; do
    until pycontain logs $name | grep -q up; do sleep 0.5; done
done
"""
AFTER = "until systemctl is-active -q pycontain; do sleep 0.5; done"
RUNNING = ("box", "web-main", "web-side")


@pytest.fixture
def vm(project: Path, tmp_path: Path) -> Iterator[machine.Machine]:
    """A machine with systemd."""
    with machine.Machine(tmp_path, project, systemd=True) as booted:
        yield booted


def running(vm: machine.Machine) -> tuple[str, ...]:
    return tuple(sorted(vm.sh("pycontain ps --format '{{.Names}}'", timeout=LIMIT).split()))


def test_all_ends_in_order_and_comes_again(vm: machine.Machine) -> None:
    vm.sh(INSTALL, timeout=LIMIT)
    vm.sh(SETUP, timeout=LIMIT)
    assert running(vm) == RUNNING
    before = vm.boot_id
    vm.reboot("systemctl", "reboot")
    assert vm.boot_id != before
    vm.sh(AFTER, timeout=LIMIT)
    assert running(vm) == RUNNING
    # They were asked to end, and not killed; its sidecar outlived the pod's container.
    assert vm.sh("pycontain logs box", timeout=LIMIT).split()[:2] == ["up", "ended"]
    assert vm.sh("cat /var/lib/pycontain/pods/*/volumes/notes/ends").split() == ["main", "side"]
