"""What goes another way on the oldest kernel that will do, 6.1, and what is refused there.

Each test names the release from which on it would be otherwise.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from oci.bundle import bind, idmap, mount
from ordinary import ordinary_user

from pycontain.kernel.release import OLDEST, release

if TYPE_CHECKING:
    from oci.bundle import Bundle

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(release() >= (6, 5), reason="this machine's kernel is newer"),
]


def test_it_is_the_oldest() -> None:
    assert release() == OLDEST


MAPS = [idmap(1000, 5000, 10)]


def test_owners_are_mapped_where_the_file_system_can(bundle: Bundle, place: str) -> None:
    """ext4 since 5.12."""
    os.chmod(place, 0o755)  # its owner is nobody in there
    with open(f"{place}/f", "w"):
        os.chown(f"{place}/f", 1000, 1000)
    bundle.mounts.append(bind(place, "/mnt", "idmap", uidMappings=MAPS, gidMappings=MAPS))
    assert bundle.sh("stat -c %u:%g /mnt/f") == "5000:5000\n"


def test_owners_of_a_tmpfs_are_not_mapped(bundle: Bundle) -> None:
    """Since 6.3."""
    bundle.mounts.append(
        bind(bundle.make("data"), "/mnt", "idmap", uidMappings=MAPS, gidMappings=MAPS)
    )
    said = bundle.refused()
    assert f"map the owners of: {bundle.folder}/data: invalid argument" in said
    assert "tmpfs since Linux 6.3" in said


def test_an_option_of_a_newer_tmpfs_is_refused_by_name(bundle: Bundle) -> None:
    """Since 6.4."""
    bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", "noswap"))
    assert "/mnt" in bundle.refused()


def test_many_masked_folders_share_one_empty_file_system(bundle: Bundle) -> None:
    """A mount that is attached nowhere can be copied since 6.15."""
    names = [f"/mask{number}" for number in range(20)]
    for name in names:
        os.makedirs(f"{bundle.rootfs}{name}/in")
    bundle.linux["maskedPaths"] = names
    assert (
        bundle.sh("ls /mask0 /mask19 | grep -c in; stat -c %d /mask* | sort -u | wc -l") == "0\n1\n"
    )


def test_an_overlay_of_a_bundle(bundle: Bundle, place: str) -> None:
    """Its options are one string for the kernel before 6.5; a comma cannot be in a value."""
    for name in ("a", "b", "up", "work"):
        os.mkdir(f"{place}/{name}")
    with open(f"{place}/b/f", "w") as file:
        file.write("text")
    words = (f"lowerdir={place}/a:{place}/b", f"upperdir={place}/up", f"workdir={place}/work")
    bundle.mounts.append(mount("overlay", "/mnt", "overlay", *words))
    assert bundle.sh("cat /mnt/f; echo new >/mnt/g") == "text"
    assert os.path.exists(f"{place}/up/g")


def test_a_users_containers_in_memory_are_refused(whole_host: None) -> None:
    """A tmpfs has attributes for users since 6.6; without them a layer loses its marks."""
    with ordinary_user() as user, tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, user.entry.pw_uid, user.entry.pw_gid)
        done = user.run("--root", f"{folder}/root", "run", "--rm", "busybox", "true")
        assert done.returncode == 125
        assert b"operation not supported" in done.stderr
        assert b"tmpfs has them since Linux 6.6" in done.stderr
        assert not os.listdir(f"{folder}/root/containers")
