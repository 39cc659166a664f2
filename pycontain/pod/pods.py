"""Pods as users name them: made, started, stopped, removed.

A pod exists from the moment its document does; its name, which is one of the containers' names, is
claimed before, its folder made before that. Its containers say themselves that they are in it, in
their own documents. What they share is ``engine.sandbox``.

Locks: the pod's, then those of its containers, one at a time.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec.structs import replace

from pycontain.engine import names, records, sandbox
from pycontain.engine.failure import told
from pycontain.errors import (
    Conflict,
    InvalidInput,
    InvalidState,
    NotFound,
    NotSupported,
    PycontainError,
    StoreError,
)
from pycontain.model import parse
from pycontain.model.container import Limits, RunOptions
from pycontain.model.pod import KINDS, SHARED, Pod, cgroup_path
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pycontain.engine import Engine
    from pycontain.engine.containers import View
    from pycontain.model.container import Mount, NetworkChoice, PortBinding, Publish
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
        engine: over the same store.

    Raises:
        NotSupported: a program of an ordinary user, whose engine is in a worker.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.rootless and os.geteuid() != 0:
            raise NotSupported(
                "use pods", "an ordinary user's program has no pods", 95,
                "its command line has: pycontain pod",
            )  # fmt: skip
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
            limits: of all its containers together.
            replace_old: a pod that has the name is removed, with its containers.

        Raises:
            InvalidInput: the options contradict each other.
            Conflict: a pod or a container has the name.
            NotSupported: this machine cannot keep the limits.
        """
        if name is not None:
            parse.validate_name(name)
        _check_share(share)
        pod = Pod(
            id=os.urandom(32).hex(), name=name or "", created=time.time_ns(),
            labels=dict(labels or {}), share=tuple(sorted(set(share))), hostname=hostname,
            network=network if "net" in share else "none",
            networks=tuple(networks) if "net" in share else (), publish=tuple(publish),
            add_host=tuple(add_host), dns=tuple(dns), dns_search=tuple(dns_search),
            dns_option=tuple(dns_option), volumes=tuple(volumes), shm_size=shm_size,
            limits=limits or Limits(),
        )  # fmt: skip
        _check_shared(pod)
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
        states = (view.status.state for view in members)
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
        self._sweep()
        return sorted(found, key=lambda view: view.pod.created, reverse=True)

    def _sweep(self) -> None:
        """Finish what killed commands left half made or half removed.

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
            if not os.path.exists(paths.pod):
                self._erase_id(identity)
                files.remove(lock.path)
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
        idle = [view for view in self._members(pod.id) if view.status.state in _IDLE]
        failed = _each(idle, lambda view: self._containers.start(view.container.id))
        self._tell("start", pod)
        return failed

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
        """Remove a pod and its containers.

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
        paths = self._layout.pod(identity)
        lock = files.Lock(paths.lock)
        lock.acquire()
        try:
            if not self._layout.has_pod(identity):
                files.remove(lock.path)
                raise NotFound(f"no pod with name or ID {ref} found: no such pod")
            members = [*sandbox.members(self._layout, identity)]
            if not force:
                self._check_idle(pod)
            for container in members:
                try:
                    self._containers.remove(container.id, force=force, volumes=True)
                except NotFound:
                    continue
            sandbox.stop(self._layout, pod)
            self._erase(pod)
            files.remove(lock.path)
        finally:
            lock.release()
        self._tell("remove", pod)
        return identity

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
        try:
            os.rename(paths.folder, removed)
        except FileNotFoundError:
            pass
        except OSError as err:
            raise files.store_error("remove", paths.folder, err) from err
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
    """Do `act` for all at once, each in a thread."""
    from threading import Thread

    failed: list[Failed] = []
    threads = [
        Thread(target=lambda view=view: failed.extend(_each([view], act)), daemon=True)
        for view in views
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed
