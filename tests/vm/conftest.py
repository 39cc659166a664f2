"""Fixtures of the tests that drive a virtual machine from the host."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.vm import disk, machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# As where it is installed: without the site module. Programs in the machine's /run/project.
PROGRAMS = {"pycontain": "pycontain.cli.main", "pycontain-runtime": "pycontain.oci.main"}
_TEXT = """\
#!/usr/bin/python3 -IS
import os
import sys

sys.path[:0] = ["/run/project", "/usr/local/lib/python{version}/dist-packages"]
from {module} import main

code = main()
sys.stdout.flush()
os._exit(code)
"""


def _program(folder: Path, name: str, module: str) -> Path:
    place = folder / f"{name}.program"  # the package has the other name
    version = ".".join(map(str, sys.version_info[:2]))
    place.write_text(_TEXT.format(version=version, module=module))
    place.chmod(0o755)
    return place


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkout as a machine gets it, with the two command lines as programs."""
    absent = machine.missing()
    if absent:
        pytest.skip(f"not installed: {' '.join(absent)}")
    if os.geteuid() != 0:
        pytest.skip("needs root: a Debian system is unpacked with its owners and devices")
    folder = tmp_path_factory.mktemp("project")
    programs = [_program(folder, name, module) for name, module in PROGRAMS.items()]
    disk.get()
    with machine.archive(folder, *programs) as place:
        yield place


@pytest.fixture
def vm(project: Path, tmp_path: Path) -> Iterator[machine.Machine]:
    """A machine that has just booted, from a disk of its own."""
    with machine.Machine(tmp_path, project) as booted:
        yield booted
