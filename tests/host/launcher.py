"""The face as it starts where it is installed: without the site module, on one path.

In the checkout's own environment the package is installed for editing, so the script of that name
has to ask site where it is, at several times the cost, for each of thousands of starts.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile

_TEXT = """\
#!{python} -IS
import gc
import os
import sys

gc.disable()
sys.path[:0] = {places!r}
from pycontain.oci.main import main

os._exit(main())
"""


@functools.cache
def path() -> str:
    """Return a program that runs the face of this checkout; it lasts as long as this process."""
    folder = tempfile.mkdtemp(prefix="pycontain-runtime-")
    atexit.register(_remove, folder, os.getpid())
    # A manager in namespaces of its own starts it too.
    os.chmod(folder, 0o755)
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    places = [checkout, *(place for place in sys.path if place.endswith("-packages"))]
    name = f"{folder}/pycontain-runtime"
    with open(name, "w") as file:
        file.write(_TEXT.format(python=sys.executable, places=places))
    os.chmod(name, 0o755)
    return name


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # not in a test that forks
        shutil.rmtree(folder)
