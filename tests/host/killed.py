"""Commands that are killed where they are about to call a function of ours.

``killer.c`` kills at a system call, which one by its number; here the place has a name.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from harness import python_env

if TYPE_CHECKING:
    from harness import Store

_COMMAND = """\
import importlib, os, signal, sys
root, state, path, place, word, *words = sys.argv[1:]
sys.path[:0] = path.split(":")
from pycontain.cli.main import main
where, _, name = place.partition(":")
owner = importlib.import_module(where)
*outer, name = name.split(".")
for part in outer:
    owner = getattr(owner, part)
real = getattr(owner, name)
def called(*args, **kwargs):
    if word and word not in args:
        return real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, name, called)
sys.exit(main(["--root", root, "--state", state, *words]))
"""


def killed(store: Store, place: str, *words: str, given: str = "") -> None:
    """Run a command that is killed before a call.

    Args:
        store: in which it runs.
        place: the function, ``module:name`` or ``module:Class.name``.
        words: of the command line.
        given: only of a call with this argument; empty: of the first one.
    """
    assert is_killed(store, place, *words, given=given)


def is_killed(store: Store, place: str, *words: str, given: str = "") -> bool:
    """As ``killed``, of a call that others may make first; whether this command came to it."""
    argv = [sys.executable, "-ISB", "-c", _COMMAND, store.root, store.state]
    path = ":".join(filter(None, sys.path))
    done = subprocess.run(
        [*argv, path, place, given, *words],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, env=python_env(),
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done
    return done.returncode != 0
