"""hosts, hostname and resolv.conf of a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pycontain.engine import hostfiles
from pycontain.engine.hostfiles import resolv_conf
from pycontain.errors import InvalidInput
from pycontain.model.container import RunOptions
from pycontain.model.network import Attachment
from pycontain.store.layout import ContainerPaths

if TYPE_CHECKING:
    from pathlib import Path


def made(host: str, resolved: str = "", *, host_network: bool = False, **asked: Any) -> str:
    return resolv_conf(host, resolved, host_network=host_network, **asked)


PLAIN = "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.org b.org\noptions ndots:3\n"
HOST = f"# made by hand\n{PLAIN}"
STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
REAL = "nameserver 192.168.1.1\nsearch lan\n"


@pytest.mark.parametrize(
    ("host", "resolved", "asked", "wanted"),
    [
        (HOST, "", {}, PLAIN),
        (STUB, REAL, {}, "nameserver 192.168.1.1\nsearch lan\n"),
        ("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", REAL, {}, "nameserver 9.9.9.9\n"),
        ("nameserver ::1\n", REAL, {}, "nameserver 192.168.1.1\nsearch lan\n"),
        ("nameserver ::1%lo\n", REAL, {}, "nameserver 192.168.1.1\nsearch lan\n"),
        (STUB, "", {}, "search lan\noptions edns0 trust-ad\n"),
        (STUB, "nameserver 127.0.0.1\n", {}, ""),
        (STUB, REAL, {"host_network": True},
         "nameserver 127.0.0.53\nsearch lan\noptions edns0 trust-ad\n"),
        ("", "", {}, ""),
        ("", REAL, {}, ""),
        (HOST, "", {"dns": ["1.1.1.1", "2.2.2.2"]},
         "nameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch a.org b.org\noptions ndots:3\n"),
        (HOST, "", {"search": ["x.org"]},
         "nameserver 10.0.0.1\nnameserver fd00::1\nsearch x.org\noptions ndots:3\n"),
        (HOST, "", {"search": ["."]}, "nameserver 10.0.0.1\nnameserver fd00::1\noptions ndots:3\n"),
        (HOST, "", {"option": ["rotate", "ndots:1"]},
         "nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.org b.org\noptions rotate ndots:1\n"),
        (HOST, "", {"dns": ["127.0.0.1"]},
         "nameserver 127.0.0.1\nsearch a.org b.org\noptions ndots:3\n"),
        # "If more than one instance of these keywords is present, the last instance wins."
        ("search a\nsearch b c\n", "", {}, "search b c\n"),
        ("domain a\n", "", {}, "search a\n"),
        ("search a\ndomain b\n", "", {}, "search b\n"),
        ("options a\noptions b\n", "", {}, "options a b\n"),
        ("\tnameserver\t1.2.3.4 \r\n; nameserver 5.6.7.8\n#nameserver 5.6.7.8\n", "", {},
         "nameserver 1.2.3.4\n"),
        ("nameserver\nnonsense 1\nsortlist 1.2.3.4\n", "", {}, ""),
    ],
)  # fmt: skip
def test_resolv_conf(host: str, resolved: str, asked: dict[str, Any], wanted: str) -> None:
    assert made(host, resolved, **asked) == wanted


@given(st.text(alphabet="nameserver search127.01:#;% \t\nx"), st.booleans())
def test_any_text_gives_lines_that_a_resolver_knows(text: str, host_network: bool) -> None:
    for line in made(text, text, host_network=host_network).splitlines():
        word, _, rest = line.partition(" ")
        assert word in ("nameserver", "search", "options")
        assert rest.strip()


def test_the_result_is_a_fixed_point() -> None:
    for host in (HOST, STUB, REAL):
        once = made(host, REAL)
        assert made(once, REAL) == once


@pytest.fixture
def paths(tmp_path: Path) -> ContainerPaths:
    return ContainerPaths(str(tmp_path), str(tmp_path), str(tmp_path / "lock"))


def written(paths: ContainerPaths, **asked: Any) -> tuple[str, str, str]:
    hostfiles.write(paths, RunOptions(image="x", **asked), "box")
    texts = []
    for path in (paths.hosts, paths.hostname, paths.resolv_conf):
        with open(path) as file:
            texts.append(file.read())
    return texts[0], texts[1], texts[2]


def test_the_files(paths: ContainerPaths) -> None:
    hosts, hostname, _ = written(paths, add_host=("one:10.0.0.1", "two=10.0.0.2", "six:[fd00::1]"))
    lines = [line.split() for line in hosts.splitlines()]
    assert lines[0] == ["127.0.0.1", "localhost"]
    assert lines[1][0] == "::1"
    assert "localhost" in lines[1]
    assert lines[-3:] == [["10.0.0.1", "one"], ["10.0.0.2", "two"], ["fd00::1", "six"]]
    assert hostname == "box\n"


WEB = Attachment(
    network="a" * 64, name="web", device="pyc", device_index=1, mac="", gateways=("10.1.0.1",),
    addresses=("10.1.0.2/24",), dns=("10.1.0.254",),
)  # fmt: skip
LONE = Attachment(network="b" * 64, name="lone", device="pyc", device_index=1, mac="")


def of_networks(paths: ContainerPaths, *places: Attachment, **asked: Any) -> tuple[str, str]:
    hostfiles.write(paths, RunOptions(image="x", **asked), "box", places)
    with open(paths.hosts) as hosts, open(paths.resolv_conf) as conf:
        return hosts.read(), conf.read()


def test_the_host_and_the_container_have_names(paths: ContainerPaths) -> None:
    hosts, _ = of_networks(paths, LONE, WEB, add_host=("me:host-gateway",))
    lines = hosts.splitlines()
    assert "10.1.0.1\tme" in lines
    assert "10.1.0.1\thost.containers.internal host.docker.internal" in lines
    assert "10.1.0.2\tbox" in lines
    with pytest.raises(InvalidInput, match="no gateway"):
        of_networks(paths, LONE, add_host=("me:host-gateway",))


def test_a_network_has_its_own_resolver(paths: ContainerPaths) -> None:
    _, conf = of_networks(paths, LONE, WEB, dns=("192.0.2.1",), dns_search=("a.org",))
    assert "nameserver 10.1.0.254\nsearch a.org\n" in conf
    assert "192.0.2.1" not in conf
    assert "ndots:0" in conf
    _, conf = of_networks(paths, WEB, dns_option=("ndots:2",))
    assert conf.endswith("options ndots:2\n")
    _, conf = of_networks(paths, LONE, dns=("192.0.2.1",))
    assert "nameserver 192.0.2.1\n" in conf


def test_files_change_with_the_networks(paths: ContainerPaths) -> None:
    of_networks(paths, LONE)
    with open(paths.hosts, "a") as file:
        file.write("10.9.9.9\tmine\n")
    inode = os.stat(paths.hosts).st_ino
    options = RunOptions(image="x")
    hostfiles.change(paths, options, "box", [LONE], [LONE, WEB])
    with open(paths.hosts) as hosts, open(paths.resolv_conf) as conf:
        added = "10.1.0.1\thost.containers.internal host.docker.internal\n10.1.0.2\tbox\n"
        assert hosts.read().endswith(f"10.9.9.9\tmine\n{added}")
        assert "nameserver 10.1.0.254\n" in conf.read()
    # what is mounted is the file, not its name
    assert os.stat(paths.hosts).st_ino == inode
    with open(paths.resolv_conf, "w") as file:
        file.write("nameserver 192.0.2.7\n")  # the container's own
    hostfiles.change(paths, options, "box", [LONE, WEB], [LONE])
    with open(paths.hosts) as hosts, open(paths.resolv_conf) as conf:
        assert hosts.read().endswith("10.9.9.9\tmine\n")
        assert conf.read() == "nameserver 192.0.2.7\n"


def test_the_host_is_found_after_the_way_to_it_has_changed(paths: ContainerPaths) -> None:
    other = replace(WEB, network="c" * 64, gateways=("10.2.0.1",), addresses=("10.2.0.2/24",))
    asked = ("me:host-gateway", "one:10.1.0.1")
    of_networks(paths, WEB, add_host=asked)
    options = RunOptions(image="x", add_host=asked)
    hostfiles.change(paths, options, "box", [WEB], [other])
    with open(paths.hosts) as file:
        hosts = file.read()
    assert "10.2.0.1\tme\n10.2.0.1\thost.containers.internal host.docker.internal\n" in hosts
    assert hosts.count("10.1.0.1") == 1  # what the user said of it stays
    assert "10.1.0.1\tone\n" in hosts


def test_an_ordinary_users_host_stays_where_it_is(paths: ContainerPaths) -> None:
    mine = replace(WEB, upstream="169.254.71.3")
    options = RunOptions(image="x")
    hostfiles.write(paths, options, "box", [mine], "192.0.2.1")
    hostfiles.change(paths, options, "box", [mine], [LONE])
    with open(paths.hosts) as file:
        assert "192.0.2.1\thost.containers.internal host.docker.internal\n" in file.read()


def test_anybody_in_the_container_may_read_them(paths: ContainerPaths) -> None:
    before = os.umask(0o077)
    try:
        written(paths)
    finally:
        os.umask(before)
    for path in (paths.hosts, paths.hostname, paths.resolv_conf):
        assert os.stat(path).st_mode & 0o777 == 0o644


def test_with_the_hosts_network_the_hosts_names(paths: ContainerPaths) -> None:
    with open("/etc/hosts") as file:
        ours = file.read()
    hosts, _, _ = written(paths, network="host", add_host=("x:1.2.3.4",))
    assert hosts == ours + "1.2.3.4\tx\n" or hosts == f"{ours}\n1.2.3.4\tx\n"


def test_a_host_file_without_a_last_newline(
    paths: ContainerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostfiles, "_read", lambda _: "127.0.0.1 localhost")
    hosts, _, _ = written(paths, network="host", add_host=("x:1.2.3.4",))
    assert hosts == "127.0.0.1 localhost\n1.2.3.4\tx\n"
