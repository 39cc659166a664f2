"""Pods as users name them: made, started, stopped, removed.

A pod exists from the moment its document does; its name, which is one of the containers' names, is
claimed before, its folder made before that. Its containers say themselves that they are in it, in
their own documents. What they share is ``engine.sandbox``.

Locks: the pod's, then those of its containers, one at a time.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from pycontain.engine import names, records, sandbox
from pycontain.engine.failure import told
from pycontain.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    PycontainError,
    StoreError,
)
from pycontain.model.container import UID_LABEL, Limits, RunOptions
from pycontain.model.parse.names import validate_name
from pycontain.model.pod import KIND_LABEL, KINDS, SHARED, Pod, cgroup_path
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pycontain.engine import Engine
    from pycontain.engine.containers import View
    from pycontain.model.container import Mount, NetworkChoice, PortBinding, Publish
    from pycontain.model.pod import Memory
    from pycontain.pod.declared import Declared
    from pycontain.store.layout import PodPaths

State = Literal["Created", "Running", "Degraded", "Paused", "Stopped", "Exited"]
_REMOVED = ".removed-"  # before the id: the folder of a pod that is being removed
_LOCK = "pod-"  # before the id, as Layout.pod has it


class PodView(NamedTuple):
    """A pod as it is now.

    Attributes:
        sandbox: the state of what its containers share: ``created``, ``running``, ``exited``, or
            ``lost`` where its process was killed.
        members: its containers, in the order in which they were made.
    """

    pod: Pod
    state: State
    sandbox: sandbox.State
    members: tuple[View, ...]
    paths: PodPaths


class Failed(NamedTuple):
    """A container of a pod with which a verb failed.

    Attributes:
        container: its id.
    """

    container: str
    error: PycontainError


def state_of(holder: sandbox.State, members: Iterable[str]) -> State:
    """Return a pod's state in podman's words.

    Args:
        holder: the state of its sandbox.
        members: those of its containers.
    """
    states = [_SANDBOX[holder], *members]
    running = states.count("running")
    if running == len(states):
        return "Running"
    if running or "paused" in states:
        # What holds the namespaces is never paused.
        others = [state for state in states[1:] if state != "paused"]
        return "Paused" if holder == "running" and not others else "Degraded"
    ended = states.count("exited")
    if ended == len(states):
        return "Exited"
    return "Stopped" if ended else "Created"


_SANDBOX = {"created": "created", "running": "running", "exited": "exited", "lost": "exited"}


class Pods:
    """The pods of one store.

    Args:
        engine: over the same store; one that has a worker (docs/adr/0011) has the verbs carried
            out there.
    """

    def __new__(cls, engine: Engine) -> Pods:  # noqa: D102 - the class says it
        return engine.elsewhere(cls) or super().__new__(cls)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._layout = engine.layout
        self._containers = engine.containers

    # ---- making ----

    @told("create pod")
    def create(
        self,
        name: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        share: Sequence[str] = SHARED,
        hostname: str = "",
        network: str = "bridge",
        networks: Sequence[NetworkChoice] = (),
        publish: Sequence[Publish] = (),
        add_host: Sequence[str] = (),
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_option: Sequence[str] = (),
        volumes: Sequence[Mount] = (),
        shm_size: int = 64 << 20,
        memory: Sequence[Memory] = (),
        limits: Limits | None = None,
        replace_old: bool = False,
    ) -> Pod:
        """Make a pod; nothing of it runs before its first start.

        Args:
            name: none is one that nobody chose.
            labels: name to value.
            share: which namespaces its containers share: ``ipc``, ``net``, ``pid``, ``uts``.
            hostname: of the shared UTS namespace; empty is the pod's name.
            network: ``bridge``, ``none`` or ``host``.
            networks: that it is in, where `network` is ``bridge``.
            publish: ports of the host that lead to it.
            add_host: lines of its /etc/hosts, ``NAME:ADDRESS``.
            dns: name servers.
            dns_search: domains to look in.
            dns_option: options of the resolver.
            volumes: what each of its containers has mounted too.
            shm_size: bytes of the shared /dev/shm.
            memory: volumes in memory, which its containers mount as a ``tmpfs`` of that source.
            limits: of all its containers together.
            replace_old: a pod that has the name is removed, with its containers.

        Raises:
            InvalidInput: the options contradict each other.
            Conflict: a pod or a container has the name.
            NotSupported: this machine cannot keep the limits.
        """
        if name is not None:
            validate_name(name)
        _check_share(share)
        pod = Pod(
            id=os.urandom(32).hex(), name=name or "", created=time.time_ns(),
            labels=dict(labels or {}), share=tuple(sorted(set(share))), hostname=hostname,
            network=network if "net" in share else "none",
            networks=tuple(networks) if "net" in share else (), publish=tuple(publish),
            add_host=tuple(add_host), dns=tuple(dns), dns_search=tuple(dns_search),
            dns_option=tuple(dns_option), volumes=tuple(volumes), shm_size=shm_size,
            memory=tuple(memory), limits=limits or Limits(),
        )  # fmt: skip
        _check_shared(pod)
        _check_memory(pod)
        sandbox.check(self._layout, pod)
        if replace_old and name is not None and self.exists(name):
            self.remove(name, force=True)
        return self._make(pod)

    def _make(self, pod: Pod) -> Pod:
        paths = self._layout.pod(pod.id)
        files.make_folder(self._layout.pods)
        with files.Lock(paths.lock) as lock:
            try:
                files.make_folder(paths.folder)
                pod = replace(pod, name=self._claim(pod))
                files.write_atomic(paths.pod, files.dump(pod))
                files.sync_folder(self._layout.pods)
            except BaseException:
                self._erase(pod)
                files.remove(lock.path)
                raise
        self._tell("create", pod)
        return pod

    def _claim(self, pod: Pod) -> str:
        attempt = 0
        while True:
            name = pod.name or names.generate(attempt)
            try:
                files.claim(self._layout.name(name), pod.id)
            except Conflict:
                holder = self._containers.holder(name)
                if holder is None:
                    continue
                if pod.name:
                    what = "pod" if self._layout.has_pod(holder) else "container"
                    raise Conflict(
                        f'name "{name}" is in use: {what} already exists',
                        f"remove that {what}, or use another name",
                    ) from None
                attempt += 1
            else:
                return name

    def _tell(self, action: str, pod: Pod) -> None:
        self._engine.events.tell_pod(action, pod.id, pod.name, pod.labels)

    # ---- finding ----

    @told("find pod")
    def find(self, ref: str) -> str:
        """Return the id of a pod by its id, name, or unique start of its id.

        Raises:
            NotFound: there is none.
            InvalidInput: the start of more than one id.
        """
        known = self._ids()
        if ref in known:
            return ref
        if ref and "/" not in ref:
            try:
                claimed = files.read_word(self._layout.name(ref))
            except (NotFound, StoreError):
                claimed = ""
            if claimed in known and sandbox.has_name(self._layout, claimed, ref):
                return claimed
        found = [identity for identity in known if ref and identity.startswith(ref)]
        if not found:
            raise NotFound(
                f"no pod with name or ID {ref} found: no such pod", "pycontain pod ps lists all"
            )
        if len(found) > 1:
            raise InvalidInput(f"more than one pod's ID begins with {ref}")
        return found[0]

    def _ids(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._layout.pods) if records.is_id(name)]
        except FileNotFoundError:
            return []

    def exists(self, ref: str) -> bool:
        """Return whether there is such a pod, by name or id."""
        try:
            sandbox.load(self._layout, self.find(ref))
        except NotFound:
            return False
        return True

    def names(self) -> dict[str, str]:
        """Return what pods are called: id → name; those that cannot be read are left out."""
        found = {}
        for identity in self._ids():
            try:
                found[identity] = sandbox.load(self._layout, identity).name
            except PycontainError:
                continue
        return found

    @told("look at pod")
    def get(self, ref: str) -> PodView:
        """Return a pod and its state.

        Raises:
            NotFound: there is none.
            StoreError: its document is damaged.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        return self._view(pod, self._members(pod.id))

    def _view(self, pod: Pod, members: Sequence[View]) -> PodView:
        holder = self._settled(pod)
        states = (view.status.state for view in members if not _has_initialized(view))
        return PodView(
            pod, state_of(holder, states), holder, tuple(members), self._layout.pod(pod.id)
        )

    def _settled(self, pod: Pod) -> sandbox.State:
        """The state of a sandbox, once what a killed process left of it is given back."""
        found = sandbox.state(self._layout, pod.id)
        if found != "lost":
            return found
        with sandbox.locked(self._layout, pod.id):
            sandbox.settle(self._layout, pod)
        return sandbox.state(self._layout, pod.id)

    def _members(self, identity: str) -> Sequence[View]:
        """The containers of a pod, in the order in which they were made."""
        found = []
        for container in sandbox.members(self._layout, identity):
            try:
                found.append(self._containers.get(container.id))
            except NotFound:
                continue  # removed meanwhile
        return sorted(found, key=lambda view: view.container.created)

    @told("list pods")
    def list(self, problems: list[PycontainError] | None = None) -> list[PodView]:
        """Return the pods, newest first.

        Args:
            problems: gets an error for each pod that cannot be read; without it the first one is
                raised.
        """
        by_pod: dict[str, list[View]] = {}
        for view in self._containers.list(all=True, problems=problems):
            by_pod.setdefault(view.container.options.pod, []).insert(0, view)
        found = []
        for identity in self._ids():
            try:
                pod = sandbox.load(self._layout, identity)
                found.append(self._view(pod, by_pod.get(identity, ())))
            except NotFound:
                continue  # half made, or removed meanwhile
            except PycontainError as err:
                if problems is None:
                    raise
                problems.append(err)
        self.sweep()
        return sorted(found, key=lambda view: view.pod.created, reverse=True)

    def sweep(self) -> None:
        """Finish what killed commands, or a killed supervisor, left half made or half removed.

        The lock file of a pod is the first that is made of it and the last that is removed.
        """
        try:
            half = {name.removeprefix(_REMOVED) for name in os.listdir(self._layout.pods)}
        except FileNotFoundError:
            return
        locks = os.listdir(self._layout.locks)
        half |= {name.removeprefix(_LOCK) for name in locks if name.startswith(_LOCK)}
        for identity in half:
            paths = self._layout.pod(identity)
            if not records.is_id(identity) or os.path.exists(paths.pod):
                continue
            lock = files.Lock(paths.lock)
            if not lock.acquire(wait=False):
                continue  # it is being made or removed right now
            try:
                if not os.path.exists(paths.pod):
                    self._erase_id(identity)
                    files.remove(lock.path)
            finally:
                lock.release()

    # ---- its containers ----

    def member(self, ref: str, options: RunOptions) -> RunOptions:
        """Return the options of a container that is to be in a pod.

        Args:
            ref: the pod's id, name, or start of the id.
            options: what was asked for; of namespaces that the pod's containers share nothing may
                be asked.

        Raises:
            NotFound: there is no such pod.
            InvalidInput: something is asked for that is the pod's to have.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        _check_member(pod, options)
        _check_memory(pod, options)
        targets = {mount.target for mount in options.mounts}
        volumes = tuple(mount for mount in pod.volumes if mount.target not in targets)
        parent = cgroup_path(pod.id) if sandbox.has_cgroups() else options.cgroup_parent
        return replace(
            options, pod=pod.id, mounts=volumes + options.mounts, cgroup_parent=parent,
            **sandbox.modes(pod),
        )  # fmt: skip

    # ---- starting and ending ----

    @told("start pod")
    def start(self, ref: str) -> Sequence[Failed]:
        """Start what a pod's containers share, and those of them that do not run.

        Returns:
            The containers that could not be started.

        Raises:
            NotFound: there is no such pod.
            PycontainError: its sandbox cannot be started.
        """
        with sandbox.locked(self._layout, self.find(ref)) as (pod, lock):
            sandbox.start(self._layout, pod, lock)
        members = self._members(pod.id)
        idle: Sequence[View] = [view for view in members if view.status.state in _IDLE]
        if UID_LABEL in pod.labels:
            idle = self._begin_again(pod, idle)
        failed = _each(idle, lambda view: self._containers.start(view.container.id))
        self._tell("start", pod)
        return failed

    def _begin_again(self, pod: Pod, idle: Sequence[View]) -> Sequence[View]:
        """Let a pod that is declared begin in its order; return what is left to be started: what a
        user had stopped since its sandbox runs, and what is not declared.
        """
        from pycontain.pod import observed
        from pycontain.pod.keeper import Keeper

        keeper = Keeper(self._engine)
        declared = keeper.declarations.find("Pod", pod.name)
        if declared is None:
            return idle
        seen = observed.look(self._engine, declared).containers.values()
        stopped = [one for one in seen if one.stopped and not one.is_alive]
        for one in stopped:
            if not one.is_of_this_run:
                self._let_begin(one.id)
        keeper.keep("Pod", pod.name)
        again = {one.id for one in stopped if one.is_of_this_run}
        return [
            view for view in idle
            if view.container.id in again or not view.container.options.is_kept
        ]  # fmt: skip

    def _let_begin(self, identity: str) -> None:
        """Leave a container that a user had stopped to the controller of its pod."""
        from pycontain.engine import supervision

        paths = self._layout.container(identity)
        with records.hold(paths):
            if records.exists(paths):
                supervision.note_awaited(paths)

    @told("stop pod")
    def stop(self, ref: str, *, timeout: int | None = None) -> Sequence[Failed]:
        """Stop a pod's containers, all at once, and then what they share.

        Args:
            ref: id, name or start of the id.
            timeout: seconds before a container is killed; None is each one's own.

        Returns:
            The containers that could not be stopped.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        failed = self._stop(pod, timeout)
        self._tell("stop", pod)
        return failed

    def _stop(self, pod: Pod, timeout: int | None) -> Sequence[Failed]:
        failed = _together(
            [view for view in self._members(pod.id) if view.status.state in _ACTIVE],
            lambda view: self._containers.stop(view.container.id, timeout=timeout),
        )
        self._end_sandbox(pod)
        return failed

    def _end_sandbox(self, pod: Pod) -> None:
        """End what a pod's containers shared, unless one of them runs in it (again)."""
        with sandbox.locked(self._layout, pod.id):
            if not sandbox.is_inhabited(self._layout, pod.id):
                sandbox.stop(self._layout, pod)

    def restart(self, ref: str) -> Sequence[Failed]:
        """Stop a pod if it runs, and start it.

        Returns:
            The containers that could not be restarted.

        Raises:
            PycontainError: as for ``start``.
        """
        identity = self.find(ref)
        stopped = self._stop(sandbox.load(self._layout, identity), None)
        failed = self.start(identity)
        self._tell("restart", sandbox.load(self._layout, identity))
        return [*stopped, *failed]

    @told("kill pod")
    def kill(self, ref: str, number: int) -> Sequence[Failed]:
        """Send a signal to the first process of each container that runs; the sandbox goes on.

        Returns:
            The containers that could not be sent it.

        Raises:
            InvalidState: none runs.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        running = [view for view in self._members(pod.id) if view.status.state in _ACTIVE]
        failed = _each(running, lambda view: self._containers.kill(view.container.id, number))
        self._tell("kill", pod)
        return failed

    @told("pause pod")
    def pause(self, ref: str) -> Sequence[Failed]:
        """Freeze the processes of all containers that run.

        Returns:
            The containers that could not be paused.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        running = [view for view in self._members(pod.id) if view.status.state == "running"]
        failed = _each(running, lambda view: self._containers.pause(view.container.id))
        self._tell("pause", pod)
        return failed

    @told("unpause pod")
    def unpause(self, ref: str) -> Sequence[Failed]:
        """Let the processes of all paused containers go on.

        Returns:
            The containers that could not be unpaused.
        """
        pod = sandbox.load(self._layout, self.find(ref))
        paused = [view for view in self._members(pod.id) if view.status.state == "paused"]
        failed = _each(paused, lambda view: self._containers.unpause(view.container.id))
        self._tell("unpause", pod)
        return failed

    # ---- removing ----

    @told("remove pod")
    def remove(self, ref: str, *, force: bool = False) -> str:
        """Remove a pod and its containers; one that is declared is taken back.

        Args:
            ref: id, name or start of the id.
            force: also where containers run, which are killed, or its document is damaged.

        Returns:
            Its id.

        Raises:
            NotFound: there is none.
            InvalidState: a container of it runs, and `force` was not said.
        """
        identity = self.find(ref)
        pod = self._readable(identity, force=force)
        if not force:
            self._check_idle(pod)
        declared = self._take_back(pod)
        try:
            self.discard(identity, force=force)
        except NotFound:
            if declared is None:
                raise
            # The supervisor was faster.
        if declared is not None:
            from pycontain.pod.keeper import Keeper

            Keeper(self._engine).keep(declared.kind, declared.name)
        return identity

    def _take_back(self, pod: Pod) -> Declared | None:
        """Have the Pod not declared any more for which a pod was made."""
        uid = pod.labels.get(UID_LABEL)
        if uid is None:
            return None
        from pycontain.pod.declared import Declarations

        declarations = Declarations(self._layout)
        declared = declarations.find_whole("Pod", pod.name)
        is_its = declared is not None and declared.uid == uid
        if not is_its and not declarations.is_damaged("Pod", pod.name):
            return None
        from pycontain.pod.keeper import Keeper

        return Keeper(self._engine).delete("Pod", pod.name)

    def discard(self, identity: str, *, force: bool = False) -> None:
        """Remove a pod and its containers, and nothing that is declared.

        Args:
            identity: its id.
            force: as of ``remove``.

        Raises:
            NotFound: there is none.
            InvalidState: a container of it runs, and `force` was not said.
        """
        pod = self._readable(identity, force=force)
        paths = self._layout.pod(identity)
        lock = files.Lock(paths.lock)
        lock.acquire()
        try:
            if not self._layout.has_pod(identity):
                files.remove(lock.path)
                raise NotFound(f"no pod with name or ID {identity} found: no such pod")
            members = [*sandbox.members(self._layout, identity)]
            if not force:
                self._check_idle(pod)
            for container in members:
                try:
                    self._containers.remove(container.id, force=force, volumes=True)
                except NotFound:
                    continue
            sandbox.end_for_good(self._layout, pod)
            self._erase(pod)
            files.remove(lock.path)
        finally:
            lock.release()
        self._tell("remove", pod)

    def _readable(self, identity: str, *, force: bool) -> Pod:
        try:
            return sandbox.load(self._layout, identity)
        except StoreError:
            if not force:
                raise
        return Pod(id=identity, name="", created=0)

    def _check_idle(self, pod: Pod) -> None:
        if sandbox.state(self._layout, pod.id) == "running":
            raise InvalidState(f"pod {pod.name} is running", "stop it first, or use pod rm -f")
        for view in self._members(pod.id):
            if view.status.state in _ACTIVE:
                raise InvalidState(
                    f"pod {pod.id} has containers that run: {view.container.name}",
                    "stop it first, or use pod rm -f",
                )

    def _erase(self, pod: Pod) -> None:
        """Remove all traces of a pod whose sandbox does not run; its lock is held."""
        self._erase_id(pod.id, pod.name)

    def _erase_id(self, identity: str, name: str = "") -> None:
        sandbox.clear(self._layout, identity)
        paths = self._layout.pod(identity)
        files.remove_tree(paths.state_folder)
        removed = f"{self._layout.pods}/{_REMOVED}{identity}"
        files.set_aside(paths.folder, removed)
        self._release(identity, name)
        files.remove_tree(removed)

    def _release(self, identity: str, name: str) -> None:
        claims = [name] if name else os.listdir(self._layout.names)
        for claim in claims:
            path = self._layout.name(claim)
            try:
                if files.read_word(path) == identity:
                    files.remove(path)
            except PycontainError:
                continue

    @told("prune pods")
    def prune(self, accept: Callable[[Pod], bool] = lambda _: True) -> Sequence[str]:
        """Remove the pods that have run and do not any more.

        Args:
            accept: which of them.

        Returns:
            Their ids.
        """
        removed = []
        for view in self.list():
            if view.state not in ("Exited", "Stopped") or not accept(view.pod):
                continue
            try:
                removed.append(self.remove(view.pod.id))
            except (NotFound, InvalidState):
                continue  # somebody was faster
        return removed

    # ---- looking ----

    def ports(self, view: PodView) -> tuple[PortBinding, ...]:
        """Return the ports of the host that lead to a pod; none while it does not run."""
        if view.sandbox != "running" or not view.pod.publish:
            return ()
        from pycontain.engine import ports

        return ports.bound(view.paths)


def _has_initialized(view: View) -> bool:
    """Whether it is a container of init that has done its work."""
    kind, ended = view.container.options.labels.get(KIND_LABEL), view.status.record
    return kind == "init" and view.status.state == "exited" and not (ended and ended.code)


_ACTIVE = ("running", "paused", "restarting")
_IDLE = ("created", "exited")


def _check_share(share: Sequence[str]) -> None:
    for word in share:
        if word not in KINDS:
            raise InvalidInput(f"--share {word!r}: there are {', '.join(sorted(KINDS))} and none")


def _check_shared(pod: Pod) -> None:
    """Refuse what would silently not be done, as its namespace is not shared."""
    if pod.hostname and "uts" not in pod.share:
        raise InvalidInput("conflicting options: hostname and a pod that does not share uts")
    asked = {
        "publish": pod.publish, "add-host": pod.add_host, "dns": pod.dns,
        "dns-search": pod.dns_search, "dns-option": pod.dns_option,
    }  # fmt: skip
    for flag, value in asked.items():
        if value and "net" not in pod.share:
            raise InvalidInput(f"conflicting options: {flag} and a pod that does not share net")


def _check_memory(pod: Pod, options: RunOptions | None = None) -> None:
    """Refuse volumes in memory that cannot be, of a new pod or of a container of it."""
    if pod.memory or (options and any(mount.type == "tmpfs" for mount in options.mounts)):
        from pycontain.engine import memory

        memory.check(pod) if options is None else memory.check_member(pod, options)


def _check_member(pod: Pod, options: RunOptions) -> None:
    asked: dict[str, dict[str, object]] = {
        "net": {
            "network": options.networks or options.network != "none",
            "publish": options.publish or options.publish_all,
            "dns": options.dns or options.dns_search or options.dns_option,
            "add-host": options.add_host,
        },
        "uts": {
            "hostname": options.hostname, "domainname": options.domainname,
            "uts": options.uts != "private",
        },
        "ipc": {"ipc": options.ipc != "private"},
        "pid": {"pid": options.pid != "private"},
    }  # fmt: skip
    for kind in pod.share:
        for flag, value in asked[kind].items():
            if value:
                raise InvalidInput(
                    f"--{flag} must be set on the pod: pod {pod.name} shares its {kind} namespace"
                )
    if options.cgroup_parent:
        raise InvalidInput("--cgroup-parent: containers of a pod are in the pod's cgroup")


def _each(views: Sequence[View], act: Callable[[View], object]) -> list[Failed]:
    failed = []
    for view in views:
        try:
            act(view)
        except PycontainError as err:
            failed.append(Failed(view.container.id, err))
    return failed


def _together(views: Sequence[View], act: Callable[[View], object]) -> list[Failed]:
    """Do `act` for all at once."""
    failed: list[Failed] = []

    def one(view: View) -> None:
        failed.extend(_each([view], act))

    together([partial(one, view) for view in views])
    return failed


def together(acts: Iterable[Callable[[], None]]) -> None:
    """Do several things at once, each in a thread, or here where there are no more threads.

    Args:
        acts: what is done; none of them raises.
    """
    from threading import Thread

    threads = []
    for act in acts:
        thread = Thread(target=act, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a limit of tasks is reached (pthread_create(3), EAGAIN)
            act()
        else:
            threads.append(thread)
    for thread in threads:
        thread.join()
