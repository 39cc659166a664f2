"""What has to be done next for what is declared, by value: no clock, no files, no kernel.

A controller is a function from what is declared and what is observed to the next steps. Who carries
them out (:mod:`pycontain.pod.keeper`) looks again afterwards and asks again, until there are none;
so a controller never has to know how far an earlier one came, or was killed.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pycontain.model import kube
from pycontain.model.declared import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.pod.declared import Declared
    from pycontain.pod.observed import ContainerSeen, PodSeen


class _Step(msgspec.Struct, frozen=True):
    """A step; two are equal where they are of one kind and say the same."""


class MakePod(_Step, frozen=True):
    """There is no pod yet: make it, with its folders."""


class StartSandbox(_Step, frozen=True):
    """What the pod's containers share does not run."""


class MakeContainers(_Step, frozen=True):
    """Containers are not there: make them.

    Attributes:
        names: as in the manifest.
    """

    names: tuple[str, ...]


class StartContainer(_Step, frozen=True):
    """A container is to run, and does not."""

    name: str


class FailPod(_Step, frozen=True):
    """The pod has failed as a whole."""

    failure: Failure


class EndPod(_Step, frozen=True):
    """All that was to be done is done, or has failed: what still runs ends, and what is shared."""


class RemovePod(_Step, frozen=True):
    """The pod is not wanted any more: stop and remove it."""


class DeclarePods(_Step, frozen=True):
    """Pods are missing: declare so many."""

    missing: int


class DeletePod(_Step, frozen=True):
    """A pod is not wanted any more: ask for its removal."""

    name: str


class Forget(_Step, frozen=True):
    """Nothing is left of what was taken back."""


Step = (
    MakePod | StartSandbox | MakeContainers | StartContainer | FailPod | EndPod | RemovePod
    | DeclarePods | DeletePod | Forget
)  # fmt: skip


# ---- pods ----


def next_of_pod(declared: Declared, seen: PodSeen, now: int) -> Sequence[Step]:
    """Return the next steps for a Pod; none: it is as declared, or something is waited for.

    Args:
        declared: a Pod.
        seen: what there is of it.
        now: nanoseconds since the epoch.
    """
    if declared.deleted:
        return (RemovePod(),) if seen.id else (Forget(),)
    if seen.id and seen.uid != declared.uid:
        return (RemovePod(),)
    if seen.stopped and not is_finished(declared, seen):
        return ()
    if seen.id and is_finished(declared, seen):
        return (EndPod(),) if _is_at_work(seen) else ()
    failure = _failure(declared, seen, now)
    if failure is not None:
        return (FailPod(failure),)
    return tuple(_towards_running(declared, seen))


def time_left(declared: Declared, seen: PodSeen, now: int) -> int | None:
    """Return the nanoseconds that a pod may still run; None: as long as it likes."""
    limit = _spec(declared).active_deadline_seconds
    if limit is None or seen.sandbox != "running" or is_finished(declared, seen):
        return None
    return max(0, seen.started + limit * 1_000_000_000 - now)


def _failure(declared: Declared, seen: PodSeen, now: int) -> Failure | None:
    if seen.exceeded:
        return Failure(reason="Evicted", message=seen.exceeded)
    if time_left(declared, seen, now) == 0:
        limit = _spec(declared).active_deadline_seconds
        return Failure(reason="DeadlineExceeded", message=f"it ran for longer than {limit} seconds")
    return None


def _is_at_work(seen: PodSeen) -> bool:
    return seen.sandbox in ("running", "lost") or any(
        container.is_alive for container in seen.containers.values()
    )


def _towards_running(declared: Declared, seen: PodSeen) -> Iterator[Step]:
    if not seen.id:
        yield MakePod()
        return
    if seen.sandbox != "running":
        yield StartSandbox()
        return
    absent = tuple(name for name, one in seen.containers.items() if one.state == "absent")
    if absent:
        yield MakeContainers(absent)
        return
    yield from map(StartContainer, _to_start(declared, seen))


def _to_start(declared: Declared, seen: PodSeen) -> Iterator[str]:
    """Names of the containers whose turn it is, which have not begun since the sandbox runs.

    What ends after that is started again by its own restart policy.
    """
    spec = _spec(declared)
    begun = has_begun(declared, seen)
    for container in spec.init_containers:
        one = seen.containers[container.name]
        if is_sidecar(container):
            if _is_to_begin(one):
                yield one.name
            if not one.is_started and not begun:
                return
        elif not begun and not has_succeeded(one):
            if _is_to_begin(one):
                yield one.name
            return
    yield from (
        one.name
        for container in spec.containers
        if _is_to_begin(one := seen.containers[container.name])
        and not _is_done(one, spec.restart_policy)
    )


def _is_to_begin(one: ContainerSeen) -> bool:
    if one.is_of_this_run or one.stopped:
        return False
    # One that ended with its sandbox is not its restart policy's, which leaves it to the pod.
    return not one.is_alive or (one.state == "restarting" and _has_run(one))


def _has_run(one: ContainerSeen) -> bool:
    return one.ended is not None and one.ended.started is not None


def has_begun(declared: Declared, seen: PodSeen) -> bool:
    """Whether the pod is beyond its init containers: one of its others has begun."""
    return any(
        seen.containers[container.name].is_of_this_run for container in _spec(declared).containers
    )


def has_succeeded(one: ContainerSeen) -> bool:
    """Whether an init container has done its work."""
    return (
        one.is_of_this_run and one.state == "exited" and one.ended is not None
        and one.ended.code == 0
    )  # fmt: skip


def is_sidecar(container: kube.Container) -> bool:
    """Whether an init container runs on beside the others."""
    return container.restart_policy == "Always"


def is_finished(declared: Declared, seen: PodSeen) -> bool:
    """Whether a pod has done what it was to do, or has failed: nothing of it is started again."""
    if declared.failure is not None:
        return True
    spec = _spec(declared)
    if spec.restart_policy == "Always":
        return False
    if spec.restart_policy == "Never" and _init_failed(declared, seen):
        return True
    return all(
        _is_done(seen.containers[container.name], spec.restart_policy)
        for container in spec.containers
    )


def _init_failed(declared: Declared, seen: PodSeen) -> bool:
    return any(
        _has_failed(seen.containers[container.name])
        for container in _spec(declared).init_containers
        if not is_sidecar(container)
    )


def _has_failed(one: ContainerSeen) -> bool:
    """Whether a container ended with an error, or could not be started, and stays so."""
    return not one.is_alive and one.ended is not None and one.ended.code != 0


def _is_done(one: ContainerSeen, policy: kube.RestartPolicy) -> bool:
    if policy == "Always" or one.is_alive or one.ended is None:
        return False
    if one.stopped:  # by a user, which is not its own end
        return False
    return policy == "Never" or one.ended.code == 0


def _spec(declared: Declared) -> kube.PodSpec:
    return declared.pod.spec


# ---- deployments ----

HASH_LABEL = "pod-template-hash"


class PodOf(NamedTuple):
    """A pod of a Deployment.

    Attributes:
        declared: which is owned by it.
        seen: what there is of it.
    """

    declared: Declared
    seen: PodSeen


def next_of_deployment(declared: Declared, pods: Sequence[PodOf]) -> Sequence[Step]:
    """Return the next steps for a Deployment.

    Pods of another template go before those of the new one come; those that have failed as a whole
    are replaced. Of too many, those go first that are not ready, then the youngest.

    Args:
        declared: a Deployment.
        pods: that it owns, those that are on their way out included.
    """
    staying = [pod for pod in pods if not pod.declared.deleted]
    if declared.deleted:
        return _deletions(staying) if pods else (Forget(),)
    current = template_hash(declared.deployment)
    outdated = [pod for pod in staying if _hash_of(pod.declared) != current]
    finished = [
        pod for pod in staying if pod not in outdated and is_finished(pod.declared, pod.seen)
    ]
    if outdated or finished:
        return _deletions([*outdated, *finished])
    if any(_hash_of(pod.declared) != current for pod in pods):
        return ()  # the last of them are on their way out
    wanted = declared.deployment.spec.replicas
    if len(staying) > wanted:
        return _deletions(sorted(staying, key=_worth)[: len(staying) - wanted])
    missing = wanted - len(staying)
    return (DeclarePods(missing),) if missing else ()


def _deletions(pods: Sequence[PodOf]) -> Sequence[Step]:
    return tuple(DeletePod(pod.declared.name) for pod in pods)


def _worth(pod: PodOf) -> tuple[bool, int, str]:
    """What a pod is sorted by, those first that are missed least."""
    return is_ready(pod.declared, pod.seen), -pod.declared.created, pod.declared.name


def _hash_of(pod: Declared) -> str:
    return pod.object.metadata.labels.get(HASH_LABEL, "")


def is_current(declared: Declared, pod: Declared) -> bool:
    """Whether a pod of a Deployment is wanted and of its present template."""
    return not pod.deleted and _hash_of(pod) == template_hash(declared.deployment)


def is_ready(declared: Declared, seen: PodSeen) -> bool:
    """Whether all containers of a pod are ready, and those of init have done their work."""
    if declared.deleted or seen.sandbox != "running" or seen.uid != declared.uid:
        return False
    spec = _spec(declared)
    sidecars = (one for one in spec.init_containers if is_sidecar(one))
    return all(seen.containers[one.name].ready for one in (*spec.containers, *sidecars))


def template_hash(deployment: kube.Deployment) -> str:
    """Return what tells templates of a Deployment's pods apart: ten hexadecimal digits."""
    from pycontain.pod import normal

    # sorted: in which order the keys of a mapping are written means nothing
    encoded = msgspec.json.encode(normal.normal(deployment.spec.template), order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:10]


def pod_of(deployment: kube.Deployment, name: str) -> kube.Pod:
    """Return the Pod that a Deployment's template is.

    Args:
        deployment: whose it is.
        name: of the Pod.
    """
    template = deployment.spec.template
    labels = {**template.metadata.labels, HASH_LABEL: template_hash(deployment)}
    metadata = kube.ObjectMeta(
        name=name, namespace=deployment.metadata.namespace, labels=labels,
        annotations=template.metadata.annotations,
    )  # fmt: skip
    return kube.Pod(api_version="v1", kind="Pod", metadata=metadata, spec=template.spec)
