"""Containers as users name them: made, started, stopped, removed.

Every change of one container happens under its lock. A container exists from the moment its
document does; its name is claimed before, its folder made before that, so that a command that is
killed leaves at most a folder without a document, which the next ``create`` or ``list`` removes.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from pycontain import trace
from pycontain.engine import hostfiles, names, records
from pycontain.engine.failure import told
from pycontain.errors import (
    CommandNotFound,
    Conflict,
    InvalidInput,
    KernelError,
    NotExecutable,
    NotFound,
    PycontainError,
    StoreError,
)
from pycontain.kernel import cgroup, process
from pycontain.model import parse
from pycontain.model.container import Container, ExitRecord
from pycontain.model.status import Status, check
from pycontain.runtime import spec as specs
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pycontain.engine.images import Images
    from pycontain.engine.logs import LogEntry
    from pycontain.model.container import ExecOptions, RunOptions
    from pycontain.runtime.attachment import Attachment
    from pycontain.store.layout import ContainerPaths, Layout

    Progress = Callable[[str], None]
    Size = tuple[int, int]

DEFAULT_STOP_TIMEOUT = 10
_LOCK = "container-"  # before the id, as Layout.container has it
_REMOVED = ".removed-"  # before the id: the folder of a container that is being removed
_LINGER = 2.0  # seconds that a monitor is given to end by itself once its container is dead


class View(NamedTuple):
    """A container as it is now."""

    container: Container
    status: Status
    paths: ContainerPaths


class Containers:
    """The containers of one store."""

    def __init__(self, layout: Layout, images: Images, *, rootless: bool) -> None:
        self._layout = layout
        self._images = images
        self._rootless = rootless

    # ---- making ----

    @told("create container")
    def create(self, options: RunOptions, *, progress: Progress | None = None) -> Container:
        """Make a container, without starting it.

        Args:
            options: what was asked for.
            progress: is given lines of text while an image is built.

        Raises:
            InvalidInput: an option cannot be carried out.
            Conflict: the name is taken.
            NotFound, ImageError: the image.
        """
        if options.name is not None:
            parse.validate_name(options.name)
        with trace.Span(f"find image {options.image}"):
            image = self._images.ensure(options.image, progress)
        identity = os.urandom(32).hex()
        word = options.stop_signal or image.config.stop_signal or "SIGTERM"
        timeout = options.stop_timeout
        command = specs.command(options, image.config)
        specs.security(options.security_opt, options.privileged)
        specs.user_mounts(options, image.config)
        paths = self._layout.container(identity)
        with files.Lock(paths.lock):
            try:
                files.make_folder(paths.folder)
                container = Container(
                    id=identity,
                    name=self._claim(options.name, identity),
                    created=time.time_ns(),
                    options=options,
                    image_id=image.id,
                    layers=tuple(image.diff_ids),
                    config=image.config,
                    command=command,
                    stop_signal=parse.parse_signal(word),
                    stop_timeout=DEFAULT_STOP_TIMEOUT if timeout is None else timeout,
                )
                for folder in (paths.upper, paths.work):
                    # The upper folder is the container's "/": everybody in it may enter.
                    files.make_folder(folder, 0o755)
                hostfiles.write(paths, options, hostname(container))
                files.write_atomic(
                    paths.document, files.dump(container), durable=not options.remove
                )
            except BaseException:
                self._erase(identity)
                files.remove(paths.lock)
                raise
        return container

    def _claim(self, wanted: str | None, identity: str) -> str:
        attempt = 0
        while True:
            name = wanted if wanted is not None else names.generate(attempt)
            try:
                files.claim(self._layout.name(name), identity.encode())
            except Conflict:
                holder = self._holder(name)
                if holder is None:
                    continue
                if wanted is not None:
                    raise Conflict(
                        f'the container name "/{name}" is already in use by container "{holder}"',
                        "remove or rename that container, or use another name",
                    ) from None
                attempt += 1
            else:
                return name

    def _holder(self, name: str) -> str | None:
        """Return the id that holds `name`; a claim left by a killed command is removed: None."""
        path = self._layout.name(name)
        try:
            identity = files.read(path).decode(errors="replace")
        except NotFound:
            return None
        if not records.is_id(identity):
            raise StoreError(
                f"container name {name}: {path}: damaged: not an id", "remove that file"
            )
        paths = self._layout.container(identity)
        if os.path.exists(paths.document):
            return identity
        lock = files.Lock(paths.lock)
        if not lock.acquire(wait=False):
            return identity  # being made
        try:
            if os.path.exists(paths.document):
                return identity
            self._erase(identity)
            files.remove(path)
        finally:
            _drop_lock(lock)
        return None

    # ---- finding ----

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
                claimed = files.read(self._layout.name(name)).decode(errors="replace")
            except (NotFound, StoreError):
                claimed = ""
            if claimed in known:
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
        return self._view(identity, f"No such container: {ref}")

    def _view(self, identity: str, missing: str) -> View:
        paths = self._layout.container(identity)
        try:
            container = records.load(paths)
        except NotFound:
            raise NotFound(missing) from None
        return View(container, self._status(paths), paths)

    def _status(self, paths: ContainerPaths) -> Status:
        try:
            return records.status(paths)
        except records.Lost:
            with files.Lock(paths.lock):
                return self._settle(paths)

    def _settle(self, paths: ContainerPaths) -> Status:
        """The status, after a lost run has been ended and recorded; the lock is held."""
        try:
            return records.status(paths)
        except records.Lost as lost:
            self._remove_cgroup(os.path.basename(paths.folder))
            killed = lost.reason == "monitor lost"
            record = ExitRecord(
                run=lost.run,
                code=137 if killed else 255,
                signal=int(signal.SIGKILL) if killed else None,
                started=lost.started,
                finished=time.time_ns() if killed else None,
                reason=lost.reason,
            )
            try:
                records.write_exit(paths, record)
            except StoreError:
                # A full or read-only disk: what is known is told all the same, and found again.
                return Status(state="exited", record=record, started=record.started)
            return records.status(paths)

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
        found = []
        known = set(records.ids(self._layout))
        for identity in sorted(known):
            try:
                view = self._view(identity, "")
            except NotFound:
                known.remove(identity)
            except PycontainError as err:
                if problems is None:
                    raise
                problems.append(err)
            else:
                due = view.status.state == "exited" and view.container.options.remove
                # Its monitor's clean-up may be under way; if it was killed, this is it.
                if due and self._clean(identity, wait=False):
                    continue
                if all or view.status.state in ("running", "paused"):
                    found.append(view)
        self._sweep(known)
        return sorted(found, key=lambda view: view.container.created, reverse=True)

    def _sweep(self, known: set[str]) -> None:
        """Finish what killed commands left half made or half removed; `known` have documents.

        The lock file of a container is the first that is made of it and the last that is removed;
        after a reboot its folder tells, which is renamed before its content goes.
        """
        folders = os.listdir(self._layout.containers)
        half = {name.removeprefix(_REMOVED) for name in folders}
        locks = os.listdir(self._layout.locks)
        half |= {name.removeprefix(_LOCK) for name in locks if name.startswith(_LOCK)}
        for identity in half - known:
            if records.is_id(identity):
                self._sweep_one(identity)
        files.sweep(self._layout.names)
        files.sweep(self._layout.cache)

    def _sweep_one(self, identity: str) -> None:
        lock = files.Lock(self._layout.container(identity).lock)
        if not lock.acquire(wait=False):
            return  # it is being made or removed right now
        try:
            if not os.path.exists(self._layout.container(identity).document):
                self._erase(identity)
        finally:
            _drop_lock(lock)

    # ---- starting ----

    @told("run container")
    def run(
        self,
        options: RunOptions,
        *,
        attach: bool = True,
        size: Size | None = None,
        progress: Progress | None = None,
    ) -> tuple[Container, Attachment | None]:
        """Create and start a container. With ``remove`` a failed start removes it again.

        Raises:
            CommandNotFound, NotExecutable: the command cannot be started.
            PycontainError: as for ``create`` and ``start``.
        """
        with trace.Span("create the container"):
            container = self.create(options, progress=progress)
        try:
            # Detached, nobody is its input's only source: it stays open for who attaches later.
            stdin = attach and options.interactive
            attachment = self.start(container.id, attach=attach, stdin=stdin, size=size)
        except BaseException:
            if options.remove:
                self.remove(container.id, force=True)
            raise
        return container, attachment

    @told("start container")
    def start(
        self,
        ref: str,
        *,
        attach: bool = False,
        stdin: bool = False,
        size: Size | None = None,
    ) -> Attachment | None:
        """Start a container; return a connection to it when `attach`.

        Args:
            ref: id, name or start of the id.
            attach: the caller is the container's pipe: nothing of its output is lost.
            stdin: the caller also is its standard input.
            size: rows and columns of the caller's terminal.

        Raises:
            InvalidState: it runs already.
            CommandNotFound, NotExecutable: the command cannot be started.
            KernelError: a step failed; all that was done for it is undone.
        """
        from pycontain.engine import launch

        identity = self.find(ref)
        paths = self._layout.container(identity)
        with files.Lock(paths.lock) as lock:
            try:
                container = records.load(paths)
            except NotFound:
                raise NotFound(f"No such container: {ref}") from None
            check("start", container.name, self._settle(paths))
            self._remove_cgroup(identity)
            joined = launch.joined_namespaces(container.options, self._join_target)
            run = os.urandom(8).hex()
            order = launch.Order(
                layout=self._layout, paths=paths, container=container, run=run,
                rootless=self._rootless, joined=joined, attach=attach, stdin=stdin, size=size,
                lock=lock.fileno(),
            )  # fmt: skip
            records.write_marker(paths, run)
            try:
                attachment = launch.launch(order, on_finish=self._finisher(identity))
            except PycontainError as err:
                self._remove_cgroup(identity)
                records.write_exit(paths, _not_started(run, err))
                raise
            except BaseException:
                self._remove_cgroup(identity)
                raise
        if attach:
            return attachment
        attachment.close()
        return None

    def _finisher(self, identity: str) -> Callable[[], None]:
        def finish() -> None:
            self._clean(identity, wait=True)

        return finish

    def _join_target(self, ref: str) -> tuple[int, int]:
        """Return pid and start time of a running container's first process."""
        view = self.get(ref)
        check("join", view.container.name, view.status)
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

        image = self._images.get(options.image)
        identity = "0" * 64
        container = Container(
            id=identity, name=options.name or "NAME", created=0, options=options,
            image_id=image.id, layers=tuple(image.diff_ids), config=image.config,
            command=specs.command(options, image.config), stop_signal=15, stop_timeout=10,
        )  # fmt: skip
        order = launch.Order(
            layout=self._layout, paths=self._layout.container(identity), container=container,
            run="", rootless=self._rootless, attach=True, stdin=options.interactive, size=None,
            joined=launch.joined_namespaces(options, self._join_target), lock=-1,
        )  # fmt: skip
        return launch.explain(order)

    @told("exec")
    def exec(
        self, ref: str, options: ExecOptions, *, size: Size | None = None
    ) -> Attachment | None:
        """Start a command in a running container; return a connection unless detached.

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
        return launch.execute(
            view, record, options, layout=self._layout, rootless=self._rootless, size=size
        )

    @told("attach")
    def attach(self, ref: str) -> Attachment:
        """Connect to a running container: what it writes from now on, and its input.

        Raises:
            InvalidState: it does not run.
        """
        from pycontain.runtime.attachment import Attachment, connect

        view = self.get(ref)
        check("attach", view.container.name, view.status)
        return Attachment(connect(view.paths.attach))

    # ---- ending ----

    @told("kill container")
    def kill(self, ref: str, number: int) -> None:
        """Send a signal to the container's first process.

        Raises:
            InvalidState: it does not run.
        """
        view = self.get(ref)
        check("kill", view.container.name, view.status)
        pidfd = self._open_init(view.paths)
        if pidfd is None:
            return
        try:
            process.send_signal(pidfd, number)
            if number == signal.SIGKILL:
                self._await_end(view.paths, None)
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
        view = self.get(ref)
        if view.status.state not in ("running", "paused"):
            return
        pidfd = self._open_init(view.paths)
        if pidfd is not None:
            try:
                process.send_signal(pidfd, signal or view.container.stop_signal)
                limit = view.container.stop_timeout if timeout is None else timeout
                if not _wait_process(pidfd, None if limit < 0 else limit):
                    process.send_signal(pidfd, 9)
            finally:
                os.close(pidfd)
        self._await_end(view.paths, None)

    def restart(self, ref: str, *, timeout: int | None = None, signal: int | None = None) -> None:
        """Stop the container if it runs, and start it.

        Raises:
            PycontainError: as for ``stop`` and ``start``.
        """
        identity = self.find(ref)
        self.stop(identity, timeout=timeout, signal=signal)
        self.start(identity)

    @told("wait for container")
    def wait(self, ref: str) -> int:
        """Block until the container does not run; return its exit code.

        Raises:
            NotFound: there is none.
        """
        return self.await_record(ref).code

    @told("wait for container")
    def await_record(self, ref: str) -> ExitRecord:
        """Block until the container does not run; return how its last run ended."""
        view = self.get(ref)
        if view.status.record is not None:
            return view.status.record
        if view.status.state == "created":
            while view.status.state == "created" and view.status.record is None:
                time.sleep(0.05)
                view = self.get(ref)
        return self._await_end(view.paths, None) or ExitRecord(run="", code=0)

    def _open_init(self, paths: ContainerPaths) -> int | None:
        record = records.load_run(paths)
        if record is None or record.boot != process.boot_id():
            return None
        return process.open_process(record.pid, record.pid_start)

    def _await_end(self, paths: ContainerPaths, timeout: float | None) -> ExitRecord | None:
        """Wait for the record of the present run; a lost run is settled."""
        pidfd = self._open_init(paths)
        if pidfd is not None:
            try:
                _wait_process(pidfd, timeout)
            finally:
                os.close(pidfd)
        pause = 0.0005
        while True:
            try:
                status = self._status(paths)
            except (NotFound, FileNotFoundError):
                return None
            if status.state not in ("running", "paused"):
                return status.record
            # Its process is dead; its monitor drains the output and writes the record.
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    @told("remove container")
    def remove(
        self,
        ref: str,
        *,
        force: bool = False,
        volumes: bool = False,  # noqa: ARG002 - docker's word; ours always go with it
    ) -> None:
        """Remove a container and all that belongs to it, its anonymous volumes included.

        Args:
            ref: id, name or start of the id.
            force: kill it first if it runs; also remove one whose documents are damaged.
            volumes: anonymous volumes go with their container in any case.

        Raises:
            InvalidState: it runs and `force` was not said.
            NotFound: there is none.
        """
        identity = self.find(ref)
        paths = self._layout.container(identity)
        lock = files.Lock(paths.lock)
        lock.acquire()
        try:
            try:
                container = records.load(paths)
                status = self._settle(paths)
            except NotFound:
                if not os.path.isdir(paths.folder):
                    raise NotFound(f"No such container: {ref}") from None
            except StoreError:
                if not force:
                    raise
            else:
                if not force:
                    check("remove", container.name, status)
            self._end(paths)
            self._erase(identity)
        finally:
            _drop_lock(lock)

    def _end(self, paths: ContainerPaths) -> None:
        """Kill what runs and wait until the monitor is gone, so that nobody writes there."""
        try:
            record = records.load_run(paths)
        except StoreError:
            return
        if record is None or record.boot != process.boot_id():
            return
        init = process.open_process(record.pid, record.pid_start)
        if init is not None:
            process.send_signal(init, 9)
            os.close(init)
        monitor = process.open_process(record.monitor, record.monitor_start)
        if monitor is not None:
            try:
                # Itself about to clean up, or held by an owner who does not read.
                if record.monitor != os.getpid() and not _wait_process(monitor, _LINGER):
                    process.send_signal(monitor, 9)
                    _wait_process(monitor, _LINGER)
            finally:
                os.close(monitor)

    @told("clean up container")
    def cleanup(self, identity: str) -> None:
        """Do what is due after the end of a container: called by its monitor, or by its owner."""
        cgroup.leave()
        self._clean(identity, wait=True)

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
            status = self._settle(paths)
            if status.state != "exited" or not container.options.remove:
                return False
            with trace.Span("remove the container"):
                self._end(paths)
                self._erase(identity)
            return True
        finally:
            _drop_lock(lock)

    def _erase(self, identity: str) -> None:
        """Remove all traces of a container that does not run; the lock is held.

        The cgroup first, the name last but the folder's content: killed in between, the container
        is still there to be removed, or its folder is one that anybody may finish removing.
        """
        paths = self._layout.container(identity)
        self._remove_cgroup(identity)
        files.remove_tree(paths.state_folder)
        try:
            claims = {records.load(paths).name}
        except PycontainError:
            claims = self._claims_of(identity)
        removed = f"{self._layout.containers}/{_REMOVED}{identity}"
        try:
            os.rename(paths.folder, removed)
        except FileNotFoundError:
            pass
        except OSError as err:
            raise files.store_error("remove", paths.folder, err) from err
        for name in claims:
            files.remove(self._layout.name(name))
        files.remove_tree(removed)

    def _claims_of(self, identity: str) -> set[str]:
        """The names that hold an id, where its document does not say it (any more)."""
        found = set()
        for name in os.listdir(self._layout.names):
            try:
                if files.read(self._layout.name(name)).decode(errors="replace") == identity:
                    found.add(name)
            except PycontainError:
                continue
        return found

    def _remove_cgroup(self, identity: str) -> None:
        try:
            root = cgroup.open_root()
        except KernelError:
            return  # no cgroup2 here, so none was made
        try:
            cgroup.remove(root, f"pycontain/{identity}")
        finally:
            os.close(root)

    # ---- looking ----

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Iterator[LogEntry]:
        """Yield what the container wrote, oldest first.

        Args:
            ref: id, name or start of the id.
            follow: go on until it ends.
            tail: only the last so many lines.
            since: nanoseconds since the epoch, of the first entry wanted.
            until: the same of the last one.

        Raises:
            InvalidInput: it keeps no log.
        """
        from pycontain.engine import logs

        view = self.get(ref)

        def ended() -> bool:
            try:
                return self._status(view.paths).state not in ("running", "paused")
            except (PycontainError, FileNotFoundError):
                return True  # removed

        return logs.read(
            view.paths.log, view.container.options.log_driver,
            follow=follow, tail=tail, since=since, until=until, ended=ended,
        )  # fmt: skip


def hostname(container: Container) -> str:
    """Return the name that the container calls itself."""
    if container.options.hostname:
        return container.options.hostname
    if container.options.uts == "host" or container.options.network == "host":
        return os.uname().nodename
    return container.id[:12]


def _not_started(run: str, err: PycontainError) -> ExitRecord:
    code = (
        127 if isinstance(err, CommandNotFound) else 126 if isinstance(err, NotExecutable) else 128
    )
    return ExitRecord(run=run, code=code, reason=records.NOT_STARTED, error=err.message)


def _wait_process(pidfd: int, timeout: float | None) -> bool:
    """Wait until the process of a pidfd has ended; False when it has not in `timeout` seconds."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else timeout * 1000))


def _drop_lock(lock: files.Lock) -> None:
    """Release a lock whose object is gone, and its file with it."""
    files.remove(lock.path)
    lock.release()
