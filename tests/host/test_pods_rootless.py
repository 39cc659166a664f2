"""Pods of an ordinary user: the same, in the user's namespaces."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from ordinary import User, ordinary_user

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.host

MANIFEST = b"""
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hidden}
---
apiVersion: v1
kind: Pod
metadata: {name: mine}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsUser: 7, fsGroup: 77}
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    volumeMounts:
    - {name: keys, mountPath: /keys}
    - {name: work, mountPath: /scratch}
    - {name: fast, mountPath: /fast}
    - {name: fast, mountPath: /part, subPath: a/b}
  volumes:
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - {name: work, emptyDir: {}}
  - {name: fast, emptyDir: {medium: Memory}}
"""


@pytest.fixture(scope="module")
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as user:
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        done(user, "run", "--rm", "busybox", "true")
        yield user


def done(user: User, *words: str) -> str:
    """Standard output of a command, which must succeed."""
    found = user.run(*words)
    assert found.returncode == 0, (words, found.stderr)
    return found.stdout.decode()


def holders(user: User) -> list[int]:
    """The processes that hold sandboxes of the user."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}").st_uid in (0, user.entry.pw_uid):
                with open(f"/proc/{pid}/cmdline") as file:
                    if file.read().startswith("pycontain-sandbox mine"):
                        found.append(int(pid))
        except OSError:
            continue
    return found


def test_a_pod_of_an_ordinary_user(user: User) -> None:
    done(user, "pod", "create", "--network", "none", "--share", "+pid", "mine")
    done(user, "run", "-d", "--init", "--pod", "mine", "busybox", "sleep", "1000")
    script = "hostname; echo kept >/dev/shm/file; ps -o args"
    text = done(user, "run", "--rm", "--pod", "mine", "busybox", "sh", "-c", script)
    assert text.startswith("mine\n")
    assert "sleep 1000" in text
    assert json.loads(done(user, "pod", "inspect", "mine"))["State"] == "Running"
    done(user, "pod", "stop", "-t", "0", "mine")
    assert json.loads(done(user, "pod", "inspect", "mine"))["State"] == "Exited"
    done(user, "pod", "rm", "mine")
    assert holders(user) == []


def test_a_pod_that_an_ordinary_user_plays(user: User) -> None:
    assert user.run("kube", "play", "-", input=MANIFEST).returncode == 0
    script = (
        "id -u; echo x >/scratch/x; echo kept >/part/x; stat -c %g /fast/a/b/x; cat /keys/token"
    )
    text = done(user, "exec", "mine-up", "sh", "-c", script)
    assert text == "7\n77\nhidden"
    assert done(user, "kube", "get", "pod/mine").split()[5:9] == ["mine", "1/1", "Running", "0"]
    assert "kind: Pod" in done(user, "kube", "generate", "mine")
    # The next holder has the volume in memory from the container.
    (holder,) = holders(user)
    os.kill(holder, signal.SIGKILL)
    wait_until(lambda: holders(user) not in ([], [holder]))
    assert done(user, "exec", "mine-up", "cat", "/fast/a/b/x") == "kept\n"
    (holder,) = holders(user)
    wait_until(lambda: Path(f"/proc/{holder}/root/memory/0/a/b/x").exists())
    down = user.run("kube", "down", "-", input=MANIFEST)
    assert (down.returncode, down.stderr) == (0, b"")
    assert done(user, "pod", "ps", "-q") == ""
    assert holders(user) == []


def test_what_an_ordinary_user_has_ends_and_comes_again(user: User) -> None:
    assert user.run("kube", "play", "-", input=MANIFEST).returncode == 0
    done(user, "run", "-d", "--name", "alone", "--init", "--network", "none", "--restart",
         "always", "busybox", "sleep", "1000")  # fmt: skip
    before = done(user, "ps", "-q")
    assert sorted(done(user, "system", "shutdown").split()) == ["alone", "mine-up"]
    assert (done(user, "ps", "-q"), holders(user)) == ("", [])
    assert sorted(done(user, "system", "boot").split()) == ["alone", "mine"]
    wait_until(lambda: sorted(done(user, "ps", "-q").split()) == sorted(before.split()))
    done(user, "rm", "-f", "alone")
    assert user.run("kube", "down", "-", input=MANIFEST).returncode == 0


def test_limits_need_root(user: User) -> None:
    refused = user.run("pod", "create", "-m", "64m", "small")
    assert refused.returncode == 125
    assert b"limits need root" in refused.stderr


SERVERS = b"""
apiVersion: apps/v1
kind: Deployment
metadata: {name: servers}
spec:
  replicas: 2
  selector: {matchLabels: {app: servers}}
  template:
    metadata: {labels: {app: servers}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: up
        image: busybox
        command: [httpd, -f, -h, /etc]
        readinessProbe: {httpGet: {path: /hostname, port: 80}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
"""


def test_a_deployment_of_an_ordinary_user_is_kept_and_probed(user: User) -> None:
    applied = user.run("kube", "apply", "--wait", "--timeout", "60", "-", input=SERVERS)
    assert (applied.returncode, applied.stderr) == (0, b"")
    row = done(user, "kube", "get", "deploy").splitlines()[1]
    assert row.split()[:2] == ["servers", "2/2"]
    victim = done(user, "pod", "ps", "--format", "{{.Name}}").split()[0]
    done(user, "pod", "rm", "-f", victim)
    again = user.run("kube", "apply", "--wait", "--timeout", "60", "-", input=SERVERS)
    assert (again.returncode, again.stdout) == (0, b"deployment.apps/servers unchanged\n")
    names = done(user, "pod", "ps", "--format", "{{.Name}}").split()
    assert len(names) == 2
    assert victim not in names
    assert user.run("kube", "down", "-", input=SERVERS).returncode == 0
    assert done(user, "pod", "ps", "-q") == ""
