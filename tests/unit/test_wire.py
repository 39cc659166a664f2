"""What crosses between a process and its worker arrives as what it was, and nothing else does."""

from __future__ import annotations

import io
import os
import pickle
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from pycontain import errors
from pycontain.config import BUILT_IN, SETTINGS, Config
from pycontain.engine import remote
from pycontain.engine.cancel import Cancel
from pycontain.engine.containers import Containers, Finisher, View
from pycontain.engine.images import Images
from pycontain.engine.logs import LogEntry
from pycontain.engine.manifests import Manifests
from pycontain.engine.tree import Tree
from pycontain.engine.wire import Answer, Channel, Descriptor, Failure, Gone, Messages, Request
from pycontain.model.container import (
    Container,
    ExecOptions,
    ExitRecord,
    ImageConfig,
    Limits,
    Mount,
    RunOptions,
)
from pycontain.model.declared import Owner
from pycontain.model.pod import Pod
from pycontain.model.stats import Pressure, Stats
from pycontain.model.status import Status
from pycontain.pod import manifest
from pycontain.pod.declared import Declared
from pycontain.pod.play import Applied, Kube
from pycontain.pod.pods import Failed, Pods, PodView
from pycontain.runtime.attachment import Attachment
from pycontain.store.layout import ContainerPaths, PodPaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pycontain import Engine
    from pycontain.model import kube

T = TypeVar("T")

DECLARED = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {a: b}}
spec:
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
  containers:
  - name: main
    image: busybox
    command: [sleep, "1000"]
    resources: {limits: {cpu: 0.5}}
    livenessProbe: {exec: {command: ["true"]}}
    volumeMounts: [{name: data, mountPath: /data}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {containers: [{name: main, image: busybox}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hidden}
"""
RECORD = ExitRecord(run="r", code=3, started=1, finished=2)
OPTIONS = RunOptions(
    image="busybox", command=("sh", "-c", "\udcff"), env=("A=b",), memory=1 << 40,
    mounts=(Mount(type="bind", source="/a", target="/b"),), labels={"x": "y"},
)  # fmt: skip
CONTAINER = Container(
    id="0" * 64, name="n", created=5, options=OPTIONS, image_id="sha256:1", layers=("sha256:2",),
    config=ImageConfig(env=["A=b"]), command=("sh",), stop_signal=15, stop_timeout=10,
)  # fmt: skip


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = socket.socketpair()
    messages = Messages({})
    pair = Channel(ours, messages), Channel(theirs, messages)
    yield pair
    for channel in pair:
        channel.close()


def crossed(value: object, served: dict[str, object] | None = None) -> Any:
    messages = Messages(served or {})
    data, fds = messages.encode(value)
    return messages.decode(data, [os.dup(fd) for fd in fds])


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"bytes",
        1 << 70,
        ("a", 1.5, {"b": [True]}),
        OPTIONS,
        CONTAINER,
        RECORD,
        ExecOptions(command=("ls",), tty=True),
        Limits(pids_limit=5),
        Status(state="exited", record=RECORD, started=1),
        Stats(id="i", name="n", time=1, clock=2, cpu_pressure=Pressure(some=0.5, some_usec=3)),
        LogEntry(1, "stdout", b"x\n"),
        Request("containers", "run", {"options": OPTIONS, "cancel": None}),
        Answer([LogEntry(1, "stdout", b"x\n")]),
        os.stat("/"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_arrives(value: object) -> None:
    found = crossed(value)
    assert found == value
    assert type(found) is type(value)


def test_a_named_number_is_a_number() -> None:
    """It pickles by its name, in ways that differ between releases of Python."""
    assert crossed(signal.SIGTERM) == 15


def test_a_view_arrives_with_its_paths() -> None:
    view = View(CONTAINER, Status(state="created"), ContainerPaths("/c", "/s", "/l"))
    found = crossed(view)
    assert found[:2] == view[:2]
    assert vars(found.paths) == vars(view.paths)


ERRORS = [
    errors.NotFound("no such thing", "look elsewhere"),
    errors.KernelError("mount", "/x", 22),
    errors.NotPermitted("make user namespace", "user x", 1, "as root: usermod"),
    errors.TimedOut("sh: killed", exit_code=137, stdout=b"a", stderr=b"b"),
    errors.Cancelled(),
    errors.CommandNotFound("exec: 'x'"),
    errors.RegistryError("pull a: denied", "log in", status=403, code="DENIED"),
    OSError(28, "No space left on device", "/x"),
    BrokenPipeError(32, "Broken pipe"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_what_it_is(error: BaseException) -> None:
    found = crossed(Failure(error)).error
    assert type(found) is type(error)
    assert (str(found), found.args, vars(found)) == (str(error), error.args, vars(error))


def test_an_error_of_every_constructor_has_been_tried() -> None:
    tried = {type(error).__init__ for error in ERRORS}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.PycontainError):
            assert kind.__init__ in tried, kind


def test_a_foreign_error_is_told_in_words() -> None:
    found = crossed(Failure(ZeroDivisionError("division by zero"))).error
    assert type(found) is errors.PycontainError
    assert found.message == "worker: ZeroDivisionError: division by zero"


def test_an_error_of_a_kind_of_its_own_is_its_next_known_one() -> None:
    class Lost(errors.NotFound):
        pass

    assert type(crossed(Failure(Lost("gone"))).error) is errors.NotFound


def test_a_cancel_is_the_same_event() -> None:
    cancel = Cancel()
    found = crossed(cancel)
    assert found.fileno() != cancel.fileno()
    cancel.set()
    assert os.eventfd_read(found.fileno()) == 1


def test_a_descriptor_is_the_same_file() -> None:
    with open("/dev/null", "rb") as file:
        found = crossed(Answer(Descriptor(file.fileno())))
        assert os.path.sameopenfile(found.value.fd, file.fileno())
        os.close(found.value.fd)


def test_an_attachment_is_the_same_connection() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    containers = remote.proxy(Containers, lambda *_: None)
    attachment = Attachment(ours, Finisher(containers, "id", "run", remove=False), owner=True)
    found = crossed((CONTAINER, attachment), {"containers": containers})[1]
    with theirs:
        assert found.owner
        assert isinstance(found.on_finish, Finisher)
        assert found.on_finish.containers is containers
        assert (found.on_finish.identity, found.on_finish.run) == ("id", "run")
        assert found.on_finish.remove is False
        attachment.close()
        assert found.read() is None  # it does not block
        theirs.send(b"1\0\0\0\0\0\0\0hello")
        frame = found.read()
        assert frame is not None
        assert (frame.kind, frame.data) == ("stdout", b"hello")
        found.close()


@pytest.mark.parametrize(
    "function", [os.system, eval, getattr, os.getcwd, io.BytesIO, Channel.close, Messages.encode]
)
def test_nothing_that_runs_is_taken(function: Callable[..., Any]) -> None:
    class Order:
        def __reduce__(self) -> tuple[Any, ...]:
            return function, ()

    data = pickle.dumps(Order())
    with pytest.raises(errors.InvalidInput, match="is not known here"):
        Messages({}).decode(data, [])


def test_descriptors_that_a_message_does_not_name_are_closed() -> None:
    reader, writer = os.pipe()
    Messages({}).decode(pickle.dumps(1), [writer])
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_what_cannot_cross_is_refused_and_nothing_sent(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    with pytest.raises(errors.InvalidInput, match="cannot be handed to the worker"):
        ours.send(Answer(lambda: None))
    ours.send(Answer(1))
    assert theirs.receive() == Answer(1)


def test_a_message_of_any_length_arrives(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    data = os.urandom(3_000_000)
    sender = threading.Thread(target=ours.send, args=(Answer(data),))
    sender.start()
    assert theirs.receive() == Answer(data)
    sender.join()


def test_the_end_of_the_other_end_is_told(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(Gone):
        ours.receive()
    with pytest.raises(Gone):
        ours.send(Answer())


# ---- objects whose methods are asked for


@pytest.mark.parametrize("kind", [Containers, Images, Manifests, Tree, Pods, Kube])
def test_every_public_method_is_asked_for(kind: type) -> None:
    asked: list[str] = []
    made: object = remote.proxy(kind, lambda verb, _: asked.append(verb))
    names = [name for name in dir(kind) if not name.startswith("_")]
    assert names
    for name in names:
        assert name in vars(type(made)), name
    assert isinstance(made, kind)
    assert asked == []


def test_a_class_may_be_the_one_of_the_worker() -> None:
    """``Pods(engine)`` of an engine that has a worker is what the worker makes of its own."""
    asked: list[object] = []

    class Elsewhere:
        def elsewhere(self, kind: type[T]) -> T:
            return remote.proxy(kind, lambda verb, given: asked.append((verb, given)))

    made = Pods(cast("Engine", Elsewhere()))
    made.stop("web", timeout=3)
    assert asked == [("stop", {"ref": "web", "timeout": 3})]
    assert set(vars(made)) == {"_ask"}


def test_a_type_of_ours_crosses_as_what_is_asked_for() -> None:
    request = Request(Pods, "get", {"ref": "web"})
    assert crossed(request) == request
    view = PodView(
        Pod(id="1" * 64, name="web", created=5), "Running", "running", (),
        PodPaths("/r/pods/1", "/s/pods/1", "/r/locks/pod-1"),
    )  # fmt: skip
    found = crossed(view)
    assert found[:4] == view[:4]
    assert vars(found.paths) == vars(view.paths)
    failed = crossed([Failed("1", errors.NotFound("gone", "look"))])
    assert [(one.container, type(one.error), one.error.hint) for one in failed] == [
        ("1", errors.NotFound, "look")
    ]


@pytest.mark.parametrize("one", manifest.parse(DECLARED).objects, ids=lambda one: one.kind)
def test_what_is_declared_crosses(one: kube.Object) -> None:
    declared = Declared("u", 1, 2, 0, Owner(kind="Deployment", name="a", uid="v"), None, one)
    applied = Applied(declared, "created", "p", ("c",))
    assert crossed(applied) == applied


def test_settings_arrive_as_they_were_said() -> None:
    said = Config(
        {"layer_max_size": 7, "search_registries": ("a", "b")}, {"layer_max_size": "/a"}, ("/a",)
    )
    messages = Messages({})
    data, fds = messages.encode(Request("", "enter", {"settings": said, "other": BUILT_IN}))
    found = messages.decode(data, fds)
    assert isinstance(found, Request)
    for name, config in (("settings", said), ("other", BUILT_IN)):
        other = found.arguments[name]
        assert isinstance(other, Config)
        assert other.files == config.files
        assert other.origins == config.origins
        for setting in SETTINGS:
            assert getattr(other, setting.name) == getattr(config, setting.name)


def test_arguments_are_asked_for_by_name() -> None:
    asked: list[object] = []
    made = remote.proxy(Containers, lambda verb, arguments: asked.append((verb, arguments)))
    made.stop("web", timeout=3)
    made.list(True)
    assert asked == [("stop", {"ref": "web", "timeout": 3}), ("list", {"all": True})]
    with pytest.raises(TypeError, match="unexpected keyword argument 'time'"):
        made.stop("web", time=3)  # type: ignore[call-arg]
