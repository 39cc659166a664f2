"""Makes what is declared true, one object at a time: carries out what the controllers say.

Whoever keeps an object holds its lock from the first look to the last step, so that one process
acts for it at a time: the command that declares it, or the supervisor. Who is killed in between
leaves nothing that the next look does not see.

Locks: the object's, then what the engine's verbs take. Who holds that of a Deployment, a ConfigMap
or a Secret may take its Pods', one at a time, never the other way round; that of the pods'
admission is the last.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from msgspec.structs import replace

from pycontain.engine import hooks, network_verbs, records, sandbox
from pycontain.engine.failure import told
from pycontain.errors import NotFound, PycontainError, StoreError, is_shortage
from pycontain.model import kube
from pycontain.model.container import UID_LABEL, NetworkChoice
from pycontain.model.declared import Owner
from pycontain.model.pod import KIND_LABEL
from pycontain.network import choice, outside
from pycontain.pod import (
    admission,
    claims,
    configs,
    controllers,
    downward,
    folders,
    observed,
    podspec,
    reasons,
)
from pycontain.pod import images as images_of
from pycontain.pod.controllers import (
    DeclarePods,
    DeletePod,
    EndPod,
    FailPod,
    Forget,
    MakeContainers,
    MakePod,
    PodOf,
    RemovePod,
    StartContainer,
    StartSandbox,
)
from pycontain.pod.declared import Declarations
from pycontain.pod.images import Images
from pycontain.pod.plan import Around, Facts, Planned, empty_folders, plan, requests
from pycontain.pod.plan import folders as folders_of
from pycontain.pod.pods import Pods, together
from pycontain.pod.reasons import Blocked
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pycontain.engine import Engine
    from pycontain.model.pod import Pod
    from pycontain.pod.controllers import Step
    from pycontain.pod.declared import Declared
    from pycontain.pod.observed import PodSeen
    from pycontain.pod.plan import Folder, Member, Requests

T = TypeVar("T")

_MEASURED_EACH = 10_000_000_000  # nanoseconds between two looks at how much is in bounded folders
_BUSY = 0.1  # seconds until it is looked again whether somebody acts for a Pod
_PATIENCE = 1.0  # seconds for which files wait for who acts for a Pod: its hook may have no end
_LATER = 2_000_000_000  # nanoseconds until they are tried again
_ROUNDS = 32  # of looks and steps, before others get a turn
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # of a pod's name; no words come of it
_SUFFIX_LENGTH = 5
_NAME_MAX = 63 - 1 - _SUFFIX_LENGTH


class Kept(NamedTuple):
    """What came of keeping an object.

    Attributes:
        declared: as it was; None: it is not declared (any more).
        seen: of a Pod, what there is of it now.
        again: in how many nanoseconds it has to be looked at again, whatever happens; None: only
            when something happens.
    """

    declared: Declared | None
    seen: PodSeen | None = None
    again: int | None = None


class Keeper:
    """Keeps the declared objects of a store.

    Args:
        engine: over the store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._layout = engine.layout
        self._pods = Pods(engine)
        self._images = Images(engine)
        self._measured: dict[str, tuple[int, str]] = {}  # pods: when, and what was too large
        self.declarations = Declarations(engine.layout)

    @told("keep what is declared")
    def keep(self, kind: str, name: str) -> Kept:
        """Take the next steps for an object, until there are none or something is waited for.

        Args:
            kind: ``Pod`` and so on.
            name: ``metadata.name``.

        Raises:
            PycontainError: a step failed; why is noted.
        """
        lock = self.declarations.lock(kind, name)
        lock.acquire()
        try:
            declared = self.declarations.find(kind, name)
            if declared is None:
                files.remove(lock.path)
                return Kept(None)
            if not self.declarations.are_kept:
                return Kept(declared)  # ``system shutdown`` was first
            try:
                kept = self._keep(declared)
            except PycontainError as err:
                self._note(declared, Blocked(err, ""))
                raise
            except Blocked as blocked:
                self._note(declared, blocked)
                raise blocked.error from blocked.error.__cause__
            if self.declarations.problem(declared) is not None:
                self.declarations.settle(declared)
            if kept.declared is None:
                files.remove(lock.path)
            return kept
        finally:
            lock.release()

    def _note(self, declared: Declared, blocked: Blocked) -> None:
        if self.declarations.are_kept:
            self.declarations.note_problem(
                declared, _in_words(blocked.error), blocked.reason, blocked.container
            )

    def _keep(self, declared: Declared) -> Kept:
        wanted = declared.object
        if isinstance(wanted, kube.Pod):
            return self._keep_pod(declared)
        if isinstance(wanted, kube.Deployment):
            return self._keep_deployment(declared)
        if declared.deleted:
            self.declarations.forget(declared)
            return Kept(None)
        if isinstance(wanted, kube.PersistentVolumeClaim):
            claims.ensure(self._engine, wanted)
        elif not self._renew_files(declared):
            return Kept(declared, again=_LATER)
        return Kept(declared)

    # ---- pods ----

    def _keep_pod(self, declared: Declared) -> Kept:
        for _ in range(_ROUNDS):
            seen = self._looked_at(declared)
            steps = controllers.next_of_pod(declared, seen, time.time_ns())
            if any(isinstance(step, Forget) for step in steps):
                self.declarations.forget(declared)
                return Kept(None)
            failures: list[PycontainError | Blocked] = []
            for step in steps:
                if isinstance(step, FailPod):
                    declared = self.declarations.fail(declared, step.failure)
                    continue
                try:
                    self._act(declared, seen, step)
                except (PycontainError, Blocked) as err:
                    failures.append(err)  # steps of one round do not wait for each other
            for failure in failures:
                raise failure
            if not steps:
                return Kept(declared, seen, self._again(declared, seen))
        return Kept(declared, seen, again=0)

    def _looked_at(self, declared: Declared) -> PodSeen:
        try:
            return self._look(declared)
        except StoreError as err:
            if declared.deleted and not is_shortage(err):
                hint = f"pycontain pod rm -f {declared.name} removes it all the same"
                raise StoreError(err.message, hint) from err
            raise

    def _look(self, declared: Declared) -> PodSeen:
        seen = observed.look(self._engine, declared)
        bounded = [one for one in empty_folders(declared.pod.spec) if one.limit is not None]
        if not bounded or declared.deleted or seen.uid != declared.uid:
            return seen
        return seen._replace(exceeded=self._exceeded(seen.id, bounded))

    def _exceeded(self, identity: str, bounded: Sequence[Folder]) -> str:
        """Which folder of a pod has more in it than it may; measured now and then only."""
        now = time.monotonic_ns()
        last, found = self._measured.get(identity, (0, ""))
        if last and now - last < _MEASURED_EACH:
            return found
        top = self._layout.pod(identity).volumes
        used = {one.name: folders.usage(f"{top}/{one.name}", one.limit or 0) for one in bounded}
        found = folders.exceeded(bounded, used)
        self._measured[identity] = now, found
        return found

    def _again(self, declared: Declared, seen: PodSeen) -> int | None:
        waits = [controllers.time_left(declared, seen, time.time_ns())]
        if seen.sandbox == "running" and _has_limits(declared):
            waits.append(_MEASURED_EACH)
        return min((wait for wait in waits if wait is not None), default=None)

    def _act(self, declared: Declared, seen: PodSeen, step: Step) -> None:
        if isinstance(step, MakePod):
            self._make_pod(declared)
        elif isinstance(step, StartSandbox):
            self._start_sandbox(declared, seen.id)
        elif isinstance(step, MakeContainers):
            self._make_containers(declared, seen, step.names)
        elif isinstance(step, StartContainer):
            self._start(declared, seen, step.name)
        elif isinstance(step, EndPod):
            self.end(declared, seen)
        else:
            assert isinstance(step, RemovePod), step
            with contextlib.suppress(NotFound):  # ``pod rm`` was faster
                self._end_somehow(declared, seen)
                self._pods.discard(seen.id, force=True)
            self._measured.pop(seen.id, None)

    def _end_somehow(self, declared: Declared, seen: PodSeen) -> None:
        """End a pod that is about to be removed; what a full disk is in the way of is killed."""
        try:
            self.end(declared, seen)
        except PycontainError as err:
            if not is_shortage(err):
                raise

    def _start(self, declared: Declared, seen: PodSeen, name: str) -> None:
        """Start a container; where it was told an address that the pod has no more, another one."""
        identity = seen.containers[name].id
        specs = {one.name: one for _, one in podspec.containers(declared.pod.spec)}
        if downward.tells_addresses(specs[name]):
            planned = self._planned(declared, seen)
            (member,) = (one for one in (*planned.init, *planned.members) if one.name == name)
            containers = self._engine.containers
            if containers.get(identity).container.options.env != member.options.env:
                containers.remove(identity, volumes=True)
                identity = self._make(declared, seen, member)
        with reasons.step(reasons.RUN, name), _named(declared, name):
            self._engine.containers.start(identity)

    def _start_sandbox(self, declared: Declared, identity: str) -> None:
        with sandbox.locked(self._layout, identity) as (pod, lock):
            # Who stops a pod holds its lock until it is written down that a user did.
            if not observed.look(self._engine, declared).stopped:
                with _named(declared):
                    sandbox.start(self._layout, pod, lock)

    def plan(self, declared: Declared, seen: PodSeen | None = None) -> Planned:
        """Return what a declared Pod comes to.

        Args:
            declared: the Pod.
            seen: what there is of it, with its addresses; None: nothing yet.

        Raises:
            InvalidInput: it contradicts itself.
            NotFound: what it names is not declared.
        """
        return plan(
            declared.pod, self._configs(), _in_network_of_pods(self.around()),
            self._facts(declared, seen.ips if seen else ()),
        )  # fmt: skip

    def _planned(self, declared: Declared, seen: PodSeen | None = None) -> Planned:
        try:
            return self.plan(declared, seen)
        except PycontainError as err:
            facts = self._facts(declared, seen.ips if seen else ())
            container = configs.at_fault(declared.pod, self._configs(), facts)
            raise Blocked(err, reasons.CONFIG, container) from err

    def _facts(self, declared: Declared, ips: tuple[str, ...]) -> Facts:
        machine = admission.capacity(rootless=self._engine.rootless)
        return Facts(
            uid=declared.uid, pod_ips=ips, host_ip=outside.host_address(),
            node_name=socket.gethostname(), cpus=int(machine.cpu) or 1, memory=machine.memory,
        )  # fmt: skip

    def _configs(self) -> list[kube.Object]:
        return [
            one.object
            for kind in ("ConfigMap", "Secret")
            for one in self.declarations.list(kind)
            if not one.deleted
        ]

    def around(self) -> Around:
        """Return what pods get of this machine where their manifests say nothing."""
        settings = self._engine.settings
        mode, networks = choice.resolve((), choice.default_network(settings))
        defaults = settings.for_containers()
        return Around(
            network=mode, networks=networks, publish_address=settings.publish_address or "",
            shm_size=settings.shm_size,
            defaults={name: value for name, value in defaults.items() if name != "shm_size"},
        )  # fmt: skip

    def _make_pod(self, declared: Declared) -> None:
        planned = self._planned(declared)
        for path in planned.host_paths:
            user = _user_of(declared.pod.spec, path.volume)
            with reasons.step(reasons.CREATE, user), _named(declared, user):
                folders.check_host_path(path)
        if not planned.requests.cpu and not planned.requests.memory:
            self._create(declared, planned)
            return
        with files.Lock(self._layout.lock("kube", "admission")):
            with reasons.step(reasons.UNSCHEDULABLE):
                self._admit(declared, planned)
            self._create(declared, planned)

    def _create(self, declared: Declared, planned: Planned) -> None:
        pod = planned.pod
        with _named(declared):
            self._check_way_out(pod)
            network_verbs.ensure_of_pods(self._layout, pod.networks)
        made = self._pods.create(
            pod.name, labels={**pod.labels, UID_LABEL: declared.uid}, share=pod.share,
            hostname=pod.hostname, network=pod.network, networks=pod.networks,
            publish=pod.publish, add_host=pod.add_host, dns=pod.dns, dns_search=pod.dns_search,
            dns_option=pod.dns_option, shm_size=pod.shm_size,
            memory=pod.memory, limits=pod.limits,
        )  # fmt: skip
        try:
            self._write_files(made.id, planned)
        except BaseException:
            self._pods.discard(made.id, force=True)
            raise

    def _check_way_out(self, pod: Pod) -> None:
        """See that ports can lead to a pod; where it has no network, why nothing leads out."""
        is_without = pod.network == "none" != self._engine.settings.network
        if pod.publish and is_without:
            outside.check()

    def _write_files(self, identity: str, planned: Planned) -> None:
        self._write(identity, planned.folders, planned.fs_group)

    def _write(self, identity: str, several: Iterable[Folder], group: int | None) -> None:
        top = self._layout.pod(identity).volumes
        for folder in several:
            folders.write(top, folder, group)

    def _admit(self, declared: Declared, planned: Planned) -> None:
        """Refuse a pod that requests more than the others have left; their sum is locked."""
        if not any(planned.requests):
            return
        others: dict[str, Requests] = {}
        for other in self.declarations.list("Pod", problems=[]):
            asked = requests(other.pod.spec)
            if other.uid == declared.uid or not any(asked):
                continue
            seen = observed.look(self._engine, other)
            if seen.id and not controllers.is_finished(other, seen):
                others[other.name] = asked
        machine = admission.capacity(rootless=self._engine.rootless)
        admission.admit(declared.name, planned.requests, others, machine)

    def _make_containers(self, declared: Declared, seen: PodSeen, names: Sequence[str]) -> None:
        planned = self._planned(declared, seen)
        members = {member.name: member for member in (*planned.init, *planned.members)}
        missing = [members[name] for name in names]
        self._prepare_images(missing)
        self._provide_claims(declared)
        # Again: who made the pod may have been killed before it had them all, and knew less of it.
        self._write_files(seen.id, planned)
        for member in missing:
            self._make(declared, seen, member)

    def _prepare_images(self, members: Sequence[Member]) -> None:
        for member in members:
            try:
                self._images.bring(member)
            except PycontainError as err:
                raise Blocked(err, images_of.reason(member, err), member.name) from err
        for member in members:
            with reasons.step(reasons.CONFIG, member.name):
                self._images.check_user(member)

    def _provide_claims(self, declared: Declared) -> None:
        named = {
            one.name: one.object
            for one in self.declarations.list("PersistentVolumeClaim", problems=[])
            if isinstance(one.object, kube.PersistentVolumeClaim)
        }
        with reasons.step(reasons.UNSCHEDULABLE):
            self._check_claims(declared, named)
        claims.provide(self._engine, declared.pod, named)

    def _check_claims(
        self, declared: Declared, named: Mapping[str, kube.PersistentVolumeClaim]
    ) -> None:
        alone = claims.for_one_pod(declared.pod, named)
        if not alone:
            return
        others = [
            one.pod
            for one in self.declarations.list("Pod", problems=[])
            if one.uid != declared.uid and not alone.isdisjoint(claims.names_of(one.pod))
            and self._comes_before(one, declared)
        ]  # fmt: skip
        claims.check_users(declared.pod, named, others)

    def _comes_before(self, other: Declared, declared: Declared) -> bool:
        """Whether another Pod has what only one can have: it is there, or was declared first. Of
        two that wait for each other none would begin.
        """
        seen = observed.look(self._engine, other)
        if controllers.is_finished(other, seen):
            return False
        is_there = any(one.state != "absent" for one in seen.containers.values())
        return is_there or (other.created, other.uid) < (declared.created, declared.uid)

    def _make(self, declared: Declared, seen: PodSeen, member: Member) -> str:
        top = self._layout.pod(seen.id).volumes
        mounts = tuple(
            replace(mount, source=f"{top}/{mount.source}")
            if mount.type == "bind" and not mount.source.startswith("/")
            else mount
            for mount in member.options.mounts
        )
        labels = {**member.options.labels, UID_LABEL: declared.uid}
        if member.kind != "main":
            labels[KIND_LABEL] = member.kind
        asked = replace(member.options, mounts=mounts, labels=labels)
        if asked.user is not None:
            asked = replace(asked, user=self._images.user_of(member))
        with reasons.step(reasons.CREATE, member.name), _named(declared, member.name):
            options = self._pods.member(seen.id, asked)
            return self._engine.containers.create(options).id

    def end(self, declared: Declared, seen: PodSeen) -> None:
        """Stop what runs of a pod: its containers, then its sidecars, the last one first, and what
        they share.

        Raises:
            PycontainError: a container cannot be stopped.
        """
        began = time.monotonic()
        sidecars = [
            one.name for one in declared.pod.spec.init_containers if controllers.is_sidecar(one)
        ]
        self._stop_all(one for one in seen.containers.values() if one.name not in sidecars)
        for name in reversed(sidecars):
            self._stop_all([seen.containers[name]], began)
        for failed in self._pods.stop(seen.id):
            if not isinstance(failed.error, NotFound):
                raise failed.error

    def _stop_all(
        self, several: Iterable[observed.ContainerSeen], began: float | None = None
    ) -> None:
        """Stop containers at once, each in its own time; of that, what is left since `began`."""

        def stop(identity: str) -> None:
            containers, left = self._engine.containers, None
            if began is not None:
                grace = containers.get(identity).container.stop_timeout
                left = int(hooks.left(grace, began))
            containers.stop(identity, timeout=left)

        alive = [one.id for one in several if one.is_alive]
        for err in in_threads(stop, alive):
            if not isinstance(err, NotFound):
                raise err

    # ---- taking back ----

    def delete(self, kind: str, name: str) -> Declared:
        """Ask for an object's removal as ``Declarations.delete`` does; a hook of a Pod is no reason
        to wait.

        Raises:
            NotFound: there is none.
        """
        if kind == "Pod":
            self.interrupt(name)
        return self.declarations.delete(kind, name)

    def interrupt(self, name: str) -> None:
        """Let whoever acts for a Pod come to an end: who starts a container waits for its postStart
        hook, which may have none. Containers with such a hook are stopped.

        Raises:
            NotFound: no Pod can have the name.
            PycontainError: a container cannot be stopped.
        """
        lock = self.declarations.lock("Pod", name)
        while not lock.acquire(wait=False):
            self._stop_hooked(name)
            time.sleep(_BUSY)
        lock.release()

    def _stop_hooked(self, name: str) -> None:
        declared = self.declarations.find_whole("Pod", name)
        if declared is None:
            return
        seen = observed.look(self._engine, declared)
        hooked = [one.id for one in seen.containers.values() if self._is_hooked(one)]
        for err in in_threads(self._end_run, hooked):
            if not isinstance(err, NotFound):
                raise err

    def _end_run(self, identity: str) -> None:
        """End a container's run, and not as a user does: who is killed before it has said what it
        wants leaves the Pod declared as it was.
        """
        run = records.last_run(self._layout.container(identity))
        self._engine.containers.end(identity, run)

    def _is_hooked(self, one: observed.ContainerSeen) -> bool:
        """Whether the postStart hook of a container that runs has not ended."""
        if one.state != "running" or one.is_started:
            return False
        with contextlib.suppress(NotFound):
            view = self._engine.containers.get(one.id)
            return view.status.state == "running" and not hooks.has_begun(view)
        return False

    # ---- deployments ----

    def _keep_deployment(self, declared: Declared) -> Kept:
        every = self.declarations.list("Pod", problems=[])
        for one in every:
            if not one.deleted and _is_orphan_of(one, declared):
                self.delete("Pod", one.name)
        owned = [one for one in every if declared.owns(one)]
        steps = controllers.next_of_deployment(declared, self._looked(declared, owned))
        for step in steps:
            if isinstance(step, DeclarePods):
                for _ in range(step.missing):
                    self._declare_pod(declared)
            elif isinstance(step, DeletePod):
                self.delete("Pod", step.name)
            else:
                assert isinstance(step, Forget), step
                self.declarations.forget(declared)
                return Kept(None)
        return Kept(declared)

    def _looked(self, declared: Declared, owned: Sequence[Declared]) -> list[PodOf]:
        """What there is of a Deployment's pods; where none of them is too many, nobody asks."""
        staying = sum(not one.deleted for one in owned)
        if staying <= declared.deployment.spec.replicas:
            return [PodOf(one, observed.PodSeen()) for one in owned]
        return [PodOf(one, observed.look(self._engine, one)) for one in owned]

    def _declare_pod(self, declared: Declared) -> None:
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
        digest = controllers.template_hash(declared.deployment)
        name = f"{declared.name}-{digest}"[:_NAME_MAX].rstrip("-.") + f"-{suffix}"
        owner = Owner(kind=declared.kind, name=declared.name, uid=declared.uid)
        self.declarations.apply(controllers.pod_of(declared.deployment, name), owner)

    # ---- files ----

    def _renew_files(self, declared: Declared) -> bool:
        """Write the files anew of all pods that have a ConfigMap or a Secret mounted; one that is
        in the way of its own is in nobody else's.

        Returns:
            Whether that could be done: somebody may be acting for a Pod.
        """
        failures: list[PycontainError] = []
        done = True
        for one in self.declarations.list("Pod", problems=[]):
            if one.deleted or not _names(one, declared):
                continue
            try:
                done &= self._renew_files_of(one, declared)
            except PycontainError as err:
                failures.append(err)
        for failure in failures:
            raise failure
        return done

    def _renew_files_of(self, one: Declared, config: Declared) -> bool:
        lock = self.declarations.lock("Pod", one.name)
        end = time.monotonic() + _PATIENCE
        while not lock.acquire(wait=False):
            if time.monotonic() > end:
                return False
            time.sleep(_BUSY)
        try:
            seen = observed.look(self._engine, one)
            if seen.id and seen.uid == one.uid:
                # Of its files alone: a variable is what it was when its container was made.
                facts = self._facts(one, seen.ips)
                group = one.pod.spec.security_context.fs_group
                shown = _showing(one.pod, config)
                self._write(seen.id, folders_of(shown, self._configs(), facts), group)
        finally:
            lock.release()
        return True


def _in_network_of_pods(around: Around) -> Around:
    """The default network has no names: pods get one that has, unless another is configured."""
    if [one.name for one in around.networks] != [choice.DEFAULT]:
        return around
    return around._replace(networks=(NetworkChoice(name=choice.OF_PODS),))


def _is_orphan_of(pod: Declared, declared: Declared) -> bool:
    """Whether a Pod was made by an earlier one of the name: who took that back was killed."""
    owner = pod.owner
    if owner is None or declared.owns(pod):
        return False
    return (owner.kind, owner.name) == (declared.kind, declared.name)


def _names(pod: Declared, config: Declared) -> bool:
    """Whether a Pod has a volume that is, or has a part that is, a ConfigMap or a Secret."""
    return any(
        (config.kind, config.name) in configs.named_by(volume) for volume in pod.pod.spec.volumes
    )


def _showing(pod: kube.Pod, config: Declared) -> kube.Pod:
    """A Pod with those volumes alone that show a ConfigMap or Secret: what others show may have
    been taken back.
    """
    name = (config.kind, config.name)
    volumes = tuple(one for one in pod.spec.volumes if name in configs.named_by(one))
    return replace(pod, spec=replace(pod.spec, volumes=volumes))


def _has_limits(pod: Declared) -> bool:
    return any(folder.limit is not None for folder in empty_folders(pod.pod.spec))


@contextlib.contextmanager
def _named(declared: Declared, container: str = "") -> Iterator[None]:
    """Name pod and container in an error, which is of an option or a program, and knows neither."""
    try:
        yield
    except PycontainError as err:
        said = f"container {container}: {err.message}" if container else err.message
        err.message = reasons.titled(f"pod {declared.name}", said)
        raise


def _user_of(spec: kube.PodSpec, volume: str) -> str:
    """Name of the first container that mounts a volume; empty: none does."""
    for _, one in podspec.containers(spec):
        if any(mount.name == volume for mount in one.volume_mounts):
            return one.name
    return ""


def _in_words(err: PycontainError) -> str:
    return f"{err.message} ({err.hint})" if err.hint else err.message


def in_threads(act: Callable[[T], object], several: Sequence[T]) -> list[PycontainError]:
    """Do `act` for all at once, each in a thread; return what was in the way.

    What nobody foresaw is raised here, once all have ended.
    """
    failures: list[PycontainError] = []
    others: list[Exception] = []

    def one(what: T) -> None:
        try:
            act(what)
        except PycontainError as err:
            failures.append(err)
        except Exception as err:  # noqa: BLE001 - raised below, in the caller's thread
            others.append(err)

    together([partial(one, what) for what in several])
    for other in others:
        raise other
    return failures
