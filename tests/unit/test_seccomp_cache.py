"""The cache of compiled seccomp filters. Compilation is replaced by a counter here."""

import json
import os
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import InvalidInput, StoreError
from pycontain.model import oci
from pycontain.runtime import seccomp
from pycontain.store import files

PROFILE: oci.Seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
OTHER: oci.Seccomp = {"defaultAction": "SCMP_ACT_LOG"}


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for libseccomp: the program tells the profile and how often one was compiled."""
    library = tmp_path / "libseccomp.so.2"
    library.write_bytes(b"one")
    fake: Any = types.ModuleType("pycontain.runtime.seccomp_bpf")
    fake.count = 0

    def compile_profile(profile: oci.Seccomp) -> tuple[bytes, int]:
        fake.count += 1
        return f"{profile['defaultAction']} {fake.count}".encode(), len(profile.get("flags") or [])

    fake.compile_profile = compile_profile
    fake.library_path = lambda: str(library)
    fake.library = library
    fake.__file__ = str(tmp_path / "seccomp_bpf.py")
    Path(fake.__file__).write_text("")
    monkeypatch.setitem(sys.modules, "pycontain.runtime.seccomp_bpf", fake)
    import pycontain.runtime

    monkeypatch.setattr(pycontain.runtime, "seccomp_bpf", fake, raising=False)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "a" / "cache")


def get(folder: str | None, profile: oci.Seccomp = PROFILE) -> bytes:
    return seccomp.compile_filter(profile, folder).program


def entry(folder: str) -> str:
    (name,) = os.listdir(folder)
    return os.path.join(folder, name)


def test_second_time_comes_from_the_cache(compiler: Any, folder: str) -> None:
    assert get(folder) == get(folder) == b"SCMP_ACT_ALLOW 1"
    assert compiler.count == 1


def test_profiles_are_told_apart(compiler: Any, folder: str) -> None:
    assert get(folder, PROFILE) != get(folder, OTHER)
    assert get(folder, PROFILE) == b"SCMP_ACT_ALLOW 1"
    assert compiler.count == 2


def test_a_colliding_name_is_told_apart(
    compiler: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp, "_name", lambda _key: "same.bpf")
    assert get(folder, PROFILE) == b"SCMP_ACT_ALLOW 1"
    assert get(folder, OTHER) == b"SCMP_ACT_LOG 2"
    assert get(folder, PROFILE) == b"SCMP_ACT_ALLOW 3"


def test_another_kernel_compiles_again(
    compiler: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(folder)
    host = os.uname()
    newer = types.SimpleNamespace(machine=host.machine, release="99.0")
    monkeypatch.setattr(os, "uname", lambda: newer)
    assert get(folder) == b"SCMP_ACT_ALLOW 2"


def test_another_library_compiles_again(compiler: Any, folder: str) -> None:
    get(folder)
    compiler.library.write_bytes(b"two, and longer")
    assert get(folder) == get(folder) == b"SCMP_ACT_ALLOW 2"
    compiler.library.unlink()
    # The path of a file that was replaced while it is loaded leads nowhere: nothing is kept.
    assert [get(folder), get(folder)] == [b"SCMP_ACT_ALLOW 3", b"SCMP_ACT_ALLOW 4"]


def test_without_a_folder_nothing_is_kept(compiler: Any) -> None:
    assert get(None) != get(None)


def test_folder_and_entry_are_the_owners_alone(compiler: Any, folder: str) -> None:
    get(folder)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert os.stat(entry(folder)).st_mode & 0o777 == 0o600


def test_every_truncation_is_made_anew(compiler: Any, folder: str) -> None:
    get(folder)
    path = entry(folder)
    with open(path, "rb") as file:
        whole = file.read()
    for length in range(len(whole)):
        with open(path, "wb") as file:
            file.write(whole[:length])
        assert get(folder) == f"SCMP_ACT_ALLOW {compiler.count}".encode()
    assert compiler.count == 1 + len(whole)
    with open(path, "ab") as file:
        file.write(b"x")
    get(folder)
    assert compiler.count == 2 + len(whole)


def test_every_flipped_byte_is_made_anew(compiler: Any, folder: str) -> None:
    get(folder)
    path = entry(folder)
    with open(path, "rb") as file:
        whole = file.read()
    for at in range(len(whole)):
        before = compiler.count
        with open(path, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        get(folder)
        assert compiler.count == before + 1, at


def test_a_refused_profile_is_never_kept(compiler: Any, folder: str) -> None:
    def refuse(_profile: oci.Seccomp) -> tuple[bytes, int]:
        raise InvalidInput("no")

    compiler.compile_profile = refuse
    for _ in range(2):
        with pytest.raises(InvalidInput):
            get(folder)
    assert not os.path.exists(folder)


def test_a_cache_that_cannot_be_written_is_told(compiler: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        get(str(tmp_path / "file"))


def test_flags_are_kept_with_the_program(compiler: Any, folder: str) -> None:
    profile: oci.Seccomp = {**PROFILE, "flags": ["a", "b"]}
    assert [seccomp.compile_filter(profile, folder).flags for _ in range(2)] == [2, 2]
    assert seccomp.compile_filter(PROFILE, folder).flags == 0
    assert compiler.count == 2


def test_who_listens_is_no_part_of_the_filter(compiler: Any, folder: str) -> None:
    profiles: list[oci.Seccomp] = [
        {**PROFILE, "listenerPath": path, "listenerMetadata": path} for path in ("/a", "/b")
    ]
    assert get(folder, profiles[0]) == get(folder, profiles[1]) == get(folder)
    assert compiler.count == 1


def test_equal_profiles_are_one_however_their_parts_are_shared(compiler: Any, folder: str) -> None:
    name = "".join(["ge", "tpid"])
    shared: oci.SeccompRule = {"names": [name, name], "action": "SCMP_ACT_LOG"}
    once: oci.Seccomp = {**PROFILE, "syscalls": [shared, shared]}
    again: oci.Seccomp = json.loads(json.dumps(once))
    again["syscalls"][0]["names"][0] = sys.intern("get" + name[3:])
    assert get(folder, once) == get(folder, again)
    assert compiler.count == 1


@pytest.mark.parametrize("part", ["machine", "release"])
def test_the_host_is_part_of_the_key(
    part: str, compiler: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(folder)
    host = {"machine": os.uname().machine, "release": os.uname().release, part: "other"}
    monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(**host))
    assert get(folder) == b"SCMP_ACT_ALLOW 2"


def test_another_compiler_of_ours_compiles_again(compiler: Any, folder: str) -> None:
    get(folder)
    os.utime(compiler.__file__, (1, 1))
    assert get(folder) == get(folder) == b"SCMP_ACT_ALLOW 2"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_is_not_trusted(
    mode: int, compiler: Any, folder: str
) -> None:
    get(folder)
    os.chmod(entry(folder), mode)
    assert get(folder) == b"SCMP_ACT_ALLOW 2"
    assert os.stat(entry(folder)).st_mode & 0o777 == 0o600
    assert get(folder) == b"SCMP_ACT_ALLOW 2"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_an_entry_of_somebody_else_is_not_trusted(compiler: Any, folder: str) -> None:
    get(folder)
    os.chown(entry(folder), 12345, -1)
    assert get(folder) == b"SCMP_ACT_ALLOW 2"
    assert os.stat(entry(folder)).st_uid == 0


def test_a_link_or_a_pipe_in_its_place_is_replaced(compiler: Any, folder: str) -> None:
    get(folder)
    path = entry(folder)
    os.rename(path, f"{folder}/../elsewhere")
    os.symlink("../elsewhere", path)
    assert get(folder) == b"SCMP_ACT_ALLOW 2"
    os.unlink(path)
    os.mkfifo(path, 0o600)
    assert get(folder) == b"SCMP_ACT_ALLOW 3"
    assert get(folder) == b"SCMP_ACT_ALLOW 3"


def test_many_at_once(compiler: Any, folder: str) -> None:
    """Whoever comes when finds a whole entry or none; what is left is one entry."""

    def work(_number: int) -> set[bytes]:
        return {get(folder).rpartition(b" ")[0] for _ in range(30)}

    def spoil(_number: int) -> set[bytes]:
        for _ in range(30):
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                if not name.startswith("."):
                    files.remove(f"{folder}/{name}")
        return set()

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(work if at % 3 else spoil, at) for at in range(6)]
        found = set().union(*(job.result(timeout=60) for job in jobs))
    assert found == {b"SCMP_ACT_ALLOW"}
    get(folder)
    assert len(os.listdir(folder)) == 1


def test_a_hit_imports_neither_libseccomp_nor_json(compiler: Any, folder: str) -> None:
    get(folder)
    script = f"""if True:
        import sys
        from pycontain.runtime import seccomp
        assert seccomp.compile_filter({PROFILE!r}, {folder!r}).program == b"SCMP_ACT_ALLOW 1"
        for name in ("json", "hashlib", "pycontain._native._seccomp", "_cffi_backend", "msgspec",
                     "struct", "typing", "pycontain.store"):
            assert name not in sys.modules, name
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {root!r})\n{script}"]
    subprocess.run(command, check=True, env={})
