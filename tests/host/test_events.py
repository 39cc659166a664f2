"""What happens is told: by commands, by monitors, by whoever finds a killed monitor; each once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from harness import FOREVER, collect, wait_until

from pycontain.errors import CommandNotFound
from pycontain.model.container import ExecOptions

if TYPE_CHECKING:
    from harness import CommandLine, Store

    from pycontain.model.event import Event

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("patient")]


def told(store: Store, **filters: list[str]) -> list[Event]:
    with store.engine.events.read(follow=False, filters=filters) as stream:
        return list(stream)


def verbs(store: Store, **filters: list[str]) -> list[str]:
    return [event.verb for event in told(store, **filters)]


def ended(store: Store, identity: str) -> list[Event]:
    return told(store, container=[identity], event=["die"])


def test_a_run_is_told_from_beginning_to_end(store: Store) -> None:
    assert store.code("exit 3", name="job", labels={"app": 'a "b" \\ c', "time": "x"}) == 3
    found = told(store)
    assert [event.verb for event in found] == ["create", "attach", "start", "die", "destroy"]
    assert sorted(found, key=lambda event: event.time) == found
    for event in found:
        said = {"app": 'a "b" \\ c', "time": "x", "name": "job", "image": "busybox"}
        assert said.items() <= event.attributes.items()
    assert found[3].attributes["exitCode"] == "3"
    assert found[3].attributes["execDuration"].isdecimal()


def test_each_verb_is_told(store: Store) -> None:
    containers = store.containers
    identity = store.detach(*FOREVER, name="web", stop_signal="SIGKILL")
    store.exec(identity, "sh", "-c", "exit 4")
    containers.attach(identity).close()
    containers.kill(identity, signal.SIGWINCH)
    containers.top(identity)
    containers.pause(identity)
    containers.unpause(identity)
    containers.rename(identity, "other")
    containers.restart(identity)
    containers.stop(identity)
    containers.remove(identity)
    assert verbs(store) == [
        "create", "start", "exec_create", "exec_start", "exec_die", "attach", "kill", "top",
        "pause", "unpause", "rename", "kill", "die", "stop", "start", "restart", "kill", "die",
        "stop", "destroy",
    ]  # fmt: skip
    (rename,) = told(store, event=["rename"])
    assert (rename.attributes["name"], rename.attributes["oldName"]) == ("other", "/web")
    assert [event.attributes["signal"] for event in told(store, event=["kill"])] == ["28", "9", "9"]
    assert {event.attributes["name"] for event in told(store, event=["die"])} == {"other"}


def test_an_exec_is_told_with_its_command_and_code(store: Store) -> None:
    identity = store.detach()
    store.exec(identity, "sh", "-c", 'echo "\\ä"; exit 4')
    found = told(store, event=["exec_create", "exec_start", "exec_die"])
    assert [event.verb for event in found] == ["exec_create", "exec_start", "exec_die"]
    assert len({event.attributes["execID"] for event in found}) == 1
    command = found[0].action.partition(": ")[2]
    assert found[1].action == f"exec_start: {command}"
    assert command.startswith("sh -c echo")
    assert found[2].attributes["exitCode"] == "4"


def test_an_exec_that_outlives_a_rename_has_the_new_name(store: Store) -> None:
    identity = store.detach(name="old")
    asked = ExecOptions(command=("sh", "-c", "read line"), interactive=True)
    attachment = store.containers.exec(identity, asked)
    assert attachment is not None
    store.containers.rename("old", "new")
    collect(attachment, b"\n")
    attachment.close()
    wait_until(lambda: "exec_die" in verbs(store))
    (die,) = told(store, event=["exec_die"])
    assert die.attributes["name"] == "new"


def test_a_start_that_fails_has_no_end(store: Store) -> None:
    with pytest.raises(CommandNotFound):
        store.run("nosuch", name="bad")
    assert verbs(store) == ["create", "attach", "destroy"]
    identity = store.create("nosuch").id
    with pytest.raises(CommandNotFound):
        store.containers.start(identity)
    store.view(identity)
    assert verbs(store, container=[identity]) == ["create"]


def test_many_finders_tell_the_end_of_a_killed_monitor_once(
    store: Store, pycontain: CommandLine
) -> None:
    identity = store.detach(name="lost")
    monitor = store.run_record(identity).monitor
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{monitor}"))
    finders = [threading.Thread(target=store.containers.list) for _ in range(6)]
    processes = [pycontain.start("ps", "-a", stdout=subprocess.DEVNULL) for _ in range(2)]
    for finder in finders:
        finder.start()
    for finder in finders:
        finder.join()
    assert [process.wait() for process in processes] == [0, 0]
    (die,) = ended(store, identity)
    assert (die.attributes["exitCode"], die.attributes["name"]) == ("137", "lost")


def unfinished(store: Store, identity: str) -> str:
    """Stop a container as if its monitor had been killed right before it removed ``event``."""
    paths = store.view(identity).paths
    shutil.copy(paths.event, f"{paths.folder}/copy")
    store.containers.stop(identity, timeout=0)
    assert not os.path.exists(paths.event)
    monitor = store.run_record(identity).monitor
    wait_until(lambda: not os.path.exists(f"/proc/{monitor}"))
    os.rename(f"{paths.folder}/copy", paths.event)
    return paths.event


def test_an_end_that_was_told_is_not_told_again(store: Store) -> None:
    identity = store.detach()
    event = unfinished(store, identity)
    assert store.state_of(identity) == "exited"
    assert not os.path.exists(event)
    assert len(ended(store, identity)) == 1


def test_an_end_that_was_not_told_is_told_by_the_next(store: Store) -> None:
    identity = store.detach("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.01; done")
    event = unfinished(store, identity)
    os.unlink(f"{store.layout.events}/journal")
    code = store.view(identity).status.record
    assert code is not None
    (die,) = ended(store, identity)
    assert die.attributes["exitCode"] == str(code.code)
    assert not os.path.exists(event)
    store.containers.list(all=True)
    assert len(ended(store, identity)) == 1


def test_removing_a_running_container_tells_its_end(store: Store) -> None:
    identity = store.detach()
    store.containers.remove(identity, force=True)
    assert verbs(store, container=[identity]) == ["create", "start", "kill", "die", "destroy"]


def test_a_container_runs_where_no_event_can_be_written(store: Store) -> None:
    os.mkdir(f"{store.layout.events}/journal")
    assert store.code("exit 7") == 7
    identity = store.detach()
    store.containers.remove(identity, force=True)
    os.rmdir(f"{store.layout.events}/journal")


def test_an_image_that_is_built_is_told(store: Store) -> None:
    store.engine.images.ensure("busybox")  # it is there: nothing happens
    assert told(store, type=["image"]) == []


def follow(pycontain: CommandLine, *words: str) -> subprocess.Popen[bytes]:
    return pycontain.start("events", *words, stdout=subprocess.PIPE)


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().strip() for _ in range(count)]


def test_a_follower_sees_what_others_do_until_it_is_interrupted(
    store: Store, pycontain: CommandLine
) -> None:
    form = "{{.Action}} {{.Actor.Attributes.name}}"
    process = follow(pycontain, "--since", "0", "--format", form)
    try:
        store.run("true", name="one")
        expected = ["create", "attach", "start", "die", "destroy"]
        assert read_lines(process, 5) == [f"{verb} one" for verb in expected]
        store.run("true", name="two")
        assert read_lines(process, 5) == [f"{verb} two" for verb in expected]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()


def test_a_follower_ends_at_its_time(store: Store, pycontain: CommandLine) -> None:
    store.run("true", name="before")
    done = pycontain("events", "--until", "0s", "--format", "{{.Action}}")
    assert done.stdout.split() == [b"create", b"attach", b"start", b"die", b"destroy"]
    done = pycontain("events", "--since", "1h", "--until", "0s", "-f", "event=die")
    assert done.stdout.count(b"\n") == 1
    assert b" container die " in done.stdout
    assert b"name=before)" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("-f", "daemon=x"), 1, b"invalid filter 'daemon'"),
        (("--format", "{{.Nosuch}}"), 64, b"can't evaluate field Nosuch"),
        (("--since", "x"), 1, b"not a time"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_once(
    pycontain: CommandLine, words: tuple[str, ...], code: int, error: bytes
) -> None:
    done: subprocess.CompletedProcess[Any] = pycontain("events", *words)
    assert (done.returncode, error in done.stderr) == (code, True), done.stderr
