"""What users name: containers and images, joined out of the subsystems below.

``Engine`` needs no daemon; any number of processes may use one store at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from pycontain import config
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.containers import Containers
    from pycontain.engine.events import Events
    from pycontain.engine.handle import ContainerHandle
    from pycontain.engine.images import Images
    from pycontain.engine.manifests import Manifests
    from pycontain.engine.network_verbs import Networks
    from pycontain.engine.pool import Pool
    from pycontain.engine.remote import Remote
    from pycontain.engine.volumes import Volumes
    from pycontain.model.result import RunResult

__all__ = ["Engine"]

T = TypeVar("T")


class Engine:
    """The engine over one store, in this process.

    It may be used from any thread. It prints nothing, and changes nothing of the process. For an
    ordinary user a worker process carries the verbs out: it is started by the first of them.

    Args:
        root: folder for what survives a reboot, default ``/var/lib/pycontain`` for root.
        state: folder for what dies with it, default ``/run/pycontain`` for root.
        settings: what is configured, default what the user's files and environment say.

    Raises:
        InvalidInput: the configuration is wrong.
        StoreError: the store cannot be made or is newer than this code.
        NotSupported: the kernel is too old.
    """

    def __init__(
        self,
        root: str | None = None,
        state: str | None = None,
        settings: config.Config | None = None,
    ) -> None:
        from pycontain.kernel import release, userns

        release.require()
        outside = os.geteuid() != 0
        self.rootless = outside or userns.inside()
        self.settings = config.load(os.environ) if settings is None else settings
        if root and state:
            self.layout = Layout(root, state)
        else:
            default = Layout.default(os.environ, settings=self.settings)
            self.layout = (
                Layout(root or default.root, state or default.state) if root or state else default
            )
        self.layout.prepare()
        self._remote: Remote | None = None
        if not outside:
            self._mend()
        else:
            from pycontain.engine.remote import Remote

            self._remote = Remote(self.layout, self.settings)
        self._containers: Containers | None = None
        self._images: Images | None = None
        self._manifests: Manifests | None = None
        self._events: Events | None = None
        self._networks: Networks | None = None
        self._volumes: Volumes | None = None

    def _mend(self) -> None:
        """Make anew the layers that another boot may not have left whole."""
        try:
            boots = os.listdir(self.layout.unsynced)
        except FileNotFoundError:
            return
        if not boots:
            return
        from pycontain.kernel import process

        if boots == [process.boot_id()]:
            return
        from pycontain.image import marks
        from pycontain.image.store import ImageStore

        marks.remake(self.layout, ImageStore(self.layout), rootless=self.rootless)

    @property
    def images(self) -> Images:
        """The images of the store."""
        if self._remote is not None:
            return self._remote.images
        if self._images is None:
            from pycontain.engine.images import Images

            self._images = Images(self.layout, rootless=self.rootless, settings=self.settings)
        return self._images

    @property
    def manifests(self) -> Manifests:
        """The lists of images of the store."""
        if self._remote is not None:
            return self._remote.manifests
        if self._manifests is None:
            from pycontain.engine.manifests import Manifests

            self._manifests = Manifests(self.layout, self.images, self.settings)
        return self._manifests

    @property
    def volumes(self) -> Volumes:
        """The volumes of the store, by name: every verb."""
        if self._remote is not None:
            return self._remote.volumes
        if self._volumes is None:
            from pycontain.engine.volumes import Volumes

            self._volumes = Volumes(self.layout)
        return self._volumes

    @property
    def networks(self) -> Networks:
        """The networks of the store."""
        if self._remote is not None:
            return self._remote.networks
        if self._networks is None:
            from pycontain.engine.network_verbs import Networks

            self._networks = Networks(self.layout, self.events)
        return self._networks

    @property
    def events(self) -> Events:
        """What happened to the containers and images of the store, and what happens."""
        if self._events is None:
            from pycontain.engine.events import Events

            self._events = Events(self.layout)
        return self._events

    @property
    def containers(self) -> Containers:
        """The containers of the store, by id or name: every verb."""
        if self._remote is not None:
            return self._remote.containers
        if self._containers is None:
            from pycontain.engine.containers import Containers

            self._containers = Containers(self.layout, self.images, rootless=self.rootless)
        return self._containers

    def elsewhere(self, kind: type[T]) -> T | None:
        """Return an ordinary user's worker's `kind`; None where the verbs are this process's own.

        For the floors above, whose classes are made of an engine, in their ``__new__``.

        Args:
            kind: a class of ours. Its public methods, those that are no properties, are carried out
                by one that the worker makes of its own engine; what they take and return crosses as
                values (``engine.wire``).
        """
        return None if self._remote is None else self._remote.made(kind)

    def close(self) -> None:
        """End an ordinary user's worker, if there is one; the next verb starts another.

        Containers go on. What has no reference left to it closes itself.
        """
        if self._remote is not None:
            self._remote.close()

    def container(self, ref: str) -> ContainerHandle:
        """Return a container that is there.

        Args:
            ref: id, name, or unique start of an id.

        Raises:
            NotFound: there is none.
        """
        from pycontain.engine.handle import ContainerHandle

        return ContainerHandle(self.containers, self.containers.find(ref))

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes | None = None,  # noqa: A002 - subprocess.run's word
        timeout: float | None = None,
        max_output: int | None = None,
        check: bool = False,
        cancel: Cancel | None = None,
        **options: Any,
    ) -> RunResult:
        """Run a command in a new container, wait for it, remove the container.

        It is removed whatever happens; it does not outlive the calling process.

        Args:
            image: as on the command line.
            command: replaces the image's.
            input: given to its standard input; None closes it.
            timeout: seconds after which it is killed.
            max_output: bytes of both streams after which it is killed.
            check: an exit code other than 0 is an error.
            cancel: ends it from another thread.
            options: fields of ``model.container.RunOptions``, as ``read_only=True``; ``env`` may be
                a mapping, ``network``, ``publish`` and ``mounts`` what ``--network``, ``-p`` and
                ``-v`` say.

        Returns:
            Exit code, standard output and standard error apart, and resource use.

        Raises:
            TimedOut, OutputLimit, CommandFailed: with what there is of the result.
            CommandNotFound, NotExecutable: the command cannot be started.
            PycontainError: whatever else is in the way.
        """
        from pycontain.engine import command as commands
        from pycontain.engine.handle import run_options

        given = {**options, "interactive": input is not None, "remove": True}
        asked = run_options(image, command, given, self.settings)
        bounds = commands.Bounds(timeout, max_output, cancel, check)
        return commands.run(self.containers, asked, input, bounds)

    def start(
        self, image: str, command: Sequence[str] = (), *, leash: bool = True, **options: Any
    ) -> ContainerHandle:
        """Start a container in the background.

        Args:
            image: as on the command line.
            command: replaces the image's.
            leash: it ends when the calling process does, however that happens; it is removed then
                where the options say ``remove=True``.
            options: as for ``run``; ``idle=True`` runs nothing but an init that reaps, whatever is
                in the image: for ``exec``.

        Returns:
            The container; as a context manager it is removed at the end.

        Raises:
            PycontainError: as for ``run``.
        """
        from pycontain.engine import command as commands
        from pycontain.engine import records
        from pycontain.engine.handle import ContainerHandle, run_options

        asked = run_options(image, command, options, self.settings)
        identity = records.new_id()
        try:
            self.containers.run(asked, attach=False, leash=leash, identity=identity)
            return ContainerHandle(self.containers, identity)
        except BaseException as err:
            commands.undo(self.containers, identity, err)
            raise

    def pool(self, image: str, size: int, command: Sequence[str] = (), **options: Any) -> Pool:
        """Return a pool of containers that are started ahead, each handed out once.

        Args:
            image: as on the command line.
            size: how many are kept ready.
            command: what they run; nothing is an idle container.
            options: as for ``run``.

        Raises:
            InvalidInput: an option that there is not.
        """
        from pycontain.engine.handle import run_options
        from pycontain.engine.pool import Pool

        idle = not command and "entrypoint" not in options
        given = {**options, "idle": idle, "remove": True}
        asked = run_options(image, command, given, self.settings)
        return Pool(self.containers, asked, size)
