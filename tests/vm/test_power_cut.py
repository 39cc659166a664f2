"""A power cut at a random moment, again and again: afterwards the store is sound.

What the machine's disk had not been told to keep is lost with QEMU. Each round works on the store
that the one before left behind, so that a damage that nobody sees at once is found later.
"""

from __future__ import annotations

import json
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from tests.vm.machine import Lost, Machine
from tests.vm.store_work import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.host, pytest.mark.slow]

ROUNDS = int(os.environ.get("PYCONTAIN_TEST_POWER_CUTS") or "8")
SEED = os.environ.get("PYCONTAIN_TEST_POWER_SEED") or str(random.SystemRandom().randrange(10**6))
BUILDS = 4  # one round in so many builds an image
MOST = {"containers": 60, "build": 6}  # lines that are heard before the cut
# ext4 commits names with the next fsync(2) of anybody, or after five seconds, and writes out data
# that nobody asked for after thirty: between the two a file has a name and no content.
LATER = (0.0, 0.0, 0.0, 7.0)
LIMIT = 900.0
PYTHON = ("python3", "-X", "faulthandler", "-m")


def listener(vm: Machine, what: str, seed: str, said: list[str]) -> Callable[[str], None]:
    """What is called with the machine's output, and cuts the power some time after some line."""
    chance = random.Random(seed)
    moment = chance.randrange(1, MOST[what])
    # A build takes seconds, a command a few tenths of one.
    short = chance.choice(LATER) + chance.expovariate(4)
    rest = chance.uniform(0, 15) if what == "build" else short
    timer = threading.Timer(rest, vm.pull)

    def heard(text: str) -> None:
        said.append(text)
        if not timer.ident and sum(piece.count("\n") for piece in said) > moment:
            timer.start()

    return heard


def promised(said: str) -> tuple[set[str], set[str]]:
    """The containers that must be there, and those of them that had ended by themselves."""
    there: set[str] = set()
    ended: set[str] = set()
    for line in said.splitlines():
        *begin, verb, name = line.split(" ")
        if begin == ["done"] and verb in KINDS and KINDS[verb].stays:
            there.add(name)
            if verb == "short":
                ended.add(name)
        elif verb == "rm":
            there.discard(name)
        elif verb == "start":
            ended.discard(name)
    return there, ended


def promised_images(said: str) -> dict[str, bool]:
    """Names of images: whether they must be there, or must not. Others were under way."""
    there: dict[str, bool] = {}
    for line in said.splitlines():
        word, verb, name = line.split(" ", 2) if line.count(" ") >= 2 else ("", "", "")
        if verb not in ("load", "tag", "rmi"):
            continue
        if word == "done":
            there[name] = verb != "rmi"
        else:
            there.pop(name, None)
    return there


def work(vm: Machine, what: str, seed: str) -> str:
    """Work until the power goes; return what was said before."""
    said: list[str] = []
    heard = listener(vm, what, seed, said)
    with pytest.raises(Lost):
        vm.run(*PYTHON, "tests.vm.store_work", what, seed, echo=heard, timeout=3600)
    vm.cut()
    whole, _, _ = "".join(said).rpartition("\n")
    return whole


def test_the_store_is_sound_after_power_cuts(vm: Machine) -> None:
    print(f"PYCONTAIN_TEST_POWER_SEED={SEED} PYCONTAIN_TEST_POWER_CUTS={ROUNDS}")
    done = vm.run(*PYTHON, "tests.vm.store_check", "prepare", timeout=LIMIT)
    assert not done.output, done.output
    for number in range(ROUNDS):
        what = "build" if number % BUILDS == BUILDS - 1 else "containers"
        said = work(vm, what, f"{SEED}-{number}")
        there, ended = promised(said)
        vm.start()
        images = promised_images(said)
        asked = json.dumps({"there": sorted(there), "ended": sorted(ended), "images": images})
        found = vm.run(
            *PYTHON, "tests.vm.store_check", "look", asked, timeout=LIMIT, check=False
        ).output.splitlines()
        problems = [line for line in found if not line.startswith("looked for")]
        print(
            f"round {number}: {what}, {said.count('done ')} commands, images {images};"
            f" {' '.join(found[-1:])}"
        )
        failed = [line for line in said.splitlines() if line.startswith("failed")]
        assert not failed, failed
        assert not problems, "\n".join([*problems, f"after: {said[-600:]}"])


def test_what_was_not_synced_is_lost(vm: Machine) -> None:
    """The rounds would prove nothing if a cut lost nothing."""
    script = "echo kept >/kept; sync; echo lost >/lost; echo now; sleep 1000"
    with pytest.raises(Lost):
        vm.run("sh", "-c", script, echo=lambda _: vm.pull(), timeout=3600)
    vm.cut()
    vm.start()
    assert vm.run("cat", "/kept").output == "kept\n"
    assert "lost\n" not in vm.run("cat", "/lost", check=False).output
