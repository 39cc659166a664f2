"""In the machine: make, start, stop and remove containers until the power goes.

Says on its output what it begins and what is done: what was done must be there afterwards.
"""

from __future__ import annotations

import fcntl
import random
import shutil
import sys
import termios
from typing import NamedTuple

from tests.vm.store_commands import command, warm_up

# Counts, so that a gap in its log would show; what it wrote comes in small pieces, as of a service.
COUNT = 'i=0; while :; do echo "line $i"; i=$((i+1)); sleep 0.02; done'
SHORT = "echo line 0; exit 7"
OPTIONS = ("--network", "none", "-v", "/etc")
BUILT = "/var/lib/built"


class Kind(NamedTuple):
    """How a container is made."""

    words: tuple[str, ...]
    script: str
    runs: bool  # afterwards
    stays: bool  # in the store, until it is removed


KINDS = {
    "create": Kind(("create",), COUNT, runs=False, stays=True),
    "short": Kind(("run",), SHORT, runs=False, stays=True),
    "run": Kind(("run", "-d"), COUNT, runs=True, stays=True),
    "rotating": Kind(
        ("run", "-d", "--log-opt", "max-size=2k", "--log-opt", "max-file=3"), COUNT,
        runs=True, stays=True,
    ),
    "json": Kind(("run", "-d", "--log-driver", "json-file"), COUNT, runs=True, stays=True),
    "removed": Kind(("run", "--rm"), SHORT, runs=False, stays=False),
    "until-stopped": Kind(("run", "-d", "--rm"), COUNT, runs=True, stays=False),
}  # fmt: skip
SLOTS = 6
IMAGES = "/var/lib/images"
"""Folder of archives: ``NUMBER.tar`` has the image ``power:NUMBER``."""
IMAGE_NUMBERS = (1, 2)


def say(*words: object) -> None:
    """Say it, and wait until it has been read: what is begun must be known when the power goes."""
    print(*words, flush=True)
    unread = b"\1"
    while unread.strip(b"\0"):
        unread = fcntl.ioctl(1, termios.FIONREAD, bytes(4))


class Work:
    """What is in the store, as far as this process knows."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.runs: dict[str, bool] = {}
        self.kinds: dict[str, Kind] = {}
        self.number = 0
        self.images: set[str] = set()

    def do(self, verb: str, name: str, *words: str, codes: tuple[int, ...] = (0,)) -> None:
        """One command; an error is said, for whoever reads."""
        say("begin", verb, name)
        done = command(*words)
        say("done" if done.code in codes else f"failed {done.code} {done.err!r}", verb, name)

    def step(self) -> None:
        """Something that can be done now."""
        if not self.images or self.chance.random() < 0.25:
            self.image()
            return
        free = SLOTS - len(self.runs)
        if free and (free > 3 or self.chance.random() < 0.4):
            self.make()
            return
        name = self.chance.choice(list(self.runs))
        if self.runs[name]:
            verb = self.chance.choice(("exec", "stop", "kill", "restart", "rm -f", "ps", "logs"))
        else:
            verb = self.chance.choice(("start", "start", "rm", "rm -f", "ps"))
        getattr(self, verb.replace(" -f", "_forced"))(name)

    def make(self) -> None:
        kind = self.chance.choice(list(KINDS))
        how = KINDS[kind]
        self.number += 1
        name = f"{kind}-{self.number}"
        script = ("busybox", "sh", "-c", how.script)
        self.do(kind, name, *how.words, "--name", name, *OPTIONS, *script, codes=(0, 7))
        if how.runs or how.stays:
            self.runs[name] = how.runs
            self.kinds[name] = how

    def image(self) -> None:
        """Load an image, or give one another name, or take a name away."""
        name = f"power:{self.chance.choice(IMAGE_NUMBERS)}"
        also = name.replace("power", "also")
        if name not in self.images:
            archive = f"{IMAGES}/{name.partition(':')[2]}.tar"
            self.do("load", name, "load", "-qi", archive)
            self.images.add(name)
        elif also not in self.images:
            self.do("tag", also, "tag", name, also)
            self.images.add(also)
        else:
            name = self.chance.choice((name, also))
            self.do("rmi", name, "rmi", name)
            self.images.remove(name)

    def gone(self, name: str) -> None:
        del self.runs[name], self.kinds[name]

    def ended(self, name: str) -> None:
        self.runs[name] = False
        if not self.kinds[name].stays:
            self.gone(name)

    def exec(self, name: str) -> None:
        self.do("exec", name, "exec", name, "sh", "-c", "echo x >/written; cp -r /bin /copy")

    def start(self, name: str) -> None:
        self.do("start", name, "start", name)
        self.runs[name] = self.kinds[name].script == COUNT

    def stop(self, name: str) -> None:
        self.do("stop", name, "stop", "-t", "0", name)
        self.ended(name)

    def kill(self, name: str) -> None:
        self.do("kill", name, "kill", name)
        self.ended(name)

    def restart(self, name: str) -> None:
        if self.kinds[name].stays:
            self.do("restart", name, "restart", "-t", "0", name)

    def rm(self, name: str) -> None:
        # One that has been started and is short may still be ending.
        self.do("rm", name, "rm", "-f", name)
        self.gone(name)

    rm_forced = rm

    def ps(self, name: str) -> None:
        self.do("ps", name, "ps", "-a")

    def logs(self, name: str) -> None:
        self.do("logs", name, "logs", "--tail", "1", name)


def build() -> None:
    """Build the image in a new store, again and again."""
    while True:
        shutil.rmtree(BUILT, ignore_errors=True)
        say("begin build -")
        done = command("create", "--name", "built", "busybox", "true", root=BUILT)
        say("done build -" if done.code == 0 else f"failed {done.code} {done.err!r} build -")


def main() -> None:
    what, seed = sys.argv[1:]
    warm_up()
    say("begin warm -")
    if what == "build":
        build()
    work = Work(seed)
    while True:
        work.step()


if __name__ == "__main__":
    main()
