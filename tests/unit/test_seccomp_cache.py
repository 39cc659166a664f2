"""The cache of compiled seccomp filters. Compilation is replaced by a counter here."""

import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import InvalidInput, StoreError
from pycontain.model import oci
from pycontain.runtime import seccomp

PROFILE: oci.Seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}
OTHER: oci.Seccomp = {"defaultAction": "SCMP_ACT_LOG"}


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for libseccomp: the program tells the profile and how often one was compiled."""
    library = tmp_path / "libseccomp.so.2"
    library.write_bytes(b"one")
    fake: Any = types.ModuleType("pycontain.runtime.seccomp_bpf")
    fake.count = 0

    def compile_profile(profile: oci.Seccomp) -> bytes:
        fake.count += 1
        return f"{profile['defaultAction']} {fake.count}".encode()

    fake.compile_profile = compile_profile
    fake.library_path = lambda: str(library)
    fake.library = library
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
    with pytest.raises(FileNotFoundError):  # only compiling finds out: a cached one is not trusted
        get(folder)


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
    def refuse(_profile: oci.Seccomp) -> bytes:
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


def test_flags_are_not_cached_away(compiler: Any, folder: str) -> None:
    profile: oci.Seccomp = {**PROFILE, "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    assert [seccomp.compile_filter(profile, folder).flags for _ in range(2)] == [2, 2]


def test_a_hit_imports_neither_libseccomp_nor_json(compiler: Any, folder: str) -> None:
    get(folder)
    script = f"""if True:
        import sys
        from pycontain.runtime import seccomp
        assert seccomp.compile_filter({PROFILE!r}, {folder!r}).program == b"SCMP_ACT_ALLOW 1"
        for name in ("json", "hashlib", "pycontain._native._seccomp", "_cffi_backend", "msgspec",
                     "struct"):
            assert name not in sys.modules, name
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {root!r})\n{script}"]
    subprocess.run(command, check=True, env={})
