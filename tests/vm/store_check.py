"""In the machine, after it lost its power: is the store sound, and does every command work?

Prints one line for each thing that is wrong, and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.image.documents import LAYER, MANIFEST, chain_ids
from tests.unit import imagefiles
from tests.vm.store_commands import command, fingerprint, warm_up
from tests.vm.store_work import BUILT, IMAGE_NUMBERS, IMAGES, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/var/lib/pycontain"
STATE = "/run/pycontain"
BASELINE = "/var/lib/baseline.json"
LAYERS = f"{IMAGES}/layers.json"
"""What is in the layers of the archives' images, by the layers' names."""
FILES = 60
DOCUMENTS = ("containers", "names", "images", "volumes", "cache")
# A container's own: what is in them is not for the store to keep. What is in partial is not whole.
ITS_OWN = ("upper", "work", "data", "partial")
# A log ends where it ends; the others are written anew, or removed, when the container starts.
SPARED = ("container.log", "hosts", "hostname", "resolv.conf", ".")


def tell(*words: object) -> None:
    print(*words, flush=True)


def ask(*words: str, root: str | None = None, builds: bool = False) -> str:
    """What a command printed; that it failed or complained is told."""
    done = command(*words, root=root)
    if done.code or (done.err and not builds):
        tell(f"pycontain {' '.join(words)}: {done.code}: {done.err.strip()}")
    return done.out


def documents(root: str) -> Iterator[str]:
    """The files that are the store's."""
    yield f"{root}/version"
    for part in DOCUMENTS:
        for folder, folders, names in os.walk(f"{root}/{part}"):
            folders[:] = [name for name in folders if name not in ITS_OWN]
            yield from (f"{folder}/{name}" for name in names)


def look_at_documents(root: str) -> None:
    for path in documents(root):
        name = os.path.basename(path)
        if os.path.islink(path) or name.startswith(SPARED):
            continue
        with open(path, "rb") as file:
            data = file.read()
        if not data.strip(b"\0"):
            tell(f"{path}: {len(data)} bytes, all NUL")
        if name.endswith(".json") or ("/blobs/" in path and len(data) < 1 << 14):
            try:
                json.loads(data)
            except ValueError as err:
                tell(f"{path}: {err}")


def look_at_leftovers(root: str, state: str, known: set[str], names: set[str]) -> None:
    """What is in the store's folders although it has no container."""
    found = {f"{root}/containers": known, f"{root}/names": names, f"{state}/containers": known,
             f"{root}/work": set()}  # fmt: skip
    for folder, allowed in found.items():
        for name in set(os.listdir(folder)) - allowed:
            tell(f"{folder}/{name}: left over")
    for name in os.listdir(f"{state}/locks"):
        if name.startswith("container-") and name[10:] not in known:
            tell(f"{state}/locks/{name}: left over")
    groups = "/sys/fs/cgroup/pycontain"
    for name in os.listdir(groups) if os.path.isdir(groups) else ():
        if os.path.isdir(f"{groups}/{name}") and name not in known:
            tell(f"{groups}/{name}: left over")


def look_at_image(root: str) -> None:
    """The layer's files are what they were, and blobs have the digests in their names."""
    with open(BASELINE) as file:
        expected = json.load(file)
    (layer,) = os.listdir(f"{root}/layers")
    found = fingerprint(f"{root}/layers/{layer}")
    for path in expected.keys() | found.keys():
        if found.get(path) != expected.get(path):
            tell(f"image: {path}: {found.get(path)} instead of {expected.get(path)}")
    look_at_blobs(root)


def look_at_blobs(root: str) -> None:
    blobs = f"{root}/images/blobs/sha256"
    for name in os.listdir(blobs):
        with open(f"{blobs}/{name}", "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != name:
            tell(f"{blobs}/{name}: has the digest {digest}")


def look_at_layers(known: dict[str, bool]) -> None:
    """Every layer is whole; images are there, or not, as was said. Removes them."""
    with open(LAYERS) as file:
        expected = json.load(file)
    form = ("--format", "{{.Repository}}:{{.Tag}}")
    names = {name for name in ask("images", *form).split() if name.startswith(("power:", "also:"))}
    for name, there in known.items():
        if there != (name in names):
            tell(f"image {name}: is {'not ' * there}there")
    for name in names:
        form = ("--format", "{{range .RootFS.Layers}}{{.}} {{end}}")
        layers = chains(ask("inspect", *form, name).split())
        for layer in set(layers) - set(os.listdir(f"{ROOT}/layers")):
            tell(f"image {name}: layer {layer} is not there")
    look_at_blobs(ROOT)
    for layer in expected.keys() & set(os.listdir(f"{ROOT}/layers")):
        found = fingerprint(f"{ROOT}/layers/{layer}")
        for path in expected[layer].keys() | found.keys():
            if found.get(path) != expected[layer].get(path):
                tell(f"layer {layer}: {path}: {found.get(path)} not {expected[layer].get(path)}")
    for name in sorted(names)[:1]:
        count = ask("run", "--rm", "--network", "none", name, "sh", "-c", "ls /files | wc -l")
        if count.strip() != str(FILES):
            tell(f"image {name}: {count.strip()} files instead of {FILES}")
    if names:
        ask("rmi", *sorted(names))
    ask("image", "prune", "-f")
    if os.path.isdir(f"{ROOT}/unsynced"):
        for folder, _, left in os.walk(f"{ROOT}/unsynced"):
            for name in left:
                tell(f"{folder}/{name}: the mark of a layer that is gone")


def chains(diff_ids: list[str]) -> list[str]:
    """The names of an image's unpacked layers."""
    return [name.removeprefix("sha256:") for name in chain_ids(tuple(diff_ids))]


def look_at_log(name: str) -> int:
    """A container's log: lines that count on, anew with each start. Return how many there are."""
    text = ask("logs", name)
    lines = text.splitlines()
    if text and not text.endswith("\n"):
        tell(f"{name}: log: the last line has no end: {lines[-1]!r}")
    # What was rotated away is the beginning.
    last = -1 if not name.startswith("rotating") or not lines else int(lines[0].split()[1]) - 1
    for at, line in enumerate(lines):
        word, _, number = line.partition(" ")
        if word != "line" or not number.isdecimal() or int(number) not in (0, last + 1):
            tell(f"{name}: log: line {at} of {len(lines)}: {line!r} after {last}")
            break
        last = int(number)
    return len(lines)


def look_at_container(name: str, identity: str) -> None:
    """It can be started, is whole then, and can be stopped and removed."""
    ask("inspect", name)
    before = look_at_log(name)
    ask("start", name)
    if not name.startswith("short"):
        hosts = ask("exec", name, "cat", "/etc/hosts")
        if "localhost" not in hosts:
            tell(f"{name}: /etc/hosts is {hosts!r}")
        if "nameserver" not in ask("exec", name, "cat", "/etc/resolv.conf"):
            tell(f"{name}: /etc/resolv.conf names no server")
        if ask("exec", name, "hostname").strip() != identity[:12]:
            tell(f"{name}: /etc/hostname")
        state = ask("inspect", "--format", "{{.State.Status}}", name).strip()
        if state != "running":
            tell(f"{name}: {state} after start")
        ask("stop", "-t", "0", name)
    else:
        ask("wait", name)
    for file in os.listdir(f"{ROOT}/containers/{identity}"):
        if file.startswith("."):
            tell(f"{name}: {file}: unfinished")
    look_at_volume(name)
    after = look_at_log(name)
    if after <= before and not name.startswith("rotating"):
        tell(f"{name}: log: {after} lines after another start, {before} before")
    ask("rm", *(("-f",) if len(name) % 2 else ()), name)


def look_at_volume(name: str) -> None:
    """It was filled from the image, and nothing in the container wrote to it."""
    place = ask("inspect", "--format", "{{range .Mounts}}{{.Source}}{{end}}", name).strip()
    with open(BASELINE) as file:
        layer = json.load(file)
    expected = {
        path.removeprefix("/etc"): text for path, text in layer.items() if path.startswith("/etc/")
    }
    found = fingerprint(place)
    for path in expected.keys() | found.keys():
        if found.get(path) != expected.get(path):
            tell(f"{name}: volume: {path}: {found.get(path)} instead of {expected.get(path)}")


def look_at_containers(there: set[str], ended: set[str]) -> None:
    """All of them; those of `there` must be, those of `ended` with the exit code that they had."""
    form = ("--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")
    rows = [line.split() for line in ask("ps", "-a", *form).splitlines()]
    known = {name: identity for identity, name, _ in rows}
    ask("volume", "ls")  # which takes away those that died with the boot, unread
    look_at_documents(ROOT)
    look_at_leftovers(ROOT, STATE, set(known.values()), set(known))
    for _, name, state in rows:
        if state not in ("created", "exited"):
            tell(f"{name}: {state} after the power went")
        if not KINDS[name.rpartition("-")[0]].stays:
            tell(f"{name}: was to be removed at its end")
    for name in there - known.keys():
        tell(f"{name}: was there and is not")
    for name in ended & known.keys():
        code = ask("inspect", "--format", "{{.State.ExitCode}}", name).strip()
        if code != "7":
            tell(f"{name}: exit code {code}")
    for command_line in (("images",), ("info",), ("ps",)):
        ask(*command_line)
    for name, identity in known.items():
        look_at_container(name, identity)


def look_at_build() -> None:
    """The image that was being built."""
    if os.path.isdir(BUILT):
        ask("ps", "-a", root=BUILT)
        names = ask("ps", "-aq", root=BUILT).split()
        if names:
            ask("rm", "-f", *names, root=BUILT)
        if ask("run", "--rm", "busybox", "echo", "ok", root=BUILT, builds=True) != "ok\n":
            tell("no run with the image that was being built")
        look_at_image(BUILT)
        look_at_documents(BUILT)
        look_at_leftovers(BUILT, f"/run{BUILT}", set(), set())


def prepare() -> None:
    """Make the image and remember what is in it; on the disk before the first power cut."""
    with open("/etc/resolv.conf", "w") as file:
        file.write("nameserver 10.0.2.3\n")
    ask("run", "--rm", "busybox", "true", builds=True)
    (layer,) = os.listdir(f"{ROOT}/layers")
    with open(BASELINE, "w") as file:
        json.dump(fingerprint(f"{ROOT}/layers/{layer}"), file)
    make_images()
    os.sync()


def make_images() -> None:
    """Write the archives, and remember what is in their layers."""
    os.makedirs(IMAGES)
    (base,) = os.listdir(f"{ROOT}/layers")
    with open(f"{ROOT}/images/blobs/sha256/{base}", "rb") as file:
        busybox = file.read()
    known = {}
    for number in IMAGE_NUMBERS:
        chance = random.Random(number)
        # Small ones, whose content comes long after their names, and such as are written early.
        sizes = [chance.choice((10, 5_000, 70_000)) for _ in range(FILES)]
        files = [(f"files/{at}", chance.randbytes(size)) for at, size in enumerate(sizes)]
        layers = [busybox, imagefiles.tar(files), imagefiles.layer(f"last-{number}", 100_000)]
        packed = [busybox, gzip.compress(layers[1], 1), layers[2]]
        config = imagefiles.configuration(layers)
        kinds = (LAYER, f"{LAYER}+gzip", LAYER)
        described = [
            imagefiles.descriptor(kind, data) for kind, data in zip(kinds, packed, strict=True)
        ]
        manifest = imagefiles.manifest(config, (), layers=described)
        name = {"org.opencontainers.image.ref.name": f"power:{number}"}
        top = imagefiles.descriptor(MANIFEST, manifest, annotations=name)
        archive = imagefiles.oci(imagefiles.index([top]), manifest, config, *packed)
        ask("load", "-qi", imagefiles.write(Path(IMAGES, f"{number}.tar"), archive))
        for layer in chains([imagefiles.digest(data) for data in layers])[1:]:
            known[layer] = fingerprint(f"{ROOT}/layers/{layer}")
        ask("rmi", f"power:{number}")
    with open(LAYERS, "w") as file:
        json.dump(known, file)


def main() -> None:
    warm_up()
    if sys.argv[1] == "prepare":
        prepare()
        return
    asked = json.loads(sys.argv[2])
    begun = time.monotonic()
    marked = sum(len(names) for _, _, names in os.walk(f"{ROOT}/unsynced"))
    look_at_containers(set(asked["there"]), set(asked["ended"]))
    look_at_layers(asked["images"])
    look_at_build()
    if ask("run", "--rm", "--network", "none", "busybox", "echo", "ok") != "ok\n":
        tell("no new container runs")
    ask("ps", "-a")
    look_at_leftovers(ROOT, STATE, set(), set())
    look_at_documents(ROOT)
    look_at_image(ROOT)
    seconds = time.monotonic() - begun
    print(f"looked for {seconds:.1f} s, {marked} layers were marked", file=sys.stderr)


if __name__ == "__main__":
    main()
