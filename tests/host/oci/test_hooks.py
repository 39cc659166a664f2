"""config.md, hooks: where each kind runs, when, with what, and what its failure means."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import cgroups, differs, namespace, spec, wait_until

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
AT_CREATE, AT_START = KINDS[:3], KINDS[3:5]
WHEN = {
    **dict.fromkeys(AT_CREATE, "create"), **dict.fromkeys(AT_START, "start"), "poststop": "delete",
}  # fmt: skip
too_early = differs("poststart hooks are called by create", "runc")
EACH = [pytest.param(kind, marks=too_early) if kind == "poststart" else kind for kind in KINDS]
INSIDE = ("createContainer", "startContainer")


def hook(bundle: Bundle, kind: str, script: str, **more: Any) -> None:
    """Have a shell script called. `$D` is the bundle (for what runs in the container, its root)."""
    where = "/" if kind == "startContainer" else bundle.folder
    text = f"D={shlex.quote(where)}; {script}"
    entry = {"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin"]} | more
    bundle.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)


def report(bundle: Bundle, kind: str, name: str) -> str:
    """What a hook has written to `$D/name`."""
    folder = bundle.rootfs if kind == "startContainer" else bundle.folder
    with open(f"{folder}/{name}") as file:
        return file.read()


def there(bundle: Bundle, kind: str, name: str) -> bool:
    folder = bundle.rootfs if kind == "startContainer" else bundle.folder
    return os.path.exists(f"{folder}/{name}")


def live(bundle: Bundle, until: str = "delete") -> int:
    """Go through the life of the container up to a verb; init's pid."""
    bundle.process["args"] = ["sh", "-c", "echo program >>/order; exec sleep 1000"]
    bundle.create()
    pid = bundle.pid
    if until == "create":
        return pid
    bundle.start()
    wait_until(lambda: os.path.exists(f"{bundle.rootfs}/order"))
    if until == "start":
        return pid
    bundle.kill()
    bundle.ended()
    bundle.delete()
    return pid


# ------------------------------------------------------------------------------ when, in what order


@spec(
    "runtime.md#runtimeLifecycle: prestart hooks are called",
    "runtime.md#runtimeLifecycle: createRuntime hooks are called",
    "runtime.md#runtimeLifecycle: createContainer hooks are called",
    "runtime.md#runtimeLifecycle: startContainer hooks are called",
    "runtime.md#runtimeLifecycle: poststart hooks are called",
    "runtime.md#runtimeLifecycle: poststop hooks are called",
)
@pytest.mark.parametrize("kind", EACH)
def test_each_kind_is_called_with_its_verb(bundle: Bundle, kind: str) -> None:
    hook(bundle, kind, "touch $D/called")
    verbs = ["create", "start", "delete"]
    at = verbs.index(WHEN[kind])
    live(bundle, "create")
    assert there(bundle, kind, "called") == (at == 0)
    bundle.start()
    assert there(bundle, kind, "called") == (at <= 1)
    bundle.kill()
    bundle.ended()
    assert there(bundle, kind, "called") == (at <= 1)
    bundle.delete()
    assert there(bundle, kind, "called")


@pytest.mark.in_vm
@spec(
    "config.md#configHooks: hooks are called in their order",
    "config.md#configHooksPrestart: prestart comes before createRuntime",
    "config.md#configHooksCreateContainer: createContainer comes after createRuntime",
    "config.md#configHooksPrestart: prestart comes with create, before the pivot",
    "config.md#configHooksStartContainer: startContainer comes with start, before the program",
    "config.md#configHooksPoststart: poststart comes after exec, before start returns",
)
@too_early
def test_the_order_of_all_hooks(bundle: Bundle) -> None:
    for kind in reversed(KINDS):
        for number in (1, 2):
            place = "/order" if kind == "startContainer" else f"{bundle.rootfs}/order"
            hook(bundle, kind, f"echo {kind}{number} >>{place}")
    live(bundle, "start")
    with open(f"{bundle.rootfs}/order") as file:
        lines = file.read().split()
    before = [f"{kind}{number}" for kind in KINDS[:4] for number in (1, 2)]
    assert lines[:8] == before
    # The program and the poststart hooks run beside each other; among themselves they have order.
    rest = lines[8:]
    assert [line for line in rest if line != "program"] == ["poststart1", "poststart2"]
    bundle.delete("--force")
    with open(f"{bundle.rootfs}/order") as file:
        assert file.read().split()[-2:] == ["poststop1", "poststop2"]


@too_early
def test_poststart_comes_after_exec(bundle: Bundle) -> None:
    """The pid of the state is already the program's."""
    # It executes another one meanwhile: while exec has no arguments yet, the file is empty.
    hook(
        bundle,
        "poststart",
        "p=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/');"
        " until [ -s $D/r ]; do cat /proc/$p/cmdline >$D/r || exit; done",
    )
    live(bundle, "start")
    assert "program" in report(bundle, "poststart", "r") or "sleep" in report(
        bundle, "poststart", "r"
    )


@spec("config.md#configHooksPoststop: poststop comes after deletion, before delete returns")
def test_poststop_comes_when_all_is_gone(bundle: Bundle) -> None:
    hook(
        bundle,
        "poststop",
        f"ls /sys/fs/cgroup/*/ | grep -c {bundle.id} >$D/r; sleep 0.05; touch $D/d",
    )
    live(bundle)
    assert report(bundle, "poststop", "r") == "0\n"
    assert there(bundle, "poststop", "d")


@pytest.mark.parametrize("how", ["delete", "delete --force", "run"])
def test_poststop_is_called_however_it_ends(bundle: Bundle, how: str) -> None:
    hook(bundle, "poststop", "echo x >>$D/called")
    if how == "run":
        bundle.process["args"] = ["true"]
        bundle.run(ok=True)
    else:
        live(bundle, "start")
        if how == "delete":
            bundle.kill()
            bundle.ended()
        bundle.delete(*how.split()[1:])
    assert report(bundle, "poststop", "called") == "x\n"


# ----------------------------------------------------------------------------------- where they run


@spec(
    "config.md#configHooks: prestart hooks run in the runtime's namespaces",
    "config.md#configHooks: createRuntime hooks run in the runtime's namespaces",
    "config.md#configHooks: poststart hooks run in the runtime's namespaces",
    "config.md#configHooks: poststop hooks run in the runtime's namespaces",
    "config.md#configHooks: prestart paths are the runtime's",
    "config.md#configHooks: createRuntime paths are the runtime's",
    "config.md#configHooks: poststart paths are the runtime's",
    "config.md#configHooks: poststop paths are the runtime's",
)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in INSIDE])
def test_hooks_in_the_runtimes_namespaces(bundle: Bundle, kind: str) -> None:
    script = bundle.make(
        "only-on-the-host", "#!/bin/sh\nD=$1\nls -l /proc/self/ns >$D/r; id -u >$D/u"
    )
    os.chmod(script, 0o755)
    bundle.config["hooks"] = {
        kind: [{"path": script, "args": ["x", bundle.folder], "env": ["PATH=/bin:/usr/bin"]}]
    }
    live(bundle)
    text = report(bundle, kind, "r")
    for name in ("pid", "net", "ipc", "uts", "user", "cgroup"):
        assert namespace("self", name) in text
    assert report(bundle, kind, "u") == "0\n"


@spec(
    "config.md#configHooks: createContainer paths are the runtime's",
    "config.md#configHooks: createContainer hooks run in the container's namespaces",
    "config.md#configHooksCreateContainer: createContainer comes with create, before the pivot",
)
def test_create_container_hooks_run_inside_before_the_pivot(bundle: Bundle) -> None:
    bundle.mounts.append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"})
    script = bundle.make(
        "only-on-the-host",
        "#!/bin/sh\nD=$1\nls -l /proc/self/ns >$D/r\nls / >$D/root\n"
        "grep -c ' '$D/rootfs/mnt' ' /proc/self/mountinfo >$D/mounted; hostname >$D/name",
    )
    os.chmod(script, 0o755)
    bundle.config["hooks"] = {
        "createContainer": [
            {"path": script, "args": ["x", bundle.folder], "env": ["PATH=/bin:/usr/bin"]}
        ]
    }
    pid = live(bundle, "create")
    text = report(bundle, "createContainer", "r")
    for name in ("net", "ipc", "uts", "mnt"):
        assert namespace(pid, name) in text
    assert set(os.listdir("/")) & {"usr", "var"} <= set(
        report(bundle, "createContainer", "root").split()
    )


@differs("it has no such mount point then", "crun")
def test_create_container_hooks_can_change_the_containers_mounts(bundle: Bundle) -> None:
    """What such hooks are there for: the rootfs is still reached by its path on the host."""
    bundle.make("extra/f", "hooked")
    hook(bundle, "createContainer", "mount --bind $D/extra $D/rootfs/mnt")
    bundle.process["args"] = ["cat", "/mnt/f"]
    assert bundle.run(ok=True).stdout == "hooked"
    assert not os.path.exists(f"{bundle.rootfs}/mnt/f")


@spec(
    "config.md#configHooks: startContainer paths are the container's",
    "config.md#configHooks: startContainer hooks run in the container's namespaces",
)
def test_start_container_hooks_run_inside(bundle: Bundle) -> None:
    script = bundle.make(
        "rootfs/opt/hook", "#!/bin/sh\nls -l /proc/self/ns >/r; hostname >>/r; ls / >/root"
    )
    os.chmod(script, 0o755)
    bundle.config["hooks"] = {"startContainer": [{"path": "/opt/hook", "env": ["PATH=/bin"]}]}
    pid = live(bundle, "start")
    text = report(bundle, "startContainer", "r")
    for name in ("pid", "net", "ipc", "uts", "mnt"):
        assert namespace(pid, name) in text
    assert text.endswith("box\n")
    assert "opt" in report(bundle, "startContainer", "root").split()


@spec(
    "config.md#configHooksCreateRuntime: createRuntime comes with create, before the pivot",
)
@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_early_hooks_find_the_containers_network(bundle: Bundle, kind: str) -> None:
    """Docker's network comes this way: by the pid in the state into the container's namespace."""
    read_pid = "p=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')"
    hook(bundle, kind, f"{read_pid}; nsenter -n -t $p ip link add hooked type veth peer name h2")
    assert "hooked" in bundle.out("ip", "link")


# ------------------------------------------------------------------------------ what they are given


@spec(
    "config.md#configHooks: hooks get the state on their standard input",
    "runtime.md#runtimeState: hooks of the runtime see init's pid as the runtime does",
    "runtime.md#runtimeState: hooks in the container see init's pid as the container does",
)
@pytest.mark.parametrize("kind", EACH)
def test_the_state_on_standard_input(bundle: Bundle, kind: str) -> None:
    bundle.config["annotations"] = {"key": "value"}
    hook(bundle, kind, "cat >$D/r")
    pid = live(bundle)
    state = json.loads(report(bundle, kind, "r"))
    assert state["ociVersion"]
    assert (state["id"], state["bundle"]) == (bundle.id, bundle.folder)
    assert state["annotations"] == {"key": "value"}
    statuses = {
        "prestart": ("creating", "created"), "createRuntime": ("creating", "created"),
        "createContainer": ("creating", "created"), "startContainer": ("creating", "created"),
        "poststart": ("running",), "poststop": ("stopped",),
    }  # fmt: skip
    assert state["status"] in statuses[kind]
    if kind in INSIDE:
        assert state["pid"] in (1, pid)
    elif kind == "poststop":
        assert not state.get("pid") or state["pid"] == pid
    else:
        assert state["pid"] == pid


@differs("it tells the host's pid", "runc", "crun")
@spec("runtime.md#runtimeState: hooks in the container see init's pid as the container does")
@pytest.mark.parametrize("kind", INSIDE)
def test_the_pid_that_hooks_inside_are_told(bundle: Bundle, kind: str) -> None:
    hook(bundle, kind, "cat >$D/r")
    live(bundle)
    assert json.loads(report(bundle, kind, "r"))["pid"] == 1


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=differs("it hands its descriptors on", "runc"))
        if kind == "createContainer"
        else kind
        for kind in KINDS
    ],
)
def test_args_and_environment(bundle: Bundle, kind: str) -> None:
    bundle.process["env"].append("OF_THE_PROCESS=1")
    os.environ["OF_THE_CALLER"] = "1"
    try:
        where = "/" if kind == "startContainer" else bundle.folder
        script = f'D={where}; printf "%s|" "$0" "$@" >$D/r; env >$D/env; ls /proc/self/fd >$D/fds'
        hook(
            bundle, kind, "",
            args=["sh", "-c", script, "name", "a b", ""],
            env=["PATH=/bin:/usr/bin", "MINE=x y"],
        )  # fmt: skip
        live(bundle)
    finally:
        del os.environ["OF_THE_CALLER"]
    assert report(bundle, kind, "r") == "name|a b||"
    env = report(bundle, kind, "env").splitlines()
    assert "MINE=x y" in env
    assert not any(line.startswith("OF_THE") for line in env)
    assert set(report(bundle, kind, "fds").split()) <= {"0", "1", "2", "3"}


@differs("its environment is the runtime's then", "crun")
@pytest.mark.parametrize("kind", KINDS)
def test_without_args(bundle: Bundle, kind: str) -> None:
    where = "/" if kind == "startContainer" else bundle.folder
    script = bundle.make(
        "rootfs/opt/h" if kind == "startContainer" else "h", f"#!/bin/sh\necho x >{where}/r\n"
    )
    os.chmod(script, 0o755)
    path = "/opt/h" if kind == "startContainer" else script
    bundle.config["hooks"] = {kind: [{"path": path}]}
    live(bundle)
    assert report(bundle, kind, "r") == "x\n"


def test_a_hook_that_does_not_read_its_input(bundle: Bundle) -> None:
    bundle.config["annotations"] = {"big": "x" * (1 << 20)}
    for kind in KINDS:
        bundle.config.setdefault("hooks", {})[kind] = [{"path": "/bin/true"}]
    live(bundle)


# ----------------------------------------------------------------------------------------- failures


@spec(
    "runtime.md#runtimeLifecycle: a failing prestart hook is an error and ends it",
    "runtime.md#runtimeLifecycle: a failing createRuntime hook is an error and ends it",
    "runtime.md#runtimeLifecycle: a failing createContainer hook is an error and ends it",
)
@pytest.mark.parametrize("kind", AT_CREATE)
@pytest.mark.parametrize("script", ["echo reason >&2; exit 3", "kill -9 $$"])
def test_a_hook_of_create_that_fails(bundle: Bundle, kind: str, script: str) -> None:
    hook(bundle, kind, "touch $D/first")
    hook(bundle, kind, script)
    hook(bundle, kind, "touch $D/third")
    said = bundle.refused()
    if "reason" in script:
        assert "reason" in said, "what the hook said is the user's only hint"
    assert there(bundle, kind, "first")
    assert not there(bundle, kind, "third")
    assert not cgroups(bundle.id)


@spec("runtime.md#runtimeLifecycle: a failing createRuntime hook is an error and ends it")
@differs("poststop is not called", "runc", "crun")
@pytest.mark.parametrize("kind", AT_CREATE)
def test_poststop_follows_a_failed_create(bundle: Bundle, kind: str) -> None:
    """The lifecycle goes on at its step 12: destroy, then poststop."""
    hook(bundle, kind, "exit 1")
    hook(bundle, "poststop", "touch $D/stopped")
    bundle.refused()
    assert there(bundle, "poststop", "stopped")


@spec("runtime.md#runtimeLifecycle: a failing startContainer hook is an error and ends it")
def test_a_start_container_hook_that_fails(bundle: Bundle) -> None:
    hook(bundle, "startContainer", "exit 1")
    bundle.process["args"] = ["touch", "/ran"]
    bundle.create()
    bundle.start(ok=False)
    bundle.ended()
    assert not os.path.exists(f"{bundle.rootfs}/ran")


@spec("runtime.md#runtimeLifecycle: a failing startContainer hook is an error and ends it")
@differs("start returns before the hook", "runc", "crun")
def test_start_tells_of_a_start_container_hook_that_fails(bundle: Bundle) -> None:
    hook(bundle, "startContainer", "echo reason >&2; exit 1")
    bundle.process["args"] = ["touch", "/ran"]
    bundle.create()
    done = bundle.start(ok=False)
    assert done.returncode != 0
    assert "startContainer" in done.stderr


@spec("runtime.md#runtimeLifecycle: a failing poststart hook is an error and ends it")
@too_early
def test_a_poststart_hook_that_fails(bundle: Bundle) -> None:
    hook(bundle, "poststart", "exit 1")
    bundle.create()
    done = bundle.start(ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    bundle.ended()
    assert not bundle.exists() or bundle.status == "stopped"


@spec("runtime.md#runtimeLifecycle: a failing poststop hook is a warning and the rest goes on")
@differs("the rest is not called", "runc")
def test_a_poststop_hook_that_fails(bundle: Bundle) -> None:
    hook(bundle, "poststop", "exit 1")
    hook(bundle, "poststop", "touch $D/second")
    live(bundle)
    assert not bundle.exists()
    assert there(bundle, "poststop", "second")


@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_hook_that_is_not_there(bundle: Bundle, kind: str) -> None:
    bundle.config["hooks"] = {kind: [{"path": "/nonexistent/hook"}]}
    assert "/nonexistent/hook" in bundle.refused()


@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_hook_that_takes_too_long(bundle: Bundle, kind: str) -> None:
    hook(bundle, kind, "exec sleep 1000", timeout=1)
    began = time.monotonic()
    bundle.refused()  # which waits for less than that
    assert time.monotonic() - began > 0.9


@differs("it waits for whoever holds the hook's output", "runc")
def test_the_time_of_a_hook_ends_though_its_children_go_on(bundle: Bundle) -> None:
    hook(bundle, "createRuntime", "sleep 1000 & echo $! >$D/child; wait", timeout=4)
    began = time.monotonic()
    done = bundle.create(ok=False)
    assert done.returncode != 0
    assert time.monotonic() - began > 3.9
    os.kill(int(report(bundle, "createRuntime", "child")), signal.SIGKILL)


def test_a_hook_within_its_time(bundle: Bundle) -> None:
    for kind in KINDS:
        hook(bundle, kind, "touch $D/x", timeout=10)
    live(bundle)


@spec(
    "config.md#configHooks: a hook's path is absolute",
    "config.md#configHooks: a hook's timeout is above zero",
)
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"path": "true"}, marks=differs("it is looked up", "crun")),
        pytest.param({"path": "bin/true"}, marks=differs("it is looked up", "crun")),
        pytest.param(
            {"path": "/bin/true", "timeout": 0}, marks=differs("it is taken", "runc", "crun")
        ),
        pytest.param({"path": "/bin/true", "timeout": -1}, marks=differs("it is taken", "crun")),
        {"path": "/bin/true", "timeout": "5"},
        {"path": "/bin/true", "args": "x"},
        {"path": 5},
        {},
    ],
)
@pytest.mark.parametrize("kind", ["createRuntime", "poststop"])
def test_a_hook_that_cannot_be(bundle: Bundle, kind: str, entry: dict[str, Any]) -> None:
    if kind == "poststop" and isinstance(entry.get("path", ""), str) and "args" not in entry:
        from .bundle import KIND

        if KIND != "ours":
            pytest.skip("found out when it is called")
    bundle.config["hooks"] = {kind: [entry]}
    bundle.refused()


def test_a_background_process_of_a_hook_does_not_hold_it(bundle: Bundle) -> None:
    hook(bundle, "createRuntime", "sleep 1000 >/dev/null 2>&1 & echo $! >$D/child")
    bundle.create()  # which does not wait for so long
    bundle.delete("--force")
    os.kill(int(report(bundle, "createRuntime", "child")), signal.SIGKILL)


def test_unknown_kinds_of_hooks_are_unknown_properties(bundle: Bundle) -> None:
    bundle.config["hooks"] = {"neverHeardOf": [{"path": "/bin/false"}]}
    assert bundle.out("echo", "x") == "x\n"
