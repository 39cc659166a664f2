"""checkpoint where criu is missing, too old, or cannot: the container goes on, nothing is left.

That it works is seen in the virtual machine (tests/vm/guest/test_checkpoint.py): a kernel may be
too new for the criu that a host has.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from .bundle import reap, wait_until

if TYPE_CHECKING:
    from .bundle import Bundle

# Speaks criu's protocol as far as to tell a version: 3.1.
OLD = """\
#!{python} -IS
import socket
client = socket.socket(fileno=3)
client.recv(65536)
client.send(bytes([8, 10, 16, 1, 0x52, 4, 8, 3, 16, 1]))
client.recv(65536)
"""
MUTE = "#!/bin/sh\nexit 3\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "start criu: it is not in $PATH"),
        (OLD.format(python=sys.executable), "criu is too old: 3.1, and 3.15 is the least"),
        (MUTE, "criu ended"),
    ],
    ids=["missing", "old", "mute"],
)
def test_no_criu(
    bundle: Bundle, text: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = bundle.up()
    if text:
        os.chmod(bundle.make("bin/criu", text), 0o755)
    monkeypatch.setenv("PATH", f"{bundle.folder}/bin")
    images = f"{bundle.folder}/images"
    done = bundle.call("checkpoint", "--image-path", images, bundle.id, ok=False)
    assert done.returncode == 1
    assert f"checkpoint container {bundle.id}: {words}" in done.stderr
    assert not os.path.exists(images)
    assert bundle.state()["pid"] == pid
    assert bundle.status == "running"
    os.mkdir(images)
    with open(f"{images}/pycontain.json", "w") as file:
        file.write('{"version":1,"mounts":[],"streams":["","",""],"namespaces":[],'
                   '"noNewPrivileges":false}')  # fmt: skip
    words_of_restore = ["--image-path", images, "--bundle", bundle.folder, f"{bundle.id}-2"]
    done = bundle.call("restore", *words_of_restore, ok=False)
    assert done.returncode == 1
    assert f"restore container {bundle.id}-2: {words}" in done.stderr
    assert bundle.kept() == [bundle.id]


@pytest.mark.skipif(not shutil.which("criu"), reason="needs criu")
def test_what_criu_of_this_host_says(bundle: Bundle) -> None:
    """It does it, or its reason is told and the container goes on."""
    pid = bundle.up_sh("n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done")
    bundle.until("3\n")
    images = f"{bundle.folder}/images"
    done = bundle.call("checkpoint", "--image-path", images, bundle.id, ok=False)
    if done.returncode == 0:
        reap(pid)
        assert not bundle.exists()
        return
    assert f"checkpoint container {bundle.id}: criu: " in done.stderr
    assert f"hint: criu's log is {images}/dump.log" in done.stderr
    assert os.listdir(images) == ["dump.log"]
    assert bundle.status == "running"
    assert bundle.state()["pid"] == pid
    seen = len(bundle.output())
    wait_until(lambda: len(bundle.output()) > seen)


@pytest.mark.parametrize("status", ["created", "stopped"])
def test_of_what_does_not_run(bundle: Bundle, status: str) -> None:
    bundle.process["args"] = ["true"]
    bundle.create()
    if status == "stopped":
        bundle.start()
        bundle.ended()
        wait_until(lambda: bundle.status == "stopped")
    done = bundle.call("checkpoint", "--image-path", f"{bundle.folder}/i", bundle.id, ok=False)
    assert done.returncode == 1
    assert f"container {bundle.id} cannot be checkpointed: it is {status}" in done.stderr
    assert not os.path.exists(f"{bundle.folder}/i")
