"""Image references: the distribution grammar and docker's defaults."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pycontain.errors import InvalidInput
from pycontain.image.reference import Reference, parse

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("busybox", "docker.io", "library/busybox", None, None),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", None),
        ("a/b", "docker.io", "a/b", None, None),
        ("docker.io/busybox", "docker.io", "library/busybox", None, None),
        ("index.docker.io/a/b:c", "docker.io", "a/b", "c", None),
        ("localhost/x", "localhost", "x", None, None),
        ("localhost:5000/x:y", "localhost:5000", "x", "y", None),
        ("localhost", "docker.io", "library/localhost", None, None),
        ("reg.io:5000/a/b@" + SHA, "reg.io:5000", "a/b", None, SHA),
        ("reg.io/a:t@" + SHA, "reg.io", "a", "t", SHA),
        ("Reg/a", "Reg", "a", None, None),
        ("[::1]:5000/a", "[::1]:5000", "a", None, None),
        ("[fe80::1]/a:b", "[fe80::1]", "a", "b", None),
        ("x/a.b_c__d---e", "docker.io", "x/a.b_c__d---e", None, None),
        ("busybox:_T-1.x", "docker.io", "library/busybox", "_T-1.x", None),
        ("deadbeef", "docker.io", "library/deadbeef", None, None),
    ],
)
def test_parse(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    assert parse(text) == Reference(domain=domain, path=path, tag=tag, digest=digest)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "name is empty"),
        (":tag", "name is empty"),
        ("reg.io/", "name is empty"),
        ("Busybox", "must be lower case"),
        ("reg.io/A", "must be lower case"),
        ("a//b", "component ''"),
        ("a/b/", "component ''"),
        ("/a", "component ''"),
        ("a..b", "component 'a..b'"),
        ("a___b", "component 'a___b'"),
        ("a._b", "component 'a._b'"),
        ("-a", "component '-a'"),
        ("a-", "component 'a-'"),
        ("a b", "component 'a b'"),
        ("ä", "component 'ä'"),
        ("a:", "tag ''"),
        ("a:-x", "tag '-x'"),
        ("a:" + "x" * 129, "tag 'xxx"),
        ("a:ü", "tag 'ü'"),
        ("a@", "digest ''"),
        ("a@sha256:12", "digest 'sha256:12'"),
        ("a@" + SHA.upper(), "digest 'SHA256"),
        ("a@md5:" + "0" * 32, "digest 'md5"),
        ("reg.io:port/a", "not a host"),
        ("reg.io:/a", "not a host"),
        ("reg.io:٣/a", "not a host"),
        ("-reg.io/a", "not a host"),
        ("reg..io/a", "not a host"),
        ("a.b_c/d", "not a host"),
        ("[]:1/a", "not a host"),
        ("[g::1]/a", "not a host"),
        ("0" * 64, "an id, not a name"),
        ("a" * 256, "longer than 255"),
        ("busybox\n", "component"),
        ("../../etc", "not a host"),
        ("a/../b", "component '..'"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "local", "canonical"),
    [
        ("busybox", "busybox:latest", "docker.io/library/busybox"),
        ("docker.io/library/busybox:1", "busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/a/b:1", "a/b:1", "docker.io/a/b:1"),
        ("library/a/b", "library/a/b:latest", "docker.io/library/a/b"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c"),
        ("docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c"),
        ("reg.io/library/a", "reg.io/library/a:latest", "reg.io/library/a"),
    ],
)
def test_short_and_full_forms(text: str, local: str, canonical: str) -> None:
    assert parse(text).local == local
    assert parse(text).canonical == canonical


ALNUM = "abcdefghijklmnopqrstuvwxyz0123456789"
words = st.text(ALNUM, min_size=1, max_size=8)
components = st.builds(
    lambda first, more: first + "".join(more),
    words,
    st.lists(
        st.builds(lambda a, b: a + b, st.sampled_from([".", "_", "__", "-", "--", "----"]), words),
        max_size=2,
    ),
)
hosts = st.lists(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,4}[A-Za-z0-9])?", fullmatch=True),
    min_size=2,
    max_size=3,
).map(".".join)
ports = st.one_of(st.just(""), st.integers(0, 65535).map(lambda port: f":{port}"))
domains = st.one_of(
    st.none(),
    st.builds(
        lambda a, b: a + b, st.one_of(hosts, st.sampled_from(["localhost", "docker.io"])), ports
    ),
)
tags = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True))
digests = st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64))


@given(domains, st.lists(components, min_size=1, max_size=3), tags, digests)
def test_what_the_grammar_makes_is_parsed_and_survives_a_round_trip(
    domain: str | None, path: list[str], tag: str | None, digest: str | None
) -> None:
    name = "/".join(path if domain is None else [domain, *path])
    text = name + (f":{tag}" if tag else "") + (f"@sha256:{digest}" if digest else "")
    assume(domain or "." not in path[0])
    assume(domain or len(path) > 1 or len(name) < 64)
    ref = parse(text)
    assert ref.tag == tag
    assert ref.digest == (f"sha256:{digest}" if digest else None)
    assert parse(str(ref)) == ref
    assert parse(ref.canonical) == ref
    assert parse(parse(ref.local).local).local == ref.local


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        ref = parse(text)
    except InvalidInput:
        return
    assert parse(str(ref)) == ref
    assert ".." not in ref.path.split("/")
