"""Challenges, links, waits and error documents: what comes in headers and bodies of a registry."""

from __future__ import annotations

import email.utils
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import RegistryError
from pycontain.image import http, refusal
from pycontain.image.auth import parse_challenges
from pycontain.image.registry import parse_links
from pycontain.image.settings import Proxies, is_loopback

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'


def challenges(*lines: str) -> list[tuple[str, dict[str, str]]]:
    return [(one.scheme, one.parameters) for one in parse_challenges(lines)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Basic", [("basic", {})]),
        ('Basic realm="a"', [("basic", {"realm": "a"})]),
        ("BASIC Realm=a", [("basic", {"realm": "a"})]),
        (
            HUB,
            [
                (
                    "bearer",
                    {"realm": "https://auth.docker.io/token", "service": "registry.docker.io"},
                )
            ],
        ),
        # commas and equals signs within quotes, escaped quotes
        (
            'Bearer realm="x",scope="repository:a/b:pull,push repository:c:pull"',
            [("bearer", {"realm": "x", "scope": "repository:a/b:pull,push repository:c:pull"})],
        ),
        (r'Basic realm="say \"a, b=c\" \\"', [("basic", {"realm": 'say "a, b=c" \\'})]),
        # blanks around "=" (RFC 9110: allowed to receive), and empty list elements
        ('Bearer realm = "x" , , service= y', [("bearer", {"realm": "x", "service": "y"})]),
        # several challenges in one header
        (
            'Basic realm="a", Bearer realm="b",service="c"',
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b", "service": "c"})],
        ),
        ('Negotiate, Basic realm="a"', [("negotiate", {}), ("basic", {"realm": "a"})]),
        ('Negotiate YWJj==, Basic realm="a"', [("negotiate", {}), ("basic", {"realm": "a"})]),
        ("NTLM abc/+=", [("ntlm", {})]),
        # the first of two parameters counts
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        # what cannot be understood
        ("", []),
        (",,,", []),
        ('"quoted"', []),
        ('Bearer realm="never closed', [("bearer", {})]),
    ],
)
def test_a_challenge_is_parsed(line: str, expected: object) -> None:
    assert challenges(line) == expected


def test_challenges_come_from_several_headers() -> None:
    assert challenges('Basic realm="a"', HUB)[1][0] == "bearer"


@given(st.text(alphabet='Basic Bearer="\\,;= \t\u00e9\0~', max_size=60))
def test_any_header_is_parsed_somehow(line: str) -> None:
    for scheme, parameters in challenges(line):
        assert scheme == scheme.lower()
        assert all(name == name.lower() for name in parameters)


@given(
    st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), st.text('aé"\\, =;\t'), min_size=1)
)
def test_a_quoted_value_comes_back_whole(parameters: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"')

    line = "Bearer " + ",".join(f'{name}="{quoted(text)}"' for name, text in parameters.items())
    assert challenges(line) == [("bearer", parameters)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('</v2/a/tags/list?n=1&last=x>; rel="next"', [("/v2/a/tags/list?n=1&last=x", "next")]),
        ("</a>; rel=next", [("/a", "next")]),
        ('</a>; title="x"; REL="Next"', [("/a", "next")]),
        ('</a>; rel="prev", </b>; rel="next"', [("/a", "prev"), ("/b", "next")]),
        ("</a>", [("/a", "")]),
        ("</a", []),
        ("", []),
    ],
)
def test_a_link_is_parsed(line: str, expected: object) -> None:
    assert parse_links([line]) == expected


def test_a_wait_is_seconds_or_a_date() -> None:
    assert refusal.parse_wait(" 7 ") == 7
    assert refusal.parse_wait("soon") is None
    assert refusal.parse_wait("") is None
    assert refusal.parse_wait("-1") is None
    later = email.utils.formatdate(time.time() + 1000, usegmt=True)
    assert 900 < (refusal.parse_wait(later) or 0) <= 1000
    assert refusal.parse_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_the_words_of_a_server_are_one_harmless_line() -> None:
    assert refusal.clean("a\r\n\x1b[31mb\u202ec ") == "a [31mb c"
    assert len(refusal.clean("x" * 10_000)) <= 300


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://A.example/x", ("https", "a.example", 443)),
        ("http://a.example:5000", ("http", "a.example", 5000)),
        ("https://[::1]:1/", ("https", "::1", 1)),
    ],
)
def test_the_origin_of_a_url(url: str, expected: object) -> None:
    assert http.origin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/", "file:///etc/passwd", "//a/b", "a/b", "", "https://", "https://user:pw@a/",
        "https://user@a/", "https://a b/", "https://a/\r\nX: y", "https://a:99999999/", "https://[::1",
        "https://a\x00/",
    ],
)  # fmt: skip
def test_a_url_that_may_not_be_asked_for(url: str) -> None:
    with pytest.raises(RegistryError) as caught:
        http.origin(url)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("https://a/v2/x", "/v2/y", "https://a/v2/y"),
        ("https://a/v2/x", "https://b/y?z", "https://b/y?z"),
        ("http://a/v2/x", "https://a/y", "https://a/y"),
        ("http://a/v2/x", "http://b/y", "http://b/y"),
        # of a registry that does not know that there is TLS before it
        ("https://a:5/v2/x", "http://A:5/y", "https://A:5/y"),
    ],
)
def test_a_location_is_followed(url: str, location: str, expected: str) -> None:
    assert http.follow(url, location) == expected


@pytest.mark.parametrize(
    "location", ["", "http://b/y", "http://a:80/y", "ftp://a/", "https://u:p@a/", "http://[/"]
)
def test_a_location_is_not_followed(location: str) -> None:
    with pytest.raises(RegistryError):
        http.follow("https://a/v2/x", location)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("a.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("::1", True), ("localhost.example", False), ("10.0.0.1", False),
        ("127.0.0.1.example", False), ("notlocalhost", False),
    ],
)  # fmt: skip
def test_what_this_machine_is(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


def test_settings_are_made_without_the_http_library() -> None:
    script = "import sys, pycontain.image.settings as s; s.Settings(); print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "pycontain.image.credentials" in done.stdout.split()
    assert not {"urllib3", "http.client", "ssl", "subprocess"} & set(done.stdout.split())


def test_proxies_come_from_the_environment() -> None:
    found = Proxies.from_environment(
        {"HTTP_PROXY": "a:1", "http_proxy": "b:2", "HTTPS_PROXY": "https://c", "NO_PROXY": "x, ,y"}
    )
    assert (found.http, found.https, found.no_proxy) == ("http://b:2", "https://c", ("x", "y"))
    assert Proxies.from_environment({}) == Proxies()


@pytest.mark.parametrize(
    ("word", "host", "port", "direct"),
    [
        ("*", "any.example", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "www.example.com", 443, True),
        ("EXAMPLE.com", "www.Example.com.", 443, True),
        ("example.com", "badexample.com", 443, False),
        (".example.com", "example.com", 443, False),
        (".example.com", "www.example.com", 443, True),
        ("*.example.com", "www.example.com", 443, True),
        ("example.com:5000", "example.com", 5000, True),
        ("example.com:5000", "example.com", 443, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("fd00::/8", "fd00::1", 80, True),
        ("[fd00::1]:5000", "fd00::1", 5000, True),
        ("fd00::1", "fd00::1", 5000, True),
    ],
)
def test_no_proxy(word: str, host: str, port: int, direct: bool) -> None:
    proxies = Proxies(https="http://proxy:1", no_proxy=("other.example", word))
    assert proxies.choose("https", host, port) == ("" if direct else "http://proxy:1")


def test_this_machine_is_not_asked_for_by_a_proxy() -> None:
    proxies = Proxies(http="http://proxy:1", https="http://proxy:1")
    assert proxies.choose("http", "127.0.0.1", 5000) == ""
    assert proxies.choose("http", "a.example", 5000) == "http://proxy:1"
