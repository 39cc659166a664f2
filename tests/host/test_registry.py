"""The registry client and Debian's ``docker-registry``; skopeo reads what it wrote and reverse."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from harness import wait_until
from registry import Authority, Proxy, Server, TokenService, htpasswd, missing, served

from pycontain.errors import Cancelled, RegistryError
from pycontain.image.credentials import Credential, Keychain
from pycontain.image.registry import Proxies, Registry, Settings
from tests.notebook import Notebook, Reply, Request, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}"),
]

NAME = "team/app"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ME = Credential(username="me", password="a pass:word")
BLOB = os.urandom(200_000)
BIG = os.urandom(1 << 20) * 48


def settings(**more: Any) -> Settings:
    return Settings(**{"certificate_folders": (), "backoff": 0.2, "proxies": Proxies(), **more})


STEADY = {"retries": 9}
"""For a registry that takes long to be there again."""


def known(credential: Credential = ME) -> Callable[[str, str], Credential]:
    return lambda _domain, _repository: credential


def upload(registry: Registry, data: bytes, repository: str = NAME) -> str:
    registry.upload_blob(repository, digest_of(data), len(data), lambda: io.BytesIO(data))
    return digest_of(data)


def read(registry: Registry, digest: str, repository: str = NAME) -> bytes:
    with registry.blob(repository, digest) as blob:
        return b"".join(blob)


def image(*layers: bytes) -> tuple[bytes, bytes]:
    """A configuration and the manifest of an image with these layers."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    ).encode()

    def descriptor(media_type: str, data: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "size": len(data), "digest": digest_of(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": [descriptor(LAYER_TYPE, layer) for layer in layers],
    }
    return config, json.dumps(manifest, indent=3).encode()


def push(registry: Registry, tag: str, *layers: bytes, repository: str = NAME) -> str:
    config, manifest = image(*layers)
    for data in (config, *layers):
        upload(registry, data, repository)
    return registry.put_manifest(repository, tag, manifest, MANIFEST_TYPE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(f"{tmp_path}/registry") as server:
        yield server


@pytest.fixture
def registry(server: Server) -> Iterator[Registry]:
    with Registry(server.domain, settings()) as registry:
        yield registry


def test_what_was_written_is_read(registry: Registry) -> None:
    digest = push(registry, "1", BLOB)
    found = registry.manifest(NAME, "1")
    assert (found.digest, found.data, found.media_type) == (digest, image(BLOB)[1], MANIFEST_TYPE)
    assert registry.resolve(NAME, "1").digest == digest
    assert registry.manifest(NAME, digest) == found
    assert read(registry, digest_of(BLOB)) == BLOB
    with registry.blob(NAME, digest_of(BLOB), 199_999) as blob:
        assert b"".join(blob) == BLOB[-1:]


def test_what_is_not_there_is_not_there(registry: Registry) -> None:
    push(registry, "1", BLOB)
    for ask in (
        lambda: registry.manifest(NAME, "2"),
        lambda: registry.manifest("no/such", "1"),
        lambda: registry.resolve(NAME, "2"),
        lambda: registry.blob(NAME, digest_of(b"no")),
        lambda: list(registry.tags("no/such")),
    ):
        with pytest.raises(RegistryError) as caught:
            ask()
        assert caught.value.status == 404
        assert "unknown" in caught.value.message
    assert not registry.has_blob(NAME, digest_of(b"no"))


def test_tags(registry: Registry) -> None:
    for tag in ("a", "b.1", "_c"):
        push(registry, tag, BLOB)
    assert sorted(registry.tags(NAME)) == ["_c", "a", "b.1"]


def test_a_blob_is_taken_over_from_another_repository(registry: Registry) -> None:
    digest = upload(registry, BLOB, "first/one")
    assert not registry.mount_blob(NAME, digest, "no/such")
    assert registry.mount_blob(NAME, digest, "first/one")
    assert read(registry, digest) == BLOB


def test_an_empty_blob(registry: Registry) -> None:
    assert read(registry, upload(registry, b"")) == b""


def test_a_blob_in_pieces(server: Server) -> None:
    pieces = settings(upload_chunk=30_000, chunked_above=0)
    with Registry(server.domain, pieces) as registry:
        assert read(registry, upload(registry, BLOB)) == BLOB


def test_a_wrong_digest_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="digest invalid"):
        registry.upload_blob(NAME, digest_of(b"other"), 3, lambda: io.BytesIO(b"abc"))


def test_a_manifest_of_missing_blobs_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"push .*:1: manifest: .*unknown"):
        registry.put_manifest(NAME, "1", image(BLOB)[1], MANIFEST_TYPE)


def test_several_threads_at_once(registry: Registry) -> None:
    blobs = [os.urandom(300_000) for _ in range(6)]
    found: list[bool] = []

    def there_and_back(data: bytes) -> None:
        found.append(read(registry, upload(registry, data)) == data)

    threads = [threading.Thread(target=there_and_back, args=(data,)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_download_survives_the_registry_s_restart(server: Server, how: signal.Signals) -> None:
    received = bytearray()
    with Registry(server.domain, settings(**STEADY)) as registry:
        digest = upload(registry, BIG)
        with registry.blob(NAME, digest) as blob:
            for data in blob:
                if not received:
                    server.restart(how)
                received += data
    assert received == BIG
    # Only what it finished is in its log: the part that came after.
    wait_until(lambda: f'GET /v2/{NAME}/blobs/{digest} HTTP/1.1" 206 ' in server.log())


PIECES = {"upload_chunk": 4 << 20, "chunked_above": 0}


@pytest.mark.parametrize("more", [{}, PIECES])
def test_an_upload_survives_the_registry_s_restart(server: Server, more: dict[str, Any]) -> None:
    stopped: list[int] = []

    def progress(sent: int) -> None:
        if sent > len(BIG) // 2 and not stopped:
            stopped.append(sent)
            server.restart()

    with Registry(server.domain, settings(**STEADY, **more)) as registry:
        digest = digest_of(BIG)
        registry.upload_blob(NAME, digest, len(BIG), lambda: io.BytesIO(BIG), progress)
        assert stopped
        assert read(registry, digest) == BIG


def test_an_upload_in_pieces_goes_on_after_a_restart(server: Server) -> None:
    """A registry with a secret of its own knows its uploads again, where they are whole pieces."""
    server.stop()
    server.config["http"]["secret"] = "kept"
    server.start()
    opened: list[io.BytesIO] = []

    def open_file() -> io.BytesIO:
        opened.append(io.BytesIO(BIG))
        if len(opened) == 7:
            server.restart()  # six pieces were answered, of the seventh no byte is sent
        return opened[-1]

    with Registry(server.domain, settings(**STEADY, **PIECES)) as registry:
        registry.upload_blob(NAME, digest_of(BIG), len(BIG), open_file)
        assert read(registry, digest_of(BIG)) == BIG
    wait_until(lambda: server.log().count('"POST ') > 0)
    assert server.log().count('"POST ') == 1


# Logins


def test_a_registry_with_passwords(tmp_path: Path) -> None:
    auth = htpasswd(f"{tmp_path}/passwords", ME.username, ME.password)
    with served(f"{tmp_path}/registry", auth=auth) as server:
        with Registry(server.domain, settings(credentials=known())) as registry:
            push(registry, "1", BLOB)
            assert registry.login(ME) == ME
        with Registry(server.domain, settings()) as registry:
            with pytest.raises(RegistryError) as caught:
                registry.manifest(NAME, "1")
            assert caught.value.message == (
                f"pull {server.domain}/{NAME}:1: manifest: unauthorized: authentication required"
            )
            assert f"pycontain login {server.domain}" in (caught.value.hint or "")
            with pytest.raises(RegistryError, match=r"login .*: unauthorized"):
                registry.login(Credential(username="me", password="wrong"))


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenService]:
    service = TokenService(str(tmp_path))
    yield service
    service.book.close()


def test_a_registry_with_tokens(tmp_path: Path, tokens: TokenService) -> None:
    tokens.accounts = {ME.username: ME.password}
    with served(f"{tmp_path}/registry", auth=tokens.auth) as server:
        with Registry(server.domain, settings(credentials=known())) as registry:
            push(registry, "1", BLOB)
            digest = upload(registry, BIG[:100], "first/one")
            assert registry.mount_blob(NAME, digest, "first/one")
            kept = registry.login(ME)
        assert kept == Credential(username="me", identity_token="refresh of me")
        with Registry(server.domain, settings(credentials=known(kept))) as registry:
            assert read(registry, digest_of(BLOB)) == BLOB
        with Registry(server.domain, settings()) as registry:
            with pytest.raises(RegistryError, match="unauthorized: authentication required"):
                registry.manifest(NAME, "1")
            with pytest.raises(RegistryError, match=r"token: .*credentials were refused"):
                registry.login(Credential(username="me", password="wrong"))


def test_a_registry_whose_tokens_are_for_everybody(tmp_path: Path, tokens: TokenService) -> None:
    tokens.accounts = {ME.username: ME.password}
    tokens.anonymous = {"pull"}
    with served(f"{tmp_path}/registry", auth=tokens.auth) as server:
        with Registry(server.domain, settings(credentials=known())) as registry:
            push(registry, "1", BLOB)
        with Registry(server.domain, settings()) as registry:
            assert read(registry, digest_of(BLOB)) == BLOB
            with pytest.raises(RegistryError, match=r"push .*: unauthorized"):
                upload(registry, b"new")


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(str(tmp_path))


def tls(authority: Authority, name: str = "server", **more: Any) -> dict[str, Any]:
    certificate, key = authority.issue(name)
    return {"tls": {"certificate": certificate, "key": key, **more}}


def fails(server: Server, text: str, **more: Any) -> RegistryError:
    with (
        Registry(server.domain, settings(**more)) as registry,
        pytest.raises(RegistryError, match=text) as caught,
    ):
        registry.manifest(NAME, "1")
    return caught.value


def test_a_registry_of_an_authority_of_its_own(tmp_path: Path, authority: Authority) -> None:
    with served(f"{tmp_path}/registry", http=tls(authority)) as server:
        with Registry(server.domain, settings(ca_files=(authority.certificate,))) as registry:
            push(registry, "1", BLOB)
            assert read(registry, digest_of(BLOB)) == BLOB
        error = fails(server, "certificate: unable to get local issuer certificate")
        assert "authority" in (error.hint or "")
        other = Authority(str(tmp_path), "other")
        fails(server, "certificate: ", ca_files=(other.certificate,))
        insecure = settings(insecure=frozenset({server.domain}))
        with Registry(server.domain, insecure) as registry:
            assert read(registry, digest_of(BLOB)) == BLOB


def test_a_certificate_of_another_name(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("else", "DNS:other.example")
    http = {"tls": {"certificate": certificate, "key": key}}
    with served(f"{tmp_path}/registry", http=http) as server:
        fails(server, "certificate: ip address mismatch", ca_files=(authority.certificate,))


def test_the_folder_of_a_server_s_certificates(tmp_path: Path, authority: Authority) -> None:
    """As docker has it: the server's authorities, and what to show to it."""
    http = tls(authority, clientcas=[authority.certificate])
    with served(f"{tmp_path}/registry", http=http) as server:
        folder = f"{tmp_path}/certs.d/{server.domain}"
        os.makedirs(folder)
        shutil.copy(authority.certificate, f"{folder}/ca.crt")
        found = {"certificate_folders": (f"{tmp_path}/none", f"{tmp_path}/certs.d")}
        fails(server, "certificate required|bad certificate|connection", **found)
        certificate, key = authority.issue("client")
        shutil.copy(certificate, f"{folder}/client.cert")
        shutil.copy(key, f"{folder}/client.key")
        with Registry(server.domain, settings(**found)) as registry:
            push(registry, "1", BLOB)
            assert read(registry, digest_of(BLOB)) == BLOB


def test_tls_is_not_left_for_plain_http(tmp_path: Path, authority: Authority) -> None:
    """A server that shows a wrong certificate is not asked by plain HTTP instead."""
    with served(f"{tmp_path}/registry", http=tls(authority)) as server:
        fails(server, "certificate: ", credentials=known())
        assert "HTTP request to an HTTPS server" not in server.log()


BEARER = 'Bearer realm="{}",service="x"'


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(307, b"", {"Location": "http://far.example/x"}), "https may not lead to plain http"),
        (Reply(307, b"", {"Location": "http://127.0.0.1:1/x"}), "https may not lead to plain http"),
        (
            Reply(401, b"", {"WWW-Authenticate": BEARER.format("http://far.example/token")}),
            "names plain http for tokens",
        ),
    ],
)
def test_a_registry_of_tls_leads_to_no_plain_http(
    authority: Authority, reply: Reply, text: str
) -> None:
    with Notebook(lambda _: reply, authority.issue("server")) as book:
        more = settings(ca_files=(authority.certificate,), credentials=known())
        with Registry(book.domain, more) as registry, pytest.raises(RegistryError, match=text):
            registry.blob(NAME, digest_of(BLOB))
        assert not any("Authorization" in one.headers for one in book.requests)


def test_a_registry_that_does_not_know_of_the_tls_before_it(authority: Authority) -> None:
    """It calls itself http://: that is understood as https://."""

    def answer(request: Request) -> Reply:
        if request.method == "POST":
            return Reply(202, b"", {"Location": f"http://{book.domain}/v2/up"})
        return Reply(201)

    with Notebook(answer, authority.issue("server")) as book:
        more = settings(ca_files=(authority.certificate,))
        with Registry(book.domain, more) as registry:
            upload(registry, BLOB)
        (put,) = book.asked("/v2/up")
        assert put.body == BLOB


def test_closing_the_registry_ends_what_is_read_by_tls(authority: Authority) -> None:
    come = threading.Event()
    ended = threading.Event()
    reply = Reply(200, BLOB, length=len(BLOB) + 1)  # a byte that never comes
    with Notebook(lambda _: reply, authority.issue("server")) as book:
        more = settings(ca_files=(authority.certificate,), read_timeout=1000.0)
        registry = Registry(book.domain, more)

        def reader() -> None:
            with pytest.raises(Cancelled), registry.blob(NAME, digest_of(BLOB)) as blob:
                come.set()
                for _ in blob:
                    pass
            ended.set()

        thread = threading.Thread(target=reader)
        thread.start()
        assert come.wait(20)
        time.sleep(0.2)
        registry.close()
        thread.join(20)
        assert ended.is_set()


# Mirrors and proxies


def test_a_mirror_that_pulls_through(tmp_path: Path, server: Server, registry: Registry) -> None:
    digest = push(registry, "1", BLOB)
    proxy = {"remoteurl": f"http://{server.domain}"}
    with served(f"{tmp_path}/mirror", proxy=proxy) as mirror:
        mirrors = {server.domain: (f"http://{mirror.domain}",)}
        with Registry(server.domain, settings(mirrors=mirrors)) as mirrored:
            assert mirrored.manifest(NAME, "1").digest == digest
            assert read(mirrored, digest_of(BLOB)) == BLOB
            assert f"GET /v2/{NAME}/manifests/1" in mirror.log()
            # Without the mirror it goes on; what is pushed goes to the registry.
            mirror.stop()
            assert mirrored.manifest(NAME, "1").digest == digest
            push(mirrored, "2", BLOB)
        assert registry.manifest(NAME, "2").digest == digest


def test_a_proxy_for_plain_http(server: Server) -> None:
    with Proxy({"reg.example:5000": server.port}) as proxy:
        url = f"http://user:pass%20word@127.0.0.1:{proxy.port}"
        through = settings(
            insecure=frozenset({"reg.example:5000"}), proxies=Proxies(http=url, https=url)
        )
        with Registry("reg.example:5000", through) as registry:
            push(registry, "1", BLOB)
            assert read(registry, digest_of(BLOB)) == BLOB
        assert any(line.startswith("GET http://reg.example:5000/v2/") for line in proxy.lines)
        assert {
            one.get("Proxy-Authorization", one.get("proxy-authorization")) for one in proxy.headers
        } == {"Basic dXNlcjpwYXNzIHdvcmQ="}


def test_a_proxy_for_tls(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("named", "DNS:reg.example")
    http = {"tls": {"certificate": certificate, "key": key}}
    with ExitStack() as stack:
        server = stack.enter_context(served(f"{tmp_path}/registry", http=http))
        proxy = stack.enter_context(Proxy({"reg.example:443": server.port}))
        proxies = Proxies.from_environment({"HTTPS_PROXY": f"127.0.0.1:{proxy.port}"})
        through = settings(ca_files=(authority.certificate,), proxies=proxies)
        registry = stack.enter_context(Registry("reg.example", through))
        push(registry, "1", BLOB)
        assert read(registry, digest_of(BLOB)) == BLOB
        assert {line.rpartition(" ")[0] for line in proxy.lines} == {"CONNECT reg.example:443"}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:1", "proxy: .*connection refused"),
        ("socks5://127.0.0.1:1", "proxy socks5://127.0.0.1:1: not http"),
        ("127.0.0.1:1", "proxy .*not http"),
    ],
)
def test_a_proxy_that_is_not_there(url: str, text: str) -> None:
    with (
        Registry("reg.example", settings(proxies=Proxies(https=url))) as registry,
        pytest.raises(RegistryError, match=text),
    ):
        registry.manifest(NAME, "1")


# Others


@pytest.mark.skipif(not shutil.which("skopeo"), reason="not installed: skopeo")
def test_skopeo_and_the_client_read_each_other_s_logins(tmp_path: Path) -> None:
    auth = htpasswd(f"{tmp_path}/passwords", ME.username, ME.password)
    theirs, ours = f"{tmp_path}/theirs.json", f"{tmp_path}/ours.json"
    with served(f"{tmp_path}/registry", auth=auth) as server:
        subprocess.run(
            ["skopeo", "login", "--tls-verify=false", "--authfile", theirs, "-u", ME.username,
             "--password-stdin", server.domain],
            input=ME.password.encode(), stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        keychain = Keychain({"REGISTRY_AUTH_FILE": theirs})
        assert keychain.find(server.domain, NAME) == ME
        with Registry(server.domain, settings(credentials=keychain.find)) as registry:
            digest = push(registry, "1", BLOB)
        Keychain({"REGISTRY_AUTH_FILE": ours}).store(server.domain, ME)
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", "--authfile", ours,
             f"docker://{server.domain}/{NAME}:1"],
            stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        assert digest_of(raw) == digest


@pytest.mark.skipif(not shutil.which("skopeo"), reason="not installed: skopeo")
def test_skopeo_and_the_client_have_the_same_digests(
    tmp_path: Path, server: Server, registry: Registry
) -> None:
    def skopeo(*words: str) -> bytes:
        return subprocess.run(["skopeo", *words], stdout=subprocess.PIPE, check=True).stdout

    digest = push(registry, "1", BLOB)
    source = f"docker://{server.domain}/{NAME}:1"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", source)
    assert digest_of(raw) == digest
    skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/copy")
    skopeo(
        "copy", "--dest-tls-verify=false", f"dir:{tmp_path}/copy",
        f"docker://{server.domain}/back/again:1",
    )  # fmt: skip
    assert registry.manifest("back/again", "1").digest == digest
    assert read(registry, digest_of(BLOB), "back/again") == BLOB
