"""Containers as users name them: made, started, stopped, removed.

Every change of one container happens under its lock. A container exists from the moment its
document does; its name is claimed before, its folder made before that, so that a command that is
killed leaves at most a folder without a document, which the next ``create`` or ``list`` removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from msgspec.structs import replace

from pycontain import trace
from pycontain.config import BUILT_IN
from pycontain.engine import connections, ending, records, remains, settling
from pycontain.engine.cancel import Deadline, wait_readable
from pycontain.engine.events import Events, command_words, write_about
from pycontain.engine.failure import told
from pycontain.engine.freezer import Freezer, freeze, thaw
from pycontain.errors import (
    CommandNotFound,
    Conflict,
    InvalidInput,
    InvalidState,
    NotExecutable,
    NotFound,
    NotSupported,
    PycontainError,
    StoreError,
    kernel_error,
)
from pycontain.kernel import cgroup, release
from pycontain.model.container import Container, ExitRecord, Limits
from pycontain.model.status import Status, check
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontain.engine.cancel import Cancel
    from pycontain.engine.images import Images
    from pycontain.engine.launch import Joined, Order
    from pycontain.engine.layers import Change, Layers
    from pycontain.engine.logs import LogEntry
    from pycontain.engine.new_mounts import NewMounts
    from pycontain.engine.sizes import Sizes
    from pycontain.engine.top import Processes
    from pycontain.engine.tree import Tree
    from pycontain.engine.volumes import Volumes
    from pycontain.image.store import Image
    from pycontain.model.container import ExecOptions, ImageConfig, PortBinding, RunOptions
    from pycontain.model.health import Health, Probe
    from pycontain.model.network import Attachment as Place
    from pycontain.model.probe import ProbeState
    from pycontain.model.stats import Stats
    from pycontain.runtime.attachment import Attachment
    from pycontain.store.layout import ContainerPaths, Layout

    Progress = Callable[[str], None]
    Size = tuple[int, int]

DEFAULT_STOP_TIMEOUT = BUILT_IN.stop_timeout
_LIMITING = (*Limits.__struct_fields__, "oom_score_adj", "cgroup_parent")


class View(NamedTuple):
    """A container as it is now."""

    container: Container
    status: Status
    paths: ContainerPaths


class Finisher:
    """What the owner of a container does after its end."""

    def __init__(self, containers: Containers, identity: str, run: str, *, remove: bool) -> None:
        self.containers = containers
        self.identity = identity
        self.run = run
        self.remove = remove

    def __call__(self) -> None:
        """Remove it, or give back what it had in networks, and see that it is started again."""
        if self.remove:
            self.containers.finish(self.identity)
        else:
            self.containers.disconnect(self.identity, self.run)


class Containers:
    """The containers of one store.

    Args:
        layout: of the store.
        images: of the same store.
        rootless: the caller is in the namespaces of an ordinary user.
        caller: pidfd of the process on whose behalf this one acts, None for itself: what is leashed
            ends with it.
    """

    def __init__(
        self, layout: Layout, images: Images, *, rootless: bool, caller: int | None = None
    ) -> None:
        self._layout = layout
        self._images = images
        self._rootless = rootless
        self._caller = caller
        self._events = Events(layout)

    # ---- making ----

    @told("create container")
    def create(
        self,
        options: RunOptions,
        *,
        progress: Progress | None = None,
        volatile: bool = False,
        replace: bool = False,
        identity: str | None = None,
    ) -> Container:
        """Make a container, without starting it.

        Args:
            options: what was asked for.
            progress: is given lines of text while an image is built.
            volatile: it dies with the boot; otherwise it is on disk when this returns.
            replace: a container that has the name is killed and removed, once nothing else is in
                the way.
            identity: its id, of ``records.new_id``; None makes one. Who knows it from the first can
                remove the container wherever an interrupt has come.

        Raises:
            InvalidInput: an option cannot be carried out.
            Conflict: the name is taken, or the id is.
            NotFound, ImageError: the image.
        """
        from pycontain.model.parse.names import validate_name
        from pycontain.model.parse.signals import parse_signal
        from pycontain.runtime import spec as specs

        if options.name is not None:
            validate_name(options.name)
        elif replace:
            raise InvalidInput("replace: it takes the name of the container to replace")
        if identity is not None:
            _check_new(self._layout, identity)
        with trace.Span(f"find image {options.image}"):
            image = self._images.ensure(options.image, progress)
        identity = identity or records.new_id()
        word = options.stop_signal or image.config.stop_signal or "SIGTERM"
        timeout = options.stop_timeout
        command = specs.command(options, image.config)
        planned = self._plan_mounts(
            options, image.config, lambda name: self._images.ensure(name, progress)
        )
        options = self._checked(options)
        if replace and options.name is not None:
            self._make_room(options.name)
        paths = self._layout.container(identity)
        with (
            self._membership(options),
            files.Lock(paths.lock),
            self._images.using(image),
            planned.using(self._layout, self._images, identity) if planned else _nothing(),
        ):
            try:
                files.make_folder(paths.folder)
                if volatile:
                    records.make_volatile(paths)
                container = Container(
                    id=identity,
                    name=remains.claim(self._layout, options.name, identity, durable=not volatile),
                    created=time.time_ns(),
                    options=options,
                    image_id=image.id,
                    layers=image.layers,
                    config=image.config,
                    command=command,
                    stop_signal=parse_signal(word),
                    stop_timeout=DEFAULT_STOP_TIMEOUT if timeout is None else timeout,
                    mounts=planned.mounts if planned else (),
                )
                for folder in (paths.upper, paths.work):
                    # The upper folder is the container's "/": everybody in it may enter.
                    files.make_folder(folder, 0o755)
                files.write_atomic(paths.document, files.dump(container), durable=not volatile)
                if not volatile:
                    files.sync_folder(self._layout.containers)
                if planned:
                    self._volumes().make_missing(container, durable=not volatile)
            except BaseException:
                remains.erase(self._layout, identity, volumes=True)
                files.remove(paths.lock)
                raise
            self._events.tell("create", container)
        return container

    def _membership(self, options: RunOptions) -> contextlib.AbstractContextManager[object]:
        """Hold the lock of the pod that a new container is in: it is not removed meanwhile."""
        if not options.pod:
            return _nothing()
        from pycontain.engine import sandbox

        return sandbox.locked(self._layout, options.pod)

    def _plan_mounts(
        self, options: RunOptions, config: ImageConfig, image: Callable[[str], Image]
    ) -> NewMounts | None:
        """What is mounted in a new container; None where that is nothing."""
        if not (options.mounts or options.volumes_from or config.volumes):
            return None
        from pycontain.engine import new_mounts

        return new_mounts.plan(options, config, lambda name: self.get(name).container, image)

    def _volumes(self) -> Volumes:
        from pycontain.engine.volumes import Volumes

        return Volumes(self._layout)

    def _make_room(self, name: str) -> None:
        """Remove the container that has a name, if there is one."""
        holder = self.holder(name.removeprefix("/"))
        if holder is not None:
            with contextlib.suppress(NotFound):  # gone meanwhile
                self.remove(holder, force=True)

    def _checked(self, options: RunOptions) -> RunOptions:
        """The options; what is among them that cannot be kept on this machine is refused."""
        from pycontain.runtime import spec as specs

        guard = specs.security(options.security_opt, options.privileged)
        if guard.apparmor and not release.has_apparmor():
            raise NotSupported(
                "use AppArmor profile", guard.apparmor, errno.EOPNOTSUPP,
                "AppArmor is not enabled in this kernel",
            )  # fmt: skip
        if options.tz:
            from pycontain.engine import zone

            zone.check(options)
        connections.check(options, self._layout)
        if options.health is not None:
            from pycontain.engine import health

            health.validate(options.health)
        if options.probes is not None or options.hooks is not None:
            from pycontain.engine import probes

            probes.validate(options)
        if options.restart is not None and options.remove:
            raise InvalidInput("conflicting options: a restart policy and the removal at the end")
        if not any(getattr(options, name) not in (None, (), {}) for name in _LIMITING):
            return options
        from pycontain.engine import limits

        return limits.checked(options, rootless=self._rootless)

    # ---- finding ----

    def holder(self, name: str) -> str | None:
        """Return the id of the container or pod that holds `name`; None where nobody does.

        Raises:
            StoreError: the claim is damaged.
        """
        return remains.holder(self._layout, name)

    @told("find container")
    def find(self, ref: str) -> str:
        """Return the id of a container by its id, name, or unique start of its id.

        Raises:
            NotFound: there is none.
            InvalidInput: the start of more than one id.
        """
        known = records.ids(self._layout)
        if ref in known:
            return ref
        name = ref.removeprefix("/")
        if name and "/" not in name:
            try:
                claimed = files.read_word(self._layout.name(name))
            except (NotFound, StoreError):
                claimed = ""
            if claimed in known and remains.is_called(self._layout.container(claimed), name):
                return claimed
        found = [identity for identity in known if ref and identity.startswith(ref)]
        if not found:
            raise NotFound(f"No such container: {ref}", "pycontain ps -a lists all containers")
        if len(found) > 1:
            raise InvalidInput(f"multiple IDs found with provided prefix: {ref}")
        return found[0]

    @told("look at container")
    def get(self, ref: str) -> View:
        """Return a container and its state.

        Raises:
            NotFound: there is none.
            StoreError: one of its documents is damaged.
        """
        identity = self.find(ref)
        with Freezer(rootless=self._rootless) as freezer:
            return self._view(identity, ref, freezer)

    def _view(self, identity: str, ref: str, freezer: Freezer) -> View:
        paths = self._layout.container(identity)
        container = _load(paths, ref)
        status = settling.status_of(self._layout, self._events, paths)
        return View(
            container, settling.seen(self._layout, container, paths, status, freezer), paths
        )

    @told("list containers")
    def list(
        self,
        all: bool = False,  # noqa: A002 - docker's word
        problems: list[PycontainError] | None = None,
    ) -> list[View]:
        """Return containers, newest first.

        Args:
            all: also those that do not run.
            problems: gets an error for each container that cannot be read; without it the first
                one is raised.
        """
        with Freezer(rootless=self._rootless) as freezer:
            found = self._list(all, problems, freezer)
        return sorted(found, key=lambda view: view.container.created, reverse=True)

    def _list(
        self,
        every: bool,
        problems: list[PycontainError] | None,  # type: ignore[valid-type]
        freezer: Freezer,
    ) -> list[View]:  # type: ignore[valid-type]
        found = []
        called = set()
        known = set(records.ids(self._layout))
        for identity in sorted(known):
            try:
                view = self._view(identity, identity, freezer)
            except NotFound:
                known.remove(identity)
            except PycontainError as err:
                if problems is None:
                    raise
                problems.append(err)
            else:
                called.add(view.container.name)
                due = view.status.state == "exited" and view.container.options.remove
                # Its monitor's clean-up may be under way; if it was killed, this is it.
                if due and self._clean(identity, wait=False):
                    continue
                if every or view.status.state in ("running", "paused", "restarting"):
                    found.append(view)
        remains.sweep(self._layout, known, called)
        return found

    # ---- starting ----

    @told("run container")
    def run(
        self,
        options: RunOptions,
        *,
        attach: bool = True,
        leash: bool = False,
        size: Size | None = None,
        progress: Progress | None = None,
        replace: bool = False,
        descriptors: Sequence[int] = (),
        identity: str | None = None,
    ) -> tuple[Container, Attachment | None]:
        """Create and start a container. With ``remove`` a failed start removes it again.

        Args:
            options: what was asked for.
            attach: as for ``start``, which also gets the input then.
            leash: as for ``start``.
            size: as for ``start``.
            progress: as for ``create``.
            replace: as for ``create``.
            descriptors: as for ``start``.
            identity: as for ``create``.

        Raises:
            CommandNotFound, NotExecutable: the command cannot be started.
            PycontainError: as for ``create`` and ``start``.
        """
        _check_leash(options, leash=leash)
        with trace.Span("create the container"):
            # One that is removed at its end has ended with the boot.
            container = self.create(
                options, progress=progress, volatile=options.remove, replace=replace,
                identity=identity,
            )  # fmt: skip
        try:
            # Detached, nobody is its input's only source: it stays open for who attaches later.
            stdin = attach and options.interactive
            attachment = self.start(
                container.id, attach=attach, stdin=stdin, leash=leash, size=size,
                descriptors=descriptors,
            )  # fmt: skip
        except BaseException:
            if options.remove:
                self.remove(container.id, force=True, volumes=True)
            raise
        return container, attachment

    @told("start container")
    def start(
        self,
        ref: str,
        *,
        attach: bool = False,
        stdin: bool = False,
        leash: bool = False,
        size: Size | None = None,
        descriptors: Sequence[int] = (),
        after: str | None = None,
    ) -> Attachment | None:
        """Start a container; return a connection to it when `attach`.

        Args:
            ref: id, name or start of the id.
            attach: the caller is the container's pipe: nothing of its output is lost.
            stdin: the caller also is its standard input.
            leash: it ends when the calling process does.
            size: rows and columns of the caller's terminal.
            descriptors: of this process; the program has them as 3, 4, and so on. Not from a
                worker's caller (ADR 11).
            after: by its restart policy, after the end of that run; nothing is done where that is
                not due any more. None: because a user wants it.

        Raises:
            InvalidState: it runs already.
            CommandNotFound, NotExecutable: the command cannot be started.
            KernelError: a step failed; all that was done for it is undone.
            InvalidState: its postStart hook failed; it has been ended.
        """
        from pycontain.engine import launch

        if descriptors and self._caller is not None:
            raise InvalidInput("hand over descriptors: an ordinary user's program cannot")
        identity = self.find(ref)
        paths = self._layout.container(identity)
        if after is None or (_is_due(paths, after) and not _is_kept(paths)):
            self._start_sandbox(identity)
        with records.hold(paths) as lock:
            container = _load(paths, ref)
            _check_leash(container.options, leash=leash)
            if after is not None and not _is_due(paths, after):
                return None
            check("start", container.name, self._present(paths, container))
            if after is None and container.options.restart is not None:
                _begin_restarts(paths)
            remains.remove_cgroup(self._layout, identity)
            connections.leave(self._layout, identity)
            joined = self._joined(container.options)
            run = os.urandom(8).hex()
            order = launch.Order(
                layout=self._layout, paths=paths, container=container, run=run,
                rootless=self._rootless, joined=joined, attach=attach, stdin=stdin, leash=leash,
                size=size, lock=lock.fileno(), caller=self._caller, descriptors=tuple(descriptors),
            )  # fmt: skip
            attachment = self._launch(order)
        try:
            self._wake(container)
        except BaseException:
            attachment.close()
            _let_go_hooks(container, run)
            raise
        if attach:
            return attachment
        attachment.close()
        if container.options.hooks is not None and container.options.hooks.post_start is not None:
            self._after_start(identity, run)
        return None

    def _launch(self, order: Order) -> Attachment:
        """Launch a run and tell of it; its failure is recorded, its lock is held."""
        from pycontain.engine import launch

        paths, container, run = order.paths, order.container, order.run
        records.sweep(paths)
        records.write_marker(paths, run)
        if container.options.hooks is not None:
            _begin_hooks(container, paths, run, claim=not order.attach)
        if container.options.is_kept:
            _note_member(self._layout, container, paths, run)
        if order.attach:
            self._events.tell("attach", container)
        if container.mounts:
            self._volumes().tell_mounts(container)
        try:
            finisher = Finisher(self, container.id, run, remove=container.options.remove)
            return launch.launch(order, on_finish=finisher)
        except (PycontainError, OSError) as err:
            remains.remove_cgroup(self._layout, container.id)
            settling.tell_failed_start(self._events, paths, container, run)
            if container.mounts:
                self._volumes().tell_unmounts(container)
            records.write_exit(paths, _not_started(run, err))
            _let_go_hooks(container, run)
            raise
        except BaseException:
            remains.remove_cgroup(self._layout, container.id)
            _let_go_hooks(container, run)
            raise

    def _after_start(self, identity: str, run: str) -> None:
        """Carry the postStart hook of a run out, unless that has ended or is gone already."""
        from pycontain.engine import hooks

        try:
            view = self.get(identity)
        except BaseException as err:
            hooks.let_go(run)
            if isinstance(err, NotFound):
                return
            raise
        hooks.after_start(self, self._layout, self._events, view, run)

    def _wake(self, container: Container) -> None:
        """See that a supervisor is there for a container that has been started, or changed."""
        if settling.may_need_supervisor(container):
            from pycontain.engine import supervision

            if supervision.needs(container):
                supervision.wake(self._layout)

    def _start_sandbox(self, identity: str) -> None:
        """Start what the containers of the pod share that a container is in, if it is in any."""
        if os.path.isdir(self._layout.pods):
            from pycontain.engine import sandbox

            sandbox.ensure_for(self._layout, identity)

    def _joined(self, options: RunOptions) -> dict[str, Joined]:
        from pycontain.engine import launch

        def find(kind: str, ref: str) -> tuple[int, int]:
            if ref != options.pod:
                return self._join_target(kind, ref)
            from pycontain.engine import sandbox

            return sandbox.target(self._layout, ref)

        return launch.joined_namespaces(options, find)

    def _join_target(self, kind: str, ref: str) -> tuple[int, int]:
        """Return pid and start time of a running container's first process.

        Raises:
            InvalidInput: the container does not share its namespace of that OCI type.
        """
        view = self.get(ref)
        check("join", view.container.name, view.status)
        if kind == "ipc" and view.container.options.ipc in ("private", "none"):
            raise InvalidInput(
                f"cannot join IPC of container {view.container.name}: non-shareable IPC",
                "start that container with --ipc shareable",
            )
        record = records.load_run(view.paths)
        if record is None:
            raise NotFound(f"container {view.container.name}: its process has ended")
        return record.pid, record.pid_start

    @told("explain")
    def explain(self, options: RunOptions) -> Sequence[str]:
        """Return the steps that ``run`` would take, in words; nothing is changed.

        Raises:
            PycontainError: what ``run`` would raise before it starts.
        """
        from pycontain.engine import launch
        from pycontain.runtime import spec as specs

        image = self._images.get(options.image)
        planned = self._plan_mounts(options, image.config, self._images.get)
        identity = "0" * 64
        container = Container(
            id=identity, name=options.name or "NAME", created=0, options=options,
            image_id=image.id, layers=image.layers, config=image.config,
            command=specs.command(options, image.config), stop_signal=15, stop_timeout=10,
            mounts=planned.mounts if planned else (),
        )  # fmt: skip
        order = launch.Order(
            layout=self._layout, paths=self._layout.container(identity), container=container,
            run="", rootless=self._rootless, attach=True, stdin=options.interactive, leash=False,
            size=None, joined=self._joined(options), lock=-1,
        )  # fmt: skip
        return launch.explain(order)

    @told("exec")
    def exec(
        self,
        ref: str,
        options: ExecOptions,
        *,
        leash: bool = False,
        size: Size | None = None,
    ) -> Attachment | None:
        """Start a command in a running container; return a connection unless detached.

        Args:
            ref: id, name or start of the id.
            options: what was asked for.
            leash: it ends when the calling process does.
            size: rows and columns of the caller's terminal.

        Raises:
            InvalidState: it does not run.
            CommandNotFound, NotExecutable: the command cannot be started.
        """
        from pycontain.engine import launch

        view = self.get(ref)
        check("exec", view.container.name, view.status)
        record = records.load_run(view.paths)
        if record is None:
            raise NotFound(f"container {ref}: its process has ended")
        exec_id = os.urandom(32).hex()
        words = command_words(options.command)
        self._events.tell(f"exec_create: {words}", view.container, execID=exec_id)
        return launch.execute(
            view, record, options, layout=self._layout, rootless=self._rootless, leash=leash,
            size=size, exec_id=exec_id, caller=self._caller,
        )  # fmt: skip

    @told("attach")
    def attach(self, ref: str) -> Attachment:
        """Connect to a running container: what it writes from now on, and its input.

        Raises:
            InvalidState: it does not run.
        """
        from pycontain.runtime.attachment import Attachment, connect

        view = self.get(ref)
        check("attach", view.container.name, view.status)
        run = records.last_run(view.paths)
        attachment = Attachment(connect(view.paths.attach))
        attachment.run = run
        self._events.tell("attach", view.container)
        return attachment

    # ---- ending ----

    @told("kill container")
    def kill(self, ref: str, number: int) -> None:
        """Send a signal to the container's first process. One that is paused goes on with it.

        Raises:
            InvalidState: it does not run.
        """
        view = self.get(ref)
        if number in (signal.SIGKILL, view.container.stop_signal):
            view = self._end_restarts(view)
            if view.status.state == "restarting":
                return
        check("kill", view.container.name, view.status)
        pidfd = ending.open_init(view.paths)
        if pidfd is None:
            return
        try:
            ending.send(self._events, pidfd, view.container, number)
            if number == signal.SIGKILL:  # a frozen process dies all the same
                ending.await_record(self._layout, self._events, view.paths)
            else:
                ending.go_on(self._events, view, rootless=self._rootless)
        finally:
            os.close(pidfd)

    @told("stop container")
    def stop(self, ref: str, *, timeout: int | None = None, signal: int | None = None) -> None:
        """Ask the container to end, and kill it if it has not after `timeout` seconds.

        Args:
            ref: id, name or start of the id. One that does not run is left alone.
            timeout: default the container's own; negative waits for ever.
            signal: default the container's own.
        """
        self._stop(self._end_restarts(self.get(ref)), timeout, signal)

    @told("end container")
    def hold(self, ref: str, *, timeout: int | None = None) -> None:
        """End a container as ``stop`` does, but with all others: ``system boot`` starts it again.

        Its restart policy does not until then, but that is not noted as a user's wish.

        Args:
            ref: id, name or start of the id. One that does not run is left alone.
            timeout: default the container's own; negative waits for ever.

        Raises:
            NotFound: there is no such container.
        """
        self._stop(self._end_restarts(self.get(ref), hold=True), timeout, None)

    def _stop(self, view: View, timeout: int | None, signal: int | None) -> None:
        if view.status.state == "restarting":
            self._events.tell("stop", view.container)
        if view.status.state not in ("running", "paused"):
            return
        self._end(view, timeout, signal)
        self._events.tell("stop", view.container)

    def _end(
        self, view: View, timeout: int | None, signal: int | None = None, run: str | None = None
    ) -> None:
        """End a container that runs, or `run` where that is the present one."""
        ending.gracefully(
            view, self._events, self._before_stop,
            timeout=timeout, signal=signal, run=run, rootless=self._rootless,
        )  # fmt: skip
        ending.await_record(self._layout, self._events, view.paths, run)

    def _before_stop(self, view: View, pidfd: int, limit: float) -> float:
        from pycontain.engine import hooks

        return hooks.before_stop(self, self._layout, self._events, view, pidfd, limit)

    @told("end container")
    def end(self, ref: str, run: str, *, timeout: int | None = None) -> None:
        """End a run as ``stop`` does, but not because a user wants it: a restart policy holds.

        Args:
            ref: id, name or start of the id.
            run: nothing is done where that is not the present run.
            timeout: default the container's own.

        Raises:
            NotFound: there is no such container.
        """
        view = self.get(ref)
        if view.status.state in ("running", "paused"):
            self._end(view, timeout, run=run)

    def _end_restarts(self, view: View, *, hold: bool = False) -> View:
        """Note that a user stops a container. Returns it as it is then, or was: *restarting*.

        With `hold` it is noted that it is ended with all others.

        Noted before the signal: who starts it again looks for that under the container's lock.
        """
        running = view.status.state in ("running", "paused", "restarting")
        if view.container.options.restart is None or not (running or _is_being_started(view)):
            return view
        from pycontain.engine import supervision

        with records.hold(view.paths):
            if not records.exists(view.paths):
                raise NotFound(f"No such container: {view.container.name}")
            if hold:
                supervision.note_held(view.paths)
            else:
                supervision.note_stopped(view.paths)
        now = self.get(view.container.id)
        return now if now.status.state in ("running", "paused") else view

    def restart(self, ref: str, *, timeout: int | None = None, signal: int | None = None) -> None:
        """Stop the container if it runs, and start it.

        Raises:
            PycontainError: as for ``stop`` and ``start``.
        """
        identity = self.find(ref)
        self.stop(identity, timeout=timeout, signal=signal)
        self.start(identity)
        self._events.tell("restart", records.load(self._layout.container(identity)))

    @told("start containers")
    def boot(self, problems: list[PycontainError] | None = None) -> Sequence[Container]:  # type: ignore[valid-type]
        """Start what is to run after a reboot, as the restart policies say.

        ``always`` is started; ``unless-stopped`` too, unless a user had stopped it; ``on-failure``
        where the reboot, or a failure before it, has ended it. What has run in this boot is left
        alone, so this may be repeated.

        Args:
            problems: gets an error for each that cannot be read or started; without it the first
                one is raised. The supervisor tries again to start it.

        Returns:
            Those that were started.
        """
        from pycontain.engine import boot

        return boot.start_wanted(self, self._layout, problems)

    @told("pause container")
    def pause(self, ref: str) -> None:
        """Freeze every process of a running container, and those executed in it.

        Raises:
            InvalidState: it does not run, or is paused.
            NotSupported: it has no cgroup.
        """
        self._change_freeze(ref, "pause", freeze)

    @told("unpause container")
    def unpause(self, ref: str) -> None:
        """Let a paused container go on.

        Raises:
            InvalidState: it is not paused.
        """
        self._change_freeze(ref, "unpause", thaw)

    def _change_freeze(self, ref: str, verb: str, change: Callable[..., None]) -> None:
        identity = self.find(ref)
        paths = self._layout.container(identity)
        with files.Lock(paths.lock):
            container = _load(paths, ref)
            check(verb, container.name, self._present(paths, container))
            change(container, rootless=self._rootless)
            self._events.tell(verb, container)

    @told("look at processes")
    def top(self, ref: str, options: Sequence[str] = ()) -> Processes:
        """Return the processes of a running container.

        Args:
            ref: id, name or start of the id.
            options: for the host's ps(1); none are the columns of ``ps -ef``, without a ps.

        Raises:
            InvalidState: it does not run.
            CommandNotFound, InvalidInput: ps, see ``engine.top``.
        """
        from pycontain.engine import top

        view = self.get(ref)
        check("top", view.container.name, view.status)
        record = records.load_run(view.paths)
        if record is None:
            raise NotFound(f"container {ref}: its process has ended")
        found = top.look(view.container, record, options, rootless=self._rootless)
        self._events.tell("top", view.container)
        return found

    # ---- naming ----

    @told("rename container")
    def rename(self, ref: str, name: str) -> None:
        """Give a container another name. Killed at any time, it has one of the two.

        Args:
            ref: id, name or start of the id.
            name: the new name, which may begin with a slash.

        Raises:
            InvalidInput: the name cannot be one, or is the present one.
            Conflict: the name is taken.
            NotFound: there is no such container.
            InvalidState: it is of a pod that is declared, which finds it by its name.
        """
        from pycontain.model.parse.names import validate_name

        name = name.removeprefix("/")
        if not ref or not name:
            raise InvalidInput("neither old nor new names may be empty")
        validate_name(name)
        identity = self.find(ref)
        paths = self._layout.container(identity)
        with files.Lock(paths.lock):
            before = _load(paths, ref)
            if before.name == name:
                raise InvalidInput("renaming a container with the same name as its current name")
            if before.options.is_kept and self._layout.has_pod(before.options.pod):
                raise InvalidState(
                    f"container {before.name} has its name of the pod that is declared,"
                    " which would make another one"
                )
            container = replace(before, name=name)
            self._rename(paths, before, container)
            self._events.tell("rename", container, oldName=f"/{before.name}")

    def _rename(self, paths: ContainerPaths, before: Container, after: Container) -> None:
        """The name is the document's: a claim that says another is void, anybody may remove it."""
        durable = not records.is_volatile(paths)
        remains.claim(self._layout, after.name, after.id, durable=durable)
        try:
            files.write_atomic(paths.document, files.dump(after), durable=durable)
        except StoreError:
            stale = before.name if remains.is_called(paths, after.name) else after.name
            files.remove(self._layout.name(stale))
            raise
        if os.path.exists(paths.event):
            write_about(paths, after)
        files.remove(self._layout.name(before.name))

    def _present(self, paths: ContainerPaths, container: Container) -> Status:
        return settling.present(
            self._layout, self._events, paths, container, rootless=self._rootless
        )

    @told("wait for container")
    def wait(self, ref: str, *, cancel: Cancel | None = None) -> int:
        """Block until the container does not run; return its exit code.

        Raises:
            NotFound: there is none.
            Cancelled: by `cancel`.
        """
        return self.await_record(ref, cancel=cancel).code

    def await_record(self, ref: str, *, cancel: Cancel | None = None) -> ExitRecord:
        """Block until the container does not run; return how its last run ended.

        Raises:
            PycontainError: as for ``await_end``.
        """
        record = self.await_end(ref, cancel=cancel)
        assert record is not None
        return record

    @told("wait for container")
    def await_run(self, ref: str, run: str) -> ExitRecord | None:
        """Block until one run of a container has ended; return how.

        Args:
            ref: id, name or start of the id.
            run: which one.

        Returns:
            None where nothing is known of it any more: it was started again meanwhile, or removed.

        Raises:
            NotFound: there is no such container.
        """
        paths = self._layout.container(self.find(ref))
        record = ending.await_record(self._layout, self._events, paths, run)
        return record if record is not None and record.run == run else None

    @told("wait for container")
    def await_end(
        self, ref: str, *, timeout: float | None = None, cancel: Cancel | None = None
    ) -> ExitRecord | None:
        """Block until the container does not run; return how its last run ended.

        Args:
            ref: id, name or start of the id.
            timeout: seconds; None for ever. When they are over: None.
            cancel: ends the wait.

        Raises:
            NotFound: there is none.
            Cancelled: by `cancel`.
        """
        deadline = Deadline(timeout)
        view = self.get(ref)
        while _is_before_run(view.status):
            if deadline.over:
                return None
            wait_readable((), 50, cancel)
            view = self.get(ref)
        if view.status.record is not None:
            return view.status.record
        pidfd = ending.open_init(view.paths)
        if pidfd is not None:
            try:
                if not wait_readable((pidfd,), deadline.left(), cancel):
                    return None
            finally:
                os.close(pidfd)
        return ending.await_record(self._layout, self._events, view.paths) or ExitRecord(
            run="", code=0
        )

    @told("wait for container")
    def wait_for(
        self,
        ref: str,
        conditions: Sequence[str],
        *,
        timeout: float | None = None,
        cancel: Cancel | None = None,
    ) -> str | None:
        """Block until the container is in one of the states that are named.

        Args:
            ref: id, name or start of the id.
            conditions: ``created``, ``running``, ``paused``, ``healthy``, ``unhealthy``,
                ``exited`` or ``stopped``, ``removing`` or ``removed``.
            timeout: seconds; None for ever.
            cancel: ends the wait.

        Returns:
            The condition that is met; None when the time is over.

        Raises:
            InvalidInput: an unknown condition, or none.
            NotFound: there is no such container (any more).
            InvalidState: it is to be healthy or unhealthy, and has no health check or has ended.
            Cancelled: by `cancel`.
        """
        from pycontain.engine import waiting

        waiting.check(conditions)
        identity = self.find(ref)
        return waiting.wait(
            lambda: self.get(identity), self._layout.events, conditions,
            timeout=timeout, cancel=cancel,
        )  # fmt: skip

    @told("look at container")
    def health(self, ref: str) -> Health | None:
        """Return how a container is, as its probes found; None where none are made of it.

        Raises:
            NotFound: there is none.
            StoreError: a document is damaged.
        """
        from pycontain.engine import health

        return health.of(self.get(ref))

    @told("look at container")
    def probe_state(self, ref: str) -> ProbeState:
        """Return whether a container has started and can be used, as its probes found.

        Raises:
            NotFound: there is none.
            StoreError: a document is damaged.
        """
        from pycontain.engine import probes

        return probes.state(self.get(ref))

    @told("probe container")
    def probe(self, ref: str, *, cancel: Cancel | None = None) -> Probe:
        """Make one probe of a container now; nothing is noted of it.

        Args:
            ref: id, name or start of the id.
            cancel: ends it.

        Raises:
            NotFound: there is none.
            InvalidState: it does not run, is paused, or has no health check.
            Cancelled: by `cancel`; the probe was killed.
        """
        from pycontain.engine import health, probe

        container = self.get(ref).container
        check = health.check_of(container)
        if check is None:
            raise InvalidState(f"container {container.name} has no health check")
        return probe.run(self, container, check, cancel)

    @told("remove container")
    def remove(
        self,
        ref: str,
        *,
        force: bool = False,
        volumes: bool = False,
    ) -> None:
        """Remove a container and all that belongs to it.

        Args:
            ref: id, name or start of the id.
            force: kill it first if it runs; also remove one whose documents are damaged.
            volumes: also the anonymous volumes that no other container uses. One that was made
                with ``remove`` takes them with it in any case.

        Raises:
            InvalidState: it runs and `force` was not said.
            NotFound: there is none.
        """
        identity = self.find(ref)
        paths = self._layout.container(identity)
        lock = files.Lock(paths.lock)
        lock.acquire()
        container = None
        try:
            try:
                container = records.load(paths)
                status = self._present(paths, container)
            except NotFound:
                if not os.path.isdir(paths.folder):
                    raise NotFound(f"No such container: {ref}") from None
            except StoreError:
                if not force:
                    raise
            else:
                if not force:
                    check("remove", container.name, status)
            ending.kill_all(self._layout, self._events, paths, container)
            taken = volumes or (container is not None and container.options.remove)
            remains.erase(self._layout, identity, volumes=taken)
            if container is not None:
                self._events.tell("destroy", container)
        finally:
            remains.drop_lock(lock)

    @told("clean up container")
    def cleanup(self, identity: str) -> None:
        """Do what is due after the end of a container, in its monitor's place."""
        cgroup.leave()
        self._clean(identity, wait=True)

    @told("clean up container")
    def finish(self, identity: str) -> None:
        """Do what is due after the end of a container, as its owner."""
        self._clean(identity, wait=True)

    @told("disconnect container")
    def disconnect(self, identity: str, run: str) -> None:
        """Give back what a run that has ended had in networks, as its owner, and see that there is
        somebody to start it again.
        """
        connections.leave(self._layout, identity, run)
        with contextlib.suppress(NotFound):
            container = records.load(self._layout.container(identity))
            if container.options.restart is not None:
                self._wake(container)

    def _clean(self, identity: str, *, wait: bool) -> bool:
        """Remove an ended container that was to be removed; True when it is gone."""
        paths = self._layout.container(identity)
        lock = files.Lock(paths.lock)
        if not lock.acquire(wait=wait):
            return False
        try:
            try:
                container = records.load(paths)
            except NotFound:
                return True
            status = settling.settle(self._layout, self._events, paths)
            if status.state != "exited" or not container.options.remove:
                return False
            with trace.Span("remove the container"):
                ending.kill_all(self._layout, self._events, paths, container)
                remains.erase(self._layout, identity, volumes=True)
                self._events.tell("destroy", container)
            return True
        finally:
            remains.drop_lock(lock)

    # ---- changing ----

    @told("update container")
    def update(self, ref: str, changes: Limits, *, restart: str | None = None) -> Container:
        """Change a container's limits, now where it runs, and for its next starts.

        Args:
            ref: id, name or start of the id.
            changes: what is not said stays as it is.
            restart: the restart policy in the words of ``--restart``, for the next end; None stays.

        Returns:
            The container as it is now.

        Raises:
            InvalidInput: nothing is said, or the limits cannot be.
            Conflict: more memory is in use than a new limit, and the kernel cannot reclaim it.
            NotSupported: this machine cannot keep them; with the controller's name.
            KernelError: the kernel refuses one; none is changed then.
        """
        from pycontain.engine import limits

        identity = self.find(ref)
        paths = self._layout.container(identity)
        with files.Lock(paths.lock):
            before = _load(paths, ref)
            status = settling.settle(self._layout, self._events, paths)
            running = status.state in ("running", "paused")
            container = before if restart is None else _with_policy(before, restart)
            if restart is None or changes != Limits():
                container = limits.changed(container, changes)
                limits.apply(container, changes, running=running, rootless=self._rootless)
            if restart is not None and status.record is not None:
                _settle_restarts(paths, status.record.run)
            durable = not container.options.remove
            files.write_atomic(paths.document, files.dump(container), durable=durable)
        self._events.tell("update", container)
        if running:
            self._wake(container)
        return container

    # ---- files ----

    @told("open files of container")
    def tree(self, ref: str) -> Tree:
        """Return the container's files, running or not; close them soon, they hold its lock.

        Raises:
            NotFound: there is no such container.
            KernelError: its root cannot be opened.
        """
        from pycontain.engine import roots

        return roots.open_tree(lambda: self.get(ref), self._layout, rootless=self._rootless)

    @told("compare files of container")
    def changes(self, ref: str) -> Sequence[Change]:
        """Return what the container has changed of its image's files, sorted by path.

        Raises:
            NotFound: there is no such container.
            KernelError: a layer cannot be read.
        """
        from pycontain.engine import layers

        with self._layers(ref) as opened:
            return layers.changes(opened)

    def export(self, ref: str, file: BinaryIO) -> int:
        """Write the container's files as a tar archive, without volumes and other mounts.

        Args:
            ref: id, name or start of the id.
            file: a blocking stream.

        Returns:
            How many bytes were written.

        Raises:
            NotFound: there is no such container.
            BrokenPipeError: whoever reads it has gone.
            KernelError: a file cannot be read, or the archive not be written.
        """
        from pycontain.engine import layers

        with self._layers(ref) as opened:
            return layers.export(opened, file)

    @told("commit container")
    def commit(
        self,
        ref: str,
        name: str | None = None,
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool | None = None,
    ) -> Image:
        """Make an image of a container: its image, and what it changed as one layer more.

        What is mounted in the container is not in it. Containers of the new image begin with the
        configuration that this one has: its command, environment, labels.

        Args:
            ref: id, name or start of the id.
            name: for the image, ``team/app:1``; taken from whoever has it. None: no name.
            author: for the image's history.
            message: the same.
            changes: lines that change its configuration, as in a Dockerfile: CMD, ENTRYPOINT, ENV,
                EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR.
            pause: whether its processes wait until the files are packed. None: where they can, that
                is, where it has a cgroup.

        Raises:
            NotFound: there is no such container, or its image was removed.
            InvalidInput: a name or a change is malformed.
            ImageError: a file has a name that no layer can have.
            NotSupported: it was to be paused, and has no cgroup.
            KernelError: a file cannot be read.
            StoreError: the store cannot be written.
        """
        from pycontain.engine import commit

        asked = commit.Asked(name, tuple(changes), author, message)
        view = self.get(ref)
        identity = view.container.id
        image = commit.commit(
            self, self._images.making(), view, asked, pause=pause,
            opened=lambda: self._layers(identity),
        )  # fmt: skip
        said = {"comment": message, "imageID": image.id, "imageRef": ", ".join(asked.names())}
        self._events.tell("commit", view.container, **said)
        return image

    def _layers(self, ref: str) -> contextlib.AbstractContextManager[Layers]:
        from pycontain.engine import layers

        return layers.opened(lambda: self.get(ref), self._layout, rootless=self._rootless)

    # ---- looking ----

    @told("look at container")
    def stats(self, ref: str) -> Stats:
        """Return one sample of what a container uses; of one that does not run, nothing is known.

        Raises:
            NotFound: there is none.
        """
        from pycontain.engine import stats

        return stats.sample(self.get(ref))

    @told("measure container")
    def sizes(self, ref: str) -> Sizes:
        """Return how much room a container's files take.

        Raises:
            NotFound: there is none.
            StoreError: a folder of it cannot be read.
        """
        from pycontain.engine.disk import folder_size
        from pycontain.engine.sizes import Sizes

        view = self.get(ref)
        own = folder_size(view.paths.upper)
        try:
            image = self._images.get(view.container.image_id).size
        except NotFound:
            image = None
        return Sizes(own, image)

    @told("look at container")
    def attachments(self, view: View) -> tuple[Place, ...]:
        """Return what a container has in networks now; nothing while it does not run.

        Raises:
            StoreError: its document is damaged.
        """
        if not view.container.options.networks or view.status.state not in ("running", "paused"):
            return ()
        from pycontain.engine import networks

        return networks.attachments(self._layout, view.container.id)

    @told("look at container")
    def ports(self, ref: str) -> tuple[PortBinding, ...]:
        """Return the ports of the host that lead to a container; none while it does not run.

        Raises:
            NotFound: there is no such container.
        """
        from pycontain.engine import ports

        view = self.get(ref)
        return ports.shown(view.container, view.paths, view.status.state)[0]

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
        until: int | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[LogEntry]:
        """Yield what the container wrote, oldest first.

        Args:
            ref: id, name or start of the id.
            follow: go on until it ends.
            tail: only the last so many lines.
            since: nanoseconds since the epoch, of the first entry wanted.
            until: the same of the last one.
            cancel: ends the wait for more.

        Raises:
            InvalidInput: it keeps no log.
            Cancelled: by `cancel`.
        """
        from pycontain.engine import logs

        view = self.get(ref)

        def ended() -> bool:
            try:
                return settling.status_of(self._layout, self._events, view.paths).state not in (
                    "running",
                    "paused",
                )
            except (PycontainError, FileNotFoundError):
                return True  # removed

        return logs.read(
            view.paths.log, view.container.options.log_driver,
            follow=follow, tail=tail, since=since, until=until, ended=ended, cancel=cancel,
        )  # fmt: skip


def _check_new(layout: Layout, identity: str) -> None:
    if not records.is_id(identity):
        raise InvalidInput(f"{identity!r} is no id of a container")
    if os.path.exists(layout.container(identity).folder):
        raise Conflict(f"the id {identity} is another container's")


def _load(paths: ContainerPaths, ref: str) -> Container:
    """The document of a container that was found, and may be gone since."""
    try:
        return records.load(paths)
    except NotFound:
        raise NotFound(f"No such container: {ref}") from None


def _nothing() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def hostname(container: Container) -> str:
    """Return the name that the container calls itself."""
    if container.options.hostname:
        return container.options.hostname
    if container.options.uts == "host" or container.options.network == "host":
        return os.uname().nodename
    return container.id[:12]


def _check_leash(options: RunOptions, *, leash: bool) -> None:
    """Refuse to start again what is to end with its caller."""
    if leash and options.restart is not None:
        raise InvalidInput(
            "conflicting options: a restart policy and a leash",
            "leash=False lets the container go on without the calling process",
        )


def _is_before_run(status: Status) -> bool:
    """Whether there is a run to come, and none to wait for yet."""
    never = status.state == "created" and status.record is None
    return never or status.state == "restarting"


def _is_being_started(view: View) -> bool:
    """Whether somebody starts a container, which is no state of its own: its lock is held."""
    status = view.status
    is_begun = status.state == "created" and status.record is None
    return is_begun and bool(records.last_run(view.paths))


def _is_kept(paths: ContainerPaths) -> bool:
    """Whether a pod's controller starts its sandbox, and then what is in it, in order."""
    return records.load(paths).options.is_kept


def _is_due(paths: ContainerPaths, run: str) -> bool:
    from pycontain.engine import supervision

    is_last = records.last_run(paths) == run
    return is_last and supervision.is_due(supervision.load(paths), run)


def _with_policy(container: Container, word: str) -> Container:
    """The container with another restart policy."""
    from pycontain.model.restart import parse_restart

    policy = parse_restart(word)
    if policy is not None and container.options.remove:
        raise Conflict(
            "restart policy cannot be updated because AutoRemove is enabled for the container"
            f" {container.name}"
        )
    return replace(container, options=replace(container.options, restart=policy))


def _settle_restarts(paths: ContainerPaths, run: str) -> None:
    """Let a new policy be for ends that are still to come."""
    from pycontain.engine import supervision

    if supervision.ran_in_this_boot(paths):
        supervision.note_settled(paths, run)


def _begin_hooks(container: Container, paths: ContainerPaths, run: str, *, claim: bool) -> None:
    from pycontain.engine import hooks

    if hooks.has_post_start(container):
        hooks.begin(paths, run, claim=claim)


def _let_go_hooks(container: Container, run: str) -> None:
    if container.options.hooks is not None:
        from pycontain.engine import hooks

        hooks.let_go(run)


def _note_member(layout: Layout, container: Container, paths: ContainerPaths, run: str) -> None:
    from pycontain.engine import sandbox

    sandbox.note_member(layout, container, paths, run)


def _begin_restarts(paths: ContainerPaths) -> None:
    from pycontain.engine import supervision

    supervision.begin(paths)


def _not_started(run: str, err: PycontainError | OSError) -> ExitRecord:
    code = (
        127 if isinstance(err, CommandNotFound) else 126 if isinstance(err, NotExecutable) else 128
    )
    if isinstance(err, OSError):
        subject = err.filename if isinstance(err.filename, str) else ""
        err = kernel_error("start container", subject, err.errno or 0)
    return ExitRecord(run=run, code=code, reason=records.NOT_STARTED, error=err.message)
