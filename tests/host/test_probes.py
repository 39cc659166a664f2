"""Probes and hooks, with a supervisor, on a real kernel."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
import pytest
from harness import FOREVER, PATIENCE, wait_until
from ordinary import User, ordinary_user
from registry import Authority

from pycontain.engine import actions, hooks, probes, records, supervision
from pycontain.errors import InvalidInput, InvalidState
from pycontain.kernel import process
from pycontain.model.container import NetworkChoice, RestartPolicy, RunOptions
from pycontain.model.probe import (
    ExecAction,
    Hooks,
    HttpAction,
    ProbeCheck,
    Probes,
    SleepAction,
    TcpAction,
)
from pycontain.pod.pods import Pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import CommandLine, Store

    from pycontain.engine.containers import View
    from pycontain.model.probe import ProbeRecord, ProbeState

pytestmark = pytest.mark.host

SECOND = 1_000_000_000
BRIDGE: dict[str, Any] = {"network": "bridge", "networks": (NetworkChoice(name="bridge"),)}
LOOP = RestartPolicy(name="always", crash_loop=True)
# Ends at once when it is told to, with code 0.
OBEYS = ("sh", "-c", "trap 'exit 0' TERM; touch /obeys; while :; do sleep 0.1; done")


@pytest.fixture(autouse=True)
def supervisor_gone(store: Store) -> Iterator[None]:
    """Once nothing has to be probed the supervisor ends by itself."""
    yield
    store.clear()
    wait_until(lambda: not supervision.lives(store.layout))


def sh(script: str) -> ExecAction:
    return ExecAction(command=("sh", "-c", script))


def check(action: Any, **more: Any) -> ProbeCheck:
    return ProbeCheck(**{"action": action, "period": 1, "timeout": 20, "failures": 1, **more})


def there(path: str, **more: Any) -> ProbeCheck:
    """Whether a file is there."""
    return check(ExecAction(command=("test", "-e", path)), **more)


def state(store: Store, ref: str) -> ProbeState:
    return probes.state(store.view(ref))


def record(store: Store, ref: str) -> ProbeRecord:
    view = store.view(ref)
    run = records.last_run(view.paths)
    return probes.load(view.paths, run) or probes.begin(view.container, run)


def ready(store: Store, ref: str) -> bool:
    return state(store, ref).ready


def told(store: Store, ref: str) -> list[str]:
    """The events of a container so far, without those of execs."""
    with store.engine.events.read(since=0, follow=False) as events:
        return [one.action for one in events if one.id == ref and not one.verb.startswith("exec")]


def count(store: Store, ref: str, action: str) -> int:
    return told(store, ref).count(action)


def restarts(store: Store, ref: str) -> int:
    return supervision.load(store.view(ref).paths).count


def content(view: View, name: str) -> str:
    """What a container has written into a file of its root."""
    try:
        with open(f"{view.paths.upper}/{name}", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def obeys_now(store: Store, ref: str) -> bool:
    """Whether OBEYS has got so far: a first process is asked in vain before it has said how."""
    return os.path.exists(f"{store.view(ref).paths.upper}/obeys")


def named(words: str) -> list[int]:
    """Pids of the processes that run this command."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        if one.info["cmdline"] == words.split():
            found.append(one.pid)
    return found


def mark() -> str:
    return f"{os.getpid()}{time.time_ns() % 1000000}"


def kill(pid: int, start: int) -> None:
    pidfd = process.open_process(pid, start)
    assert pidfd is not None
    try:
        process.send_signal(pidfd, signal.SIGKILL)
        wait_until(lambda: process.start_time(pid) != start)
    finally:
        os.close(pidfd)


def kill_supervisor(store: Store) -> None:
    found = supervision.recorded(store.layout)
    assert found is not None
    kill(*found)


# ---- readiness ----


def test_readiness_comes_and_goes(store: Store) -> None:
    ref = store.detach(probes=Probes(readiness=there("/ok")))
    wait_until(lambda: record(store, ref).readiness.count < 0)
    found = state(store, ref)
    assert (found.started, found.ready) == (True, False)
    assert found.message == "readiness probe failed: exit code 1"
    store.exec(ref, "touch", "/ok")
    wait_until(lambda: ready(store, ref))
    first = state(store, ref)
    assert first.message == ""
    assert first.since > (store.view(ref).status.started or 0)
    store.exec(ref, "rm", "/ok")
    wait_until(lambda: not ready(store, ref))
    assert state(store, ref).since > first.since
    expected = ["create", "start", "probe_status: ready", "probe_status: unready"]
    wait_until(lambda: told(store, ref) == expected)
    assert restarts(store, ref) == 0
    run = record(store, ref).run
    store.containers.stop(ref, timeout=0)
    assert not state(store, ref).started
    store.containers.start(ref)
    wait_until(lambda: record(store, ref).readiness.count < 0)
    assert record(store, ref).run != run


def test_servers_are_asked_at_the_address_of_their_container(store: Store) -> None:
    web = Probes(
        startup=check(TcpAction(port=80), failures=1000),
        readiness=check(HttpAction(port=80, path="/page"), failures=1),
    )
    serve = "mkdir /www; echo yes >/www/page; exec httpd -f -p {}80 -h /www"
    everywhere = store.detach("sh", "-c", serve.format(""), probes=web, **BRIDGE)
    local = Probes(
        liveness=check(TcpAction(port=80, host="127.0.0.1"), failures=1000),
        readiness=check(TcpAction(port=80)),
    )
    hidden = store.detach("sh", "-c", serve.format("127.0.0.1:"), probes=local, **BRIDGE)
    alone = store.detach("sh", "-c", serve.format("127.0.0.1:"), probes=web, network="none")
    pods = Pods(store.engine)
    pod = pods.create("probed", **BRIDGE)
    asked = RunOptions(image="busybox", command=("sh", "-c", serve.format("")), probes=web)
    member, _ = store.containers.run(pods.member(pod.id, asked), attach=False)
    for ref in (everywhere, alone, member.id):
        wait_until(lambda ref=ref: ready(store, ref))  # type: ignore[misc]
    wait_until(lambda: record(store, hidden).liveness.count > 1)
    wait_until(lambda: record(store, hidden).readiness.count < 0)
    assert state(store, hidden).message == "readiness probe failed: connection refused"
    store.exec(everywhere, "rm", "/www/page")
    wait_until(lambda: not ready(store, everywhere))
    assert state(store, everywhere).message.startswith("readiness probe failed: status 404")
    assert store.state_of(everywhere) == "running"


def test_a_server_in_the_hosts_network(store: Store) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        asked = Probes(readiness=check(TcpAction(port=port)))
        inside = store.detach(probes=asked, network="host")
        outside = store.detach(probes=asked, network="none")
        wait_until(lambda: ready(store, inside))
        wait_until(lambda: record(store, outside).readiness.count < 0)


class Answering(http.server.BaseHTTPRequestHandler):
    """Says that all is well."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
def test_nobody_asks_whose_certificate_it_is(store: Store, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(str(tmp_path)).issue("elsewhere", "DNS:elsewhere.test"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            action = HttpAction(port=port, scheme="https", host="localhost")
            secret = store.detach(probes=Probes(readiness=check(action)), network="host")
            plain = Probes(readiness=check(HttpAction(port=port)))
            other = store.detach(probes=plain, network="host")
            wait_until(lambda: ready(store, secret))
            wait_until(lambda: record(store, other).readiness.count < 0)
        finally:
            server.shutdown()
            thread.join()


class Leading(http.server.BaseHTTPRequestHandler):
    """Leads on to what the path says, and has no page but /page."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        _, _, location = self.path.partition("?to=")
        self.send_response(302 if location else 204 if self.path == "/page" else 404)
        if location:
            self.send_header("Location", location.replace("PORT", self.headers["X-Port"]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def leading() -> Iterator[int]:
    Leading.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leading) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "code", "text", "asked"),
    [
        ("/a/b?to=../page", 0, "status 204", 2),
        ("/?to=/?to=/page", 0, "status 204", 3),
        ("/?to=http://127.0.0.1:PORT/page", 0, "status 204", 2),
        ("/?to=/gone", 404, "status 404", 2),
        ("/?to=?to=", 404, "status 404", 2),
        ("/?to=http://elsewhere.test/gone", 0, "status 302", 1),
        ("/?to=http://127.0.0.1:0x/", -1, "status 302: leads to http://127.0.0.1:0x/,", 1),
        ("/?to=ftp://127.0.0.1/page", -1, "status 302: leads to ftp://127.0.0.1/page", 1),
        ("/" + "?to=/" * 11, 0, "status 302", 11),
        ("/" + "?to=/" * 10, 404, "status 404", 11),
    ],
)
def test_redirections_are_followed_within_the_host(
    store: Store, leading: int, path: str, code: int, text: str, asked: int
) -> None:
    ref = store.detach(network="host")
    headers = (("X-Port", str(leading)), ("Host", "web.test"))
    action = HttpAction(port=leading, path=path, headers=headers)
    found = actions.carry_out(
        store.containers, store.layout, store.view(ref), action, PATIENCE, None
    )
    assert (found.code, found.output[: len(text)]) == (code, text)
    assert len(Leading.asked) == asked
    # What is written out with a host is asked for by that name.
    plain = f"127.0.0.1:{leading}" if "PORT" in path else "web.test"
    assert [host for _, host in Leading.asked] == ["web.test", *[plain] * (asked - 1)]


def test_who_does_not_answer_in_time_has_failed(store: Store) -> None:
    word = mark()
    slow = {"timeout": 1, "failures": 1000}
    # Connections are taken by the kernel; nobody answers.
    silent = "exec nc -ll -p 80 -e sleep 1000"
    asked = Probes(
        liveness=check(sh(f"sleep 1{word} & setsid sleep 2{word} & sleep 3{word}"), **slow),
        readiness=check(HttpAction(port=80), **slow),
    )
    ref = store.detach("sh", "-c", silent, probes=asked, network="none")
    wait_until(lambda: record(store, ref).liveness.count < -1)
    # of probes before the one that is under way nothing is left
    wait_until(lambda: all(len(named(f"sleep {n}{word}")) <= 1 for n in (1, 2, 3)))
    wait_until(lambda: "no answer in 1s" in record(store, ref).message)
    store.containers.pause(ref)
    wait_until(lambda: not any(named(f"sleep {n}{word}") for n in (1, 2, 3)))
    # What is paused is not probed, and is not unwell.
    other = store.detach(probes=Probes(readiness=there("/")))
    wait_until(lambda: record(store, other).readiness.count > 1)  # what was under way is written
    before = record(store, ref)
    wait_until(lambda: record(store, other).readiness.count > 4)
    assert record(store, ref) == before
    store.containers.unpause(ref)
    wait_until(lambda: record(store, ref).liveness.count < before.liveness.count)


# ---- liveness and startup ----


def test_what_is_not_alive_is_ended_and_started_again(store: Store) -> None:
    # The hook has that time too, and is to come to its end on a busy machine.
    asked = Probes(liveness=check(sh("! test -e /ill"), grace=5))
    hook = Hooks(pre_stop=sh("rm -f /ill; echo stopping >>/trace"))
    policy = RestartPolicy(name="on-failure", crash_loop=True)
    # It does not end at SIGTERM; the probe's grace is shorter than its own.
    deaf = store.detach("sleep", "1000", probes=asked, hooks=hook, restart=LOOP, stop_timeout=1000)
    # It ends with code 0, and has failed all the same.
    obeys = store.detach(*OBEYS, probes=asked, hooks=hook, restart=policy)
    left = store.detach(*OBEYS, probes=asked)
    for ref in (deaf, obeys, left):
        wait_until(lambda ref=ref: record(store, ref).liveness.count > 0)  # type: ignore[misc]
        wait_until(lambda ref=ref: ref == deaf or obeys_now(store, ref))  # type: ignore[misc]
        store.exec(ref, "touch", "/ill")
    for ref in (deaf, obeys):
        wait_until(lambda ref=ref: restarts(store, ref) == 1)  # type: ignore[misc]
        wait_until(lambda ref=ref: ready(store, ref))  # type: ignore[misc]
        assert not supervision.load(store.view(ref).paths).stopped
        assert content(store.view(ref), "trace") == "stopping\n"
        happened = told(store, ref)
        assert happened.index("probe_status: unhealthy") < happened.index("kill")
        assert "stop" not in happened
    ended = store.containers.await_record(left)
    assert ended.code == 0
    assert store.state_of(left) == "exited"
    # The next one waits.
    store.exec(deaf, "touch", "/ill")
    wait_until(lambda: store.state_of(deaf) == "restarting")
    wait_until(lambda: restarts(store, deaf) == 2)
    due = supervision.load(store.view(deaf).paths).due - time.time_ns()
    assert due < 10 * SECOND
    assert supervision.load(store.view(deaf).paths).series == 2


def test_a_slow_start_is_protected(store: Store) -> None:
    asked = Probes(
        startup=there("/up", failures=1000), liveness=there("/up"), readiness=there("/up")
    )
    slow = store.detach(probes=asked, restart=LOOP)
    # It fails once there is somebody who obeys.
    fails = check(sh("while ! [ -e /obeys ]; do sleep 0.1; done; false"), failures=2)
    hopeless = store.detach(*OBEYS, probes=Probes(startup=fails, liveness=there("/")))
    wait_until(lambda: record(store, slow).startup.count < -2)
    assert record(store, slow).liveness.count == record(store, slow).readiness.count == 0
    assert not state(store, slow).started
    store.exec(slow, "touch", "/up")
    wait_until(lambda: ready(store, slow))
    assert restarts(store, slow) == 0
    wait_until(lambda: "probe_status: ready" in told(store, slow))
    assert told(store, slow)[2:] == ["probe_status: started", "probe_status: ready"]
    startup = record(store, slow).startup
    wait_until(lambda: record(store, slow).liveness.count > 1)
    assert record(store, slow).startup == startup, "it is made until it has succeeded"
    assert store.containers.await_record(hopeless).code == 0
    assert "probe_status: unhealthy" in told(store, hopeless)


def test_who_is_being_stopped_is_not_ended_once_more(store: Store) -> None:
    asked = Probes(liveness=there("/well"), readiness=there("/well"))
    wait = "while ! [ -e /go ]; do sleep 0.1; done"
    hook = Hooks(pre_stop=sh(f"rm /well; echo stopping >>/trace; {wait}"))
    ref = store.create(*OBEYS, probes=asked, hooks=hook, stop_timeout=1000, restart=LOOP).id
    with store.containers.tree(ref) as files:
        files.write("/well", b"")
    store.containers.start(ref)
    wait_until(lambda: ready(store, ref))
    stopping = threading.Thread(target=lambda: store.containers.stop(ref))
    stopping.start()
    # It is asked on, and what is found says that it cannot be used.
    wait_until(lambda: not ready(store, ref))
    readiness = record(store, ref).readiness
    wait_until(lambda: record(store, ref).readiness.count < readiness.count - 1)
    assert record(store, ref).failed == ""
    store.exec(ref, "touch", "/go")
    stopping.join(PATIENCE)
    assert content(store.view(ref), "trace") == "stopping\n"
    assert "probe_status: unhealthy" not in told(store, ref)
    assert store.state_of(ref) == "exited"


# ---- a supervisor that is killed ----


def test_the_next_supervisor_goes_on(store: Store) -> None:
    asked = Probes(readiness=there("/ok", failures=1000), liveness=there("/"))
    ref = store.detach(probes=asked)
    wait_until(lambda: record(store, ref).readiness.count <= -2)
    kill_supervisor(store)
    before = record(store, ref)
    # whoever looks wakes the next one
    wait_until(lambda: state(store, ref) and supervision.lives(store.layout))
    wait_until(lambda: record(store, ref).readiness.count < before.readiness.count)
    store.exec(ref, "touch", "/ok")
    wait_until(lambda: ready(store, ref))
    assert store.state_of(ref) == "running"


def test_the_next_supervisor_ends_what_was_unwell(store: Store) -> None:
    asked = Probes(liveness=there("/well", initial_delay=1))
    hook = Hooks(pre_stop=sh("echo stopping >>/trace; while ! [ -e /go ]; do sleep 0.1; done"))
    ref = store.detach(*OBEYS, probes=asked, hooks=hook, stop_timeout=1000)
    wait_until(lambda: content(store.view(ref), "trace"))
    kill_supervisor(store)
    assert record(store, ref).failed == "liveness"
    wait_until(lambda: content(store.view(ref), "trace") == "stopping\n" * 2)
    store.exec(ref, "touch", "/go")
    assert store.containers.await_record(ref).code == 0


# ---- preStop ----


def test_before_a_stop_the_hook_runs_within_its_time(store: Store) -> None:
    trace = Hooks(pre_stop=sh("echo stopping >>/trace"))
    ref = store.detach(*OBEYS, hooks=trace)
    wait_until(lambda: obeys_now(store, ref))
    assert not supervision.lives(store.layout), "nobody is needed for it"
    store.containers.stop(ref)
    assert content(store.view(ref), "trace") == "stopping\n"
    assert store.containers.await_record(ref).code == 0
    store.containers.restart(ref)
    store.containers.restart(ref)
    assert content(store.view(ref), "trace") == "stopping\n" * 2
    store.containers.pause(ref)
    store.containers.stop(ref)
    assert content(store.view(ref), "trace") == "stopping\n" * 3
    store.containers.start(ref)
    store.containers.kill(ref, signal.SIGKILL)
    store.containers.start(ref)
    store.containers.stop(ref, timeout=0)
    assert store.state_of(ref) == "exited"
    store.containers.stop(ref)
    assert content(store.view(ref), "trace") == "stopping\n" * 3, "not of what is killed, or ended"
    assert "hook_failed: preStop" not in told(store, ref)


@pytest.mark.usefixtures("patient")
def test_a_hook_that_fails_or_takes_too_long_does_not_keep_it(store: Store) -> None:
    word = mark()
    actions = (
        sh("exit 3"),
        sh(f"sleep 1{word}"),
        SleepAction(seconds=1000),
        ExecAction(command=("nosuch",)),
        HttpAction(port=80),
    )
    found = [
        store.detach(*OBEYS, hooks=Hooks(pre_stop=action), network="none") for action in actions
    ]
    with ThreadPoolExecutor(len(found)) as threads:
        list(threads.map(lambda ref: store.containers.stop(ref, timeout=1), found))
    for ref in found:
        assert store.state_of(ref) == "exited"
        assert count(store, ref, "hook_failed: preStop") == 1
        assert told(store, ref)[-1] == "stop"
    wait_until(lambda: not named(f"sleep 1{word}"))
    # What ends by itself meanwhile is not waited for.
    ref = store.detach("sleep", "3", hooks=Hooks(pre_stop=SleepAction(seconds=1000)))
    store.containers.stop(ref, timeout=-1)
    assert store.containers.await_record(ref).code == 0
    assert "hook_failed: preStop" not in told(store, ref)


def test_a_pod_runs_the_hooks_of_its_containers(store: Store) -> None:
    pods = Pods(store.engine)
    pod = pods.create("hooked", network="none")
    asked = RunOptions(
        image="busybox", command=OBEYS, hooks=Hooks(pre_stop=sh("echo stopping >>/trace"))
    )
    members = [
        store.containers.run(pods.member(pod.id, asked), attach=False)[0].id for _ in range(2)
    ]
    assert pods.stop(pod.id) == []
    for ref in members:
        assert content(store.view(ref), "trace") == "stopping\n"


# ---- postStart ----


def test_a_start_returns_when_its_hook_has_ended(store: Store) -> None:
    ref = store.detach(hooks=Hooks(post_start=sh("sleep 0.5; echo hooked >>/trace")))
    assert content(store.view(ref), "trace") == "hooked\n"
    assert state(store, ref).started
    assert count(store, ref, "hook: postStart") == 1
    # Nobody is needed any more, and nobody is started by who looks.
    wait_until(lambda: not supervision.lives(store.layout))
    assert store.state_of(ref) == "running"
    assert not supervision.lives(store.layout)
    short = store.detach("true", hooks=Hooks(post_start=SleepAction(seconds=1000)))
    assert store.containers.await_record(short).code == 0


def test_a_start_whose_hook_fails_has_failed(store: Store) -> None:
    failing = Hooks(post_start=sh("echo hooked >>/trace; test -e /fine"))
    asked: dict[str, Any] = {"command": OBEYS, "hooks": failing}
    made = store.containers.create(RunOptions(image="busybox", **asked))
    with pytest.raises(InvalidState, match="postStart hook: exit code 1"):
        store.containers.start(made.id)
    assert store.state_of(made.id) == "exited"
    assert not state(store, made.id).started
    assert "hook_failed: postStart" in told(store, made.id)
    policy = RestartPolicy(name="on-failure", crash_loop=True)
    kept = store.containers.create(RunOptions(image="busybox", restart=policy, **asked))
    with pytest.raises(InvalidState):
        store.containers.start(kept.id)
    # The first restart is immediate and fails likewise, the second one waits.
    wait_until(lambda: restarts(store, kept.id) == 2)
    wait_until(lambda: store.state_of(kept.id) == "restarting")
    assert content(store.view(kept.id), "trace") == "hooked\n" * 2


WAITING = sh("echo begun >>/trace; while ! [ -e /go ]; do sleep 0.1; done; echo hooked >>/trace")


def test_the_hook_of_a_start_that_was_killed(store: Store, pycontain: CommandLine) -> None:
    ref = store.create(
        *FOREVER, hooks=Hooks(post_start=WAITING), probes=Probes(readiness=there("/"))
    ).id
    with pycontain.start("start", ref) as starting:
        wait_until(lambda: content(store.view(ref), "trace"))
        wait_until(lambda: supervision.lives(store.layout))
        view = store.view(ref)
        claimer = hooks.claimer(view.paths, records.last_run(view.paths))
        assert claimer == (starting.pid, process.start_time(starting.pid))
        assert not state(store, ref).started
        assert record(store, ref).readiness.count == 0
        starting.kill()
    wait_until(lambda: content(store.view(ref), "trace") == "begun\n" * 2)
    kill_supervisor(store)
    wait_until(lambda: content(store.view(ref), "trace") == "begun\n" * 3)
    assert not state(store, ref).started
    store.exec(ref, "touch", "/go")
    wait_until(lambda: ready(store, ref))
    assert content(store.view(ref), "trace").endswith("hooked\n")


def test_the_hook_of_a_start_that_somebody_is_attached_to(store: Store) -> None:
    ref, attachment = store.attached(*FOREVER, hooks=Hooks(post_start=WAITING))
    try:
        wait_until(lambda: content(store.view(ref), "trace"))
        assert not state(store, ref).started
        store.exec(ref, "touch", "/go")
        wait_until(lambda: state(store, ref).started)
        assert content(store.view(ref), "trace") == "begun\nhooked\n"
        store.containers.kill(ref, signal.SIGKILL)
    finally:
        attachment.close()


def test_what_nobody_can_carry_out_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="period"):
        store.create(probes=Probes(liveness=there("/", period=0)))
    assert store.leftovers() == []


# ---- an ordinary user ----

ORDINARY = """\
import socket, sys, time
sys.path.insert(0, {place!r})
from pycontain import Engine
from pycontain.model.probe import ExecAction, Hooks, HttpAction, ProbeCheck, Probes, TcpAction
asked = Probes(
    readiness=ProbeCheck(action=HttpAction(port=80, path="/page"), period=1, timeout=20),
    liveness=ProbeCheck(action=ExecAction(command=("test", "-e", "/www")), period=1, timeout=20),
)
hooks = Hooks(
    post_start=ExecAction(command=("sh", "-c", "mkdir /www; echo yes >/www/page")),
    pre_stop=ExecAction(command=("sh", "-c", "echo stopping >/trace")),
)
command = ["sh", "-c", "while ! [ -e /www/page ]; do sleep 0.1; done; exec httpd -f -p 80 -h /www"]
with Engine().start(
    "busybox", command, init=True, leash=False, probes=asked, hooks=hooks, network="none"
) as box:
    while not box.probe_state.ready:
        time.sleep(0.1)
    box.stop()
    print(box.wait().code, box.get("/trace").decode())
server = socket.create_server(("127.0.0.1", 0))
asked = Probes(
    readiness=ProbeCheck(action=TcpAction(port=server.getsockname()[1]), period=1, timeout=20)
)
with Engine().start(
    "busybox", idle=True, leash=False, probes=asked, network="host"
) as box:
    while not box.probe_state.ready:
        time.sleep(0.1)
    print("beside the host")
"""


@pytest.fixture
def user(whole_host: None) -> Iterator[User]:
    with ordinary_user() as found:
        # Makes the user's namespace, whose holder stays: before the leak fixture looks.
        assert found.run("run", "--rm", "busybox", "true").returncode == 0
        yield found


def test_an_ordinary_users_containers_have_them_too(user: User) -> None:
    place = Path(user.command[0])
    python = place.read_text().split()[0].removeprefix("#!")
    done = user.do([python, "-I", "-c", ORDINARY.format(place=str(place.parent))])
    assert done.stdout == b"143 stopping\n\nbeside the host\n", done.stderr
