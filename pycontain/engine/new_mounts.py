"""What a new container's mounts are: the image's, other containers' and the user's, by name."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pycontain.engine.volumes import Volumes
from pycontain.errors import Conflict
from pycontain.model.parse.mounts import is_anonymous, split_volumes_from
from pycontain.runtime.spec import all_mounts, user_mounts
from pycontain.volume.store import check_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pycontain.engine.images import Images
    from pycontain.image.store import Image
    from pycontain.model.container import Container, ImageConfig, Mount, RunOptions
    from pycontain.store.layout import Layout


class NewMounts:
    """The mounts of a container that is to be made.

    Attributes:
        mounts: all of them, parents first; volumes have names.
        inherited: volumes of other containers, which are there already.
        images: those that are mounted.
    """

    def __init__(
        self, mounts: tuple[Mount, ...], inherited: frozenset[str], images: tuple[Image, ...]
    ) -> None:
        self.mounts = mounts
        self.inherited = inherited
        self.images = images

    @contextlib.contextmanager
    def using(self, layout: Layout, images: Images, identity: str) -> Iterator[None]:
        """Make the named volumes, and keep all of them and the images until this ends.

        Args:
            layout: of the store.
            images: of the same store.
            identity: the container's id.

        Raises:
            NotFound: a volume or image of it was removed meanwhile.
        """
        with contextlib.ExitStack() as stack:
            for image in self.images:
                stack.enter_context(images.using(image))
            for lock in Volumes(layout).begin_use(self.mounts, self.inherited, identity):
                stack.callback(lock.release)
            yield


def plan(
    options: RunOptions,
    config: ImageConfig,
    find: Callable[[str], Container],
    image: Callable[[str], Image],
    *,
    anonymous: Callable[[], str] = lambda: os.urandom(32).hex(),
) -> NewMounts:
    """Return what is mounted in a new container.

    Args:
        options: what was asked for.
        config: of its image.
        find: returns a container, by name or id.
        image: returns an image, by name.
        anonymous: makes the name of an anonymous volume.

    Raises:
        NotFound: a container or image of that name.
        Conflict: a container of an earlier version, whose volumes cannot be shared.
        InvalidInput: two mounts want one target, or a volume's options are none.
    """
    inherited = [mount for word in options.volumes_from for mount in _of_other(word, find)]
    found = []
    images: list[Image] = []
    for mount in user_mounts(options, config, inherited):
        if is_anonymous(mount):
            mount = replace(mount, source=anonymous(), anonymous=True)
        elif mount.type == "image":
            images.append(image(mount.source))
            mount = replace(mount, layers=images[-1].layers)
        check_options(mount.driver_options)
        found.append(mount)
    kept = {mount.target: mount for mount in found}
    names = frozenset(m.source for m in inherited if m.type == "volume" and kept[m.target] is m)
    return NewMounts(tuple(found), names, tuple(images))


def _of_other(word: str, find: Callable[[str], Container]) -> Iterable[Mount]:
    """The binds, volumes and images of another container, as its new user sees them."""
    name, mode = split_volumes_from(word)
    other = find(name)
    for mount in all_mounts(other):
        if mount.type == "tmpfs":
            continue
        if mount.type == "volume" and not mount.source:
            raise Conflict(
                f"volumes from container {other.name}: its anonymous volumes lie in its own folder",
                "it was made by an earlier version: make it anew",
            )
        options = mount.options
        if mode == "ro" and not {"ro", "rro"} & set(options):
            options = (*options, "rro")
        yield replace(
            mount, options=options, no_copy=True, chown=False, labels={}, driver_options={}
        )
