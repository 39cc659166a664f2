"""What users name: containers and images, joined out of the subsystems below.

``Engine`` needs no daemon; any number of processes may use one store at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.containers import Containers
    from pycontain.engine.images import Images
    from pycontain.engine.result import RunResult

__all__ = ["Engine"]


class Engine:
    """The engine over one store.

    Args:
        root: folder for what survives a reboot, default ``/var/lib/pycontain`` for root.
        state: folder for what dies with it, default ``/run/pycontain`` for root.

    Raises:
        StoreError: the store cannot be made or is newer than this code.
        NotSupported: the kernel is too old.
    """

    def __init__(self, root: str | None = None, state: str | None = None) -> None:
        from pycontain.kernel import release, userns

        release.require()
        self.rootless = userns.inside()
        default = Layout.default(os.environ)
        self.layout = (
            Layout(root or default.root, state or default.state) if root or state else default
        )
        self.layout.prepare()
        self._containers: Containers | None = None
        self._images: Images | None = None

    @property
    def images(self) -> Images:
        """The images of the store."""
        if self._images is None:
            from pycontain.engine.images import Images

            self._images = Images(self.layout)
        return self._images

    @property
    def containers(self) -> Containers:
        """The containers of the store."""
        if self._containers is None:
            from pycontain.engine.containers import Containers

            self._containers = Containers(self.layout, self.images, rootless=self.rootless)
        return self._containers

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        input: bytes | None = None,  # noqa: A002 - subprocess.run's word
        **options: object,
    ) -> RunResult:
        """Run a command in a new container, wait for it, remove the container.

        Args:
            image: as on the command line.
            command: replaces the image's.
            input: given to its standard input; None closes it.
            options: fields of ``model.container.RunOptions``, as ``read_only=True``.

        Returns:
            Exit code, standard output and standard error apart, and resource use.

        Raises:
            CommandNotFound, NotExecutable: the command cannot be started.
            PycontainError: whatever else is in the way.
        """
        from pycontain.engine import result

        return result.run(self.containers, image, tuple(command), input, options)
