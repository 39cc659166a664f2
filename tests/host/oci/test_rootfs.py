"""config.md, root, and config-linux.md: propagation, masked and read-only paths."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from .bundle import bind, differs, mount, spec, table

if TYPE_CHECKING:
    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


# --------------------------------------------------------------------------------------------- root


@spec(
    "config.md#configRoot: there is a root",
    "config.md#configRoot: the root's path is an existing folder",
)
@pytest.mark.parametrize("case", ["missing", "file", "empty", "none", "number", "no root"])
def test_a_root_that_cannot_be(bundle: Bundle, case: str) -> None:
    bundle.make("file", "")
    if case == "no root":
        del bundle.config["root"]
    elif case == "none":
        bundle.config["root"] = {}
    else:
        paths: dict[str, Any] = {"missing": "nothing", "file": "file", "empty": "", "number": 5}
        bundle.config["root"]["path"] = paths[case]
    bundle.refused()


@pytest.mark.parametrize(
    "form", [
        "rootfs", "./rootfs/", "../b/rootfs", "absolute",
        pytest.param("linked", marks=differs("a link is refused", "runc")),
    ],
)  # fmt: skip
def test_how_the_root_is_named(bundle: Bundle, form: str) -> None:
    bundle.make("rootfs/etc/here", "text")
    if form == "linked":
        os.symlink("rootfs", f"{bundle.folder}/linked")
    bundle.config["root"]["path"] = bundle.rootfs if form == "absolute" else form
    assert bundle.out("cat", "/etc/here") == "text"


def test_a_bundle_behind_a_link(bundle: Bundle) -> None:
    bundle.write()
    link = f"{bundle.folder}/link"
    os.symlink(bundle.folder, link)
    assert bundle.call("run", "--bundle", link, bundle.id).returncode == 0


@spec("config.md#configRoot: a read-only root is read-only")
def test_a_read_only_root(bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    script = "touch /x 2>/dev/null || echo root; touch /tmp/x 2>/dev/null || echo tmp; touch /dev/x"
    assert bundle.sh(script) == "root\ntmp\n"
    assert not os.path.exists(f"{bundle.rootfs}/x")


def test_mount_points_are_made_in_a_read_only_root(bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    bundle.mounts.append(mount("tmpfs", "/made/here", "tmpfs"))
    assert bundle.sh("touch /made/here/x; touch /made/y 2>/dev/null || echo ro") == "ro\n"


def test_a_root_that_can_be_written(bundle: Bundle) -> None:
    bundle.sh("echo text >/srv")
    with open(f"{bundle.rootfs}/srv") as file:
        assert file.read() == "text\n"


def test_a_read_only_root_leaves_the_hosts_mount_as_it_is(bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    bundle.up()
    with open(f"{bundle.rootfs}/still", "w"):
        pass


def test_a_root_that_is_a_mount_with_mounts_below(bundle: Bundle) -> None:
    """A manager's root is often an overlay, with more mounted below it."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", f"{bundle.rootfs}/mnt"], check=True)
    try:
        with open(f"{bundle.rootfs}/mnt/f", "w") as file:
            file.write("below")
        subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
        try:
            assert bundle.sh("cat /mnt/f 2>/dev/null; echo .").endswith(".\n")
        finally:
            subprocess.run(["umount", bundle.rootfs], check=True)
        assert bundle.sh("cat /mnt/f") == "below"
    finally:
        subprocess.run(["umount", f"{bundle.rootfs}/mnt"], check=True)


def test_nothing_of_the_host_is_in_the_mount_table(bundle: Bundle) -> None:
    text = bundle.out("cat", "/proc/self/mountinfo")
    points = [each["point"] for each in table(text)]
    assert points[0] == "/"
    assert set(points) <= {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"}


def test_the_old_root_is_gone(bundle: Bundle) -> None:
    bundle.up()
    found = os.listdir(f"/proc/{bundle.pid}/root")
    assert set(found) == set(os.listdir(bundle.rootfs))


@pytest.mark.parametrize("flag", ["--no-pivot"])
def test_without_pivot_root(bundle: Bundle, flag: str) -> None:
    bundle.process["args"] = ["sh", "-c", "ls / | tr '\\n' ' '; pwd"]
    assert bundle.run(flag, ok=True).stdout == " ".join(sorted(os.listdir(bundle.rootfs))) + " /\n"


def test_no_new_keyring(bundle: Bundle) -> None:
    bundle.process["args"] = ["probe", "250", "0", "-3", "0"]  # KEYCTL_GET_KEYRING_ID
    bundle.process["env"].append("VALUE=1")
    own = bundle.run(ok=True).stdout
    kept = bundle.run("--no-new-keyring", ok=True).stdout
    assert own != kept


# -------------------------------------------------------------------------------------- propagation


cannot = differs("it binds the root once more, which the kernel refuses", "runc")


def root_peers(bundle: Bundle) -> str:
    return table(bundle.out("cat", "/proc/self/mountinfo"))[0]["peers"]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("private", ""), ("rprivate", ""),
        pytest.param("unbindable", "unbindable", marks=cannot),
        pytest.param("runbindable", "unbindable", marks=cannot),
    ],
)  # fmt: skip
def test_rootfs_propagation(bundle: Bundle, word: str, shown: str) -> None:
    bundle.linux["rootfsPropagation"] = word
    assert root_peers(bundle) == shown


@differs("the root stays private", "runc")
@pytest.mark.parametrize("word", ["shared", "rshared"])
def test_a_shared_root_is_a_peer_group_of_its_own(bundle: Bundle, word: str) -> None:
    bundle.linux["rootfsPropagation"] = word
    peers = root_peers(bundle)
    assert "shared:" in peers


@pytest.mark.parametrize("word", ["slave", "rslave"])
def test_a_slave_root_sends_nothing(bundle: Bundle, word: str) -> None:
    bundle.linux["rootfsPropagation"] = word
    assert "shared:" not in root_peers(bundle)


def test_the_root_where_nothing_is_said(bundle: Bundle) -> None:
    assert "shared:" not in root_peers(bundle)


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize("word", ["nonsense", 5, "SHARED"])
def test_a_propagation_that_cannot_be(bundle: Bundle, word: object) -> None:
    bundle.linux["rootfsPropagation"] = word
    bundle.refused()


# -------------------------------------------------------------------------------- masked, read-only


@pytest.mark.in_vm
def test_masked_files_and_folders(bundle: Bundle) -> None:
    bundle.make("rootfs/etc/secret", "secret")
    bundle.make("rootfs/etc/dir/secret", "secret")
    bundle.linux["maskedPaths"] = ["/etc/secret", "/etc/dir", "/proc/version", "/proc/irq"]
    script = (
        "cat /etc/secret; ls -A /etc/dir; touch /etc/dir/x 2>/dev/null || echo ro;"
        " cat /proc/version; ls /proc/irq"
    )
    assert bundle.sh(script) == "ro\n"
    assert os.listdir(f"{bundle.rootfs}/etc/dir") == ["secret"]


def test_masked_and_read_only_paths_that_are_not_there(bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/nothing", "/proc/nothing", "/etc/nothing/below"]
    bundle.linux["readonlyPaths"] = ["/nothing", "/proc/nothing"]
    assert bundle.sh("ls -d /nothing 2>/dev/null || echo none") == "none\n"


def test_read_only_paths(bundle: Bundle) -> None:
    bundle.make("rootfs/etc/file", "text")
    bundle.make("rootfs/srv/deep/f", "text")
    bundle.linux["readonlyPaths"] = ["/proc/sys", "/etc/file", "/srv"]
    script = (
        "for f in /proc/sys/kernel/domainname /etc/file /srv/deep/f; do"
        " echo x 2>/dev/null >$f && echo wrote $f; done; cat /etc/file"
    )
    assert bundle.sh(script) == "text"
    with open(f"{bundle.rootfs}/etc/file", "w"):
        pass


def test_a_read_only_path_keeps_its_other_flags(bundle: Bundle) -> None:
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", "nosuid", "nodev", "noexec"))
    bundle.linux["readonlyPaths"] = ["/mnt"]
    found = [m for m in table(bundle.out("cat", "/proc/self/mountinfo")) if m["point"] == "/mnt"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(found[-1]["options"].split(","))


def test_a_path_that_is_both(bundle: Bundle) -> None:
    bundle.make("rootfs/etc/dir/f", "text")
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = ["/etc/dir"]
    assert bundle.sh("ls -A /etc/dir") == ""


def test_masks_cover_what_was_mounted(bundle: Bundle) -> None:
    bundle.make("data/f", "text")
    bundle.mounts.append(bind("data", "/mnt"))
    bundle.linux["maskedPaths"] = ["/mnt/f"]
    assert bundle.sh("cat /mnt/f") == ""
    with open(f"{bundle.folder}/data/f") as file:
        assert file.read() == "text"


def test_masks_hold_for_an_exec(bundle: Bundle) -> None:
    bundle.make("rootfs/etc/secret", "secret")
    bundle.linux["maskedPaths"] = ["/etc/secret"]
    bundle.up()
    assert bundle.exec("cat", "/etc/secret").stdout == ""


@spec(
    "config-linux.md#configLinuxMaskedPaths: masked paths are absolute",
    "config-linux.md#configLinuxReadonlyPaths: read-only paths are absolute",
)
@differs("relative ones are taken from somewhere", "runc", "crun")
@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("path", ["etc", "", "./etc", 5])
def test_a_path_that_is_not_absolute(bundle: Bundle, key: str, path: object) -> None:
    bundle.linux[key] = [path]
    bundle.refused()


def test_many_masked_paths(bundle: Bundle) -> None:
    for number in range(100):
        bundle.make(f"rootfs/m/{number}/f", "secret")
    bundle.linux["maskedPaths"] = [f"/m/{number}" for number in range(100)]
    assert bundle.sh("cat /m/*/f 2>/dev/null | wc -c") == "0\n"
