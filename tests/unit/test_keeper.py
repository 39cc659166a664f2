"""Who carries out what the controllers say: whose turn it is, and what is not lost in a thread."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from pycontain.engine import supervision
from pycontain.errors import Conflict, KernelError, NotFound, NotSupported, PycontainError
from pycontain.model.container import Publish
from pycontain.model.pod import Pod
from pycontain.network import outside
from pycontain.pod import keeper as keepers
from pycontain.pod import manifest, observed, shutdown
from pycontain.pod.declared import Declarations
from pycontain.pod.keeper import Keeper, in_threads
from pycontain.pod.observed import ContainerSeen, PodSeen
from pycontain.pod.play import Kube
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.engine import Engine
    from pycontain.pod.declared import Declared

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  containers: [{name: one, image: busybox}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    made = SimpleNamespace(
        layout=layout, containers=None, events=None, images=None, elsewhere=lambda kind: None
    )
    return cast("Engine", made)


class Machine:
    """What there is of Pods, by their names."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerSeen] = {}

    def look(self, _: object, declared: Declared, __: object = None) -> PodSeen:
        one = self.containers.get(declared.name, ContainerSeen("one"))
        return PodSeen(id=declared.name, uid=declared.uid, containers={"one": one})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(observed, "look", found.look)
    return found


def declare(keeper: Keeper, text: str) -> Declared:
    (one,) = manifest.parse(text).objects
    return keeper.declarations.apply(one)[0]


def is_refused(keeper: Keeper, declared: Declared) -> bool:
    claim: Any = keeper.declarations.get("PersistentVolumeClaim", "data").object
    try:
        keeper._check_claims(declared, {"data": claim})
    except Conflict:
        return True
    return False


def test_of_pods_that_want_one_claim_the_first_has_it(engine: Engine, machine: Machine) -> None:
    keeper = Keeper(engine)
    declare(keeper, CLAIM)
    pods = [declare(keeper, POD.replace("NAME", name)) for name in ("web-b", "web-a", "web-c")]
    assert [is_refused(keeper, one) for one in pods] == [False, True, True]
    # One that is there has it, however old it is; one that has done its work has it no more.
    machine.containers["web-c"] = ContainerSeen("one", id="1", state="running")
    assert [is_refused(keeper, one) for one in pods] == [True, True, True]
    ended: Any = SimpleNamespace(code=0, started=1)
    machine.containers["web-c"] = ContainerSeen("one", id="1", state="exited", ended=ended)
    assert [is_refused(keeper, one) for one in pods] == [False, True, True]
    machine.containers["web-b"] = machine.containers["web-c"]
    assert [is_refused(keeper, one) for one in pods[1:]] == [False, True]


def test_no_failure_is_lost_in_a_thread() -> None:
    done: list[int] = []

    def act(number: int) -> None:
        done.append(number)
        if number == 1:
            raise NotFound("one")

    assert [str(err) for err in in_threads(act, [1, 2, 3])] == ["one"]
    assert sorted(done) == [1, 2, 3]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_nobody_foresaw_is_no_success(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is taken back: the machine is short of descriptors."""
    kube = Kube(engine)
    declare(kube._keeper, "{apiVersion: v1, kind: ConfigMap, metadata: {name: web}}")

    def end(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(kube, "_end", end)
    monkeypatch.setattr(supervision, "wake", lambda layout: None)
    with pytest.raises(KernelError, match="take down: too many open files"):
        kube.delete("ConfigMap", "web")


# ---- everything is ended ----

SIDECARS = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers:
  - {name: first, image: busybox, restartPolicy: Always}
  - {name: init, image: busybox}
  - {name: second, image: busybox, restartPolicy: Always}
  containers: [{name: main, image: busybox}]
"""


def view(name: str) -> Any:
    labels = {"io.kubernetes.container.name": name, "io.kubernetes.pod.uid": "1"}
    options = SimpleNamespace(labels=labels, is_kept=True)
    return SimpleNamespace(container=SimpleNamespace(id=name, name=name, options=options))


def a_pod(*members: str) -> Any:
    return SimpleNamespace(
        pod=SimpleNamespace(id="1", name="web"), members=tuple(map(view, members))
    )


def test_sidecars_have_the_order_of_their_pod(engine: Engine) -> None:
    """One that a user removed was made again after the others."""
    declare(Keeper(engine), SIDECARS)
    pod = a_pod("init", "second", "main", "other", "first")
    found = shutdown._sidecars(engine, pod)
    assert [one.container.name for one in found] == ["first", "second"]


def test_a_pod_that_cannot_be_locked_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = shutdown._Order(engine, None)

    def lock(*_: object) -> None:
        raise PycontainError("lock: too many open files")

    monkeypatch.setattr(Declarations, "lock", lock)
    order._end_pod(a_pod("main"))
    assert [str(one) for one in order.problems] == ["lock: too many open files"]
    assert order._failed == {"1"}


# ---- after a reboot ----


def test_a_supervisor_that_is_there_hears_of_what_is_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = Kube(engine)
    declare(kube._keeper, CLAIM)
    declare(kube._keeper, POD.replace("NAME", "web"))
    kube._declarations.rest()
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(kube._declarations, "_tell", lambda *said: told.append(said[:3]))
    monkeypatch.setattr(supervision, "wake", lambda layout: None)

    def keep(kind: str, name: str) -> keepers.Kept:
        raise NotFound(f"{kind} {name}: no image")

    monkeypatch.setattr(kube._keeper, "keep", keep)
    problems: list[PycontainError] = []
    assert kube.boot(problems) == []
    assert [str(one) for one in problems] == ["Pod web: no image"]
    assert told == [("boot", "PersistentVolumeClaim", "data"), ("boot", "Pod", "web")]


# ---- ports of an ordinary user's pod ----


def test_why_no_port_can_lead_to_a_pod(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise NotSupported("connect to the outside", "/dev/net/tun", errno.EACCES, "as root")

    def configured(network: str) -> None:
        cast("Any", engine).settings = SimpleNamespace(network=network)

    monkeypatch.setattr(outside, "check", check)
    keeper = Keeper(engine)
    web = Pod(id="", name="web", created=0, network="none", publish=(Publish(target=80),))
    configured("bridge")
    with pytest.raises(NotSupported, match="connect to the outside: /dev/net/tun: permission"):
        keeper._check_way_out(web)
    keeper._check_way_out(replace(web, publish=()))
    keeper._check_way_out(replace(web, network="bridge"))
    configured("none")
    keeper._check_way_out(web)
