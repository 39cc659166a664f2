"""The program of probe.c: makes one system call inside of a container."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

BUILT = "PYCONTAIN_TEST_PROBE"
"""Environment variable: its path where it was compiled elsewhere; a machine may lack a compiler."""


def compile(place: str) -> str:
    """Make the program, static, at a path; skip the test where that is not possible."""
    built = os.environ.get(BUILT)
    if built:
        return shutil.copy2(built, place)
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    source = os.path.join(os.path.dirname(__file__), "probe.c")
    words = ["-D_GNU_SOURCE", "-static", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *words, "-o", place, source], check=True)
    return place
