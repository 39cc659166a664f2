"""The supervisor and the restart policies, on a real kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from harness import PATIENCE, proc_field, wait_until
from leaks import names, target, text

from pycontain.engine import records, supervision
from pycontain.errors import InvalidInput, InvalidState
from pycontain.kernel import process
from pycontain.model.container import Limits, RestartPolicy, RunOptions
from pycontain.store.files import write_word

if TYPE_CHECKING:
    from harness import CommandLine, Store

    from pycontain.engine.containers import View
    from pycontain.model.event import Event

pytestmark = pytest.mark.host

SECOND = 1_000_000_000
ALWAYS = RestartPolicy(name="always")
UNLESS = RestartPolicy(name="unless-stopped")
# Ends when it is told to, with a code of the test's choice.
WAITS = "while ! [ -e /told ]; do sleep 0.05; done; code=$(cat /told); rm /told; exit $code"


def supervisor(store: Store) -> int:
    """Its pid; 0 where there is none."""
    found = supervision.recorded(store.layout)
    return found[0] if found is not None and supervision.lives(store.layout) else 0


def there(store: Store) -> int:
    """Its pid, once it has begun."""
    wait_until(lambda: supervisor(store))
    return supervisor(store)


def opened(pid: int) -> list[str]:
    """Paths of the files that a process has open."""
    found = (target(f"/proc/{pid}/fd/{fd}") for fd in names(f"/proc/{pid}/fd"))
    return [path for path in found if path.startswith("/")]


def gone(store: Store) -> bool:
    return not supervisor(store)


def rests(store: Store, ref: str) -> None:
    """Wait until there is none, and nobody is about to wake one: the clean-up after a run does."""
    wait_until(lambda: monitor_is_gone(store, ref))
    wait_until(lambda: gone(store))


def count(store: Store, ref: str) -> int:
    return supervision.load(store.view(ref).paths).count


def left(store: Store, ref: str) -> int:
    """Nanoseconds until it is started again."""
    return supervision.load(store.view(ref).paths).due - time.time_ns()


def run_of(store: Store, ref: str) -> str:
    return records.last_run(store.view(ref).paths)


def runs_again(store: Store, ref: str, run: str) -> None:
    """Wait until it runs, and that is not `run`."""
    wait_until(lambda: store.state_of(ref) == "running" and run_of(store, ref) != run)


def end(store: Store, ref: str, code: int) -> None:
    """Let a container that runs WAITS end, and wait until that is known."""
    with store.containers.tree(ref) as tree:
        tree.write("/told", str(code).encode())


def waiting(store: Store, policy: RestartPolicy | None = ALWAYS) -> str:
    return store.detach("sh", "-c", WAITS, restart=policy)


def restarting(store: Store, policy: RestartPolicy = ALWAYS) -> tuple[str, View]:
    """A container that ends at once, seen when it waits to be started again; with /stay it runs."""
    ref = store.detach("sh", "-c", "[ -e /stay ] && exec sleep 1000; exit 3", restart=policy)
    # Waits grow: sooner or later one is long enough to be seen, and to be acted on.
    wait_until(lambda: count(store, ref) >= 6 and store.state_of(ref) == "restarting")
    return ref, store.view(ref)


def events(store: Store, ref: str) -> list[str]:
    with store.engine.events.read(since=0, follow=False) as stream:
        found: list[Event] = list(stream)
    return [event.verb for event in found if event.id == ref]


# ---- the supervisor ----


def test_it_comes_when_it_is_needed_and_goes_with_what_needed_it(store: Store) -> None:
    plain = store.detach()
    assert gone(store)
    first, second = waiting(store), waiting(store)
    pid = there(store)
    wait_until(lambda: text(f"/proc/{pid}/comm").strip() == "pycontain-super")
    assert text(f"/proc/{pid}/cmdline").rstrip("\0") == f"pycontain-supervisor {store.root}"
    store.containers.remove(first, force=True)
    store.containers.stop(second, timeout=0)
    wait_until(lambda: gone(store))
    wait_until(lambda: process.start_time(pid) is None)
    assert store.state_of(plain) == "running"
    rests(store, second)
    assert supervision.recorded(store.layout) is None
    store.containers.start(second)
    assert there(store) != pid


def test_it_is_small_and_holds_nothing_of_who_started_it(store: Store) -> None:
    ref = waiting(store)
    before = run_of(store, ref)
    end(store, ref, 0)
    runs_again(store, ref, before)  # with what it loads for that
    pid = there(store)
    assert int(proc_field(pid, "Pss", "smaps_rollup")) < 40 << 10
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert text(f"/proc/{pid}/environ") == ""
    assert os.getsid(pid) == pid
    # What it opened for the start is closed again, and a thread that did it is gone.
    wait_until(lambda: {one for one in opened(pid) if "/events/" not in one} == {"/dev/null"})
    # Nothing is looked at again and again: it sleeps without an end.
    wait_until(lambda: "epoll" in text(f"/proc/{pid}/wchan"))
    wait_until(lambda: proc_field(pid, "Threads") == "1")


def test_there_is_one_for_a_store_however_many_want_it(
    store: Store, pycontain: CommandLine
) -> None:
    refs = [store.create("sleep", "1000", restart=ALWAYS).id for _ in range(4)]
    children = [pycontain.start("start", ref, stdout=subprocess.DEVNULL) for ref in refs]
    assert [child.wait(60) for child in children] == [0] * 4
    there(store)
    marked = f"pycontain-supervisor {store.root}".encode()

    def all_of_it() -> list[str]:
        found = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if file.read().startswith(marked):
                        found.append(pid)
            except OSError:
                continue
        return found

    wait_until(lambda: all_of_it() == [str(supervisor(store))])


def test_killed_it_is_followed_by_another_which_goes_on(store: Store) -> None:
    ref = waiting(store)
    before = run_of(store, ref)
    first = there(store)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(store))
    assert store.run_record(ref).run == before  # the container did not notice
    end(store, ref, 1)  # its monitor wakes another
    runs_again(store, ref, before)
    assert there(store) != first
    assert count(store, ref) == 1


def test_killed_while_a_restart_is_due_it_is_followed_by_one_that_does_it(store: Store) -> None:
    ref, _ = restarting(store)
    first = there(store)
    os.kill(first, signal.SIGKILL)
    # Where a run has just ended its monitor wakes another: there need not be a moment without.
    wait_until(lambda: supervisor(store) != first)
    before, counted = run_of(store, ref), count(store, ref)
    store.containers.list()  # whoever looks wakes another
    wait_until(lambda: run_of(store, ref) != before)
    assert count(store, ref) >= counted
    there(store)


def test_who_looks_wakes_it_for_one_that_runs(store: Store) -> None:
    waiting(store)
    first = there(store)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gone(store))
    store.containers.list()
    assert there(store) != first


# ---- policies ----


def test_always(store: Store) -> None:
    ref = waiting(store)
    for code in (0, 7):
        before = run_of(store, ref)
        end(store, ref, code)
        runs_again(store, ref, before)
    assert count(store, ref) == 2
    # The start is told when it runs already.
    wait_until(lambda: events(store, ref).count("start") == 3)
    told = [verb for verb in events(store, ref) if verb in ("start", "die", "restart")]
    assert told == ["start", "die", "start", "die", "start"]


def test_on_failure_gives_up_when_it_may(store: Store) -> None:
    ref = store.detach("sh", "-c", "exit 5", restart=RestartPolicy(name="on-failure", most=3))
    wait_until(lambda: gone(store))
    view = store.view(ref)
    assert view.status.state == "exited"
    assert view.status.record is not None
    assert view.status.record.code == 5
    assert count(store, ref) == 3
    assert events(store, ref).count("start") == 4


def test_on_failure_leaves_what_went_well(store: Store) -> None:
    ref = waiting(store, RestartPolicy(name="on-failure"))
    before = run_of(store, ref)
    end(store, ref, 1)
    runs_again(store, ref, before)
    before = run_of(store, ref)
    end(store, ref, 0)
    wait_until(lambda: store.view(ref).status.state == "exited")
    rests(store, ref)
    assert store.state_of(ref) == "exited"
    assert run_of(store, ref) == before
    store.containers.list()
    assert gone(store)  # it was decided for good


def test_a_killed_monitor_is_an_end(store: Store) -> None:
    ref = store.detach(restart=ALWAYS)
    there(store)
    before = run_of(store, ref)
    monitor = store.run_record(ref).monitor
    os.kill(monitor, signal.SIGKILL)
    runs_again(store, ref, before)
    assert count(store, ref) == 1


def test_a_program_that_is_killed_from_outside_is_started_again(store: Store) -> None:
    ref = store.detach(restart=UNLESS)
    before = store.run_record(ref)
    os.kill(before.pid, signal.SIGKILL)
    runs_again(store, ref, before.run)


def test_a_start_that_fails_is_tried_again(store: Store) -> None:
    other = store.detach(ipc="shareable")
    ref = store.detach("sh", "-c", WAITS, ipc=f"container:{other}", restart=ALWAYS)
    store.containers.stop(other, timeout=0)  # nothing to join any more
    before = run_of(store, ref)
    end(store, ref, 1)
    wait_until(lambda: count(store, ref) >= 3)
    assert store.state_of(ref) == "restarting"
    assert run_of(store, ref) == before
    store.containers.start(other)
    runs_again(store, ref, before)


def test_a_user_s_failed_start_is_not(store: Store) -> None:
    ref = store.create("/no/such/program", restart=ALWAYS).id
    with pytest.raises(Exception, match="no such"):
        store.containers.start(ref)
    store.containers.list(all=True)
    assert gone(store)
    assert store.state_of(ref) == "created"
    assert count(store, ref) == 0


# ---- what users do ----


@pytest.mark.parametrize("policy", [ALWAYS, UNLESS], ids=lambda policy: policy.name)
def test_what_a_user_stops_stays_so(store: Store, policy: RestartPolicy) -> None:
    stopped, killed, signalled = (store.detach(restart=policy) for _ in range(3))
    there(store)
    store.containers.stop(stopped, timeout=0)
    store.containers.kill(killed, signal.SIGKILL)
    store.containers.kill(signalled, store.view(signalled).container.stop_signal)
    store.containers.stop(signalled, timeout=0)
    wait_until(lambda: gone(store))
    for ref in (stopped, killed, signalled):
        assert store.state_of(ref) == "exited"
        assert supervision.load(store.view(ref).paths).stopped
        assert events(store, ref).count("start") == 1


def test_another_signal_ends_no_restarts(store: Store) -> None:
    script = "trap 'exit 4' USR1; while :; do sleep 0.05; done"
    ref = store.detach("sh", "-c", script, restart=ALWAYS)
    before = run_of(store, ref)
    pid = store.run_record(ref).pid
    wait_until(lambda: int(proc_field(pid, "SigCgt"), 16) >> signal.SIGUSR1 - 1 & 1)
    store.containers.kill(ref, signal.SIGUSR1)
    runs_again(store, ref, before)


def test_a_manual_start_begins_anew(store: Store) -> None:
    ref, _ = restarting(store)
    store.containers.stop(ref)
    assert supervision.load(store.view(ref).paths).stopped
    assert store.state_of(ref) == "exited"
    wait_until(lambda: gone(store))
    with store.containers.tree(ref) as tree:
        tree.write("/stay", b"")
    store.containers.start(ref)
    record = supervision.load(store.view(ref).paths)
    assert record.count == 0
    assert not record.stopped


def test_restart_by_a_user_counts_for_nothing(store: Store) -> None:
    ref = waiting(store)
    before = run_of(store, ref)
    end(store, ref, 1)
    runs_again(store, ref, before)
    store.containers.restart(ref, timeout=0)
    assert count(store, ref) == 0
    before = run_of(store, ref)
    end(store, ref, 1)
    runs_again(store, ref, before)
    assert count(store, ref) == 1


def test_one_that_is_restarting(store: Store, pycontain: CommandLine) -> None:
    ref, _ = restarting(store)
    # Seven: the next waits are seconds.
    wait_until(lambda: count(store, ref) >= 7 and store.state_of(ref) == "restarting")
    said = json.loads(pycontain("inspect", ref).stdout)[0]
    if said["State"]["Status"] == "restarting":  # it may have been started meanwhile
        assert said["State"]["Running"]
        assert said["State"]["Restarting"]
        assert said["State"]["ExitCode"] == 3
        assert said["State"]["Pid"] == 0
    assert said["RestartCount"] >= 7
    assert said["HostConfig"]["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    wait_until(lambda: b"Restarting (3) " in pycontain("ps").stdout)
    wait_until(lambda: store.state_of(ref) == "restarting" and left(store, ref) > 5 * SECOND)
    with pytest.raises(InvalidState, match="restarting container"):
        store.containers.remove(ref)
    pycontain("stop", ref)
    assert store.state_of(ref) == "exited"
    wait_until(lambda: gone(store))


def test_removed_while_a_restart_is_due(store: Store) -> None:
    ref, view = restarting(store)
    store.containers.remove(ref, force=True)
    wait_until(lambda: gone(store))
    assert not os.path.exists(view.paths.folder)


def test_update_of_the_policy(store: Store) -> None:
    ref = waiting(store, None)
    assert gone(store)
    assert store.containers.update(ref, Limits(), restart="always").options.restart == ALWAYS
    there(store)
    before = run_of(store, ref)
    end(store, ref, 0)
    runs_again(store, ref, before)
    store.containers.update(ref, Limits(), restart="no")
    wait_until(lambda: gone(store))
    end(store, ref, 0)
    wait_until(lambda: store.state_of(ref) == "exited")
    rests(store, ref)
    # A policy is for ends that are still to come.
    store.containers.update(ref, Limits(), restart="always")
    store.containers.list(all=True)
    assert gone(store)
    assert store.state_of(ref) == "exited"


def waits_for_a_process(pid: int) -> bool:
    found = (target(f"/proc/{pid}/fd/{fd}") for fd in names(f"/proc/{pid}/fd"))
    return "anon_inode:[pidfd]" in found


def test_wait_returns_at_the_first_end(store: Store, pycontain: CommandLine) -> None:
    ref = waiting(store)
    before = run_of(store, ref)
    with pycontain.start("wait", ref, stdout=subprocess.PIPE) as child:
        wait_until(lambda: waits_for_a_process(child.pid))
        end(store, ref, 6)
        assert child.stdout is not None
        assert child.stdout.read() == b"6\n"
    runs_again(store, ref, before)
    store.containers.stop(ref, timeout=0)


def test_an_attached_run_ends_with_the_first_run(store: Store, pycontain: CommandLine) -> None:
    script = "echo run; [ -e /again ] && exec sleep 1000; touch /again; exit 9"
    done = pycontain("run", "--name", "box", "--restart", "always", "busybox", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (9, b"run\n"), done
    wait_until(lambda: store.state_of("box") == "running")
    wait_until(lambda: store.log("box") == b"run\nrun\n")


def test_an_attached_run_whose_monitor_is_lost_waits_for_no_other(
    store: Store, pycontain: CommandLine
) -> None:
    asked = ("--name", "box", "--restart", "always", "busybox", "sleep", "1000")
    with pycontain.start("run", *asked) as client:
        wait_until(lambda: b"box" in pycontain("ps").stdout)
        ref = store.view("box").container.id
        first = run_of(store, ref)
        # It does not hear of the end before the next run has begun.
        client.send_signal(signal.SIGSTOP)
        os.kill(store.run_record(ref).monitor, signal.SIGKILL)
        wait_until(lambda: run_of(store, ref) != first and store.state_of(ref) == "running")
        client.send_signal(signal.SIGCONT)
        assert client.wait(PATIENCE) == 137


def test_conflicts(store: Store, pycontain: CommandLine) -> None:
    done = pycontain("run", "--rm", "--restart", "always", "busybox", "true")
    assert done.returncode == 125
    assert b"cannot specify both --restart and --rm" in done.stderr
    with pytest.raises(InvalidInput, match="a restart policy and the removal"):
        store.create("true", restart=ALWAYS, remove=True)
    with pytest.raises(InvalidInput, match="leash"):
        store.engine.start("busybox", ["sleep", "1000"], restart="always")
    assert store.leftovers() == []


def test_words_of_the_python_api(store: Store) -> None:
    policy = RestartPolicy(name="on-failure", most=2)
    box = store.engine.start("busybox", idle=True, leash=False, restart="on-failure:2")
    with box:
        assert box.document.options.restart == policy
        box.update(restart="unless-stopped")
        assert box.document.options.restart == UNLESS
    with pytest.raises(InvalidInput, match="invalid restart policy"):
        store.engine.start("busybox", idle=True, leash=False, restart="sometimes")


# ---- after a reboot ----


def monitor_is_gone(store: Store, ref: str) -> bool:
    record = records.load_run(store.layout.container(ref))
    return record is None or process.start_time(record.monitor) != record.monitor_start


def pretend_reboot(store: Store, ref: str) -> None:
    """Let the last run be one of another boot."""
    paths = store.layout.container(ref)
    write_word(records.marker_path(paths), f"{records.last_run(paths)} {'0' * 36}")


def test_boot_starts_what_is_wanted(store: Store, pycontain: CommandLine) -> None:
    """As after a reboot: the markers name another boot, and nothing runs."""
    failed = RestartPolicy(name="on-failure")
    wanted = [store.detach(restart=policy) for policy in (ALWAYS, UNLESS, failed)]
    stopped = {policy.name: store.detach(restart=policy) for policy in (ALWAYS, UNLESS, failed)}
    plain = store.detach()
    made = store.create("sleep", "1000", restart=ALWAYS).id
    for ref in stopped.values():
        store.containers.stop(ref, timeout=0)
        wait_until(lambda ref=ref: monitor_is_gone(store, ref))  # type: ignore[misc]
    everybody = [*wanted, *stopped.values(), plain]
    # Looked up before: whoever looks at one of them wakes another supervisor.
    monitors = [store.run_record(ref).monitor for ref in [*wanted, plain]]
    os.kill(there(store), signal.SIGKILL)
    wait_until(lambda: gone(store))
    for monitor in monitors:
        os.kill(monitor, signal.SIGKILL)
    for ref in everybody:
        wait_until(lambda ref=ref: monitor_is_gone(store, ref))  # type: ignore[misc]
        pretend_reboot(store, ref)
    # Nobody but the boot starts them, whoever looks.
    store.containers.list(all=True)
    assert gone(store)
    assert {store.state_of(ref) for ref in everybody} == {"exited"}
    done = pycontain("system", "boot")
    assert done.returncode == 0, done
    expected = [*wanted, stopped["always"]]
    assert done.stdout.decode().split() == [store.view(ref).container.name for ref in expected]
    assert [store.state_of(ref) for ref in expected] == ["running"] * 4
    assert store.state_of(plain) == store.state_of(stopped["unless-stopped"]) == "exited"
    assert store.state_of(stopped["on-failure"]) == "exited"
    assert store.state_of(made) == "created"
    assert pycontain("system", "boot").stdout == b""  # once
    there(store)


def test_boot_hands_what_cannot_start_to_the_supervisor(
    store: Store, pycontain: CommandLine
) -> None:
    other = store.create("sleep", "1000", ipc="shareable").id
    store.containers.start(other)
    ref = store.detach(ipc=f"container:{other}", restart=ALWAYS)
    monitors = [store.run_record(one).monitor for one in (ref, other)]
    os.kill(there(store), signal.SIGKILL)
    wait_until(lambda: gone(store))
    for monitor in monitors:
        os.kill(monitor, signal.SIGKILL)
    for one in (ref, other):
        wait_until(lambda one=one: monitor_is_gone(store, one))  # type: ignore[misc]
        pretend_reboot(store, one)
    done = pycontain("system", "boot")
    assert done.returncode == 1, done
    assert b"is not running" in done.stderr
    assert store.state_of(ref) == "restarting"
    store.containers.start(other)
    wait_until(lambda: store.state_of(ref) == "running")


def test_a_stop_is_not_lost_while_a_restart_is_under_way(store: Store) -> None:
    options = RunOptions(
        image="busybox", command=("sh", "-c", "exit 3"), name="loop",
        restart=RestartPolicy(name="always"),
    )  # fmt: skip
    store.containers.create(options)
    for number in range(30):
        store.containers.start("loop")
        time.sleep(number * 0.004)
        store.containers.stop("loop", timeout=0)
        wait_until(lambda: store.state_of("loop") != "created")
        assert store.state_of("loop") == "exited"
