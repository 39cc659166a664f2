"""What a start of a container does not import: each of these costs milliseconds.

``python -I -S`` starts as ``native/pycontain`` starts it; what is asked is ``sys.modules`` after
the import, so it does not matter by which way a module comes in.
"""

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

DEAR = {
    "asyncio", "click", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools",
    "json", "logging", "msgspec", "pathlib", "psutil", "pyroute2", "re", "signal",
    "socket", "subprocess", "tempfile", "typing",
}  # fmt: skip

# Importing the module brings nothing of DEAR, but what is named here.
MODULES: dict[str, set[str]] = {
    "pycontain": set(),
    "pycontain.config": set(),
    "pycontain.errors": set(),
    "pycontain.trace": set(),
    "pycontain.kernel.capability": set(),
    "pycontain.kernel.cgroup": set(),
    "pycontain.kernel.devices": set(),
    "pycontain.kernel.firewall": set(),
    "pycontain.kernel.inotify": set(),
    "pycontain.kernel.mount": set(),
    "pycontain.kernel.netlink": set(),
    "pycontain.kernel.process": set(),
    "pycontain.kernel.release": set(),
    "pycontain.kernel.userns": set(),
    "pycontain.model.parse.numbers": set(),
    "pycontain.model.parse.signals": set(),
    "pycontain.model.parse.times": set(),
    "pycontain.model.parse.words": set(),
    "pycontain.oci.checkpoint": set(),
    "pycontain.oci.control": set(),
    "pycontain.oci.create": set(),
    "pycontain.oci.events": set(),
    "pycontain.oci.exec": set(),
    "pycontain.oci.features": set(),
    "pycontain.oci.listing": set(),
    "pycontain.oci.main": set(),
    "pycontain.oci.restore": set(),
    "pycontain.oci.scopes": set(),
    "pycontain.oci.specfile": set(),
    "pycontain.oci.update": set(),
    "pycontain.runtime.cgroups": set(),
    "pycontain.runtime.check": set(),
    "pycontain.runtime.links": set(),
    "pycontain.runtime.mounts": set(),
    "pycontain.runtime.plan": set(),
    "pycontain.runtime.privileges": set(),
    "pycontain.runtime.resources": set(),
    "pycontain.runtime.runner": set(),
    "pycontain.runtime.seccomp": set(),
    "pycontain.runtime.seccomp_bpf": set(),
    "pycontain.runtime.seccomp_default": set(),
    "pycontain.runtime.steps": set(),
    "pycontain.runtime.systemd": set(),
}


def imported(module: str) -> set[str]:
    """Return the modules that are there once a fresh interpreter has imported `module`."""
    # Where cffi's own part lives; last, so that it hides nothing.
    path = [ROOT, *(part for part in sys.path if part)]
    script = f"import sys; sys.path[:] += {path!r}; import {module}; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_an_import_brings_nothing_dear(module: str) -> None:
    found = imported(module)
    assert module in found
    assert found & DEAR == MODULES[module]


def test_nothing_dear_is_there_from_the_beginning() -> None:
    assert not imported("pycontain") & DEAR


def test_what_is_dear_is_seen() -> None:
    assert imported("typing") & DEAR >= {"typing", "re", "enum", "collections"}


def test_looking_at_containers_needs_nothing_that_making_one_does() -> None:
    making = {"pycontain.runtime.spec", "pycontain.model.parse", "pycontain.engine.launch"}
    assert not imported("pycontain.engine.containers") & making
