"""runtime.md: the operations, in which state each is legal, what it leaves and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pace import seconds

from .bundle import (
    QUIET,
    Running,
    cgroups,
    command_line,
    default_config,
    differs,
    environment,
    field,
    reap,
    spec,
    wait_until,
    wait_until_gone,
)

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = pytest.mark.host

TRAP = "trap 'echo got; exit 7' TERM; echo up; while :; do sleep 0.02; done"


# ---------------------------------------------------------------------------------------- the state


@pytest.mark.in_vm
@spec(
    "runtime.md#runtimeScopeContainer: whoever made a container can use every operation on it",
    "runtime.md#runtimeOperations: state, create, start, kill and delete are there",
    "runtime.md#runtimeCreate: create makes a container",
    "runtime.md#runtimeState: status is one of the four, another word only for a new state",
)
def test_the_whole_life(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", TRAP]
    bundle.create()
    assert bundle.status == "created"
    assert bundle.output() == ""
    bundle.start()
    assert bundle.status == "running"
    bundle.until("up")
    bundle.kill("TERM")
    assert bundle.ended() == 7
    assert bundle.output() == "up\ngot\n"
    assert bundle.status == "stopped"
    bundle.delete()
    assert not bundle.exists()
    assert not bundle.kept()


@spec(
    "runtime.md#runtimeState: state has ociVersion, id, status and bundle",
    "runtime.md#runtimeState: state has the pid while created or running",
    "runtime.md#runtimeState: the bundle path is absolute",
    "runtime.md#runtimeState: annotations are in the state",
    "runtime.md#runtimeState: state keeps to the schema",
    "runtime.md#runtimeQueryState: state returns the state",
)
def test_state_tells_everything(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.key": "a \n value", "empty": ""}
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    for status in ("created", "running"):
        state = bundle.state()
        assert state["ociVersion"].count(".") >= 2
        assert state["id"] == bundle.id
        assert state["status"] == status
        assert state["pid"] == bundle.pid
        assert state["bundle"] == bundle.folder
        assert state["annotations"] == {"org.example.key": "a \n value", "empty": ""}
        if status == "created":
            bundle.start()
    bundle.kill()
    bundle.ended()
    state = bundle.state()
    assert (state["id"], state["status"], state["bundle"]) == (bundle.id, "stopped", bundle.folder)
    assert not state.get("pid")


def test_state_has_what_managers_read(bundle: Bundle) -> None:
    """Managers take more from the state than the specification has: rootfs, created and owner."""
    bundle.create()
    state = bundle.state()
    assert state["rootfs"] == bundle.rootfs
    assert state["created"].endswith("Z")
    assert state["created"][:4] == time.strftime("%Y", time.gmtime())


def test_the_bundle_may_be_the_working_folder_or_a_relative_path(bundle: Bundle) -> None:
    bundle.write()
    bundle.leave("create", bundle.id, cwd=bundle.folder)
    assert bundle.state()["bundle"] == bundle.folder
    bundle.delete("--force")
    bundle.leave("create", "-b", "b", bundle.id, cwd=os.path.dirname(bundle.folder))
    assert bundle.state()["bundle"] == bundle.folder


def test_the_root_may_be_a_relative_path(bundle: Bundle) -> None:
    bundle.create()
    bundle.root, root = os.path.relpath(bundle.root, "/"), bundle.root
    assert bundle.call("state", bundle.id, cwd="/").returncode == 0
    bundle.root = root


@spec("runtime.md#runtimeQueryState: state without an id is an error")
@spec("runtime.md#runtimeStart: start without an id is an error")
@spec("runtime.md#runtimeKill: kill without an id is an error")
@spec("runtime.md#runtimeDelete: delete without an id is an error")
@pytest.mark.parametrize(
    "verb", ["state", "start", "kill", "delete", "create", "run", "exec", "pause", "resume", "ps"]
)
def test_a_verb_without_an_id(bundle: Bundle, verb: str) -> None:
    bundle.write()
    done = bundle.call(verb, ok=False, cwd=bundle.folder)
    assert done.returncode != 0
    assert (done.stdout + done.stderr).strip()
    assert not bundle.kept()


@spec(
    "runtime.md#runtimeQueryState: state of no container is an error",
    "runtime.md#runtimeStart: start of what is not created is an error without effect",
)
@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "resume", "ps"])
def test_a_verb_on_no_container(bundle: Bundle, verb: str) -> None:
    done = bundle.call(verb, "nobody", ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()


def test_delete_force_of_no_container_succeeds(bundle: Bundle) -> None:
    """A manager deletes by force what may be gone already."""
    bundle.call("delete", "--force", "nobody")


@pytest.mark.parametrize("verb", ["state", "start", "create", "delete"])
def test_too_many_words_are_refused(bundle: Bundle, verb: str) -> None:
    bundle.write()
    done = bundle.call(verb, bundle.id, "more", ok=False, cwd=bundle.folder)
    assert done.returncode != 0
    assert not bundle.kept()


def test_an_unknown_verb_and_an_unknown_flag_are_refused(bundle: Bundle) -> None:
    assert bundle.call("create", "--no-such-flag", bundle.id, ok=False).returncode != 0
    if bundle.call("features", ok=False).returncode == 0:
        assert bundle.call("no-such-verb", ok=False).returncode != 0


# ------------------------------------------------------------------------------------ create, start


@spec(
    "runtime.md#runtimeLifecycle: create does not run the program",
    "runtime.md#runtimeLifecycle: start runs the program",
    "runtime.md#runtimeCreate: args are not applied before start",
    "runtime.md#runtimeStart: start runs the process as described",
)
def test_the_program_runs_at_start(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo $$ > /mark"]
    bundle.create()
    pid = bundle.pid
    with open(f"/proc/{pid}/cmdline") as file:
        assert "/mark" not in file.read()
    assert not os.path.exists(f"{bundle.rootfs}/mark")
    bundle.start()
    assert bundle.ended() == 0
    with open(f"{bundle.rootfs}/mark") as file:
        assert file.read() == "1\n"


@spec(
    "runtime.md#runtimeLifecycle: the environment is made as config.json says",
    "runtime.md#runtimeCreate: all properties but process are applied by create",
)
def test_create_makes_namespaces_mounts_and_names(bundle: Bundle) -> None:
    bundle.config["hostname"] = "early"
    bundle.mounts.append({"destination": "/mnt/x", "type": "tmpfs", "source": "tmpfs"})
    bundle.create()
    pid = bundle.pid
    for kind in ("pid", "net", "ipc", "uts", "mnt"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert os.path.ismount(f"/proc/{pid}/root/mnt/x")
    with open(f"/proc/{pid}/root/proc/sys/kernel/hostname") as file:
        host = file.read()
    assert host != "early\n", "/proc/sys shows the reader's own namespace"
    named = subprocess.run(
        ["nsenter", "-u", "-t", str(pid), "hostname"], capture_output=True, text=True, check=True
    )
    assert named.stdout == "early\n"


@spec("runtime.md#runtimeLifecycle: a later change of config.json has no effect")
def test_a_change_of_the_configuration_after_create_has_no_effect(bundle: Bundle) -> None:
    bundle.process["args"] = ["echo", "before"]
    bundle.create()
    bundle.process["args"] = ["echo", "after"]
    bundle.config["annotations"] = {"late": "1"}
    bundle.write()
    assert not bundle.state().get("annotations")
    bundle.start()
    bundle.ended()
    assert bundle.output() == "before\n"


def test_the_configuration_may_be_gone_after_create(bundle: Bundle) -> None:
    bundle.process["args"] = ["echo", "on"]
    bundle.create()
    os.unlink(f"{bundle.folder}/config.json")
    bundle.start()
    bundle.ended()
    assert bundle.output() == "on\n"


@spec("runtime.md#runtimeStart: start of what is not created is an error without effect")
def test_start_twice_and_start_of_a_stopped_container(bundle: Bundle) -> None:
    pid = bundle.up_sh("echo once; exec sleep 1000")
    bundle.until("once")
    done = bundle.start(ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert bundle.status == "running"
    bundle.kill()
    reap(pid)
    assert bundle.start(ok=False).returncode != 0
    assert bundle.status == "stopped"
    assert bundle.output() == "once\n"


def test_two_starts_at_once_run_it_once(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo once; exec sleep 1000"]
    bundle.create()
    starts = [
        subprocess.Popen(bundle.argv("start", bundle.id), env=environment(), stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    codes = []
    for each in starts:
        each.communicate(timeout=seconds(20))
        codes.append(each.returncode)
    assert sorted(code == 0 for code in codes) == [False, False, True]
    assert bundle.until("once").count("once") == 1


@spec("runtime.md#runtimeStart: start without a process is an error")
@differs("create refuses it instead", "runc", "crun")
def test_a_container_without_a_process_is_made_and_not_started(bundle: Bundle) -> None:
    del bundle.config["process"]
    bundle.create()
    assert bundle.status == "created"
    done = bundle.start(ok=False)
    assert done.returncode != 0
    assert "process" in done.stderr
    bundle.delete("--force")
    assert not bundle.exists()


@spec("runtime.md#runtimeCreate: an id that is taken is an error and nothing is made")
def test_an_id_that_is_taken(bundle: Bundle) -> None:
    pid = bundle.up()
    other = bundle.another()
    other.id = bundle.id
    done = other.create(ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert other.run().returncode != 0
    assert bundle.state()["bundle"] == bundle.folder
    assert (bundle.status, bundle.pid) == ("running", pid)
    bundle.kill()
    reap(pid)
    assert other.create(ok=False).returncode != 0, "a stopped container has its id"
    bundle.delete()
    other.create()
    assert bundle.state()["bundle"] == other.folder


@spec("runtime.md#runtimeCreate: an id that is taken is an error and nothing is made")
@differs("two may succeed: looking and making are two steps", "runc")
def test_one_of_many_creates_at_once_gets_the_id(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    argv = bundle.argv("create", "--bundle", bundle.folder, bundle.id)
    tries = [subprocess.Popen(argv, env=environment(), **QUIET) for _ in range(5)]
    codes = [each.wait(80) for each in tries]
    assert sorted(code == 0 for code in codes) == [False] * 4 + [True]
    assert bundle.status == "created"
    bundle.start()
    assert bundle.status == "running"
    assert len(bundle.kept()) == 1


@spec("runtime.md#runtimeCreate: an id that is not valid is an error and nothing is made")
@pytest.mark.parametrize(
    "identity",
    ["", ".", "..", "../up", "a/b", "/abs", "a b", "a\nb", "a*", "é", "a:b", "x" * 1025],
)
def test_an_id_that_is_not_valid(bundle: Bundle, identity: str) -> None:
    bundle.write()
    before = os.listdir(os.path.dirname(bundle.folder))
    done = bundle.leave("create", "--bundle", bundle.folder, "--", identity, ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert os.listdir(os.path.dirname(bundle.folder)) == before
    assert not os.path.exists(bundle.root) or not os.listdir(bundle.root)


@pytest.mark.parametrize("form", ["A-b_c.d+e{}", "0{}", "_x{}", "{}-", "{}." + "x" * 150])
def test_an_id_that_is_valid(bundle: Bundle, form: str) -> None:
    bundle.id = form.format(bundle.own)
    bundle.create()
    listed = json.loads(bundle.call("list", "-f", "json").stdout)
    assert [each["id"] for each in listed] == [bundle.id]
    bundle.delete("--force")
    assert not bundle.exists()


@spec("runtime.md#runtimeDelete: delete leaves what create did not make")
def test_an_id_can_be_used_again_and_the_bundle_stays(bundle: Bundle) -> None:
    bundle.make("rootfs/kept", "text")
    for word in ("one", "two"):
        bundle.process["args"] = ["echo", word]
        bundle.create()
        bundle.start()
        bundle.ended()
        bundle.delete()
        assert os.path.exists(f"{bundle.rootfs}/kept")
        assert os.path.exists(f"{bundle.folder}/config.json")
    assert bundle.output() == "one\ntwo\n"


def test_two_containers_of_one_bundle(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    bundle.start()
    first, bundle.id = bundle.id, f"{bundle.id}-b"
    bundle.create()
    bundle.start()
    assert bundle.status == "running"
    bundle.delete("--force")
    bundle.id = first
    assert bundle.status == "running"


# --------------------------------------------------------------------------------------------- kill


@spec("runtime.md#runtimeKill: kill sends the signal to init")
@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "15", "KILL", "9", "SIGUSR1", "10"])
def test_kill_takes_names_and_numbers(bundle: Bundle, name: str) -> None:
    number = int(name) if name.isdecimal() else signal.Signals["SIG" + name.removeprefix("SIG")]
    bundle.namespaces("mount", "ipc", "uts", "network")  # init of a pid namespace is protected
    pid = bundle.up()
    bundle.kill(name)
    assert reap(pid) == -number


def test_kill_sends_term_where_no_signal_is_named(bundle: Bundle) -> None:
    pid = bundle.up_sh(TRAP)
    bundle.until("up")
    bundle.call("kill", bundle.id)
    assert reap(pid) == 7


@pytest.mark.parametrize("name", ["NONSENSE", "SIG", "0x", "-1", "4096", "99", "TERM "])
def test_kill_refuses_what_is_no_signal(bundle: Bundle, name: str) -> None:
    bundle.up()
    done = bundle.call("kill", bundle.id, name, ok=False)
    assert done.returncode != 0
    assert bundle.status == "running"


@spec("runtime.md#runtimeKill: kill sends the signal to init")
def test_kill_reaches_a_created_container(bundle: Bundle) -> None:
    bundle.create()
    bundle.kill("KILL")
    assert bundle.ended() == -9
    assert bundle.status == "stopped"
    assert bundle.start(ok=False).returncode != 0
    bundle.delete()


@spec("runtime.md#runtimeKill: kill of what neither is created nor runs is an error without effect")
def test_kill_of_a_stopped_container(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.create()
    bundle.start()
    bundle.ended()
    done = bundle.kill("TERM", ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert bundle.status == "stopped"


def test_kill_tells_a_manager_that_it_has_stopped(bundle: Bundle) -> None:
    """The shim of containerd looks for these words to know that nobody is left to signal."""
    bundle.process["args"] = ["true"]
    bundle.create()
    bundle.start()
    wait_until(lambda: bundle.status == "stopped")  # a zombie, as nobody has waited for it yet
    said = bundle.kill("TERM", ok=False).stderr
    assert "process already finished" in said or "container not running" in said
    bundle.ended()


PID_USED_ANEW = """
"$@" create --bundle "$BUNDLE" --pid-file "$BUNDLE/pid" "$ID" </dev/null >/dev/null 2>&1 || exit 1
pid=$(cat "$BUNDLE/pid")
"$@" start "$ID" || exit 2
while [ -d /proc/$pid ]; do sleep 0.01; done
echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
sleep 1000 &
[ $! = "$pid" ] || exit 77
"$@" state "$ID"
"$@" kill "$ID" KILL 2>/dev/null && exit 3
"$@" delete --force "$ID" || exit 4
kill -0 "$pid" || exit 5
"""


def test_kill_never_hits_a_pid_used_anew(bundle: Bundle) -> None:
    """In a pid namespace of its own, where the number of a dead init can be given to another."""
    bundle.process["args"] = ["true"]
    bundle.write()
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    done = subprocess.run(
        [*argv, PID_USED_ANEW, "sh", *bundle.argv("x")[:-1]],
        env={**environment(), "BUNDLE": bundle.folder, "ID": bundle.id},
        capture_output=True, text=True, check=False, timeout=seconds(20),
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("something else took the number")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["status"] == "stopped"


def test_kill_all_reaches_every_process(bundle: Bundle) -> None:
    bundle.namespaces("mount", "ipc", "uts", "network")
    pid = bundle.up_sh("setsid sleep 1000 & setsid sleep 1001 & echo up; wait")
    bundle.until("up")
    wait_until(lambda: len(_members(bundle)) == 3)
    members = _members(bundle)
    bundle.kill("KILL", "--all")
    assert reap(pid) == -9
    for member in members - {pid}:
        wait_until_gone(member)


def test_kill_all_works_on_a_stopped_container(bundle: Bundle) -> None:
    """What shares the host's pid namespace may outlive init; managers then kill all."""
    bundle.namespaces("mount", "ipc", "uts", "network")
    pid = bundle.up_sh("setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo up")
    bundle.until("up")
    reap(pid)
    bundle.kill("KILL", "--all")
    wait_until(lambda: not _members(bundle))
    bundle.delete()


def _members(bundle: Bundle) -> set[int]:
    found: set[int] = set()
    for folder in cgroups(bundle.id):
        with open(f"{folder}/cgroup.procs") as file:
            found.update(map(int, file.read().split()))
    return found


def _alive(pid: int) -> bool:
    try:
        return field(pid, "State")[0] not in "ZX"
    except OSError:
        return False


def test_init_of_a_pid_namespace_takes_its_children_with_it(bundle: Bundle) -> None:
    pid = bundle.up_sh("sleep 1000 & sleep 1001 & echo up; wait")
    bundle.until("up")
    members = _members(bundle)
    bundle.kill()
    reap(pid)
    for member in members - {pid}:
        wait_until_gone(member)


# ------------------------------------------------------------------------------------------- delete


@spec("runtime.md#runtimeDelete: delete of what has not stopped is an error without effect")
def test_delete_of_a_running_container_is_refused(bundle: Bundle) -> None:
    bundle.up()
    done = bundle.delete(ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert bundle.status == "running"


@spec("runtime.md#runtimeDelete: delete of what has not stopped is an error without effect")
@differs("delete kills a container that was created only", "runc", "crun")
def test_delete_of_a_created_container_is_refused(bundle: Bundle) -> None:
    bundle.create()
    assert bundle.delete(ok=False).returncode != 0
    assert bundle.status == "created"
    bundle.start()
    assert bundle.ended() == 0


@spec(
    "runtime.md#runtimeLifecycle: delete undoes what create did",
    "runtime.md#runtimeDelete: delete removes what create made",
)
def test_delete_removes_cgroup_and_state(bundle: Bundle) -> None:
    pid = bundle.up()
    assert cgroups(bundle.id)
    bundle.kill()
    reap(pid)
    bundle.delete()
    assert not cgroups(bundle.id)
    assert not bundle.kept()
    assert bundle.delete(ok=False).returncode != 0


@pytest.mark.in_vm
@pytest.mark.parametrize("state", ["created", "running", "stopped", "paused"])
def test_delete_force_works_in_every_state(bundle: Bundle, state: str) -> None:
    bundle.process["args"] = ["sh", "-c", "trap '' TERM; sleep 1000"]
    bundle.create()
    pid = bundle.pid
    if state != "created":
        bundle.start()
    if state == "paused":
        bundle.call("pause", bundle.id)
    if state == "stopped":
        bundle.kill()
        reap(pid)
    bundle.delete("--force")
    assert not bundle.exists()
    assert not _alive(pid)
    assert not cgroups(bundle.id)


def test_delete_force_of_many_processes(bundle: Bundle) -> None:
    bundle.namespaces("mount", "ipc", "uts", "network")
    bundle.up_sh("for i in 1 2 3 4 5 6 7 8; do setsid sleep 1000 & done; echo up; wait")
    bundle.until("up")
    wait_until(lambda: len(_members(bundle)) == 9)
    members = _members(bundle)
    bundle.delete("--force")
    for member in members:
        wait_until_gone(member)


# ---------------------------------------------------------------------------------------------- run


def test_run_returns_the_programs_code_and_removes_the_container(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo out; echo err >&2; exit 42"]
    done = bundle.run()
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")
    assert not bundle.exists()
    assert not cgroups(bundle.id)


def test_run_returns_128_and_the_signal(bundle: Bundle) -> None:
    bundle.namespaces("mount", "ipc", "uts", "network")
    assert bundle.code("kill -TERM $$") == 128 + signal.SIGTERM


def test_run_hands_its_input_on(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "tr a-z A-Z; echo end"]
    assert bundle.run(input="some\ntext\n").stdout == "SOME\nTEXT\nend\n"


def test_run_forwards_signals(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", TRAP]
    bundle.write()
    argv = bundle.argv("run", "--bundle", bundle.folder, bundle.id)
    with Running(argv) as running:
        assert running.line() == "up"
        running.send(signal.SIGTERM)
        assert running.rest() == "got\n"
        assert running.wait() == 7


def test_run_detached_leaves_it_running(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo up; exec sleep 1000"]
    bundle.write()
    place = f"{bundle.folder}/pid"
    bundle.leave("run", "-d", "--bundle", bundle.folder, "--pid-file", place, bundle.id)
    assert bundle.status == "running"
    assert bundle.state()["pid"] == bundle.pid
    bundle.until("up")
    bundle.kill()
    assert bundle.ended() == -9


def test_run_keep_leaves_the_stopped_container(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    if "--keep" not in bundle.call("run", "--help").stdout:
        pytest.skip("this runtime has no --keep")
    bundle.run("--keep", ok=True)
    assert bundle.status == "stopped"
    bundle.delete()


def test_run_of_a_program_that_is_not_there(bundle: Bundle) -> None:
    bundle.process["args"] = ["/bin/nothing"]
    said = bundle.refused("run")
    assert "/bin/nothing" in said
    assert not cgroups(bundle.id)


def test_run_interrupted_while_it_waits_leaves_no_process(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo up; exec sleep 1000"]
    bundle.write()
    argv = bundle.argv("run", "--bundle", bundle.folder, bundle.id)
    with Running(argv) as running:
        assert running.line() == "up"
    bundle.delete("--force")
    assert not bundle.exists()


# -------------------------------------------------------------------------------- errors, accidents


@spec(
    "runtime.md#runtimeErrors: an error leaves everything as it was",
    "runtime.md#runtimeLifecycle: an environment that cannot be made is an error",
    "runtime.md#runtimeCreate: a property that cannot be applied is an error and nothing is made",
)
@pytest.mark.parametrize("case", ["mount", "sysctl", "device", "hook", "rlimit"])
def test_a_failed_create_leaves_nothing(bundle: Bundle, case: str) -> None:
    if case == "mount":
        bundle.mounts.append({"destination": "/x", "type": "no-such-fs", "source": "none"})
    elif case == "sysctl":
        bundle.linux["sysctl"] = {"net.ipv4.no_such_thing": "1"}
    elif case == "device":
        bundle.make("rootfs/file", "text")
        entry = {"path": "/file/below", "type": "c", "major": 1, "minor": 3}
        bundle.linux["devices"] = [entry]
    elif case == "hook":
        bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    else:
        bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5}]
    bundle.refused("run")
    bundle.refused()
    assert not cgroups(bundle.id)
    # The same id is free for a configuration that can be made.
    bundle.config = default_config()
    bundle.create()
    assert bundle.status == "created"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04])
def test_create_killed_in_the_middle_can_be_cleaned_up(bundle: Bundle, delay: float) -> None:
    """Whatever the moment: delete --force succeeds, and then the id is free."""
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    argv = bundle.argv("create", "--bundle", bundle.folder, bundle.id)
    with subprocess.Popen(argv, env=environment(), process_group=0, **QUIET) as creating:
        time.sleep(delay)
        os.kill(creating.pid, signal.SIGKILL)
    bundle.delete("--force")
    assert not bundle.kept()
    assert not bundle.exists()
    bundle.create()
    assert bundle.status == "created"
    bundle.delete("--force")


@differs("a start that was killed leaves init waiting for nobody", "runc")
@pytest.mark.parametrize("delay", [0.0, 0.005, 0.01, 0.02])
def test_start_killed_in_the_middle_leaves_a_state_that_is_told(
    bundle: Bundle, delay: float
) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    argv = bundle.argv("start", bundle.id)
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.DEVNULL) as starting:
        time.sleep(delay)
        starting.kill()
    if bundle.status == "created":
        bundle.start(ok=False)  # what the one before has said may be heard only now
    wait_until(lambda: bundle.status == "running")
    bundle.delete("--force")


@differs("what it waits on is not ours to write", "runc", "crun")
def test_a_start_that_was_killed_after_it_said_so_has_started(bundle: Bundle) -> None:
    bundle.process["args"] = ["sleep", "1000"]
    bundle.create()
    Path(f"{bundle.root}/{bundle.id}/exec.fifo").write_bytes(b"0")
    wait_until(lambda: bundle.status == "running")
    done = bundle.call("start", bundle.id, ok=False)
    assert "cannot be started: it is running" in done.stderr
    bundle.delete("--force")


@differs("delete --force of a damaged state leaves its cgroups", "runc", "crun")
def test_a_damaged_state_is_an_error_and_can_be_forced_away(bundle: Bundle) -> None:
    bundle.create()
    folder = f"{bundle.root}/{bundle.id}"
    for name in os.listdir(folder):
        if os.path.isfile(f"{folder}/{name}"):
            with open(f"{folder}/{name}", "w") as file:
                file.write('{"pid": ')
    done = bundle.call("state", bundle.id, ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    bundle.delete("--force")
    assert not bundle.kept()
    assert not cgroups(bundle.id)
    bundle.create()
    assert bundle.status == "created"


def test_nobody_else_reads_the_state_folder(bundle: Bundle) -> None:
    bundle.create()
    assert os.stat(f"{bundle.root}/{bundle.id}").st_mode & 0o066 == 0


def test_init_has_nothing_of_its_maker(bundle: Bundle) -> None:
    """Neither before nor after start is there a descriptor or a variable of the runtime in it."""
    os.environ["PYCONTAIN_SECRET"] = "x"
    try:
        bundle.up()
    finally:
        del os.environ["PYCONTAIN_SECRET"]
    pid = bundle.pid
    wait_until(lambda: "1000" in command_line(pid))
    with open(f"/proc/{pid}/environ") as file:
        assert "PYCONTAIN_SECRET" not in file.read()
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    assert field(pid, "SigBlk") == "0" * 16
    assert int(field(pid, "SigIgn"), 16) & ~(1 << (signal.SIGPIPE - 1)) == 0


def test_init_is_the_child_of_whoever_reaps(bundle: Bundle) -> None:
    bundle.create()
    assert int(field(bundle.pid, "PPid")) == os.getpid()


def test_a_container_in_the_foreground_can_be_paused_and_deleted(bundle: Bundle) -> None:
    """Whoever waits for it must not keep others from it."""
    bundle.process["args"] = ["sh", "-c", "echo up; exec sleep 1000"]
    bundle.write()
    with Running(bundle.argv("run", "--bundle", bundle.folder, bundle.id)) as running:
        assert running.line() == "up"
        bundle.call("pause", bundle.id)
        assert bundle.status == "paused"
        bundle.call("resume", bundle.id)
        bundle.delete("--force")
        assert running.wait() == 128 + signal.SIGKILL
    assert not bundle.exists()


def test_a_pid_file_that_cannot_be_written_leaves_nothing(bundle: Bundle) -> None:
    assert "nosuch" in bundle.refused("create", "--pid-file", "/nosuch/folder/pid")
