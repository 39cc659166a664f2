"""Credentials: the files of docker and podman, and helpers."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import RegistryError, StoreError
from pycontain.image import credentials
from pycontain.image.credentials import HUB_KEY, Credential, Keychain

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

ME = Credential(username="me", password="secret: with colon")

# Keeps one secret for each server in a folder: the server's name is the file's, in base64.
HELPER = r"""#!/bin/sh
cd "$HELPER_STORE" || exit 1
case "$1" in
store)
    input=$(cat)
    name=$(printf %s "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | base64 -w0 | tr / _)
    printf '%s' "$input" >"$name" ;;
get)
    name=$(cat | base64 -w0 | tr / _)
    [ -e "$name" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$name" ;;
erase) rm -f "$(cat | base64 -w0 | tr / _)" ;;
esac
"""


def auth(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def text(path: str) -> str:
    with open(path) as file:
        return file.read()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    for name in ("home", "bin", "helper"):
        os.makedirs(f"{tmp_path}/{name}")
    return {
        "HOME": f"{tmp_path}/home",
        "XDG_RUNTIME_DIR": f"{tmp_path}/run",
        "HELPER_STORE": f"{tmp_path}/helper",
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
    }


@pytest.fixture
def path_of_helpers(home: dict[str, str]) -> str:
    return home["PATH"].partition(":")[0]


def install(folder: str, name: str, script: str) -> None:
    path = f"{folder}/docker-credential-{name}"
    with open(path, "w") as file:
        file.write(script)
    os.chmod(path, 0o755)


def write(home: dict[str, str], document: object, path: str = ".docker/config.json") -> str:
    path = f"{home['HOME']}/{path}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(document if isinstance(document, str) else json.dumps(document))
    return path


def auths(**entries: Any) -> dict[str, Any]:
    return {"auths": {key.replace("_", "."): entry for key, entry in entries.items()}}


def test_nothing_is_known_without_files(home: dict[str, str]) -> None:
    assert Keychain(home).find("docker.io") is None


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("localhost:5000", "localhost:5000"),
        ("https://reg.example", "reg.example"),
        ("https://reg.example/v1/", "reg.example"),
        ("http://reg.example:80/v2/", "reg.example:80"),
        (HUB_KEY, "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
    ],
)
def test_a_registry_is_found_by_its_key(home: dict[str, str], key: str, domain: str) -> None:
    write(home, {"auths": {"other.example": {"auth": auth("x:y")}, key: {"auth": auth("me:pw")}}})
    assert Keychain(home).find(domain) == Credential(username="me", password="pw")
    assert Keychain(home).find("unknown.example") is None


def test_a_part_of_a_registry_has_credentials_of_its_own(home: dict[str, str]) -> None:
    entries = {
        name: {"auth": auth(f"{name}:pw")} for name in ("q.io", "q.io/team", "q.io/team/app")
    }
    write(home, {"auths": entries})

    def user(repository: str) -> str:
        found = Keychain(home).find("q.io", repository)
        return found.username if found else ""

    assert user("team/app") == "q.io/team/app"
    assert user("team/app/more") == "q.io/team/app"
    assert user("team/other") == "q.io/team"
    assert user("teams/app") == "q.io"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": auth("me:a:b")}, Credential(username="me", password="a:b")),
        ({"auth": auth("me:pw\0\0")}, Credential(username="me", password="pw")),
        ({"username": "me", "password": "pw"}, Credential(username="me", password="pw")),
        (
            {"auth": auth("me:"), "identitytoken": "t"},
            Credential(username="me", identity_token="t"),
        ),
        ({"registrytoken": "t"}, Credential(registry_token="t")),
        ({}, None),
        ({"email": "x"}, None),
    ],
)
def test_the_kinds_of_entries(
    home: dict[str, str], entry: dict[str, str], expected: Credential | None
) -> None:
    write(home, auths(r_io=entry))
    assert Keychain(home).find("r.io") == expected


@pytest.mark.parametrize(
    "document",
    [
        "{", "[]", '{"auths": []}', '{"auths": {"r.io": 1}}', '{"auths": {"r.io": {"auth": "%"}}}',
        '{"auths": {"r.io": {"auth": "AAAA"}}}', "[" * 100_000,
        json.dumps(auths(r_io={"auth": base64.b64encode(b"\xff:x").decode()})),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(home: dict[str, str], document: str) -> None:
    path = write(home, document)
    with pytest.raises(StoreError) as caught:
        Keychain(home).find("r.io")
    assert path in caught.value.message


def test_the_order_of_the_files(home: dict[str, str], tmp_path: Path) -> None:
    def user(**more: str) -> str:
        found = Keychain({**home, **more}).find("r.io")
        return found.username if found else ""

    write(home, auths(r_io={"auth": auth("config:x")}), ".config/containers/auth.json")
    assert user() == "config"
    write(home, auths(r_io={"auth": auth("runtime:x")}), "../run/containers/auth.json")
    assert user() == "runtime"
    write(home, auths(r_io={"auth": auth("docker:x")}))
    assert user() == "docker"
    write(home, auths(r_io={"auth": auth("named:x")}), "elsewhere/config.json")
    assert user(DOCKER_CONFIG=f"{home['HOME']}/elsewhere") == "named"
    write(home, auths(r_io={"auth": auth("explicit:x")}), "file.json")
    assert user(REGISTRY_AUTH_FILE=f"{home['HOME']}/file.json") == "explicit"
    assert user(REGISTRY_AUTH_FILE=f"{tmp_path}/none") == ""


def test_a_login_is_kept_and_the_rest_of_the_file_stays(home: dict[str, str]) -> None:
    others = {"detachKeys": "ctrl-e", "auths": {"o.io": {"auth": auth("o:o"), "new": [1]}}}
    path = write(home, others)
    os.chmod(path, 0o644)
    keychain = Keychain(home)
    assert keychain.store("localhost:5000", ME) == path
    assert keychain.find("localhost:5000") == ME
    document = json.loads(text(path))
    assert document["detachKeys"] == "ctrl-e"
    assert document["auths"]["o.io"] == others["auths"]["o.io"]  # type: ignore[index]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["config.json"]


def test_the_hub_is_kept_under_docker_s_key(home: dict[str, str]) -> None:
    keychain = Keychain(home)
    path = keychain.store("docker.io", ME)
    assert list(json.loads(text(path))["auths"]) == [HUB_KEY]
    assert keychain.find("docker.io", "library/busybox") == ME
    assert keychain.erase("docker.io")
    assert keychain.find("docker.io") is None
    assert not keychain.erase("docker.io")


def test_an_identity_token_is_kept_without_the_password(home: dict[str, str]) -> None:
    keychain = Keychain(home)
    path = keychain.store("r.io", Credential(username="me", password="pw", identity_token="t"))
    assert keychain.find("r.io") == Credential(username="me", identity_token="t")
    assert auth("me:pw") not in text(path)


def test_a_linked_file_stays_a_link(home: dict[str, str]) -> None:
    real = write(home, {}, "dotfiles/docker.json")
    os.makedirs(f"{home['HOME']}/.docker")
    link = f"{home['HOME']}/.docker/config.json"
    os.symlink(real, link)
    Keychain(home).store("r.io", ME)
    assert os.path.islink(link)
    assert "r.io" in text(real)


def test_old_keys_are_erased_too(home: dict[str, str]) -> None:
    path = write(home, {"auths": {"https://r.io/v1/": {"auth": auth("a:b")}, "s.io": {}}})
    assert Keychain(home).erase("r.io")
    assert json.loads(text(path))["auths"] == {"s.io": {}}


def test_logins_at_the_same_time_are_all_kept(home: dict[str, str]) -> None:
    names = [f"r{number}.io" for number in range(8)]
    threads = [threading.Thread(target=Keychain(home).store, args=(name, ME)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(Keychain(home).find(name) == ME for name in names)


def test_secrets_are_not_shown() -> None:
    shown = repr(Credential(username="me", password="p1", identity_token="t1", registry_token="r1"))
    assert "me" in shown
    assert not any(secret in shown for secret in ("p1", "t1", "r1"))


@pytest.mark.parametrize("document", [{"credsStore": "file"}, {"credHelpers": {"r.io": "file"}}])
def test_a_helper_keeps_finds_and_erases(
    home: dict[str, str], path_of_helpers: str, document: dict[str, Any]
) -> None:
    install(path_of_helpers, "file", HELPER)
    path = write(home, document)
    keychain = Keychain(home)
    assert keychain.find("r.io") is None
    assert not keychain.erase("r.io")
    assert keychain.store("r.io", ME) == "file"
    assert json.loads(text(path))["auths"] == {"r.io": {}}
    assert keychain.find("r.io") == ME
    assert keychain.erase("r.io")
    assert keychain.find("r.io") is None
    assert json.loads(text(path)) == {**document, "auths": {}}


def test_a_helper_keeps_an_identity_token(home: dict[str, str], path_of_helpers: str) -> None:
    install(path_of_helpers, "file", HELPER)
    write(home, {"credsStore": "file"})
    Keychain(home).store("docker.io", Credential(username="me", identity_token="t"))
    assert Keychain(home).find("docker.io") == Credential(identity_token="t")


def test_a_helper_of_one_registry_is_not_asked_for_another(
    home: dict[str, str], path_of_helpers: str
) -> None:
    install(path_of_helpers, "one", "#!/bin/sh\nexit 9\n")
    write(home, {"credHelpers": {"one.io": "one"}, **auths(two_io={"auth": auth("a:b")})})
    assert Keychain(home).find("two.io") == Credential(username="a", password="b")


def test_what_the_file_has_counts_where_the_store_knows_nothing(
    home: dict[str, str], path_of_helpers: str
) -> None:
    install(path_of_helpers, "file", HELPER)
    write(home, {"credsStore": "file", **auths(r_io={"auth": auth("a:b")})})
    assert Keychain(home).find("r.io") == Credential(username="a", password="b")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cat >/dev/null; echo no; exit 3", "get: no"),
        ("exit 3", "exit code 3"),
        ("echo '{'", "not JSON"),
        ("printf '\\377'", "not JSON"),
        ("exec head -c 200000 /dev/zero", "too long"),
        ("printf 'a\\033[31m'; exit 1", "get: a [31m"),
    ],
)
def test_a_helper_that_fails_is_named(
    home: dict[str, str], path_of_helpers: str, script: str, reason: str
) -> None:
    install(path_of_helpers, "bad", f"#!/bin/sh\n{script}\n")
    write(home, {"credsStore": "bad"})
    with pytest.raises(RegistryError) as caught:
        Keychain(home).find("r.io")
    assert caught.value.message.startswith("credential helper bad: ")
    assert reason in caught.value.message


def test_a_helper_that_never_answers_is_killed(
    home: dict[str, str], path_of_helpers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[subprocess.Popen[bytes]] = []
    end = credentials._end

    def note(process: subprocess.Popen[bytes]) -> None:
        ended.append(process)
        end(process)

    install(path_of_helpers, "slow", "#!/bin/sh\nexec sleep 1000\n")
    write(home, {"credsStore": "slow"})
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 1.0)
    monkeypatch.setattr(credentials, "_end", note)
    with pytest.raises(RegistryError, match="no answer"):
        Keychain(home).find("r.io")
    # It may be killed before it has begun: its own pid it could not say by then.
    (helper,) = ended
    assert helper.returncode == -signal.SIGKILL
    assert not os.path.exists(f"/proc/{helper.pid}")


def test_a_missing_helper_is_named(home: dict[str, str], path_of_helpers: str) -> None:
    write(home, {"credsStore": "absent"})
    with pytest.raises(RegistryError, match="docker-credential-absent: no such file"):
        Keychain(home).find("r.io")


@pytest.mark.parametrize("name", ["../evil", "/bin/sh", "a b", "-x", ".x", "a\nb"])
def test_a_helper_s_name_is_no_path(home: dict[str, str], name: str) -> None:
    write(home, {"credsStore": name})
    with pytest.raises(RegistryError, match="not the end of a program's name"):
        Keychain(home).find("r.io")
