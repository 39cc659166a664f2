"""In the machine: the command line, called without starting an interpreter for each.

The modules are imported once; each command is a fork. Under emulation that is twenty times as fast,
so that more happens between two power cuts.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
import stat
import sys
import traceback
from importlib import import_module
from typing import NamedTuple

import pycontain
from pycontain.cli.main import main


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def warm_up() -> None:
    """Import what the commands need."""
    for module in pkgutil.walk_packages(pycontain.__path__, "pycontain."):
        if not module.name.endswith("__main__") and "._native" not in module.name:
            import_module(module.name)


def command(*words: str, root: str | None = None) -> Done:
    """Run a command line of ``pycontain`` in a process of its own."""
    place = ["--root", root, "--state", f"/run{root}"] if root else []
    outputs = [os.pipe(), os.pipe()]
    pid = os.fork()
    if not pid:
        _become([*place, *words], [write for _, write in outputs])
    texts = []
    for _, write in outputs:
        os.close(write)
    # Neither fills a pipe that nobody reads meanwhile: the outputs of these commands are short.
    for read, _ in outputs:
        with open(read, "rb") as file:
            texts.append(file.read().decode(errors="replace"))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Done(code, *texts)


def _become(words: list[str], outputs: list[int]) -> None:
    code = 70
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for number, fd in enumerate((null, *outputs)):
            os.dup2(fd, number)
        os.closerange(3, 64)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - ends with the process
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        code = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - whatever it was, the process ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def fingerprint(top: str) -> dict[str, str]:
    """What is below a folder: path → kind, mode, owner, and digest of content or target."""
    found = {}
    digests: dict[int, str] = {}
    for folder, folders, names in os.walk(top):
        for name in (*folders, *names):
            path = f"{folder}/{name}"
            info = os.lstat(path)
            content = ""
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                if info.st_ino not in digests:
                    with open(path, "rb") as file:
                        digests[info.st_ino] = hashlib.file_digest(file, "sha256").hexdigest()
                content = digests[info.st_ino]
            words = (oct(info.st_mode), info.st_uid, info.st_gid, content)
            found[path.removeprefix(top)] = " ".join(map(str, words))
    return found
