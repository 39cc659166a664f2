"""Hooks of starts that nobody is at: who started the container was killed, or is attached to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.engine import hooks, records
from pycontain.errors import PycontainError
from pycontain.kernel import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.engine.containers import Containers, View
    from pycontain.engine.events import Events
    from pycontain.store.layout import Layout
    from pycontain.supervisor.loop import Loop

_LATER = 1.0  # seconds until what the machine was too short of is tried again
_SOON = 0.1  # seconds, of which the end of a container takes milliseconds


class Hooks:
    """Carries out what is left of postStart hooks; one of the supervisor's parts.

    Args:
        loop: the supervisor's.
        layout: of the store.
        containers: of the same store.
        events: of the same store.
        look: asks the supervisor to look at a container again.
    """

    def __init__(
        self,
        loop: Loop,
        layout: Layout,
        containers: Containers,
        events: Events,
        look: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._layout = layout
        self._containers = containers
        self._events = events
        self._look = look
        self._under_way: set[str] = set()
        self._claimers: dict[str, tuple[tuple[int, int], int]] = {}  # who, and the pidfd

    def consider(self, view: View) -> bool:
        """Take note of how a container is; return whether its hook has not ended.

        Raises:
            StoreError: how far that has got cannot be read.
        """
        identity = view.container.id
        if view.status.state not in ("running", "paused") or hooks.has_begun(view):
            self.forget(identity)
            return False
        if identity in self._under_way:
            return True
        claimer = hooks.claimer(view.paths, records.last_run(view.paths))
        if claimer is None and view.status.state == "running":
            self.forget(identity)
            self._begin(view)
        elif claimer is not None and claimer[0] != os.getpid():
            self._watch(identity, claimer)
        return True

    def forget(self, identity: str) -> None:
        """Let a container be: nothing is to be done, or it is not there any more."""
        _, pidfd = self._claimers.pop(identity, (None, -1))
        if pidfd >= 0:
            self._loop.unwatch(pidfd)
            os.close(pidfd)

    def _watch(self, identity: str, claimer: tuple[int, int]) -> None:
        """Look again when the process has ended that carries the hook out."""
        if self._claimers.get(identity, (None, -1))[0] == claimer:
            return
        self.forget(identity)
        pidfd = process.open_process(*claimer)
        if pidfd is None:
            self._look(identity)
            return
        try:
            self._loop.watch(pidfd, lambda: self._ended(identity))
        except OSError:
            os.close(pidfd)
            raise
        self._claimers[identity] = claimer, pidfd

    def _ended(self, identity: str) -> None:
        self.forget(identity)
        self._look(identity)

    def _begin(self, view: View) -> None:
        self._under_way.add(view.container.id)
        self._loop.submit(lambda: self._carry_out(view), lambda outcome: self._done(view, outcome))

    def _carry_out(self, view: View) -> None:
        run = records.last_run(view.paths)
        hooks.take_over(self._containers, self._layout, self._events, view, run)

    def _done(self, view: View, outcome: BaseException | None) -> None:
        identity = view.container.id
        if outcome is not None and not isinstance(outcome, (PycontainError, OSError)):
            raise outcome
        # What went wrong is told, or met again; the container stays in our care until then.
        wait = _LATER if isinstance(outcome, BaseException) else _SOON
        self._loop.at(wait, lambda: self._again(identity))

    def _again(self, identity: str) -> None:
        self._under_way.discard(identity)
        self._look(identity)
