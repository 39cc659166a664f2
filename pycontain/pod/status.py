"""How declared pods and deployments are, by value: from what is declared and what is there.

Source: the Kubernetes API reference, core/v1 (PodStatus, ContainerStatus), apps/v1
(DeploymentStatus); "Pod Lifecycle" and "Pod Quality of Service Classes" of its documentation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from pycontain.model import kube
from pycontain.model.kube_status import (
    ContainerState,
    ContainerStatus,
    DeploymentCondition,
    DeploymentStatus,
    HostIP,
    PodCondition,
    PodIP,
    PodStatus,
    Running,
    Terminated,
    Waiting,
)
from pycontain.pod import controllers, podspec, reasons
from pycontain.pod.observed import ContainerSeen, PodSeen
from pycontain.pod.quantities import quantity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from pycontain.model.container import ExitRecord
    from pycontain.model.declared import Problem
    from pycontain.model.kube_status import Phase, QOSClass
    from pycontain.pod.declared import Declared

SCHEME = "pycontain://"
"""Before a container's id, as Kubernetes writes it."""
_SECOND = 1_000_000_000
_NOT_STARTED = "not started"  # ExitRecord.reason


def rfc3339(moment: int | None) -> str | None:
    """Return nanoseconds since the epoch as the API has times; None and 0 are unknown."""
    if not moment:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment // _SECOND))


def metadata(declared: Declared) -> dict[str, object]:
    """Return what ``metadata`` has beside what was declared, as the API has it."""
    found: dict[str, object] = {
        "uid": declared.uid,
        "creationTimestamp": rfc3339(declared.created),
        "generation": declared.generation,
    }
    if declared.deleted:
        found["deletionTimestamp"] = rfc3339(declared.deleted)
    if declared.owner is not None:
        owner = {
            "apiVersion": "apps/v1", "kind": declared.owner.kind,
            "name": declared.owner.name, "uid": declared.owner.uid, "controller": True,
        }  # fmt: skip
        found["ownerReferences"] = [owner]
    return found


# ---- pods ----


def status(declared: Declared, seen: PodSeen, host_ip: str = "") -> PodStatus:
    """Return how a Pod is.

    Args:
        declared: a Pod.
        seen: what there is of it.
        host_ip: an address of the machine; empty is unknown.
    """
    return _Pod(declared, seen).status(host_ip)


def phase(declared: Declared, seen: PodSeen) -> Phase:
    """Return where in its life a Pod is."""
    return _Pod(declared, seen).phase()


def _is_failed_start(ended: ExitRecord | None) -> bool:
    return ended is not None and ended.reason == _NOT_STARTED


def _absent(seen: PodSeen) -> PodSeen:
    """What there is of a Pod where there is nothing, or only the one before it."""
    containers = {name: ContainerSeen(name) for name in seen.containers}
    return PodSeen(containers=containers, problem=seen.problem)


def _message(problem: Problem | None) -> str:
    return problem.message if problem is not None else ""


class _Pod:
    """One Pod that is looked at."""

    def __init__(self, declared: Declared, seen: PodSeen) -> None:
        self.declared = declared
        self.spec = declared.pod.spec
        self.seen = seen if seen.uid == declared.uid else _absent(seen)
        self.is_finished = controllers.is_finished(declared, self.seen)
        self.begun = controllers.has_begun(declared, self.seen) or self._has_run()

    def _has_run(self) -> bool:
        """Whether it has finished, and not before its containers had begun: maybe before a reboot,
        so that nobody knows of its init containers any more.
        """
        mains = (self._seen(one) for one in self.spec.containers)
        return self.is_finished and all(one.ended is not None for one in mains)

    def _seen(self, container: kube.Container) -> ContainerSeen:
        return self.seen.containers[container.name]

    # -- as a whole --

    def status(self, host_ip: str) -> PodStatus:
        failure, reached = self.declared.failure, self.phase()
        message = failure.message if failure else ""
        if not message and reached == "Pending":
            message = _message(self.seen.problem)
        # Of a pod that is nowhere nobody knows more of its containers than the pod says.
        shown = kube.PodSpec(containers=()) if self.is_unschedulable() else self.spec
        ips = self.seen.ips or ((host_ip,) if self.spec.host_network and host_ip else ())
        return PodStatus(
            phase=reached,
            conditions=self._conditions(reached),
            message=message,
            reason=failure.reason if failure else "",
            host_ip=host_ip,
            host_ips=(HostIP(ip=host_ip),) if host_ip else (),
            pod_ip=ips[0] if ips else "",
            pod_ips=tuple(PodIP(ip=ip) for ip in ips),
            start_time=rfc3339(self.seen.started),
            init_container_statuses=tuple(map(self._init_status, shown.init_containers)),
            container_statuses=tuple(map(self._main_status, shown.containers)),
            qos_class=qos_class(self.spec),
        )

    def phase(self) -> Phase:
        """Where in its life the pod is; ``Succeeded`` or ``Failed`` once it has finished."""
        mains = [self._seen(one) for one in self.spec.containers]
        if self.is_finished:
            return "Succeeded" if self._has_succeeded(mains) else "Failed"
        if not self.initialized():
            return "Pending"
        return "Pending" if any(map(_has_not_run, mains)) else "Running"

    def is_unschedulable(self) -> bool:
        """Whether the pod cannot be, and nothing of it is."""
        problem = self.seen.problem
        is_refused = problem is not None and problem.reason == reasons.UNSCHEDULABLE
        return is_refused and all(one.state == "absent" for one in self.seen.containers.values())

    def _has_succeeded(self, mains: Sequence[ContainerSeen]) -> bool:
        if self.declared.failure is not None or self.init_failed() is not None:
            return False
        return all(one.ended is not None and one.ended.code == 0 for one in mains)

    # -- init containers --

    def initialized(self) -> bool:
        """Whether all init containers have done their work, and sidecars are started."""
        return self.begun or not self._uninitialized()

    def _uninitialized(self) -> list[str]:
        return [one.name for one in self.spec.init_containers if not self._is_through(one)]

    def _is_through(self, container: kube.Container) -> bool:
        one = self._seen(container)
        if controllers.is_sidecar(container):
            return one.is_started
        return controllers.has_succeeded(one)

    def init_failed(self) -> ContainerSeen | None:
        """The init container that ended with an error and is not started again; None: none."""
        for container in self.spec.init_containers:
            one = self._seen(container)
            ended = one.ended is not None and one.ended.code != 0 and not one.is_alive
            if ended and not controllers.is_sidecar(container):
                return one
        return None

    # -- conditions --

    def _conditions(self, reached: Phase) -> tuple[PodCondition, ...]:
        if self.is_unschedulable():
            return (
                PodCondition(
                    type="PodScheduled", status="False", reason=reasons.UNSCHEDULABLE,
                    message=_message(self.seen.problem),
                    last_transition_time=rfc3339(self.declared.created),
                ),
            )  # fmt: skip
        return (
            PodCondition(
                type="PodScheduled", status="True",
                last_transition_time=rfc3339(self.declared.created),
            ),
            self._initialized_condition(),
            self._ready_condition("ContainersReady", reached),
            self._ready_condition("Ready", reached),
        )  # fmt: skip

    def _initialized_condition(self) -> PodCondition:
        if self.initialized():
            return PodCondition(
                type="Initialized", status="True", last_transition_time=rfc3339(self._begun_at())
            )
        names = " ".join(self._uninitialized())
        return PodCondition(
            type="Initialized", status="False", reason="ContainersNotInitialized",
            message=f"containers with incomplete status: [{names}]",
            last_transition_time=rfc3339(self.seen.started),
        )  # fmt: skip

    def _begun_at(self) -> int:
        """When the last init container ended, or the pod began."""
        ends = (self._seen(one).ended for one in self.spec.init_containers)
        return max(
            (one.finished or 0 for one in ends if one is not None), default=self.seen.started
        )

    def _ready_condition(
        self, kind: Literal["ContainersReady", "Ready"], reached: Phase
    ) -> PodCondition:
        unready = self.unready()
        ready = controllers.is_ready(self.declared, self.seen)
        if ready or (not unready and kind == "ContainersReady"):
            since = max((self._seen(one).ready_since for one in self._lasting()), default=0)
            return PodCondition(type=kind, status="True", last_transition_time=rfc3339(since))
        if reached in ("Succeeded", "Failed"):
            reason, message = ("PodCompleted" if reached == "Succeeded" else "PodFailed"), ""
        else:
            reason = "ContainersNotReady"
            names = " ".join(unready)
            message = f"containers with unready status: [{names}]" if unready else ""
        return PodCondition(
            type=kind, status="False", reason=reason, message=message,
            last_transition_time=rfc3339(self._unready_since()),
        )  # fmt: skip

    def _lasting(self) -> list[kube.Container]:
        """The containers that have to be ready: the main ones and sidecars."""
        sidecars = [one for one in self.spec.init_containers if controllers.is_sidecar(one)]
        return [*sidecars, *self.spec.containers]

    def unready(self) -> list[str]:
        """Names of the containers that keep the pod from being ready."""
        return [one.name for one in self._lasting() if not self._seen(one).ready]

    def _unready_since(self) -> int:
        moments = [self.seen.started]
        for container in self._lasting():
            one = self._seen(container)
            if not one.ready:
                ended = one.ended.finished if one.ended is not None else None
                moments.append(max(one.ready_since, ended or 0))
        return max(moments)

    # -- containers --

    def _init_status(self, container: kube.Container) -> ContainerStatus:
        one = self._seen(container)
        done = controllers.has_succeeded(one)
        ready = one.ready if controllers.is_sidecar(container) else done
        return self._container(container, one, ready=ready)

    def _main_status(self, container: kube.Container) -> ContainerStatus:
        one = self._seen(container)
        return self._container(container, one, ready=one.ready)

    def _container(
        self, container: kube.Container, one: ContainerSeen, *, ready: bool
    ) -> ContainerStatus:
        state = self._state(container, one)
        return ContainerStatus(
            name=container.name, state=state, last_state=_last_state(one, state), ready=ready,
            restart_count=_restarts(one), image=container.image, image_id=one.image_id,
            container_id=f"{SCHEME}{one.id}" if one.id else "", started=one.is_started,
        )  # fmt: skip

    def _state(self, container: kube.Container, one: ContainerSeen) -> ContainerState:
        if one.state in ("running", "paused") and not one.starting:
            return ContainerState(running=Running(started_at=rfc3339(one.started)))
        if one.state == "exited" and one.ended is not None and not _is_failed_start(one.ended):
            return ContainerState(terminated=_terminated(one, one.ended))
        return ContainerState(waiting=self._waiting(container, one))

    def _waiting(self, container: kube.Container, one: ContainerSeen) -> Waiting:
        if one.state == "restarting":
            until = rfc3339(one.due)
            message = f"restarting failed container={one.name}"
            return Waiting(
                reason="CrashLoopBackOff", message=f"{message} at {until}" if until else message
            )
        if one.ended is not None and _is_failed_start(one.ended):
            return Waiting(reason=reasons.RUN, message=one.ended.error or "")
        problem = self.seen.problem
        if problem is not None and self._is_about(container, problem):
            return Waiting(reason=_reason(problem, one), message=problem.message)
        initializes = bool(self.spec.init_containers)
        return Waiting(reason="PodInitializing" if initializes else "ContainerCreating")

    def _is_about(self, container: kube.Container, problem: Problem) -> bool:
        if problem.container:
            return problem.container == container.name
        return self._is_next(container)

    def _is_next(self, container: kube.Container) -> bool:
        """Whether it is the first that does not run: the one which the problem is about."""
        for _, other in podspec.containers(self.spec):
            if self._seen(other).state in ("absent", "created"):
                return other.name == container.name
        return False


def _has_not_run(one: ContainerSeen) -> bool:
    """Whether a container has not begun once; one whose hook has not ended is about to."""
    if one.starting:
        return one.before is None
    return one.ended is None and not one.is_alive


def _reason(problem: Problem, one: ContainerSeen) -> str:
    """Kubernetes' word for why a container waits."""
    if problem.reason == reasons.PULL and problem.tries > 1:
        return reasons.PULL_BACK_OFF
    if problem.reason and problem.reason != reasons.UNSCHEDULABLE:
        return problem.reason
    return reasons.CREATE if one.state == "absent" else reasons.RUN


def _restarts(one: ContainerSeen) -> int:
    """How many times a container was started again; one that is due is counted already."""
    return max(0, one.restarts - (one.state == "restarting" and one.due > 0))


def _last_state(one: ContainerSeen, state: ContainerState) -> ContainerState:
    """How the run ended that came before what `state` tells of."""
    ended = one.before if state.waiting is None or one.starting else one.ended
    return ContainerState() if ended is None else ContainerState(terminated=_terminated(one, ended))


def _terminated(one: ContainerSeen, ended: ExitRecord) -> Terminated:
    if ended.oom_killed:
        reason = "OOMKilled"
    elif _is_failed_start(ended):
        reason = "StartError"
    else:
        reason = "Error" if ended.code else "Completed"
    return Terminated(
        exit_code=ended.code, signal=ended.signal or 0, reason=reason,
        message=ended.error or ended.reason or "",
        started_at=rfc3339(ended.started), finished_at=rfc3339(ended.finished),
        container_id=f"{SCHEME}{one.id}",
    )  # fmt: skip


# ---- quality of service ----


def qos_class(spec: kube.PodSpec) -> QOSClass:
    """Return how sure a pod's resources are, by its containers' limits and requests.

    ``Guaranteed``: each has limits of cpu and memory, and asks for as much; ``BestEffort``: none
    has any; ``Burstable``: the others.
    """
    parts = [container.resources for _, container in podspec.containers(spec)]
    if _named(spec.resources):  # it is said for the pod as a whole
        parts = [spec.resources]
    if not any(_named(part) for part in parts):
        return "BestEffort"
    return "Guaranteed" if all(map(_is_guaranteed, parts)) else "Burstable"


_COMPUTE = ("cpu", "memory")


def _named(part: kube.ResourceRequirements) -> bool:
    return any(
        quantity(resources[name])
        for resources in (part.limits, part.requests)
        for name in _COMPUTE
        if name in resources
    )


def _is_guaranteed(part: kube.ResourceRequirements) -> bool:
    def is_whole(name: str) -> bool:
        if name not in part.limits:
            return False
        limit = quantity(part.limits[name])
        return bool(limit) and quantity(part.requests.get(name, limit.to_eng_string())) == limit

    return all(map(is_whole, _COMPUTE))


# ---- deployments ----


class _Counts(NamedTuple):
    """Pods of a deployment."""

    there: int
    updated: int
    ready: int
    available: int


def deployment_status(
    declared: Declared, pods: Sequence[controllers.PodOf], now: int, problem: str = ""
) -> DeploymentStatus:
    """Return how a Deployment is.

    Args:
        declared: a Deployment.
        pods: that it owns.
        now: nanoseconds since the epoch.
        problem: why the last step towards what is declared failed.
    """
    wanted = declared.deployment.spec
    found = _counts(declared, pods, now)
    return DeploymentStatus(
        observed_generation=declared.generation,
        replicas=found.there,
        updated_replicas=found.updated,
        ready_replicas=found.ready,
        available_replicas=found.available,
        unavailable_replicas=max(0, wanted.replicas - found.available),
        conditions=(
            _available(wanted, found),
            _progressing(declared, wanted, found),
            *_failure(problem),
        ),
    )


def _counts(declared: Declared, pods: Sequence[controllers.PodOf], now: int) -> _Counts:
    wanted = declared.deployment
    current = controllers.template_hash(wanted)
    there = [
        pod for pod in pods
        if not pod.declared.deleted and not controllers.is_finished(pod.declared, pod.seen)
    ]  # fmt: skip
    ready = [pod for pod in there if controllers.is_ready(pod.declared, pod.seen)]
    least = wanted.spec.min_ready_seconds * _SECOND
    return _Counts(
        len(there),
        sum(
            pod.declared.object.metadata.labels.get(controllers.HASH_LABEL) == current
            for pod in there
        ),
        len(ready),
        sum(now - _ready_since(pod) >= least for pod in ready),
    )


def _ready_since(pod: controllers.PodOf) -> int:
    return max((one.ready_since for one in pod.seen.containers.values() if one.ready), default=0)


def _available(wanted: kube.DeploymentSpec, found: _Counts) -> DeploymentCondition:
    enough = found.available >= wanted.replicas
    return DeploymentCondition(
        type="Available",
        status="True" if enough else "False",
        reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
        message=f"{found.available} of {wanted.replicas} are available",
    )


def _failure(problem: str) -> tuple[DeploymentCondition, ...]:
    if not problem:
        return ()
    failed = DeploymentCondition(
        type="ReplicaFailure", status="True", reason="FailedCreate", message=problem
    )
    return (failed,)


def _progressing(
    declared: Declared, wanted: kube.DeploymentSpec, found: _Counts
) -> DeploymentCondition:
    done = found.updated == found.there == found.available == wanted.replicas
    return DeploymentCondition(
        type="Progressing",
        status="True",
        reason="NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
        message=f"{found.updated} of {wanted.replicas} are of generation {declared.generation}",
    )
