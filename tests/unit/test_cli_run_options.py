"""The flags of ``run`` and ``create`` as RunOptions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.cli.flags import Refused, UsageError, parse
from pycontain.cli.run import CREATE, RUN
from pycontain.cli.run_options import run_options
from pycontain.config import BUILT_IN, Config
from pycontain.engine.handle import run_options as options_of_program
from pycontain.errors import InvalidInput
from pycontain.model.container import (
    Device,
    DeviceRule,
    Mount,
    NetworkChoice,
    Publish,
    RunOptions,
    Ulimit,
)
from pycontain.network import outside

if TYPE_CHECKING:
    from pathlib import Path


NO_NETWORK = Config({"network": "none"})


def options(*words: str) -> RunOptions:
    values, arguments = parse(RUN.flags, words, mixed=RUN.mixed)
    return run_options(values, arguments, NO_NETWORK)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ([], {}),
        (["-it"], {"interactive": True, "tty": True}),
        (["--rm=true", "--init", "--read-only", "--privileged"],
         {"remove": True, "init": True, "read_only": True, "privileged": True}),
        (["--name", "web"], {"name": "web"}),
        (["--name="], {"name": None}),
        (["--entrypoint", "sh -c"], {"entrypoint": ("sh -c",)}),
        (["--entrypoint", ""], {"entrypoint": ()}),
        (["-w", "/srv", "-u", "1:2", "--group-add", "a", "--group-add=b"],
         {"workdir": "/srv", "user": "1:2", "group_add": ("a", "b")}),
        (["-e", "A=1", "-eB=", "-e=C=3"], {"env": ("A=1", "B=", "C=3")}),
        (["-l", "a", "--label=b=c=d"], {"labels": {"a": "", "b": "c=d"}}),
        (["-h", "box"], {"hostname": "box"}),
        (["--add-host", "db:10.0.0.1"], {"add_host": ("db:10.0.0.1",)}),
        (["--dns", "1.1.1.1", "--dns-search", "a.b", "--dns-option", "ndots:2"],
         {"dns": ("1.1.1.1",), "dns_search": ("a.b",), "dns_option": ("ndots:2",)}),
        (["--network", "host"], {"network": "host"}),
        (["--net=container:web"], {"network": "container:web"}),
        (["--network=a", "--net", "b:ip=10.0.0.2", "--network-alias", "x", "--ip6=fd00::2"],
         {"network": "bridge", "networks": (
             NetworkChoice(name="a", ip6="fd00::2", aliases=("x",)),
             NetworkChoice(name="b", ip="10.0.0.2"))}),
        (["--net=bridge", "-p", "8080:80", "-p8080:80", "--publish=53/udp", "-P"],
         {"network": "bridge", "networks": (NetworkChoice(name="bridge"),), "publish_all": True,
          "publish": (Publish(first=8080, last=8080, target=80),
                      Publish(protocol="udp", target=53))}),
        (["--expose", "80-81", "--expose=80/tcp"], {"expose": ("80/tcp", "81/tcp")}),
        (["--pid=host", "--ipc=none", "--uts=host", "--cgroupns=host"],
         {"pid": "host", "ipc": "none", "uts": "host", "cgroupns": "host"}),
        (["--cap-add", "ALL", "--cap-drop", "chown"],
         {"cap_add": ("ALL",), "cap_drop": ("chown",)}),
        (["--security-opt", "no-new-privileges"], {"security_opt": ("no-new-privileges",)}),
        (["--security-opt", "seccomp=unconfined"], {"security_opt": ("seccomp=unconfined",)}),
        (["--device", "/dev/fuse"],
         {"devices": (Device(source="/dev/fuse", target="/dev/fuse"),)}),
        (["--device-cgroup-rule", "c 1:* rw", "--device-cgroup-rule", "a *:* rwm"],
         {"device_cgroup_rules": (DeviceRule(type="c", major=1, access="rw"),
                                  DeviceRule(type="a"))}),
        (["--annotation", "a", "--annotation=b=c=d"], {"annotations": {"a": "", "b": "c=d"}}),
        (["--domainname", "x.org", "--tz", "local"], {"domainname": "x.org", "tz": "local"}),
        (["--ipc", "shareable", "--shm-size", "1m"], {"ipc": "shareable", "shm_size": 1 << 20}),
        (["--ipc=container:web"], {"ipc": "container:web"}),
        (["--pull", "missing", "--platform", "linux"], {}),
        (["--security-opt", "seccomp=builtin"], {"security_opt": ("seccomp=builtin",)}),
        (["--ulimit", "nofile=10:20"], {"ulimits": (Ulimit(name="nofile", soft=10, hard=20),)}),
        (["--sysctl", "net.ipv4.ip_forward=1"], {"sysctls": {"net.ipv4.ip_forward": "1"}}),
        (["--shm-size", "1m"], {"shm_size": 1 << 20}),
        (["--shm-size", "0"], {"shm_size": 64 << 20}),
        (["--stop-signal", "INT", "--stop-timeout", "-1"],
         {"stop_signal": "INT", "stop_timeout": -1}),
        (["--umask", "027", "--timeout", "5"], {"umask": 0o027, "timeout": 5}),
        (["--log-driver", "json-file", "--log-opt", "max-size=1k", "--log-opt", "max-file=2"],
         {"log_driver": "json-file", "log_max_size": 1024, "log_max_files": 2}),
        (["--log-driver", "none"], {"log_driver": "none"}),
        (["--tmpfs", "/run"], {"mounts": (Mount(type="tmpfs", target="/run"),)}),
        (["-v", "/a:/b", "--mount", "type=volume,target=/c"],
         {"mounts": (Mount(type="volume", target="/c"),
                     Mount(type="bind", source="/a", target="/b", make_source=True))}),
    ],
)  # fmt: skip
def test_flags_become_options(words: list[str], fields: dict[str, Any]) -> None:
    assert options(*words, "img") == RunOptions(image="img", **fields)


def test_the_command_is_not_read_for_flags() -> None:
    made = options("-i", "img", "ls", "--rm", "-t")
    assert made == RunOptions(image="img", command=("ls", "--rm", "-t"), interactive=True)


def test_a_name_alone_takes_our_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAIN_TEST", "x y")
    monkeypatch.delenv("PYCONTAIN_ABSENT", raising=False)
    made = options("-e", "PYCONTAIN_TEST", "-e", "PYCONTAIN_ABSENT", "img")
    assert made.env == ("PYCONTAIN_TEST=x y", "PYCONTAIN_ABSENT")


def test_files_of_variables_come_before_variables(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\n\nA=file\nB=file\n")
    made = options("-e", "A=flag", "--env-file", str(tmp_path / "env"), "img")
    assert made.env == ("A=file", "B=file", "A=flag")


def test_labels_of_files_come_before_labels(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("# comment\n\na=file\nb=file\nbare\n")
    (tmp_path / "two").write_text("c=two\nb=two")
    words = ["-l", "a=flag", "--label-file", f"{tmp_path}/one", "--label-file", f"{tmp_path}/two"]
    assert options(*words, "img").labels == {"a": "flag", "b": "two", "bare": "", "c": "two"}


@pytest.mark.parametrize("text", ["=x", "a b=c", "\xff".encode("latin-1"), b"a=\xff"])
def test_a_bad_file_of_labels(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "bad").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refused, match="--label-file") as caught:
        options("--label-file", f"{tmp_path}/bad", "img")
    assert caught.value.code == 125


@pytest.mark.parametrize("known", ["x86_64", "aarch64"])
def test_the_platform_is_this_machines(known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    machine = os.uname_result((*real[:4], known))
    monkeypatch.setattr(os, "uname", lambda: machine)
    go, version, other = {"x86_64": ("amd64", "v1", "arm64"), "aarch64": ("arm64", "v8", "amd64")}[
        known
    ]
    for word in ("linux", f"linux/{go}", f"Linux/{known}", f"linux/{go}/{version}"):
        assert options("--platform", word, "img") == RunOptions(image="img")
    for word in ("", "windows", f"linux/{other}", f"linux/{go}/v9", f"linux/{other}/{version}"):
        with pytest.raises(UsageError, match=f"linux/{go} alone"):
            options("--platform", word, "img")


def test_paths_are_meant_from_our_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = options("-v", "./data:/data", "--security-opt", "seccomp=profile.json", "img")
    assert made.mounts[0].source == os.path.join(tmp_path, "data")
    assert made.security_opt == (f"seccomp={tmp_path}/profile.json",)


@pytest.mark.parametrize(
    "words",
    [
        ["--label", "=x"],
        ["--ulimit", "nofile"],
        ["--ulimit", "nofile=5:3"],
        ["--dns", "x"],
        ["--add-host", "x"],
        ["--sysctl", "vm.swappiness=1"],
        ["--shm-size", "1x"],
        ["--umask", "8"],
        ["--timeout", "-1"],
        ["--stop-timeout", "-2"],
        ["--mount", "type=bind"],
        ["--device", "fuse"],
        ["--detach-keys", "ctrl-1"],
        ["--log-opt", "max-size"],
        ["-e", "=x"],
        ["--annotation", "=x"],
        ["--device-cgroup-rule", "c 1:3"],
        ["--device-cgroup-rule", "d 1:3 r"],
        ["--device-cgroup-rule", "c 1 r"],
        ["--device-cgroup-rule", "c 1:x r"],
        ["--device-cgroup-rule", "c 1:3 x"],
        ["--device-cgroup-rule", "c 4294967296:3 r"],
        ["--device-cgroup-rule", "a 1:3 r"],
        ["--pull", "sometimes"],
        ["-a", "nosuch"],
        ["--preserve-fds", "-1"],
        ["--rm=maybe"],
    ],
)
def test_bad_values_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        options(*words, "img")
    assert caught.value.code == 125


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-w", "relative"], "needs to be an absolute path"),
        (["--network", "a", "--network", "none"], "cannot be combined"),
        (["-p", "80"], "conflicting options: port publishing and the network mode"),
        (["-P", "--net=host"], "conflicting options: port publishing and the network mode"),
        (["--net=container:a", "-p80"],
         "conflicting options: port publishing and the container type network mode"),
        (["--net=container:a", "--expose=80"],
         "conflicting options: port exposing and the container type network mode"),
        (["--ip", "10.0.0.1"], "conflicting options: ip and the network mode"),
        (["--pid", "container:"], "container:"),
        (["--uts", "container:x"], "--uts"),
        (["-v", "_named:/data"], "_named"),
        (["--tmpfs", "relative"], "relative"),
        (["--stop-signal", "NOPE"], "NOPE"),
        (["--log-driver", "syslog"], "log driver syslog not found"),
        (["--log-opt", "mode=x"], "unknown log opt 'mode' for k8s-file log driver"),
        (["--log-driver=none", "--log-opt", "max-file=2"], "unknown log opt 'max-file'"),
        (["--log-opt", "max-file=0"], "max-file"),
        (["--log-opt", "max-size=0"], "max-size"),
        (["--env-file", "/nonexistent/file"], "/nonexistent/file"),
        (["--label-file", "/nonexistent/file"], "/nonexistent/file"),
        (["--uts=host", "--domainname", "x"], "conflicting options: domainname and the UTS mode"),
        (["--link", "db"], "links are not supported"),
        (["--ipc=host", "--shm-size", "1m"], "conflicting options: shm-size and the IPC mode"),
        (["--ipc=container:a", "--shm-size=1m"], "conflicting options: shm-size and the IPC mode"),
        (["--domainname", "a b"], "--domainname 'a b'"),
        (["--uts=host", "-h", "x"], "conflicting options: hostname and the UTS mode"),
        (["--net=container:a", "-h", "x"], "conflicting options: hostname and the network mode"),
        (["--net=container:a", "--dns", "1.1.1.1"], "conflicting options: dns and the network"),
        (["--net=container:a", "--add-host", "a:1.1.1.1"],
         "conflicting options: custom host-to-IP mapping and the network mode"),
    ],
)  # fmt: skip
def test_what_nobody_can_carry_out_is_refused(words: list[str], part: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        options(*words, "img")
    assert part in caught.value.message
    assert not isinstance(caught.value, UsageError)


def test_create_has_the_flags_of_run_but_those_of_the_client() -> None:
    ours = {flag.name for flag in CREATE.flags}
    theirs = {flag.name for flag in RUN.flags}
    assert theirs - ours == {
        "attach", "detach", "detach-keys", "explain", "preserve-fds", "sig-proxy",
    }  # fmt: skip
    assert not ours - theirs


def test_the_configured_network_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = Config({"network": "back", "publish_address": "127.0.0.1"})
    values, arguments = parse(RUN.flags, ["-p", "80", "-p", "[::1]:81:81", "img"], mixed=RUN.mixed)
    found = run_options(values, arguments, settings)
    assert found.networks == (NetworkChoice(name="back"),)
    assert [entry.address for entry in found.publish] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("usable", [False, True])
def test_an_ordinary_users_containers_have_a_network_that_leads_out(
    monkeypatch: pytest.MonkeyPatch, usable: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(outside, "is_usable", lambda: usable)
    values, arguments = parse(RUN.flags, ["img"], mixed=RUN.mixed)
    found = run_options(values, arguments)
    assert found.network == ("bridge" if usable else "none")
    assert bool(found.networks) is usable


def test_roots_have_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    values, arguments = parse(RUN.flags, ["img"], mixed=RUN.mixed)
    found = run_options(values, arguments)
    assert (found.network, found.networks) == ("bridge", (NetworkChoice(name="bridge"),))


# ---- the words of the command line in a program ----


def in_program(**options: Any) -> RunOptions:
    return options_of_program("busybox", (), options, BUILT_IN)


def test_a_program_may_use_the_words_of_the_command_line() -> None:
    asked = in_program(
        network=["one:ip=10.0.0.7", "two"],
        publish=["127.0.0.1:8080:80", Publish(target=53, protocol="udp")],
        mounts="data:/srv:ro",
    )
    assert asked.network == "bridge"
    assert [(one.name, one.ip) for one in asked.networks] == [("one", "10.0.0.7"), ("two", "")]
    assert [(one.address, one.first, one.target) for one in asked.publish] == [
        ("127.0.0.1", 8080, 80), ("", 0, 53),
    ]  # fmt: skip
    assert [(one.type, one.source, one.options) for one in asked.mounts] == [
        ("volume", "data", ("rro",))
    ]
    assert in_program(network="none").networks == ()
    assert in_program(network="container:web").network == "container:web"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"network": ["none", "web"]}, "combined"), ({"network": "a:b=c"}, "invalid field"),
     ({"publish": 8080}, "publish"), ({"publish": "x:y"}, "--publish"), ({"mounts": [3]}, "mounts"),
     ({"mounts": "a:b:c:d"}, "'a:b:c:d'")],
)  # fmt: skip
def test_words_that_a_program_gets_wrong(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        in_program(**options)
    assert reason in str(caught.value)
