"""How declared pods and deployments are, in the words of Kubernetes' API.

The wire has camel case (``containerStatuses``), Python the words of it; None, empty and 0 are left
out where the API has a field as optional. Times are texts of RFC 3339, whole seconds, in UTC.

Source: the Kubernetes API reference, core/v1 (PodStatus), apps/v1 (DeploymentStatus).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Phase = Literal["Pending", "Running", "Succeeded", "Failed"]
QOSClass = Literal["Guaranteed", "Burstable", "BestEffort"]
Truth = Literal["True", "False", "Unknown"]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a status."""


# ---- containers ----


class Waiting(_Part, frozen=True, kw_only=True):
    """A container that does not run yet, or is about to be started again.

    Attributes:
        reason: one word: ``ContainerCreating``, ``PodInitializing``, ``CrashLoopBackOff``,
            ``ErrImagePull`` and the others of ``pod/reasons.py``.
    """

    reason: str
    message: str = ""


class Running(_Part, frozen=True, kw_only=True):
    """A container that runs.

    Attributes:
        started_at: of this run; None is unknown.
    """

    started_at: str | None = None


class Terminated(_Part, frozen=True, kw_only=True):
    """A run of a container that has ended.

    Attributes:
        exit_code: as a shell reports it.
        signal: that ended it; 0: none.
        reason: one word: ``Completed``, ``Error``, ``OOMKilled``, ``StartError``.
        message: what more is known of the end.
        container_id: of its container.
    """

    exit_code: int
    signal: int = 0
    reason: str
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerState(_Part, frozen=True, kw_only=True):
    """One of three; none of them: nothing is known."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Part, frozen=True, kw_only=True):
    """How one container of a pod is.

    Attributes:
        last_state: how the run before ended.
        restart_count: how many times it was started again.
        image_id: digest of the image's configuration; empty: there is no container.
        container_id: ``pycontain://ID``.
        started: its startup probe has succeeded.
    """

    name: str
    state: ContainerState
    last_state: ContainerState = ContainerState()
    ready: bool
    restart_count: int
    image: str
    image_id: str = msgspec.field(name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    started: bool


# ---- pods ----


class PodCondition(_Part, frozen=True, kw_only=True):
    """What a pod has reached, or not.

    Attributes:
        last_transition_time: since when; None is unknown.
    """

    type: Literal["PodScheduled", "Initialized", "ContainersReady", "Ready"]
    status: Truth
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class PodIP(_Part, frozen=True, kw_only=True):
    """An address of a pod."""

    ip: str


class HostIP(_Part, frozen=True, kw_only=True):
    """An address of this machine."""

    ip: str


class PodStatus(_Part, frozen=True, kw_only=True):
    """How a pod is.

    Attributes:
        message: why it is not further, or has failed.
        reason: of a pod that has failed as a whole, one word: ``Evicted``, ``DeadlineExceeded``.
    """

    phase: Phase
    conditions: tuple[PodCondition, ...] = ()
    message: str = ""
    reason: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    host_ips: tuple[HostIP, ...] = msgspec.field(default=(), name="hostIPs")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    start_time: str | None = None
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    qos_class: QOSClass = msgspec.field(name="qosClass")


# ---- deployments ----


class DeploymentCondition(_Part, frozen=True, kw_only=True):
    """What a deployment has reached, or not."""

    type: Literal["Available", "Progressing", "ReplicaFailure"]
    status: Truth
    last_transition_time: str | None = None
    reason: str = ""
    message: str = ""


class DeploymentStatus(_Part, frozen=True, kw_only=True):
    """How a deployment is: counts of its pods.

    Attributes:
        replicas: that are there and have not ended.
        updated_replicas: of the present template.
        ready_replicas: that are ready.
        available_replicas: that have been ready for ``minReadySeconds``.
        unavailable_replicas: that are wanted, and not available.
    """

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[DeploymentCondition, ...] = ()
