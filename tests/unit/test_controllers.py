"""Controllers by value: any order of events ends in what is declared."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pycontain.model import kube
from pycontain.model.container import ExitRecord
from pycontain.model.declared import Failure, Owner
from pycontain.pod import controllers
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
    Step,
)
from pycontain.pod.declared import Declared
from pycontain.pod.observed import ContainerSeen, PodSeen

SECOND = 1_000_000_000


def container(name: str, *, sidecar: bool = False) -> kube.Container:
    return kube.Container(name=name, image="busybox", restart_policy="Always" if sidecar else None)


def pod(
    policy: kube.RestartPolicy = "Always",
    init: tuple[kube.Container, ...] = (),
    names: tuple[str, ...] = ("one",),
    **more: object,
) -> kube.Pod:
    spec = kube.PodSpec(
        containers=tuple(map(container, names)), init_containers=init, restart_policy=policy,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return kube.Pod(api_version="v1", kind="Pod", metadata=kube.ObjectMeta(name="web"), spec=spec)


def deployment(replicas: int, image: str = "busybox") -> kube.Deployment:
    template = kube.PodTemplateSpec(
        metadata=kube.ObjectMeta(labels={"app": "web"}),
        spec=kube.PodSpec(containers=(kube.Container(name="one", image=image),)),
    )
    return kube.Deployment(
        api_version="apps/v1", kind="Deployment", metadata=kube.ObjectMeta(name="web"),
        spec=kube.DeploymentSpec(
            replicas=replicas, selector=kube.LabelSelector(match_labels={"app": "web"}),
            template=template,
        ),
    )  # fmt: skip


def declared(wanted: kube.Object, uid: str = "u1", owner: Owner | None = None) -> Declared:
    return Declared(uid, 0, 1, 0, owner, None, wanted)


class Machine:
    """A pod on a machine that does what it is told, and on which things happen."""

    def __init__(self, wanted: Declared) -> None:
        self.wanted: Declared | None = wanted
        self.clock = itertools.count(1)
        self.reset()

    def reset(self) -> None:
        self.there = self.made_for = ""
        self.sandbox = "absent"
        self.stopped = False
        self.started = 0
        self.containers: dict[str, ContainerSeen] = {}

    def seen(self) -> PodSeen:
        assert self.wanted is not None
        spec = self.wanted.pod.spec
        every = (*spec.init_containers, *spec.containers)
        return PodSeen(
            id=self.there, uid=self.made_for, sandbox=self.sandbox,  # type: ignore[arg-type]
            stopped=self.stopped, started=self.started,
            containers={
                one.name: self.containers.get(one.name, ContainerSeen(one.name)) for one in every
            },
        )  # fmt: skip

    # -- what is told --

    def carry_out(self, step: Step) -> None:
        assert self.wanted is not None
        if isinstance(step, MakePod):
            assert not self.there
            self.there, self.made_for, self.sandbox = "p", self.wanted.uid, "created"
        elif isinstance(step, StartSandbox):
            self.start_sandbox()
        elif isinstance(step, MakeContainers):
            for name in step.names:
                assert name not in self.containers
                self.containers[name] = ContainerSeen(name, name, "created")
        elif isinstance(step, StartContainer):
            self.check_order(step.name)
            self.run(step.name)
        elif isinstance(step, EndPod):
            self.end_all()
        elif isinstance(step, RemovePod):
            self.reset()
        elif isinstance(step, FailPod):
            self.wanted = self.wanted._replace(failure=step.failure)
        else:
            assert isinstance(step, Forget)
            assert not self.there
            self.wanted = None

    def start_sandbox(self) -> None:
        assert self.sandbox != "running"
        if self.sandbox == "lost" and any(one.is_alive for one in self.containers.values()):
            self.sandbox = "running"  # another holder, of the same namespaces
            return
        self.sandbox, self.stopped, self.started = "running", False, next(self.clock)
        for name, one in self.containers.items():
            self.containers[name] = one._replace(is_of_this_run=False)

    def check_order(self, name: str) -> None:
        """What is started needs those of init before it."""
        assert self.wanted is not None
        assert self.sandbox == "running"
        assert not self.containers[name].is_alive
        seen = self.seen()
        if controllers.has_begun(self.wanted, seen):
            return
        for one in self.wanted.pod.spec.init_containers:
            if one.name == name:
                return
            before = seen.containers[one.name]
            if controllers.is_sidecar(one):
                assert before.is_started, (one.name, name)
            else:
                assert controllers.has_succeeded(before), (one.name, name)

    def run(self, name: str) -> None:
        self.containers[name] = ContainerSeen(
            name, name, "running", started=next(self.clock), is_of_this_run=True
        )

    def end_all(self) -> None:
        for name, one in self.containers.items():
            if one.is_alive:
                self.end(name, 143, "exited")
        self.sandbox = "exited"

    # -- what happens --

    def end(self, name: str, code: int, state: Literal["exited", "restarting"]) -> None:
        record = ExitRecord(run="r", code=code, started=1, finished=next(self.clock))
        self.containers[name] = self.containers[name]._replace(
            state=state, ended=record, started=None, is_started=False, ready=False
        )

    def has_ended(self, name: str, code: int) -> None:
        """A container ended; its own policy says whether it is started again."""
        assert self.wanted is not None
        one = self.containers.get(name)
        if one is None or one.state != "running":
            return
        self.end(name, code, "restarting" if self.restarts(name, code) else "exited")

    def restarts(self, name: str, code: int) -> bool:
        assert self.wanted is not None
        spec = self.wanted.pod.spec
        init = {one.name: controllers.is_sidecar(one) for one in spec.init_containers}
        if init.get(name) is True:
            return True
        if spec.restart_policy == "Never":
            return False
        return code != 0 or (spec.restart_policy == "Always" and name not in init)

    def time_passes(self) -> None:
        """Restarts that are due are made, and init containers come to their ends."""
        assert self.wanted is not None
        for name, one in self.containers.items():
            if one.state == "restarting" and self.sandbox == "running":
                self.run(name)
            elif one.state == "running":
                self.containers[name] = one._replace(is_started=True, ready=True)
        for init in self.wanted.pod.spec.init_containers:
            if not controllers.is_sidecar(init) and init.name in self.containers:
                self.has_ended(init.name, 0)

    def lose_holder(self) -> None:
        if self.sandbox == "running":
            alive = any(one.is_alive for one in self.containers.values())
            self.sandbox = "lost" if alive else "exited"

    def reboot(self) -> None:
        for name, one in self.containers.items():
            if one.is_alive:
                self.end(name, 255, "exited")
        if self.sandbox in ("running", "lost"):
            self.sandbox = "exited"

    def lose_container(self, name: str) -> None:
        self.containers.pop(name, None)

    def keep(self) -> None:
        """What the keeper does: steps, until there are none."""
        for _ in range(20):
            if self.wanted is None:
                return
            steps = controllers.next_of_pod(self.wanted, self.seen(), 0)
            if not steps:
                return
            for step in steps:
                self.carry_out(step)
                if self.wanted is None:
                    return
        raise AssertionError("there is always one more step")

    def settle(self) -> None:
        for _ in range(20):
            self.keep()
            if self.wanted is None:
                return
            self.time_passes()
        self.keep()


INITS = (container("first"), container("aside", sidecar=True), container("second"))
NAMES = ("first", "aside", "second", "one", "two")
EVENTS = st.one_of(
    st.tuples(st.just("end"), st.sampled_from(NAMES), st.sampled_from((0, 1, 137))),
    st.tuples(st.just("lose"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(
        st.sampled_from(("holder", "reboot", "pod", "keep", "time")), st.just(""), st.just(0)
    ),
)


def happen(machine: Machine, event: tuple[str, str, int]) -> None:
    what, name, code = event
    if what == "end":
        machine.has_ended(name, code)
    elif what == "lose":
        machine.lose_container(name)
    elif what == "holder":
        machine.lose_holder()
    elif what == "reboot":
        machine.reboot()
    elif what == "pod":
        machine.reset()
    elif what == "keep":
        machine.keep()
    else:
        machine.time_passes()


@settings(max_examples=120, deadline=None)
@given(st.lists(EVENTS, max_size=25))
def test_whatever_happens_a_pod_runs_in_the_end(events: list[tuple[str, str, int]]) -> None:
    wanted = declared(pod("Always", INITS, ("one", "two")))
    machine = Machine(wanted)
    for event in events:
        happen(machine, event)
    machine.settle()
    assert controllers.is_ready(wanted, machine.seen())
    assert machine.containers["aside"].state == "running"


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(("OnFailure", "Never")), st.lists(EVENTS, max_size=25))
def test_whatever_happens_a_pod_that_ends_is_left_alone(
    policy: kube.RestartPolicy, events: list[tuple[str, str, int]]
) -> None:
    wanted = declared(pod(policy, INITS, ("one", "two")))
    machine = Machine(wanted)
    for event in events:
        happen(machine, event)
    machine.settle()
    for name in ("one", "two"):
        machine.has_ended(name, 0)
    machine.settle()
    assert controllers.is_finished(wanted, machine.seen())
    assert machine.sandbox == "exited"
    assert not any(one.is_alive for one in machine.containers.values())
    before = machine.seen()
    machine.settle()
    assert machine.seen() == before


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_whatever_happened_what_is_taken_back_goes(events: list[tuple[str, str, int]]) -> None:
    machine = Machine(declared(pod("Always", INITS, ("one", "two"))))
    for event in events:
        happen(machine, event)
    assert machine.wanted is not None
    machine.wanted = machine.wanted._replace(deleted=1)
    machine.settle()
    assert machine.wanted is None
    assert not machine.there


def test_a_pod_that_was_declared_anew_takes_the_place_of_the_old_one() -> None:
    machine = Machine(declared(pod()))
    machine.settle()
    machine.wanted = declared(pod(names=("one", "two")), uid="u2")
    (step,) = controllers.next_of_pod(machine.wanted, machine.seen(), 0)
    assert isinstance(step, RemovePod)
    machine.settle()
    assert machine.made_for == "u2"
    assert sorted(machine.containers) == ["one", "two"]


def test_what_a_user_stopped_stays_so() -> None:
    machine = Machine(declared(pod()))
    machine.settle()
    machine.end_all()
    machine.stopped = True
    assert machine.wanted is not None
    assert controllers.next_of_pod(machine.wanted, machine.seen(), 0) == ()


def test_an_init_container_that_fails_for_good_fails_the_pod() -> None:
    wanted = declared(pod("Never", (container("first"),)))
    machine = Machine(wanted)
    machine.keep()
    machine.has_ended("first", 3)
    assert controllers.is_finished(wanted, machine.seen())
    machine.settle()
    assert machine.containers["one"].state == "created"


def test_init_containers_do_not_begin_again_while_the_others_run() -> None:
    wanted = declared(pod("Always", INITS))
    machine = Machine(wanted)
    machine.settle()
    machine.lose_container("first")
    machine.keep()
    assert machine.containers["first"].state == "created"


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_what_ended_is_not_started_by_the_controller(policy: kube.RestartPolicy) -> None:
    wanted = declared(pod(policy, names=("one", "two")))
    machine = Machine(wanted)
    machine.settle()
    machine.end("one", 0, "exited")
    assert controllers.next_of_pod(wanted, machine.seen(), 0) == ()


def test_a_deadline_fails_a_pod_that_runs_for_too_long() -> None:
    wanted = declared(pod(active_deadline_seconds=5))
    machine = Machine(wanted)
    machine.settle()
    seen = machine.seen()
    assert controllers.time_left(wanted, seen, seen.started) == 5 * SECOND
    assert controllers.next_of_pod(wanted, seen, seen.started + 5 * SECOND - 1) == ()
    (step,) = controllers.next_of_pod(wanted, seen, seen.started + 5 * SECOND)
    assert isinstance(step, FailPod)
    assert step.failure.reason == "DeadlineExceeded"
    machine.carry_out(step)
    machine.settle()
    assert machine.sandbox == "exited"


def test_what_is_too_large_evicts_the_pod() -> None:
    wanted = declared(pod())
    machine = Machine(wanted)
    machine.settle()
    seen = machine.seen()._replace(exceeded="volume data: 11 of 10 bytes")
    failure = Failure(reason="Evicted", message="volume data: 11 of 10 bytes")
    assert controllers.next_of_pod(wanted, seen, 0) == (FailPod(failure),)


@pytest.mark.parametrize("state", ["exited", "running"])
def test_no_pod_is_ready_without_all_its_containers(state: str) -> None:
    wanted = declared(pod(names=("one", "two")))
    machine = Machine(wanted)
    machine.settle()
    if state == "exited":
        machine.end("two", 0, "exited")
    assert controllers.is_ready(wanted, machine.seen()) == (state == "running")
    assert not controllers.is_ready(wanted._replace(deleted=1), machine.seen())


# ---- deployments ----


class Cluster:
    """The pods of a Deployment, which come and go as they are declared."""

    def __init__(self, wanted: Declared) -> None:
        self.wanted: Declared | None = wanted
        self.pods: list[PodOf] = []
        self.numbers = itertools.count()

    def keep(self) -> None:
        for _ in range(10):
            if self.wanted is None:
                return
            steps = controllers.next_of_deployment(self.wanted, self.pods)
            if not steps:
                return
            for step in steps:
                self.carry_out(step)

    def carry_out(self, step: Step) -> None:
        assert self.wanted is not None
        if isinstance(step, DeclarePods):
            current = controllers.template_hash(self.wanted.deployment)
            labels = [one.declared.pod.metadata.labels for one in self.pods]
            assert all(one[controllers.HASH_LABEL] == current for one in labels)
            for _ in range(step.missing):
                self.declare()
        elif isinstance(step, DeletePod):
            self.change(step.name, lambda one: one._replace(deleted=1))
        else:
            assert isinstance(step, Forget)
            assert not self.pods
            self.wanted = None

    def declare(self) -> None:
        assert self.wanted is not None
        number = next(self.numbers)
        made = controllers.pod_of(self.wanted.deployment, f"web-{number}")
        owner = Owner(kind="Deployment", name="web", uid=self.wanted.uid)
        one = declared(made, f"p{number}", owner)._replace(created=number)
        machine = Machine(one)
        machine.settle()
        self.pods.append(PodOf(one, machine.seen()))

    def change(self, name: str, change: object) -> None:
        self.pods = [
            PodOf(change(one.declared), one.seen) if one.declared.name == name else one  # type: ignore[operator]
            for one in self.pods
        ]

    def names(self) -> list[str]:
        return [one.declared.name for one in self.pods if not one.declared.deleted]

    def leave(self) -> None:
        """Those that are on their way out are gone."""
        self.pods = [one for one in self.pods if not one.declared.deleted]


CHANGES = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 5)),
    st.tuples(st.just("image"), st.integers(0, 2)),
    st.tuples(st.sampled_from(("delete", "fail")), st.integers(0, 2)),
    st.tuples(st.sampled_from(("keep", "leave")), st.just(0)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(CHANGES, max_size=20))
def test_whatever_happens_a_deployment_has_its_pods_in_the_end(
    changes: list[tuple[str, int]],
) -> None:
    cluster = Cluster(declared(deployment(2)))
    cluster.keep()
    replicas, image = 2, "busybox"
    for what, number in changes:
        assert cluster.wanted is not None
        if what == "scale":
            replicas = number
        elif what == "image":
            image = f"image-{number}"
        elif what in ("delete", "fail") and number < len(cluster.pods):
            name = cluster.pods[number].declared.name
            failure = Failure(reason="Evicted", message="")
            change = {"deleted": 1} if what == "delete" else {"failure": failure}
            cluster.change(name, lambda one, change=change: one._replace(**change))
        elif what == "keep":
            cluster.keep()
        else:
            cluster.leave()
        cluster.wanted = cluster.wanted._replace(object=deployment(replicas, image))
    for _ in range(5):
        cluster.keep()
        cluster.leave()
    assert len(cluster.names()) == replicas
    for one in cluster.pods:
        assert one.declared.pod.spec.containers[0].image == image
        assert one.declared.failure is None

    assert cluster.wanted is not None
    cluster.wanted = cluster.wanted._replace(deleted=1)
    for _ in range(3):
        cluster.keep()
        cluster.leave()
    assert cluster.wanted is None
    assert cluster.pods == []


def test_of_too_many_those_go_that_are_missed_least() -> None:
    cluster = Cluster(declared(deployment(4)))
    cluster.keep()
    cluster.pods[1] = cluster.pods[1]._replace(seen=PodSeen())  # not ready
    cluster.wanted = declared(deployment(2))
    cluster.keep()
    assert cluster.names() == ["web-0", "web-2"]


def test_templates_are_told_apart_and_the_number_of_pods_does_not_matter() -> None:
    assert controllers.template_hash(deployment(1)) == controllers.template_hash(deployment(9))
    other = deployment(1, "nginx")
    assert controllers.template_hash(deployment(1)) != controllers.template_hash(other)
    same = replace(other, metadata=kube.ObjectMeta(name="another"))
    assert controllers.template_hash(same) == controllers.template_hash(other)
