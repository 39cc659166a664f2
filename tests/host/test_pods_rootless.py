"""Pods of an ordinary user: the same, in the user's namespaces."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
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
  securityContext: {runAsUser: 7}
  containers:
  - name: up
    image: busybox
    command: [sleep, "1000"]
    volumeMounts: [{name: keys, mountPath: /keys}, {name: work, mountPath: /scratch}]
  volumes: [{name: keys, secret: {secretName: keys}}, {name: work, emptyDir: {}}]
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
    script = "id -u; cat /keys/token; echo x >/scratch/x"
    text = done(user, "exec", "mine-up", "sh", "-c", script)
    assert text == "7\nhidden"
    down = user.run("kube", "down", "-", input=MANIFEST)
    assert (down.returncode, down.stderr) == (0, b"")
    assert done(user, "pod", "ps", "-q") == ""
    assert holders(user) == []


def test_limits_need_root(user: User) -> None:
    refused = user.run("pod", "create", "-m", "64m", "small")
    assert refused.returncode == 125
    assert b"limits need root" in refused.stderr
