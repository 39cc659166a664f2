"""Pods by value: states, what is shared, what is refused, the words of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from pycontain.cli.flags import UsageError, parse
from pycontain.cli.pod import CREATE, has_label
from pycontain.engine import sandbox
from pycontain.errors import NotFound
from pycontain.model.container import Container, NetworkChoice, Publish
from pycontain.model.pod import Pod, cgroup_path
from pycontain.pod.pods import state_of
from pycontain.store import files
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

ID = "a" * 64
POD = Pod(id=ID, name="web", created=1, networks=(NetworkChoice(name="team"),), network="bridge",
          publish=(Publish(target=80),), dns=("1.1.1.1",))  # fmt: skip


@pytest.mark.parametrize(
    ("holder", "members", "state"),
    [
        ("created", [], "Created"),
        ("created", ["created"], "Created"),
        ("running", [], "Running"),
        ("running", ["running", "running"], "Running"),
        ("running", ["running", "exited"], "Degraded"),
        ("running", ["exited"], "Degraded"),
        ("running", ["running", "restarting"], "Degraded"),
        ("running", ["paused", "paused"], "Paused"),
        ("running", ["paused", "running"], "Degraded"),
        ("lost", ["running"], "Degraded"),
        ("lost", ["paused"], "Degraded"),
        ("exited", ["exited", "exited"], "Exited"),
        ("exited", [], "Exited"),
        ("exited", ["created"], "Stopped"),
    ],
)
def test_the_state_of_a_pod(holder: sandbox.State, members: list[str], state: str) -> None:
    assert state_of(holder, members) == state


def test_its_containers_join_what_it_shares() -> None:
    assert sandbox.modes(POD) == dict.fromkeys(("ipc", "network", "uts"), f"container:{ID}")
    with_pids = replace(POD, share=("pid",))
    assert sandbox.modes(with_pids) == {"pid": f"container:{ID}"}
    near = replace(POD, network="host", networks=(), publish=())
    assert sandbox.modes(near)["network"] == "host"
    assert sandbox.modes(replace(POD, share=())) == {}


def test_as_a_container_it_asks_for_networks_and_ports() -> None:
    found = sandbox.as_container(POD)
    assert isinstance(found, Container)
    assert (found.id, found.name) == (ID, "web")
    options = found.options
    assert (options.networks, options.publish, options.dns) == (POD.networks, POD.publish, POD.dns)


def test_its_document_survives_a_round_trip() -> None:
    assert files.decode(files.dump(POD), Pod) == POD


def test_a_pod_that_is_not_there(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "state"))
    layout.prepare()
    assert not layout.has_pod(ID)
    assert list(sandbox.every(layout)) == []
    with pytest.raises(NotFound, match="no pod with id"):
        sandbox.load(layout, ID)
    assert layout.in_networks(ID).endpoints == layout.container(ID).endpoints
    files.make_folders(layout.pod(ID).folder)
    assert layout.in_networks(ID).endpoints == f"{layout.state_pods}/{ID}/network.json"
    assert list(sandbox.every(layout)) == []  # half made


def test_its_cgroup_is_ours() -> None:
    assert cgroup_path(ID) == f"/pycontain/pod-{ID}/containers"


@pytest.mark.parametrize(
    ("word", "shared"),
    [
        ("ipc,net", ("ipc", "net")),
        ("none", ()),
        ("+pid", ("ipc", "net", "uts", "pid")),
        ("pid,pid", ("pid",)),
    ],
)
def test_share(word: str, shared: tuple[str, ...]) -> None:
    values, _ = parse(CREATE.flags, ["--share", word], mixed=True)
    assert values["share"] == shared


@pytest.mark.parametrize("word", ["user", "net,", "+net,ipc", "cgroup"])
def test_what_cannot_be_shared_is_refused(word: str) -> None:
    if word == "net,":
        values, _ = parse(CREATE.flags, ["--share", word], mixed=True)
        assert values["share"] == ("net",)
        return
    with pytest.raises(UsageError, match="there are ipc, net, pid, uts and none"):
        parse(CREATE.flags, ["--share", word], mixed=True)


def test_labels() -> None:
    pod = replace(POD, labels={"team": "a"})
    assert has_label(pod, "team")
    assert has_label(pod, "team=a")
    assert not has_label(pod, "team=b")
    assert not has_label(pod, "tea")
