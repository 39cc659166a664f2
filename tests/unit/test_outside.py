"""What of an ordinary user's networks needs no rights: words, choices, threads."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from pycontain.engine import hostfiles, rootless
from pycontain.errors import KernelError, NotSupported
from pycontain.kernel import netns, userns
from pycontain.model.network import Attachment
from pycontain.network import bridge, outside
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

OWN = "/proc/thread-self/ns/net"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/nothing:{folder}")
    return folder


def install(folder: Path, name: str, mode: int = 0o755) -> str:
    (folder / name).write_text("")
    (folder / name).chmod(mode)
    return str(folder / name)


def test_pasta_comes_before_slirp4netns(programs: Path) -> None:
    assert outside.programs() == []
    slirp = install(programs, "slirp4netns")
    assert outside.programs() == [slirp]
    pasta = install(programs, "pasta")
    assert outside.programs() == [pasta, slirp]


def test_where_neither_is_installed_both_packages_are_named(programs: Path) -> None:
    install(programs, "pasta", 0o644)  # nobody can execute it
    with pytest.raises(NotSupported) as caught:
        outside.check()
    assert caught.value.hint is not None
    assert "passt" in caught.value.hint
    assert "slirp4netns" in caught.value.hint
    assert not outside.is_usable()


def test_a_record_of_another_boot_is_nobodys(tmp_path: Path) -> None:
    state = str(tmp_path)
    assert outside.upstream(state) == ""
    (tmp_path / "outside.json").write_text(
        f'{{"boot": "another", "pid": {os.getpid()}, "start": 1, "namespace": 1}}'
    )
    assert outside.upstream(state) == outside.RESOLVER
    outside.stop(state)  # and this process lives
    assert outside.upstream(state) == ""


def test_servers_on_the_loopback_are_replaced_by_what_leads_there() -> None:
    host = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 192.0.2.7\nsearch example\n"
    text = hostfiles.resolv_conf(host, "", host_network=False, upstream=outside.RESOLVER)
    assert text == f"nameserver {outside.RESOLVER}\nnameserver 192.0.2.7\nsearch example\n"


def test_a_way_out_is_only_for_who_leads_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: Layout) -> int | None:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(rootless, "open_home", look)
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    internal = Attachment(
        network="1", name="lan", device="b", device_index=1, mac="", internal=True
    )
    rootless.reach_out(layout, [internal])
    rootless.reach_out(layout, [])


def test_roots_networks_are_where_it_is(tmp_path: Path) -> None:
    if userns.inside():
        pytest.skip("root's user namespace is the machine's")
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    assert rootless.open_home(layout) is None
    thread = rootless.there(lambda _: threading.get_ident())(layout)
    assert thread == threading.get_ident()
    assert bridge.behind() == []


def test_a_namespace_is_entered_by_a_thread_of_its_own() -> None:
    fd = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert netns.is_current(fd)
        if os.geteuid() != 0:
            with pytest.raises(KernelError, match="enter network namespace"):
                netns.within(fd, lambda: None)
            return
        assert netns.within(fd, threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            netns.within(fd, lambda: 1 // 0)
    finally:
        os.close(fd)


def test_what_is_no_namespace_is_refused() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert not netns.is_current(fd)
        with pytest.raises(KernelError, match="enter network namespace"):
            netns.within(fd, lambda: None)
    finally:
        os.close(fd)


def test_a_killed_holder_is_not_found(tmp_path: Path) -> None:
    assert userns.open_network(str(tmp_path), lambda _: -1) is None
