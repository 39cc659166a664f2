"""The registry client against servers that misbehave, redirect, or take notes."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import Cancelled, DigestMismatch, InvalidInput, RegistryError, StoreError
from pycontain.image.credentials import Credential
from pycontain.image.registry import MAX_MANIFEST, Registry, Settings
from tests.notebook import Notebook, Reply, Request, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "team/app"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCUMENT = b'{"schemaVersion":2}'
BLOB = random.Random(1).randbytes(3_000_000)  # the same in every process that collects the tests
DIGEST = digest_of(BLOB)
ME = Credential(username="me", password="secret")
SECRETS = ("Basic bWU6c2VjcmV0", "secret", "refresh")


def settings(**more: Any) -> Settings:
    return Settings(
        **{"certificate_folders": (), "backoff": 0.01, "read_timeout": 20.0, "retries": 3, **more}
    )


def logged_in(domain: str, credential: Credential = ME, **more: Any) -> Settings:
    return settings(
        credentials=lambda asked, _repository: credential if asked == domain else None, **more
    )


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Request], Reply]], Notebook]]:
    books: list[Notebook] = []

    def start(answer: Callable[[Request], Reply]) -> Notebook:
        books.append(Notebook(answer))
        return books[-1]

    yield start
    for book in books:
        book.close()


def error(status: int, code: str = "", message: str = "", **headers: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": {}}]}).encode()
    return Reply(status, body, {name.replace("_", "-"): text for name, text in headers.items()})


def in_turn(*replies: Reply) -> Callable[[Request], Reply]:
    """One reply after the other, the last for ever."""
    left = list(replies)
    lock = threading.Lock()

    def answer(_: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return answer


def part(request: Request, data: bytes = BLOB, cut: int | None = None) -> Reply:
    """What a good server answers to a request for a blob, ranges included."""
    text = request.headers.get("Range", "")
    if not text:
        return Reply(200, data, cut=cut)
    start = int(text.removeprefix("bytes=").removesuffix("-"))
    headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
    return Reply(206, data[start:], headers, cut=cut)


def read(registry: Registry, start: int = 0) -> bytes:
    with registry.blob(NAME, DIGEST, start) as blob:
        return b"".join(blob)


# Manifests


def test_a_manifest_is_bytes_type_and_digest(serve: Any) -> None:
    book = serve(lambda _: Reply(200, DOCUMENT, {"Content-Type": f"{INDEX}; charset=utf-8"}))
    with Registry(book.domain, settings()) as registry:
        found = registry.manifest(NAME, "latest")
    assert (found.data, found.media_type, found.digest) == (DOCUMENT, INDEX, digest_of(DOCUMENT))
    (request,) = book.asked("/v2/team/app/manifests/latest")
    assert INDEX in request.headers["Accept"]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_is_what_it_was_asked_for_by(serve: Any, algorithm: str) -> None:
    import hashlib

    digest = f"{algorithm}:{hashlib.new(algorithm, DOCUMENT).hexdigest()}"
    book = serve(lambda _: Reply(200, DOCUMENT))
    with Registry(book.domain, settings()) as registry:
        assert registry.manifest(NAME, digest).digest == digest
    book.answer = lambda _: Reply(200, b"other")
    with Registry(book.domain, settings()) as registry, pytest.raises(DigestMismatch) as caught:
        registry.manifest(NAME, digest)
    assert caught.value.message.startswith(f"pull {book.domain}/{NAME}@{digest}: manifest: ")


def test_a_tag_s_manifest_is_what_the_registry_says_it_is(serve: Any) -> None:
    book = serve(lambda _: Reply(200, b"other", {"Docker-Content-Digest": digest_of(DOCUMENT)}))
    with Registry(book.domain, settings()) as registry, pytest.raises(DigestMismatch):
        registry.manifest(NAME, "latest")


@pytest.mark.parametrize("text", ["", "..", "../../x", "a/b", "sha256:12", f"{DIGEST}/../x", "a\n"])
def test_what_is_neither_tag_nor_digest_is_not_asked_for(serve: Any, text: str) -> None:
    book = serve(lambda _: Reply(200, DOCUMENT))
    with Registry(book.domain, settings()) as registry:
        for ask in (
            lambda: registry.manifest(NAME, text),
            lambda: registry.resolve(NAME, text),
            lambda: registry.put_manifest(NAME, text, b"", INDEX),
            lambda: registry.blob(NAME, text),
            lambda: registry.has_blob(NAME, text),
            lambda: registry.mount_blob(NAME, text, "a/b"),
            lambda: registry.upload_blob(NAME, text, 0, io.BytesIO),
        ):
            with pytest.raises(InvalidInput):
                ask()
    assert book.requests == []


def test_a_manifest_is_bounded(serve: Any) -> None:
    book = serve(lambda _: Reply(200, b" " * (MAX_MANIFEST + 1)))
    with Registry(book.domain, settings()) as registry:
        with pytest.raises(RegistryError, match="longer than 4194304 bytes"):
            registry.manifest(NAME, "latest")
        book.answer = lambda _: Reply(200, b" " * MAX_MANIFEST)
        assert len(registry.manifest(NAME, "latest").data) == MAX_MANIFEST


def test_a_digest_is_found_without_the_document(serve: Any) -> None:
    headers = {"Docker-Content-Digest": digest_of(DOCUMENT), "Content-Type": INDEX}
    book = serve(lambda _: Reply(200, DOCUMENT, headers))
    with Registry(book.domain, settings()) as registry:
        found = registry.resolve(NAME, "latest")
    assert (found.digest, found.media_type) == (digest_of(DOCUMENT), INDEX)
    assert [one.method for one in book.asked(f"/v2/{NAME}")] == ["HEAD"]


def test_a_digest_is_found_where_head_does_not_say_it(serve: Any) -> None:
    book = serve(lambda request: Reply(405 if request.method == "HEAD" else 200, DOCUMENT))
    with Registry(book.domain, settings()) as registry:
        assert registry.resolve(NAME, "latest").digest == digest_of(DOCUMENT)


# Errors


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (error(404, "MANIFEST_UNKNOWN", "manifest unknown"), "manifest unknown"),
        (error(404, "NAME_UNKNOWN", "Repository name not known."), "name unknown: repository name"),
        (error(403, "DENIED", ""), "denied"),
        (Reply(404, b"<html>not this</html>"), "status 404 not found"),
        (Reply(418, b'{"errors": 7}'), "status 418"),
        (Reply(400, b'{"errors": []}'), "status 400 bad request"),
        (Reply(400, b"[" * 50_000), "status 400 bad request"),
        (Reply(400, b"x" * 1_000_000), "status 400 bad request"),
        (error(400, "A", "b\n\x1b[0mc" + "d" * 5000), "a: b [0mcddd"),
    ],
)
def test_a_refusal_has_the_registry_s_words(serve: Any, reply: Reply, text: str) -> None:
    book = serve(lambda _: reply)
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        registry.manifest(NAME, "1.0")
    message = caught.value.message
    assert message.startswith(f"pull {book.domain}/{NAME}:1.0: manifest: {text}")
    assert message.isprintable()
    assert len(message) < 500
    assert caught.value.status == reply.status


def test_a_refusal_to_whoever_is_not_logged_in_says_what_to_do(serve: Any) -> None:
    book = serve(lambda _: error(401, "UNAUTHORIZED", "authentication required"))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        registry.manifest(NAME, "1")
    assert caught.value.message == (
        f"pull {book.domain}/{NAME}:1: manifest: unauthorized: authentication required"
    )
    assert f"pycontain login {book.domain}" in (caught.value.hint or "")


def test_nobody_there_is_told_at_once() -> None:
    slow = settings(backoff=1000.0)
    # Bound, so that nobody else gets the port, but not listened at.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        with (
            Registry(f"127.0.0.1:{silent.getsockname()[1]}", slow) as registry,
            pytest.raises(RegistryError, match=r"manifest: .*connection refused"),
        ):
            registry.manifest(NAME, "1")


# Passing failures


def test_what_fails_in_passing_is_repeated(serve: Any) -> None:
    replies = (Reply(503), Reply(200, b"cut off", cut=3), error(429, "TOOMANYREQUESTS"))
    book = serve(in_turn(*replies, Reply(200, DOCUMENT)))
    with Registry(book.domain, settings()) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT
    assert len(book.asked()) == 4


def test_what_fails_for_ever_is_told(serve: Any) -> None:
    book = serve(lambda _: error(503, "UNAVAILABLE", "come back"))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        registry.manifest(NAME, "1")
    assert "unavailable: come back" in caught.value.message
    assert len(book.asked()) == 1 + 3


def test_what_will_not_change_is_not_repeated(serve: Any) -> None:
    book = serve(lambda _: error(400, "NAME_INVALID"))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError):
        registry.manifest(NAME, "1")
    assert len(book.asked()) == 1


def test_a_registry_is_left_alone_as_long_as_it_asks(serve: Any) -> None:
    book = serve(in_turn(error(429, "TOOMANYREQUESTS", Retry_After="2"), Reply(200, DOCUMENT)))
    begin = time.monotonic()
    with Registry(book.domain, settings()) as registry:
        registry.manifest(NAME, "1")
    assert time.monotonic() - begin >= 2


def test_a_wait_beyond_all_patience_is_an_error(serve: Any) -> None:
    book = serve(lambda _: error(429, "TOOMANYREQUESTS", Retry_After="100000"))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError):
        registry.manifest(NAME, "1")
    assert len(book.asked()) == 1


# Blobs


def test_a_blob_goes_on_where_it_broke(serve: Any) -> None:
    cuts = iter([700_000, 1_300_000, 5])
    book = serve(lambda request: part(request, cut=next(cuts, None)))
    with Registry(book.domain, settings()) as registry:
        assert read(registry) == BLOB
    ranges = [one.headers.get("Range", "") for one in book.asked()]
    starts = [int(text.removeprefix("bytes=").removesuffix("-") or 0) for text in ranges]
    assert len(starts) == 4
    assert starts == sorted(starts)
    assert starts[-1] > 1_000_000


def test_a_blob_is_read_from_an_offset(serve: Any) -> None:
    book = serve(part)
    with Registry(book.domain, settings()) as registry, registry.blob(NAME, DIGEST, 1000) as blob:
        assert blob.size == len(BLOB)
        assert b"".join(blob) == BLOB[1000:]


def test_a_server_without_ranges_begins_at_the_beginning(serve: Any) -> None:
    cuts = iter([1_000_000])
    book = serve(lambda _: Reply(200, BLOB, cut=next(cuts, None)))
    with Registry(book.domain, settings()) as registry:
        assert read(registry) == BLOB
        assert read(registry, 2_999_999) == BLOB[-1:]


def test_progress_forgives_earlier_failures(serve: Any) -> None:
    """More breaks than retries, but something came by each connection."""
    book = serve(lambda request: part(request, cut=1_100_000))
    big = os.urandom(10_000_000)
    book.answer = lambda request: part(request, big, cut=1_600_000)
    with (
        Registry(book.domain, settings(retries=2)) as registry,
        registry.blob(NAME, digest_of(big)) as blob,
    ):
        assert b"".join(blob) == big
    assert len(book.asked()) > 3


def test_a_blob_that_never_ends_well_is_an_error(serve: Any) -> None:
    book = serve(lambda request: part(request, cut=0))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        read(registry)
    assert caught.value.message.startswith(f"pull {book.domain}/{NAME}: blob {DIGEST}: ")
    assert len(book.asked()) == 1 + 3


@pytest.mark.parametrize(
    "header", ["bytes 0-2999999/3000000", "bytes 11-2999999/3000000", "10-2999999/3000000", ""]
)
def test_a_part_that_is_another_is_refused(serve: Any, header: str) -> None:
    book = serve(lambda _: Reply(206, BLOB[10:], {"Content-Range": header}))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        read(registry, 10)
    assert "not the part from byte 10 on" in caught.value.message


def test_a_blob_that_changes_its_size_is_refused(serve: Any) -> None:
    sizes = iter([BLOB])
    book = serve(lambda request: part(request, next(sizes, BLOB + b"x"), 99))
    with (
        Registry(book.domain, settings()) as registry,
        pytest.raises(RegistryError, match="3000000 and then 3000001 bytes"),
    ):
        read(registry)


def test_an_encoded_blob_is_refused(serve: Any) -> None:
    book = serve(lambda _: Reply(200, BLOB, {"Content-Encoding": "gzip"}))
    with (
        Registry(book.domain, settings()) as registry,
        pytest.raises(RegistryError, match="not asked for"),
    ):
        read(registry)


def test_closing_the_registry_ends_what_is_under_way(serve: Any) -> None:
    book = serve(lambda _: Reply(200, BLOB, length=len(BLOB) + 1))  # one byte never comes
    book_waits = threading.Event()
    outcome: list[BaseException] = []
    registry = Registry(book.domain, settings(read_timeout=1000.0))

    def reader() -> None:
        try:
            with registry.blob(NAME, DIGEST) as blob:
                for _ in blob:
                    book_waits.set()
        except Cancelled as err:
            outcome.append(err)

    thread = threading.Thread(target=reader)
    thread.start()
    assert book_waits.wait(20)
    registry.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(outcome) == 1
    with pytest.raises(Cancelled):
        registry.manifest(NAME, "1")


def test_closing_the_registry_ends_a_wait(serve: Any) -> None:
    book = serve(lambda _: error(503))
    registry = Registry(book.domain, settings(backoff=1000.0, patience=1000.0))
    threading.Timer(0.3, registry.close).start()
    with pytest.raises(Cancelled):
        registry.manifest(NAME, "1")


# Whom the credentials go to


def told(book: Notebook) -> bool:
    """Whether a server was told anything that it must not know."""
    return any(
        "Authorization" in one.headers
        or any(secret in f"{one.path}{one.headers}{one.body!r}" for secret in SECRETS)
        for one in book.requests
    )


def basic(request: Request) -> Reply | None:
    """A challenge for whoever does not log in."""
    if request.headers.get("Authorization") == "Basic bWU6c2VjcmV0":
        return None
    return Reply(401, b"{}", {"WWW-Authenticate": 'Basic realm="x"'})


def test_a_redirect_gets_no_credentials(serve: Any) -> None:
    storage = serve(part)
    book = serve(
        lambda request: (
            basic(request) or Reply(307, b"", {"Location": f"{storage.url}/there?sig=1"})
        )
    )
    with Registry(book.domain, logged_in(book.domain)) as registry:
        assert read(registry) == BLOB
        assert read(registry, 5) == BLOB[5:]
    assert len(storage.asked("/there?sig=1")) == 2
    assert not told(storage)
    assert told(book)


def test_a_redirect_that_asks_for_a_login_gets_none(serve: Any) -> None:
    """CVE-2020-15157: the challenge of a server that was redirected to is not answered."""
    evil = serve(lambda _: Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
    book = serve(lambda request: basic(request) or Reply(302, b"", {"Location": f"{evil.url}/x"}))
    with (
        Registry(book.domain, logged_in(book.domain)) as registry,
        pytest.raises(RegistryError) as caught,
    ):
        read(registry)
    assert caught.value.status == 401
    assert not told(evil)
    assert len(evil.asked()) == 1


def test_a_token_service_named_by_a_redirect_gets_nothing(serve: Any) -> None:
    service = serve(lambda _: Reply(200, b'{"token":"t"}'))
    bearer = f'Bearer realm="{service.url}/token",service="x"'
    evil = serve(lambda _: Reply(401, b"", {"WWW-Authenticate": bearer}))
    book = serve(lambda request: basic(request) or Reply(307, b"", {"Location": f"{evil.url}/x"}))
    with Registry(book.domain, logged_in(book.domain)) as registry, pytest.raises(RegistryError):
        read(registry)
    assert service.requests == []
    assert not told(evil)


def test_a_redirect_back_gets_no_credentials_either(serve: Any) -> None:
    other: Notebook = serve(lambda _: Reply(307, b"", {"Location": f"{book.url}/back"}))

    def answer(request: Request) -> Reply:
        if request.path == "/back":
            return Reply(200, BLOB)
        return basic(request) or Reply(307, b"", {"Location": f"{other.url}/x"})

    book: Notebook = serve(answer)
    with Registry(book.domain, logged_in(book.domain)) as registry:
        assert read(registry) == BLOB
    (back,) = book.asked("/back")
    assert "Authorization" not in back.headers
    assert not told(other)


def test_a_redirect_on_the_same_server_stays_logged_in(serve: Any) -> None:
    def answer(request: Request) -> Reply:
        refused = basic(request)
        if refused or request.path == "/moved":
            return refused or Reply(200, DOCUMENT)
        return Reply(301, b"", {"Location": "/moved"})

    book = serve(answer)
    with Registry(book.domain, logged_in(book.domain)) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT


def test_redirects_end(serve: Any) -> None:
    book = serve(lambda request: Reply(307, b"", {"Location": f"{request.path}x"}))
    with (
        Registry(book.domain, settings()) as registry,
        pytest.raises(RegistryError, match="more than 5 redirects"),
    ):
        registry.manifest(NAME, "1")
    assert len(book.asked()) == 6


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/", "", "http://u:p@127.0.0.1/"]
)
def test_a_redirect_that_may_not_be_followed(serve: Any, location: str) -> None:
    book = serve(lambda _: Reply(307, b"", {"Location": location}))
    with (
        Registry(book.domain, settings()) as registry,
        pytest.raises(RegistryError, match="manifest: "),
    ):
        registry.manifest(NAME, "1")


def test_an_upload_elsewhere_gets_no_credentials(serve: Any) -> None:
    storage = serve(lambda _: Reply(201))

    def answer(request: Request) -> Reply:
        return basic(request) or Reply(202, b"", {"Location": f"{storage.url}/up"})

    book = serve(answer)
    with Registry(book.domain, logged_in(book.domain)) as registry:
        registry.upload_blob(NAME, DIGEST, len(BLOB), lambda: io.BytesIO(BLOB))
    (put,) = storage.asked("/up")
    assert put.body == BLOB
    assert not told(storage)


def test_wrong_credentials_are_sent_once(serve: Any) -> None:
    book = serve(lambda _: Reply(401, b"{}", {"WWW-Authenticate": 'Basic realm="x"'}))
    with Registry(book.domain, logged_in(book.domain)) as registry:
        for _ in range(2):
            with pytest.raises(RegistryError):
                registry.manifest(NAME, "1")
    assert [("Authorization" in one.headers) for one in book.asked()] == [False, True, True]


# Tokens


def bearer(realm: str, allowed: str = "Bearer good") -> Callable[[Request], Reply]:
    challenge = f'Bearer realm="{realm}",service="some, service",scope="repository:{NAME}:pull"'

    def answer(request: Request) -> Reply:
        if request.headers.get("Authorization") != allowed:
            reply = error(401, "UNAUTHORIZED", "authentication required")
            return Reply(401, reply.body, {"WWW-Authenticate": challenge})
        return Reply(200, DOCUMENT)

    return answer


def token(text: str = "good", **more: object) -> Reply:
    return Reply(200, json.dumps({"token": text, **more}).encode())


def test_a_token_is_got_once(serve: Any) -> None:
    service = serve(lambda _: token())
    book = serve(bearer(f"{service.url}/token?x=1"))
    with Registry(book.domain, logged_in(book.domain)) as registry:
        threads = [
            threading.Thread(target=registry.manifest, args=(NAME, str(number)))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (asked,) = service.asked()
    assert asked.path == (
        "/token?x=1&service=some%2C+service&scope=repository%3Ateam%2Fapp%3Apull&account=me"
    )
    assert asked.headers["Authorization"] == "Basic bWU6c2VjcmV0"
    assert not any("Basic" in one.headers.get("Authorization", "") for one in book.requests)


def test_a_token_is_got_without_credentials(serve: Any) -> None:
    service = serve(lambda _: token(access_token="other"))
    book = serve(bearer(f"{service.url}/token"))
    with Registry(book.domain, settings()) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT
    (asked,) = service.asked()
    assert "Authorization" not in asked.headers


def test_a_token_that_is_refused_later_is_renewed(serve: Any) -> None:
    tokens = iter(["one", "two"])
    service = serve(lambda _: token(next(tokens)))
    book = serve(bearer(f"{service.url}/token", "Bearer one"))
    with Registry(book.domain, settings()) as registry:
        registry.manifest(NAME, "1")
        book.answer = bearer(f"{service.url}/token", "Bearer two")
        registry.manifest(NAME, "1")
    assert len(service.asked()) == 2


def test_a_useless_token_is_told(serve: Any) -> None:
    service = serve(lambda _: token("bad"))
    book = serve(bearer(f"{service.url}/token"))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        registry.manifest(NAME, "1")
    assert "unauthorized: authentication required" in caught.value.message
    assert len(book.asked()) == 2
    assert len(service.asked()) == 1


def test_an_identity_token_is_sent_in_a_form(serve: Any) -> None:
    service = serve(lambda _: Reply(200, b'{"access_token":"good"}'))
    book = serve(bearer(f"{service.url}/token"))
    who = Credential(username="me", identity_token="refresh&me")
    with Registry(book.domain, logged_in(book.domain, who)) as registry:
        registry.manifest(NAME, "1")
    (asked,) = service.asked()
    assert asked.method == "POST"
    assert asked.path == "/token"
    assert b"grant_type=refresh_token&refresh_token=refresh%26me&" in asked.body


def test_a_bearer_token_of_the_user_s_own_is_used(serve: Any) -> None:
    book = serve(bearer("http://127.0.0.1:1/nobody"))
    who = Credential(registry_token="good")
    with Registry(book.domain, logged_in(book.domain, who)) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(401, b'{"details":"no"}'), "token: .*: status 401"),
        (error(403, "DENIED", "not you"), "token: .*: denied: not you"),
        (Reply(200, b"{}"), "token: .*no token"),
        (Reply(200, b"<html>"), "token: .*not a token"),
        (Reply(200, b'{"token": 1}'), "token: .*not a token"),
        (token("a b"), "token: .*cannot be sent|none that can be sent"),
        (token("a\r\nX: y"), "none that can be sent"),
        (Reply(200, b'{"token":"' + b"x" * 1_100_000 + b'"}'), "longer than"),
        (Reply(302, b"", {"Location": "/elsewhere"}), "token: .*: status 302"),
    ],
)
def test_what_a_token_service_does_wrong_is_told(serve: Any, reply: Reply, text: str) -> None:
    service = serve(lambda _: reply)
    book = serve(bearer(f"{service.url}/token"))
    with (
        Registry(book.domain, logged_in(book.domain)) as registry,
        pytest.raises(RegistryError, match=text) as caught,
    ):
        registry.manifest(NAME, "1")
    assert not any(secret in caught.value.message for secret in SECRETS)
    assert service.asked("/elsewhere") == []


@pytest.mark.parametrize(
    "realm", ["", "/token", "file:///etc/passwd", "http://u:p@127.0.0.1/", "http://far.example/t"]
)
def test_a_token_service_that_may_not_be_asked(serve: Any, realm: str) -> None:
    book = serve(bearer(realm))
    with (
        Registry(book.domain, logged_in(book.domain)) as registry,
        pytest.raises(RegistryError, match=r"url|token"),
    ):
        registry.manifest(NAME, "1")


# Tags


def test_tags_come_page_by_page(serve: Any) -> None:
    def answer(request: Request) -> Reply:
        if "last=b" in request.path:
            return Reply(200, b'{"name":"x","tags":["c"]}')
        link = f'</v2/{NAME}/tags/list?n=1000&last=b>; rel="next"'
        return Reply(200, b'{"name":"x","tags":["a","b"]}', {"Link": link})

    book = serve(answer)
    with Registry(book.domain, settings()) as registry:
        assert list(registry.tags(NAME)) == ["a", "b", "c"]


def test_a_repository_without_tags_has_none(serve: Any) -> None:
    book = serve(lambda _: Reply(200, b'{"name":"x","tags":null}'))
    with Registry(book.domain, settings()) as registry:
        assert list(registry.tags(NAME)) == []


@pytest.mark.parametrize(
    ("body", "link"),
    [
        (b"[]", ""), (b'{"tags":[1]}', ""), (b'{"tags":["a\\nb"]}', ""), (b"", ""),
        (b'{"tags":["../x"]}', ""), (b'{"tags":[]}', "<http://127.0.0.1:1/v2/a>; rel=next"),
        (b'{"tags":[]}', "</v2/other/repo/tags/list?n=1>; rel=next"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_tags_is_refused(serve: Any, body: bytes, link: str) -> None:
    book = serve(lambda _: Reply(200, body, {"Link": link} if link else {}))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError):
        list(registry.tags(NAME))
    assert len(book.asked()) == 1


# Uploads


class Shelf:
    """A server that takes uploads, whole or in pieces, and fails as it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.blobs: dict[str, bytes] = {}
        self.failures: dict[str, list[Reply | int]] = {}
        self.session = 0

    def __call__(self, request: Request) -> Reply:
        failure = self._failure(request.method)
        if isinstance(failure, Reply):
            return failure
        if request.method == "HEAD":
            return Reply(200 if request.path.rpartition("/")[2] in self.blobs else 404)
        if request.method == "POST":
            self.session += 1
            self.data = b""
            return self._at(202)
        if f"up{self.session}" not in request.path:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if request.method == "GET":
            return self._at(204)
        taken = request.body if failure is None else request.body[:failure]
        self.data += taken
        if failure is not None:
            return Reply(503)
        if request.method == "PATCH":
            return self._at(202)
        self.blobs[digest_of(self.data)] = self.data
        return Reply(201, b"", {"Docker-Content-Digest": digest_of(self.data)})

    def _failure(self, method: str) -> Reply | int | None:
        left = self.failures.get(method, [])
        return left.pop(0) if left else None

    def _at(self, status: int) -> Reply:
        end = max(len(self.data) - 1, 0)
        location = f"/v2/{NAME}/blobs/uploads/up{self.session}?_state={len(self.data)}"
        return Reply(status, b"", {"Location": location, "Range": f"0-{end}"})


PIECES: dict[str, Any] = {"upload_chunk": 1_000_000, "chunked_above": 0}


def upload(registry: Registry, progress: Callable[[int], None] | None = None) -> None:
    registry.upload_blob(NAME, DIGEST, len(BLOB), lambda: io.BytesIO(BLOB), progress)


@pytest.mark.parametrize(
    ("more", "methods"),
    [({}, ["POST", "PUT"]), (PIECES, ["POST", "PATCH", "PATCH", "PATCH", "PUT"])],
)
def test_a_blob_is_sent(serve: Any, more: dict[str, Any], methods: list[str]) -> None:
    shelf = Shelf()
    book = serve(shelf)
    seen: list[int] = []
    with Registry(book.domain, settings(**more)) as registry:
        assert not registry.has_blob(NAME, DIGEST)
        upload(registry, seen.append)
        assert registry.has_blob(NAME, DIGEST)
    assert shelf.blobs == {DIGEST: BLOB}
    assert [one.method for one in book.asked() if one.method != "HEAD"] == methods
    assert seen == sorted(seen)
    assert seen[-1] == len(BLOB)


@pytest.mark.parametrize("more", [{}, PIECES])
def test_an_upload_is_tried_again(serve: Any, more: dict[str, Any]) -> None:
    shelf = Shelf()
    shelf.failures = {"POST": [Reply(503)], "PUT": [Reply(502)]}
    book = serve(shelf)
    with Registry(book.domain, settings(**more)) as registry:
        upload(registry)
    assert shelf.blobs == {DIGEST: BLOB}


@pytest.mark.parametrize("taken", [0, 1, 400_000, 1_000_000])
def test_an_upload_in_pieces_goes_on_where_it_broke(serve: Any, taken: int) -> None:
    shelf = Shelf()
    shelf.failures = {"PATCH": [700_000, taken]}
    book = serve(shelf)
    with Registry(book.domain, settings(**PIECES)) as registry:
        upload(registry)
    assert shelf.blobs == {DIGEST: BLOB}
    assert len(book.asked(method="POST")) == 1


def test_an_upload_that_was_forgotten_begins_again(serve: Any) -> None:
    shelf = Shelf()
    book = serve(shelf)

    def forgets(request: Request) -> Reply:
        if request.method == "PATCH" and request.headers["Content-Range"].startswith("1000000-"):
            book.answer = shelf
            shelf.session += 1  # the one that the client knows is gone
            return Reply(503)
        return shelf(request)

    book.answer = forgets
    with Registry(book.domain, settings(**PIECES)) as registry:
        upload(registry)
    assert shelf.blobs == {DIGEST: BLOB}
    assert len(book.asked(method="POST")) == 2


def test_a_registry_that_takes_no_pieces_gets_it_whole(serve: Any) -> None:
    shelf = Shelf()
    shelf.failures = {"PATCH": [error(405, "UNSUPPORTED")]}
    book = serve(shelf)
    with Registry(book.domain, settings(**PIECES)) as registry:
        upload(registry)
    assert shelf.blobs == {DIGEST: BLOB}
    assert [one.method for one in book.asked()] == ["POST", "PATCH", "POST", "PUT"]


def test_a_blob_whose_answer_was_lost_is_not_sent_twice(serve: Any) -> None:
    shelf = Shelf()
    book = serve(shelf)

    def loses(request: Request) -> Reply:
        reply = shelf(request)
        return Reply(504) if request.method == "PUT" else reply

    book.answer = loses
    with Registry(book.domain, settings()) as registry:
        upload(registry)
    assert len(book.asked(method="PUT")) == 1


def test_a_refused_upload_is_told(serve: Any) -> None:
    shelf = Shelf()
    shelf.failures = {"PUT": [error(400, "DIGEST_INVALID", "provided digest did not match")]}
    book = serve(shelf)
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError) as caught:
        upload(registry)
    assert caught.value.message == (
        f"push {book.domain}/{NAME}: blob {DIGEST}: digest invalid: provided digest did not match"
    )


def test_a_registry_that_stores_something_else_is_found_out(serve: Any) -> None:
    headers = {"Location": "/v2/x", "Docker-Content-Digest": digest_of(b"else")}
    book = serve(lambda request: Reply(202 if request.method == "POST" else 201, b"", headers))
    with Registry(book.domain, settings()) as registry:
        with pytest.raises(DigestMismatch, match="push "):
            upload(registry)
        with pytest.raises(DigestMismatch, match="push "):
            registry.put_manifest(NAME, "1", DOCUMENT, INDEX)


def test_a_file_that_is_shorter_is_told(serve: Any) -> None:
    book = serve(Shelf())
    with (
        Registry(book.domain, settings()) as registry,
        pytest.raises(StoreError, match="ended after 10 bytes"),
    ):
        registry.upload_blob(NAME, DIGEST, 11, lambda: io.BytesIO(b"x" * 10))


def test_a_blob_is_taken_over(serve: Any) -> None:
    book = serve(lambda _: Reply(201))
    with Registry(book.domain, settings()) as registry:
        assert registry.mount_blob(NAME, DIGEST, "from/there")
    (asked,) = book.asked()
    assert asked.path.endswith(f"?mount={DIGEST.replace(':', '%3A')}&from=from%2Fthere")


def test_a_blob_that_is_not_taken_over_is_sent_by_the_upload_that_was_begun(serve: Any) -> None:
    shelf = Shelf()
    book = serve(shelf)
    with Registry(book.domain, settings()) as registry:
        assert not registry.mount_blob(NAME, DIGEST, "from/there")
        upload(registry)
    assert shelf.blobs == {DIGEST: BLOB}
    assert len(book.asked(method="POST")) == 1


def test_taking_over_asks_for_both_repositories(serve: Any) -> None:
    service = serve(lambda _: token())
    book = serve(lambda request: bearer(f"{service.url}/t")(request))
    with Registry(book.domain, settings()) as registry, pytest.raises(RegistryError):
        registry.mount_blob(NAME, DIGEST, "from/there")  # it answers 200, which is no answer
    (asked,) = service.asked()
    assert "repository%3Afrom%2Fthere%3Apull" in asked.path
    assert "repository%3Ateam%2Fapp%3Apull%2Cpush" in asked.path


# Mirrors


def test_a_mirror_is_read_first_and_by_its_prefix(serve: Any) -> None:
    mirror = serve(lambda _: Reply(200, DOCUMENT))
    book = serve(lambda _: Reply(500))
    mirrors = {book.domain: (f"{mirror.url}/cache/",)}
    with Registry(book.domain, settings(mirrors=mirrors)) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT
    assert mirror.asked(f"/v2/cache/{NAME}/manifests/1")
    assert book.requests == []


@pytest.mark.parametrize(
    "reply",
    [Reply(404), Reply(401), Reply(500), Reply(200, b"other"), Reply(200, DOCUMENT, cut=3)],
)
def test_the_registry_is_asked_where_a_mirror_fails(serve: Any, reply: Reply) -> None:
    mirror = serve(lambda _: reply)
    book = serve(lambda _: Reply(200, DOCUMENT))
    mirrors = {"*": (mirror.url, "http://127.0.0.1:1")}
    with Registry(book.domain, settings(mirrors=mirrors)) as registry:
        assert registry.manifest(NAME, digest_of(DOCUMENT)).data == DOCUMENT
    assert mirror.asked()


def test_what_mirrors_said_is_in_the_hint(serve: Any) -> None:
    mirror = serve(lambda _: error(404, "MANIFEST_UNKNOWN"))
    book = serve(lambda _: error(403, "DENIED"))
    mirrors = {book.domain: (mirror.url,)}
    with (
        Registry(book.domain, settings(mirrors=mirrors)) as registry,
        pytest.raises(RegistryError, match="denied") as caught,
    ):
        registry.manifest(NAME, "1")
    assert f"mirror {mirror.domain}: manifest unknown" in (caught.value.hint or "")


def test_a_blob_goes_on_at_the_registry_where_the_mirror_broke(serve: Any) -> None:
    replies = iter([1_500_000])

    def breaks(request: Request) -> Reply:
        cut = next(replies, None)
        return Reply(500) if cut is None else part(request, cut=cut)

    mirror = serve(breaks)
    book = serve(part)
    with Registry(book.domain, settings(mirrors={book.domain: (mirror.url,)})) as registry:
        assert read(registry) == BLOB
    (asked,) = book.asked()
    assert int(asked.headers["Range"].removeprefix("bytes=").removesuffix("-")) >= 1_000_000


def test_a_mirror_does_not_get_the_registry_s_credentials(serve: Any) -> None:
    mirror = serve(lambda _: Reply(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
    book = serve(lambda request: basic(request) or Reply(200, DOCUMENT))
    more = logged_in(book.domain, mirrors={book.domain: (mirror.url,)})
    with Registry(book.domain, more) as registry:
        assert registry.manifest(NAME, "1").data == DOCUMENT
    assert not told(mirror)


def test_nothing_is_pushed_to_a_mirror(serve: Any) -> None:
    mirror = serve(lambda _: Reply(500))
    book = serve(Shelf())
    with Registry(book.domain, settings(mirrors={"*": (mirror.url,)})) as registry:
        upload(registry)
    assert mirror.requests == []


# Logging in


def test_a_login_is_tried(serve: Any) -> None:
    book = serve(lambda request: basic(request) or Reply())
    with Registry(book.domain, settings()) as registry:
        assert registry.login(ME) == ME
        with pytest.raises(RegistryError) as caught:
            registry.login(Credential(username="me", password="wrong"))
    assert caught.value.message == f"login {book.domain}: status 401 unauthorized"


def test_a_login_gives_a_token_in_place_of_the_password(serve: Any) -> None:
    service = serve(lambda _: token(refresh_token="kept"))
    book = serve(bearer(f"{service.url}/token"))
    with Registry(book.domain, settings()) as registry:
        assert registry.login(ME) == Credential(username="me", identity_token="kept")
    (asked,) = service.asked()
    assert "offline_token=true" in asked.path
    assert asked.headers["Authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"


def test_a_client_leaves_no_connection_open(serve: Any) -> None:
    book = serve(lambda request: part(request, cut=None))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with Registry(book.domain, settings()) as registry:
            read(registry)
            blob = registry.blob(NAME, DIGEST)
            next(iter(blob))  # and no more of it
    end = time.monotonic() + 20
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < end:
        time.sleep(0.05)  # the server's own ends close when its threads see it
    assert len(os.listdir("/proc/self/fd")) <= before


def test_warnings_and_the_process_are_left_alone(serve: Any) -> None:
    import warnings

    book = serve(lambda _: Reply(200, DOCUMENT))
    filters = list(warnings.filters)
    with Registry(book.domain, settings()) as registry:
        registry.manifest(NAME, "1")
    assert list(warnings.filters) == filters
