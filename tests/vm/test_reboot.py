"""A reboot in the middle of running containers, with and without the disk's caches written.

Afterwards nothing claims to run that does not, every container is there and can be used, and what
died with the boot is gone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.host, pytest.mark.slow]

LIMIT = 600.0
PYCONTAIN = "/run/project/pycontain.program"
RUNTIME = "/run/project/pycontain-runtime.program"
BUNDLE = "/var/lib/bundle"
ROOT = "/var/lib/pycontain"
# The kernel at once, after a sync(2) and without: then what was not synced is lost.
HOW = {
    "synced": ("busybox", "reboot", "-f"),
    "unsynced": ("busybox", "reboot", "-n", "-f"),
}
RUNNING = ("counting", "sleeping", "again", "frozen")
STAYS = {
    **dict.fromkeys(RUNNING, ("exited", 255)),
    "wanted": ("exited", 255),
    "unwanted": ("exited", 137),
    "ended": ("exited", 7),
    "made": ("created", 0),
    "removed-at-its-end": ("created", 0),
}
SETUP = f"""
set -eu
echo nameserver 10.0.2.3 >/etc/resolv.conf
p() {{ {PYCONTAIN} "$@"; }}
run() {{ name=$1; shift; p run --network none --name "$name" "$@"; }}
run counting -d -v /etc busybox sh -c 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done'
run sleeping -d busybox sleep 1000
run again -d busybox sleep 1000
p restart -t 0 again
run frozen -d busybox sleep 1000
run temporary -d --rm busybox sleep 1000
run ended busybox sh -c 'echo said; exit 7' || test $? = 7
p create --name made --network none busybox sleep 1000
p create --rm --name removed-at-its-end --network none busybox true
p pause frozen
run wanted -d --restart always busybox sleep 1000
run unwanted -d --restart unless-stopped busybox sleep 1000
p stop -t 0 unwanted
"""
RUNTIME_SETUP = f"""
set -eu
mkdir -p {BUNDLE}/rootfs/bin
cp /bin/busybox {BUNDLE}/rootfs/bin/sleep
cd {BUNDLE}
rm -f config.json
{RUNTIME} spec
python3 - <<END
import json
with open("config.json") as file:
    config = json.load(file)
config["process"].update(terminal=False, args=["/bin/sleep", "1000"])
with open("config.json", "w") as file:
    json.dump(config, file)
END
{RUNTIME} run -d running >/dev/null 2>&1 </dev/null
{RUNTIME} run -d paused >/dev/null 2>&1 </dev/null
{RUNTIME} create created >/dev/null 2>&1 </dev/null
{RUNTIME} pause paused
{RUNTIME} list -q
"""
# Files that are there although no container is: folders, names, locks, cgroups, unfinished writes.
LEFT = f"""
for folder in {ROOT}/containers {ROOT}/names {ROOT}/work /run/pycontain/containers; do
    find $folder -mindepth 1 -maxdepth 1
done
find {ROOT} /run/pycontain -name '.tmp-*' -o -name 'container-*'
find /sys/fs/cgroup/pycontain* -mindepth 1 -type d 2>/dev/null || true
"""


def cli(vm: Machine, *words: str, code: int = 0) -> str:
    done = vm.run(PYCONTAIN, *words, check=False, timeout=LIMIT)
    assert done.code == code, (words, done)
    return done.output


def inspected(vm: Machine) -> dict[str, Any]:
    """State of every container by name, as ``inspect`` has it."""
    ids = cli(vm, "ps", "-aq").split()
    found = json.loads(cli(vm, "inspect", *ids)) if ids else []
    return {one["Name"].removeprefix("/"): one["State"] for one in found}


def listed(vm: Machine, *words: str) -> dict[str, str]:
    lines = cli(vm, "ps", *words, "--format", "{{.Names}} {{.State}}").splitlines()
    return dict(line.split(" ") for line in lines)


@pytest.mark.parametrize("how", HOW)
def test_containers_after_a_reboot(vm: Machine, how: str) -> None:
    vm.sh(SETUP, timeout=LIMIT)
    assert listed(vm).keys() == {*RUNNING, "temporary", "wanted"}
    vm.reboot(*HOW[how])

    assert listed(vm) == {}
    assert listed(vm, "-a") == {name: state for name, (state, _) in STAYS.items()}
    states = inspected(vm)
    assert {name: (one["Status"], one["ExitCode"]) for name, one in states.items()} == STAYS
    assert not any(one["Running"] or one["Pid"] for one in states.values())
    # A log is not synced: what is at its end may be lost with the caches.
    assert cli(vm, "logs", "ended") in (("said\n",) if how == "synced" else ("said\n", ""))
    numbers = cli(vm, "logs", "counting").split()
    assert numbers == [str(number) for number in range(len(numbers))]
    assert len(numbers) > 0 or how == "unsynced"

    # Nothing acts on what is not there, and names are taken while their container is.
    assert "is not running" in cli(vm, "exec", "sleeping", "true", code=1)
    assert "is not running" in cli(vm, "kill", "sleeping", code=1)
    assert "already in use" in cli(vm, "create", "--name", "again", "busybox", code=1)
    cli(vm, "stop", "counting")

    # What its restart policy wants is started by who is asked to, and is cared for from then on.
    assert cli(vm, "system", "boot") == "wanted\n"
    assert listed(vm) == {"wanted": "running"}
    vm.sh(f"kill -9 $({PYCONTAIN} inspect -f '{{{{.State.Pid}}}}' wanted)", timeout=LIMIT)
    ask = f"{PYCONTAIN} inspect -f '{{{{.State.Status}}}} {{{{.RestartCount}}}}' wanted"
    vm.sh(f"until [ \"$({ask})\" = 'running 1' ]; do :; done", timeout=LIMIT)
    cli(vm, "rm", "-f", "wanted", "unwanted")
    vm.sh("while [ -L /run/pycontain/supervisor ]; do sleep 0.1; done", timeout=LIMIT)

    again = (*RUNNING, "made")
    cli(vm, "start", *again)
    assert listed(vm) == dict.fromkeys(again, "running")
    for name in ("counting", "frozen"):
        assert "localhost" in cli(vm, "exec", name, "cat", "/etc/hosts")
        assert "10.0.2.3" in cli(vm, "exec", name, "cat", "/etc/resolv.conf")
    assert "root:" in cli(vm, "exec", "counting", "cat", "/etc/passwd")
    cli(vm, "start", "-a", "removed-at-its-end")
    cli(vm, "rm", "-f", *again, "ended")
    assert inspected(vm) == {}
    assert vm.sh(LEFT) == ""
    for name in ("temporary", "counting"):
        line = ("run", "--rm", "--network", "none", "--name", name, "busybox", "echo", "ok")
        assert cli(vm, *line) == "ok\n"
    assert vm.sh(LEFT) == ""


@pytest.mark.parametrize("how", HOW)
def test_containers_of_the_runtime_after_a_reboot(vm: Machine, how: str) -> None:
    """They live below /run alone: a manager that asks for one is told that there is none."""
    names = ["created", "paused", "running"]
    assert sorted(vm.sh(RUNTIME_SETUP, timeout=LIMIT).split()) == names
    vm.reboot(*HOW[how])

    assert vm.sh(f"{RUNTIME} list -q") == ""
    for verb in ("state", "start", "kill", "delete"):
        done = vm.run(RUNTIME, verb, "running", check=False)
        assert done.code == 1, (verb, done)
        assert "does not exist" in done.output
    assert vm.run(RUNTIME, "delete", "--force", "running").code == 0
    assert sorted(vm.sh(RUNTIME_SETUP, timeout=LIMIT).split()) == names
    for name in names:
        vm.run(RUNTIME, "delete", "--force", name)
    assert vm.sh(f"{RUNTIME} list -q") == ""
    assert vm.sh("ls /run/pycontain-runtime").split() in ([], ["@seccomp"])
    assert vm.sh("find /sys/fs/cgroup/pycontain* -mindepth 1 -type d 2>/dev/null || true") == ""
