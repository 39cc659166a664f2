"""ps, list, pause, resume, events, update, spec, features, and the flags of all verbs."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from .bundle import (
    FOREVER,
    Running,
    cgroups,
    command_line,
    differs,
    field,
    older,
    reap,
    through_three,
    wait_until,
)

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


@pytest.fixture
def box(bundle: Bundle) -> Bundle:
    """A container that runs."""
    bundle.up()
    return bundle


# ----------------------------------------------------------------------------------------- ps, list


def test_ps_lists_pids_as_json(box: Bundle) -> None:
    box.leave("exec", "-d", "--pid-file", f"{box.folder}/e", box.id, "sleep", "1001")
    with open(f"{box.folder}/e") as file:
        other = int(file.read())
    pids = json.loads(box.call("ps", "--format", "json", box.id).stdout)
    assert sorted(pids) == sorted([box.pid, other])


def test_ps_shows_a_table(box: Bundle) -> None:
    lines = box.call("ps", box.id).stdout.splitlines()
    assert "PID" in lines[0].split()
    assert len(lines) == 2
    assert str(box.pid) in lines[1].split()
    assert " ".join(FOREVER) in lines[1]


def test_ps_takes_the_options_of_ps(box: Bundle) -> None:
    lines = box.call("ps", box.id, "-o", "pid,comm").stdout.splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert lines[1].split() == [str(box.pid), "sleep"]


def test_ps_of_a_stopped_container(box: Bundle) -> None:
    box.kill()
    box.ended()
    done = box.call("ps", "--format", "json", box.id, ok=False)
    assert done.returncode != 0 or json.loads(done.stdout) in ([], None)


def test_list(bundle: Bundle) -> None:
    assert bundle.call("list", "-q").stdout == ""
    bundle.up()
    other = bundle.another()
    other.config["annotations"] = {"key": "value"}
    other.create()
    entries = {
        each["id"]: each for each in json.loads(bundle.call("list", "--format", "json").stdout)
    }
    assert set(entries) == {bundle.id, other.id}
    first, second = entries[bundle.id], entries[other.id]
    assert (first["status"], second["status"]) == ("running", "created")
    assert (first["pid"], first["bundle"]) == (bundle.pid, bundle.folder)
    assert first["rootfs"] == bundle.rootfs
    assert second["annotations"] == {"key": "value"}
    assert first["owner"] == "root"
    assert first["created"].endswith("Z")
    assert set(bundle.call("list", "--quiet").stdout.split()) == {bundle.id, other.id}
    lines = bundle.call("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    row = next(line for line in lines if line.startswith(f"{bundle.id} "))
    assert row.split()[1:4] == [str(bundle.pid), "running", bundle.folder]


def test_an_empty_list_as_json(bundle: Bundle) -> None:
    assert json.loads(bundle.call("list", "-f", "json").stdout or "null") in (None, [])


def test_list_leaves_out_what_is_no_container(box: Bundle) -> None:
    os.mkdir(f"{box.root}/not-one")
    try:
        done = box.call("list", "-q", ok=False)
        assert box.id in done.stdout
    finally:
        os.rmdir(f"{box.root}/not-one")


@pytest.mark.parametrize("verb", ["list", "ps"])
def test_a_format_that_is_none(box: Bundle, verb: str) -> None:
    args = [box.id] if verb == "ps" else []
    assert box.call(verb, "--format", "yaml", *args, ok=False).returncode != 0


# ------------------------------------------------------------------------------------ pause, resume


@pytest.mark.in_vm
def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.up_sh("while :; do echo x; sleep 0.01; done")
    bundle.until("x")
    bundle.call("pause", bundle.id)
    assert bundle.status == "paused"
    size = len(bundle.output())
    time.sleep(0.06)
    assert len(bundle.output()) == size
    bundle.call("resume", bundle.id)
    assert bundle.status == "running"
    wait_until(lambda: len(bundle.output()) > size)


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_pause_and_resume_of_what_has_stopped(box: Bundle, verb: str) -> None:
    box.kill()
    box.ended()
    assert box.call(verb, box.id, ok=False).returncode != 0


@differs("it succeeds", "crun")
def test_resume_of_what_is_not_paused(box: Bundle) -> None:
    assert box.call("resume", box.id, ok=False).returncode != 0
    assert box.status == "running"


def test_kill_of_a_paused_container(box: Bundle) -> None:
    """The signal is delivered at the latest when it is resumed; KILL at once where cgroup2 can."""
    box.call("pause", box.id)
    box.kill()
    if box.status == "paused":
        box.call("resume", box.id, ok=False)  # it may end meanwhile
    assert box.ended() == -9


# ------------------------------------------------------------------------------------------- events


def test_stats(box: Bundle) -> None:
    done = box.call("events", "--stats", box.id)
    event = json.loads(done.stdout)
    assert (event["type"], event["id"]) == ("stats", box.id)
    data = event["data"]
    assert {"cpu", "memory", "pids"} <= set(data)
    assert data["cpu"]["usage"]["total"] > 0


def test_stats_of_a_stopped_container(box: Bundle) -> None:
    box.kill()
    box.ended()
    assert box.call("events", "--stats", box.id, ok=False).returncode != 0


def test_events_come_at_their_interval(box: Bundle) -> None:
    argv = box.argv("events", "--interval", "100ms", box.id)
    with Running(argv) as running:
        for _ in range(2):
            assert json.loads(running.line())["type"] == "stats"


def test_events_end_with_the_container(box: Bundle) -> None:
    argv = box.argv("events", "--interval", "100ms", box.id)
    with Running(argv) as running:
        running.line()
        box.kill()
        box.ended()
        box.delete()
        running.wait()


# ------------------------------------------------------------------------------------------- update


def test_update_with_nothing(box: Bundle) -> None:
    box.call("update", "-r", "-", box.id, input="{}")
    box.call("update", "--resources", box.make("r.json", "{}"), box.id)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"memory": 5}', '{"pids": {"limit": "x"}}'])
def test_update_with_what_is_no_resources(box: Bundle, text: str) -> None:
    done = box.call("update", "-r", "-", box.id, input=text, ok=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "value"), [("--memory", "many"), ("--pids-limit", "x"), ("--cpu-quota", "1.5")]
)
def test_update_with_a_value_that_cannot_be(box: Bundle, flag: str, value: str) -> None:
    assert box.call("update", flag, value, box.id, ok=False).returncode != 0


def test_update_of_what_has_stopped(box: Bundle) -> None:
    box.kill()
    box.ended()
    done = box.call("update", "--pids-limit", "20", box.id, ok=False)
    assert done.returncode != 0


# ----------------------------------------------------------------------------------- spec, features


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_writes_a_configuration_that_works(bundle: Bundle, rootless: bool) -> None:
    bundle.call("spec", *(["--rootless"] if rootless else []), cwd=bundle.folder)
    with open(f"{bundle.folder}/config.json") as file:
        made = json.load(file)
    assert made["ociVersion"].startswith("1.")
    assert made["process"]["args"] == ["sh"]
    assert made["root"]["path"] == "rootfs"
    assert ("user" in [each["type"] for each in made["linux"]["namespaces"]]) == rootless
    if not rootless:
        made["process"] |= {"terminal": False, "args": ["/bin/echo", "x"], "rlimits": []}
        made["root"]["readonly"] = False
        bundle.config = made
        assert bundle.run(ok=True).stdout == "x\n"


def test_spec_does_not_overwrite(bundle: Bundle) -> None:
    bundle.write()
    done = bundle.call("spec", "--bundle", bundle.folder, ok=False)
    assert done.returncode != 0
    with open(f"{bundle.folder}/config.json") as file:
        assert json.load(file) == bundle.config


@older("it has no features", crun="1.9")
def test_features(bundle: Bundle) -> None:
    """features.md: what is said there is held against what the runtime does."""
    said = json.loads(bundle.call("features").stdout)
    assert said["ociVersionMin"].startswith("1.0.0")
    assert re.match(r"1\.\d+\.\d+", said["ociVersionMax"])
    assert set(said["hooks"]) == {
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
    }  # fmt: skip
    assert {"ro", "rw", "bind", "rbind", "nosuid", "rshared", "tmpcopyup"} <= set(
        said["mountOptions"]
    )
    linux = said["linux"]
    assert {"mount", "pid", "network", "ipc", "uts", "user", "cgroup"} <= set(linux["namespaces"])
    assert {"CAP_KILL", "CAP_SYS_ADMIN"} <= set(linux["capabilities"])
    assert linux["cgroup"]["v2"] is True
    assert "SCMP_ACT_NOTIFY" in linux["seccomp"]["actions"]
    assert "SCMP_ARCH_X86_64" in linux["seccomp"]["archs"]
    assert "SCMP_CMP_MASKED_EQ" in linux["seccomp"]["operators"]


@older("it has no features", crun="1.9")
def test_every_mount_option_that_is_told_works(bundle: Bundle) -> None:
    """The whole list at once, each on a bind of its own (recursive ones on an rbind)."""
    said = json.loads(bundle.call("features").stdout)["mountOptions"]
    special = {"remount", "tmpcopyup", "idmap", "ridmap", "mand", "nomand"}
    bundle.make("data")
    for number, word in enumerate(sorted(set(said) - special)):
        options = [word] if word in ("bind", "rbind") else ["rbind", word]
        bundle.mounts.append(
            {"destination": f"/mnt/{number}", "type": "none", "source": "data", "options": options}
        )
    from .bundle import KIND

    if KIND != "ours":
        bundle.mounts = bundle.mounts[:10]
    assert bundle.out("echo", "x") == "x\n"


@older("it has no features", crun="1.9", runc="1.2")
def test_features_tell_of_extensions(bundle: Bundle) -> None:
    linux = json.loads(bundle.call("features").stdout)["linux"]
    assert linux["mountExtensions"]["idmap"]["enabled"] is True
    assert isinstance(linux["apparmor"]["enabled"], bool)
    assert isinstance(linux["selinux"]["enabled"], bool)
    assert isinstance(linux["intelRdt"]["enabled"], bool)


def test_version_and_help(bundle: Bundle) -> None:
    done = bundle.call("--version")
    assert re.search(r"version \S+", done.stdout)
    assert re.search(r"spec: \S+", done.stdout)
    assert "create" in bundle.call("--help").stdout
    assert "--bundle" in bundle.call("create", "--help").stdout


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_checkpoint_and_restore_of_nothing(bundle: Bundle, verb: str) -> None:
    bundle.write()
    done = bundle.call(verb, bundle.id, ok=False, cwd=bundle.folder)
    assert done.returncode != 0
    assert done.stderr.strip()


# ---------------------------------------------------------------------------------- flags of create


def test_pid_file(bundle: Bundle) -> None:
    place = f"{bundle.folder}/the.pid"
    bundle.create("--pid-file", place)
    with open(place) as file:
        text = file.read()
    assert text == str(bundle.state()["pid"])
    assert os.listdir(bundle.folder).count("the.pid") == 1


def test_a_relative_pid_file(bundle: Bundle) -> None:
    bundle.create("--pid-file", "rel.pid", cwd=bundle.folder)
    assert os.path.exists(f"{bundle.folder}/rel.pid")


def test_a_pid_file_that_cannot_be_written(bundle: Bundle) -> None:
    bundle.refused("create", "--pid-file", "/nonexistent/folder/pid")


@older("it knows no such flag", runc="1.2", crun="1.20")
@pytest.mark.parametrize("verb", ["create", "exec"])
def test_pidfd_socket(bundle: Bundle, verb: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        place = f"{bundle.short}/pidfd"
        server.bind(place)
        server.listen(1)
        server.settimeout(60)
        if verb == "create":
            bundle.create("--pidfd-socket", place)
            pid = bundle.pid
        else:
            bundle.up()
            pid_file = f"{bundle.folder}/e"
            bundle.leave(
                *("exec", "-d", "--pidfd-socket", place, "--pid-file", pid_file),
                *(bundle.id, "sleep", "1001"),
            )
            with open(pid_file) as file:
                pid = int(file.read())
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
        with open(f"/proc/self/fdinfo/{fds[0]}") as file:
            assert f"Pid:\t{pid}\n" in file.read()
        signal.pidfd_send_signal(fds[0], signal.SIGKILL)
        os.close(fds[0])
        assert reap(pid) == -9


def test_preserve_fds(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "echo three >&3; ls /proc/$$/fd | tr '\\n' ' ' >&3"]
    bundle.write()
    argv = bundle.argv("run", "--bundle", bundle.folder, "--preserve-fds", "1", bundle.id)
    assert through_three(argv).startswith("three\n0 1 2 3 ")


def test_sockets_of_a_manager_are_handed_on(bundle: Bundle) -> None:
    """sd_listen_fds(3): LISTEN_FDS descriptors from 3 on, LISTEN_PID is the program's own."""
    bundle.process["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID >&3"]
    bundle.write()
    argv = bundle.argv("run", "--bundle", bundle.folder, bundle.id)
    assert through_three(argv, "export LISTEN_FDS=1 LISTEN_PID=$$") == "1 1\n"


@differs("it is not looked at", "crun")
def test_more_preserved_descriptors_than_there_are(bundle: Bundle) -> None:
    bundle.refused("create", "--preserve-fds", "50")


# ------------------------------------------------------------------------------ the log, the errors


def failing(bundle: Bundle) -> None:
    bundle.mounts.append({"destination": "/mnt", "type": "no-such-fs", "source": "none"})
    bundle.write()


def test_errors_in_the_log_as_json(bundle: Bundle) -> None:
    """Both containerd and docker read the last error of that file for their user."""
    failing(bundle)
    place = f"{bundle.folder}/log.json"
    before = ["--log", place, "--log-format", "json"]
    done = bundle.call("create", "--bundle", bundle.folder, bundle.id, before=before, ok=False)
    assert done.returncode != 0
    with open(place) as file:
        entries = [json.loads(line) for line in file]
    last = entries[-1]
    assert last["level"] == "error"
    assert "/mnt" in last["msg"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", last["time"])


def test_errors_in_the_log_as_text(bundle: Bundle) -> None:
    failing(bundle)
    place = f"{bundle.folder}/log.txt"
    done = bundle.call(
        "create", "--bundle", bundle.folder, bundle.id, before=["--log", place], ok=False
    )
    assert done.returncode != 0
    with open(place) as file:
        text = file.read()
    assert "level=error" in text
    assert "/mnt" in text


def test_the_log_is_appended_to(bundle: Bundle) -> None:
    place = bundle.make("log.txt", "before\n")
    failing(bundle)
    bundle.call("create", "--bundle", bundle.folder, bundle.id, before=["--log", place], ok=False)
    with open(place) as file:
        assert file.read().startswith("before\n")


def test_a_log_format_that_is_none(bundle: Bundle) -> None:
    bundle.write()
    args = ("create", "--bundle", bundle.folder, bundle.id)
    done = bundle.leave(*args, before=["--log-format", "xml"], ok=False)
    assert done.returncode != 0
    assert not bundle.kept()


def test_debug_says_more(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.write()
    place = f"{bundle.folder}/log.txt"
    args = ("run", "--bundle", bundle.folder, bundle.id)
    bundle.call(*args, before=["--log", place])
    assert not os.path.exists(place) or os.path.getsize(place) == 0
    bundle.call(*args, before=["--debug", "--log", place])
    with open(place) as file:
        assert "debug" in file.read()


@pytest.mark.parametrize("word", ["true", "false", "auto"])
def test_the_rootless_flag(bundle: Bundle, word: str) -> None:
    if word == "true":
        pytest.skip("for an ordinary user")
    bundle.process["args"] = ["echo", "x"]
    bundle.write()
    done = bundle.call("run", "--bundle", bundle.folder, bundle.id, before=["--rootless", word])
    assert done.stdout == "x\n"


def test_the_systemd_driver_without_systemd(bundle: Bundle) -> None:
    if os.path.exists("/run/systemd/system"):
        pytest.skip("the host has systemd")
    bundle.process["args"] = ["true"]
    bundle.write()
    done = bundle.call(
        *("run", "--bundle", bundle.folder, bundle.id), before=["--systemd-cgroup"], ok=False
    )
    assert done.returncode != 0
    assert "systemd" in done.stderr
    assert not bundle.kept()
    assert not cgroups(bundle.id)


def test_flags_with_an_equals_sign_and_one_dash(bundle: Bundle) -> None:
    """Managers write flags in all of these ways."""
    bundle.write()
    for flag in (f"--bundle={bundle.folder}", f"-b={bundle.folder}", f"-bundle={bundle.folder}"):
        bundle.leave("create", flag, bundle.id)
        bundle.delete("--force")


def test_flags_after_the_id(bundle: Bundle) -> None:
    """As with runc they are taken there too, where no command of the user follows."""
    bundle.process["args"] = ["sleep", "1000"]
    bundle.write()
    bundle.leave("create", bundle.id, "--bundle", bundle.folder)
    bundle.start()
    bundle.call("kill", bundle.id, "KILL", "--all")
    wait_until(lambda: bundle.status == "stopped")
    bundle.call("delete", bundle.id, "--force")
    assert not bundle.exists()


def test_nobody_else_may_talk_to_init(box: Bundle) -> None:
    """No socket, pipe or anything else of the runtime is left in the container."""
    wait_until(lambda: "1000" in command_line(box.pid))
    assert sorted(os.listdir(f"/proc/{box.pid}/fd")) == ["0", "1", "2"]
    assert field(box.pid, "TracerPid") == "0"


def test_the_installed_script() -> None:
    """What the others start is a launcher of their own (tests/host/launcher.py)."""
    script = os.path.join(os.path.dirname(sys.executable), "pycontain-runtime")
    if not os.path.exists(script):
        pytest.skip("pycontain is not installed beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pycontain-runtime version ")
