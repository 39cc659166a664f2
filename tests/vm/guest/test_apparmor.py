"""AppArmor: profiles that are loaded, given to containers and to what ``exec`` starts in them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from harness import CommandLine

from pycontain.errors import PycontainError

from .test_engine_limits import image_cache, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store
    from oci.bundle import Bundle

__all__ = ["image_cache", "store"]
pytestmark = pytest.mark.vm

FORBIDS = "pycontain-test-forbids"
ALLOWS = "pycontain-test-allows"
_PROFILES = f"""\
abi <abi/3.0>,
profile {FORBIDS} flags=(attach_disconnected) {{
  file,
  signal,
  deny /tmp/forbidden w,
}}
profile {ALLOWS} flags=(attach_disconnected) {{
  file,
  signal,
}}
"""
_FOLDER = "/sys/kernel/security"
TRY = (
    "cat /proc/self/attr/current; echo 1 >/tmp/free && echo free;"
    " echo 1 >/tmp/forbidden && echo done"
)


@pytest.fixture(scope="module", autouse=True)
def profiles() -> Iterator[None]:
    """The profiles, loaded; not part of what a test is held against."""
    mounted = os.path.exists(f"{_FOLDER}/apparmor")
    if not mounted:
        subprocess.run(["mount", "-t", "securityfs", "securityfs", _FOLDER], check=True)
    _load("--replace")
    yield
    _load("--remove")
    if not mounted:
        subprocess.run(["umount", _FOLDER], check=True)


def _load(how: str) -> None:
    words = ["apparmor_parser", how, "--skip-cache"]
    done = subprocess.run(words, input=_PROFILES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done


def test_the_kernel_has_it() -> None:
    with open("/sys/module/apparmor/parameters/enabled") as file:
        assert file.read() == "Y\n"


@pytest.mark.parametrize("bound", [True, False])
def test_a_profile_forbids_what_the_rights_would_allow(bundle: Bundle, bound: bool) -> None:
    bundle.process["noNewPrivileges"] = bound
    bundle.process["args"] = ["sh", "-c", TRY]
    bundle.process["apparmorProfile"] = FORBIDS
    done = bundle.run()
    assert done.stdout == f"{FORBIDS} (enforce)\nfree\n"
    assert "/tmp/forbidden: Permission denied" in done.stderr
    assert not os.path.exists(f"{bundle.rootfs}/tmp/forbidden")


def test_no_profile_is_none(bundle: Bundle) -> None:
    assert bundle.sh(TRY) == "unconfined\nfree\ndone\n"


def test_exec(bundle: Bundle) -> None:
    bundle.process["apparmorProfile"] = ALLOWS
    bundle.up()
    assert bundle.exec("cat", "/proc/1/attr/current").stdout == f"{ALLOWS} (enforce)\n"
    # Its own, where nothing else is said.
    assert bundle.exec("sh", "-c", TRY).stdout == f"{ALLOWS} (enforce)\nfree\ndone\n"
    done = bundle.exec("--apparmor", FORBIDS, "--", "sh", "-c", TRY, ok=False)
    assert done.stdout == f"{FORBIDS} (enforce)\nfree\n"
    assert "/tmp/forbidden: Permission denied" in done.stderr
    unknown = bundle.exec("--apparmor", "no-such-profile", "--", "true", ok=False)
    assert unknown.returncode == 255
    assert "no-such-profile" in unknown.stderr
    assert bundle.status == "running"


def test_an_unknown_profile_is_refused_by_its_name(bundle: Bundle) -> None:
    bundle.process["args"] = ["true"]
    bundle.process["apparmorProfile"] = "no-such-profile"
    said = bundle.refused()
    assert "no-such-profile" in said
    assert "profile" in said.replace("no-such-profile", "")


def test_the_engines_containers(store: Store) -> None:
    asked: dict[str, Any] = {"security_opt": (f"apparmor={FORBIDS}",)}
    done = store.run("sh", "-c", TRY, **asked)
    assert done.stdout.decode() == f"{FORBIDS} (enforce)\nfree\n"
    assert b"/tmp/forbidden: Permission denied" in done.stderr
    confined = store.detach("sleep", "1000", **asked)
    inside = store.exec(confined, "cat", "/proc/self/attr/current")
    assert inside.stdout.decode() == f"{FORBIDS} (enforce)\n"
    shown = CommandLine(store)("inspect", "-f", "{{.AppArmorProfile}}", confined)
    assert shown.stdout.decode() == f"{FORBIDS}\n"
    assert "free\ndone" in store.sh(TRY, security_opt=("apparmor=unconfined",))
    with pytest.raises(PycontainError, match="no-such-profile"):
        store.run("true", security_opt=("apparmor=no-such-profile",))
