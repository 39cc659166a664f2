"""Recipes of the built-in base images, each a folder with ``build`` and ``config.json``.

``build TARGET VARIANT`` is a /bin/sh script that fills the empty folder TARGET; ``config.json``
holds ``config``, the same object of an OCI image configuration, and ``tags``, which maps each
declared tag to the VARIANT it is built from. Tags of one variant are names of one image.

Owns finding recipes and running their scripts; the image store decides when, and keeps the result.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from pycontain import config
from pycontain.errors import ImageError, NotFound
from pycontain.image import reference
from pycontain.store import files

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

DEFAULT_EPOCH = 1735689600
"""SOURCE_DATE_EPOCH when the environment has none: 2025-01-01 00:00 UTC. No file of an image is
younger, so that the same packages give the same digest whenever they are installed."""

_PASSED = (
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)
_MIRROR = "PYCONTAIN_DEBIAN_MIRROR"
_KEPT_LINES = 20
_MAX_LINE = 4096
_GRACE = 10.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe.

    Attributes:
        name: of the image, as ``busybox``.
        folder: where ``build`` is.
        config: the ``config`` object of the image configuration, as it is.
        tags: declared tag to variant, the script's second argument.
    """

    name: str
    folder: str
    config: dict[str, Any]
    tags: dict[str, str]

    def aliases(self, tag: str) -> list[str]:
        """Return the local names of the image that `tag` is built as: ``debian:latest`` …"""
        variant = self.tags[tag]
        return [f"{self.name}:{other}" for other in self.tags if self.tags[other] == variant]


class _Document(msgspec.Struct, frozen=True):
    config: dict[str, Any]
    tags: dict[str, str]


def recipes_folder() -> str:
    """Return the folder of the recipes: the installed package's, or ``images`` of a checkout.

    Raises:
        NotFound: neither is there.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for folder in (os.path.join(package, "_images"), os.path.join(package, "..", "images")):
        if os.path.isdir(folder):
            return os.path.normpath(folder)
    raise NotFound(f"recipes: {package}: neither _images in it nor images beside it")


def names(folder: str | None = None) -> list[str]:
    """Return the names of all recipes, sorted.

    Raises:
        NotFound: there is no folder of recipes.
        StoreError: it cannot be read.
    """
    folder = folder or recipes_folder()
    try:
        found = os.listdir(folder)
    except OSError as err:
        raise files.store_error("recipes", folder, err) from err
    return sorted(name for name in found if os.path.isfile(f"{folder}/{name}/config.json"))


def load(name: str, folder: str | None = None) -> Recipe:
    """Return the recipe `name`.

    Raises:
        NotFound: there is none.
        StoreError: its ``config.json`` is damaged.
    """
    path = os.path.join(folder or recipes_folder(), name)
    document = files.load(f"{path}/config.json", _Document)
    return Recipe(name=name, folder=path, config=document.config, tags=document.tags)


def find(ref: reference.Reference, folder: str | None = None) -> Recipe | None:
    """Return the recipe that makes `ref`, or None: only plain names with a declared tag have one.

    Raises:
        NotFound: there is no folder of recipes.
        StoreError: a recipe is damaged.
    """
    if ref.digest or ref.name not in names(folder):
        return None
    recipe = load(ref.name, folder)
    return recipe if (ref.tag or reference.DEFAULT_TAG) in recipe.tags else None


def offers(folder: str | None = None) -> list[str]:
    """Return everything that can be built, as ``busybox:latest``, for hints and listings."""
    return [f"{name}:{tag}" for name in names(folder) for tag in load(name, folder).tags]


def source_date_epoch() -> int:
    """Return SOURCE_DATE_EPOCH in seconds, or ``DEFAULT_EPOCH`` where it is not set.

    Source: reproducible-builds.org, "SOURCE_DATE_EPOCH specification".

    Raises:
        ImageError: it is not a number, for which the specification wants a failed build.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return DEFAULT_EPOCH
    if not (text.isascii() and text.isdecimal()):
        raise ImageError(f"build: SOURCE_DATE_EPOCH: {text!r} is not a number of seconds")
    return int(text)


def build(
    recipe: Recipe,
    tag: str,
    target: str,
    *,
    epoch: int,
    locks: tuple[int, ...] = (),
    progress: Callable[[str], None] | None = None,
) -> None:
    """Fill the empty folder `target` with the image `tag` of `recipe`.

    Args:
        recipe: with the script.
        tag: one of its tags.
        target: absolute path; files beside it whose names start with it are the script's too.
        epoch: SOURCE_DATE_EPOCH for the script, seconds.
        locks: descriptors of held flocks that the script's processes inherit: should this process
            be killed, they stay taken until the last of them has gone.
        progress: is given each line of the script's output.

    Raises:
        ImageError: the script failed; the hint has its last lines.
    """
    last: list[str] = []
    process = _start(recipe, tag, target, epoch, locks)
    assert process.stdout is not None
    with process.stdout:
        try:
            for line in _lines(process):
                last = [*last, line][-_KEPT_LINES:]
                if progress:
                    progress(line)
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        reason = last[-1] if last else "no output"
        raise ImageError(f"build {recipe.name}:{tag}: {how}: {reason}", "\n".join(last) or None)


def _start(
    recipe: Recipe, tag: str, target: str, epoch: int, locks: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    import subprocess

    # A session of its own: a terminal's Ctrl-C reaches this process, which stops the whole group.
    try:
        return subprocess.Popen(
            ["/bin/sh", f"{recipe.folder}/build", target, recipe.tags[tag]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(epoch),
            pass_fds=locks,
            start_new_session=True,
            umask=0o022,
        )
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise ImageError(f"build {recipe.name}:{tag}: start /bin/sh: {reason}") from err


def _environment(epoch: int) -> dict[str, str]:
    """Return what the script sees: nothing of the user's that could change the image."""
    fixed = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(epoch),
        "DEBIAN_FRONTEND": "noninteractive",
    }
    passed = {name: os.environ[name] for name in _PASSED if name in os.environ}
    mirror = config.load(os.environ).debian_mirror
    return fixed | passed | ({_MIRROR: mirror} if mirror else {})


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    assert process.stdout is not None
    while line := process.stdout.readline(_MAX_LINE):
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            yield text


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the script and what it started: SIGTERM so that it can tidy up, then SIGKILL."""
    import signal
    import subprocess

    _kill_group(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill_group(process.pid, signal.SIGKILL)
        process.wait()
    _drain(process)


def _drain(process: subprocess.Popen[bytes]) -> None:
    """Read to the end: it comes when the last process is gone that could write in the target."""
    import select

    assert process.stdout is not None
    fd = process.stdout.fileno()
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while poller.poll(_GRACE * 1000) and os.read(fd, _MAX_LINE):
        continue


def _kill_group(pid: int, number: int) -> None:
    # ESRCH: the last process of the group has gone already. The leader's pid is not recycled while
    # its group lives, and before wait(2) it is a zombie that holds it.
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
