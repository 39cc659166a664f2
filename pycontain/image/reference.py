"""Image references as people type them, after the distribution grammar.

::

    reference := name [ ":" tag ] [ "@" digest ]
    name      := [ host [ ":" port ] "/" ] component { "/" component }

As docker does it, the first component is a host when it holds a dot or a colon, is ``localhost``
or has an upper-case letter; else the host is ``docker.io``, and a single component there belongs to
``library``. Source: distribution, docs/content/spec "reference" grammar.

Hand-written string tests, not ``re``: this module is on the way of every ``run``.
"""

from __future__ import annotations

import msgspec

from pycontain.errors import InvalidInput

DEFAULT_DOMAIN = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TAG = 128

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_HEX = frozenset("0123456789abcdef")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_TAG = _WORD | {".", "-"}
_HOST = _ALNUM | {"-"}
_IPV6 = frozenset("0123456789abcdefABCDEF:")
_DIGEST_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed reference; ``parse`` makes them.

    Attributes:
        domain: registry host with its port, ``docker.io`` when none was given.
        path: repository on that host, such as ``library/busybox``.
        tag: as given, or None.
        digest: of the manifest, ``sha256:…``, or None.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """The shortest name that parses to this repository: ``busybox``, ``reg.io:5000/a/b``."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        first, _, rest = self.path.partition("/")
        if first == DEFAULT_NAMESPACE and rest and "/" not in rest:
            return rest
        # docker.io/localhost/a is not localhost/a
        return f"{self.domain}/{self.path}" if _looks_like_host(first) else self.path

    @property
    def local(self) -> str:
        """The name in the image store: ``busybox:latest``; the tag defaults to ``latest``."""
        return f"{self.name}:{self.tag or DEFAULT_TAG}"

    @property
    def canonical(self) -> str:
        """With nothing left out: ``docker.io/library/busybox:1.36@sha256:…``."""
        return f"{self.domain}/{self.path}{self._suffix}"

    def __str__(self) -> str:
        return f"{self.name}{self._suffix}"

    @property
    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse(text: str) -> Reference:
    """Return the reference that `text` stands for.

    Raises:
        InvalidInput: it is none; says which part and why.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, f"digest {digest!r} is not sha256:<64 lower-case hexadecimal digits>")
    name, tag = _split_tag(rest)
    if tag is not None and not is_tag(tag):
        raise _invalid(
            text, f"tag {tag!r} must be 1 to {MAX_TAG} of letters, digits, '_', '.', '-'"
        )
    if not at and tag is None and len(name) == 64 and _HEX.issuperset(name):
        raise _invalid(text, "64 hexadecimal digits are an id, not a name")
    domain, path = _split_domain(name)
    if not _is_domain(domain):
        raise _invalid(text, f"{domain!r} is not a host with an optional port")
    _check_path(text, path)
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _invalid(text, f"the name is longer than {MAX_NAME} characters")
    return Reference(domain=domain, path=path, tag=tag, digest=digest or None)


def is_tag(text: str) -> bool:
    """Tell whether `text` is a tag: ``[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}``."""
    return 0 < len(text) <= MAX_TAG and text[0] in _WORD and _TAG.issuperset(text)


def is_digest(text: str) -> bool:
    """Tell whether `text` is a digest of a registered algorithm (OCI image-spec, descriptor.md)."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == _DIGEST_DIGITS.get(algorithm, -1) and _HEX.issuperset(encoded)


def _invalid(text: str, reason: str) -> InvalidInput:
    return InvalidInput(f"image reference {text!r}: {reason}")


def _split_tag(text: str) -> tuple[str, str | None]:
    # a colon before the last slash belongs to the port
    colon = text.rfind(":")
    if colon > text.rfind("/"):
        return text[:colon], text[colon + 1 :]
    return text, None


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and _looks_like_host(first):
        # the host's older name is the same registry
        domain, path = DEFAULT_DOMAIN if first == "index.docker.io" else first, rest
    else:
        domain, path = DEFAULT_DOMAIN, name
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"{DEFAULT_NAMESPACE}/{path}"
    return domain, path


def _looks_like_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _is_domain(text: str) -> bool:
    host, port = text, None
    colon = text.rfind(":")
    if colon > text.rfind("]"):
        host, port = text[:colon], text[colon + 1 :]
    if port is not None and not (port.isascii() and port.isdecimal()):
        return False
    if host.startswith("[") and host.endswith("]"):
        return len(host) > 2 and _IPV6.issuperset(host[1:-1])
    return all(_is_label(label) for label in host.split("."))


def _is_label(text: str) -> bool:
    return bool(text) and _HOST.issuperset(text) and text[0] != "-" and text[-1] != "-"


def _check_path(text: str, path: str) -> None:
    if not path:
        raise _invalid(text, "the name is empty")
    for component in path.split("/"):
        if component != component.lower():
            raise _invalid(text, f"{component!r} must be lower case")
        if not _is_component(component):
            raise _invalid(
                text,
                f"component {component!r} must be lower-case letters and digits,"
                " joined by '.', '_', '__' or dashes",
            )


def _is_component(text: str) -> bool:
    """``[a-z0-9]+ ( ( [_.] | __ | -+ ) [a-z0-9]+ )*``."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for char in text:
        if char in _LOWER:
            if separator and separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        elif char in "._-":
            separator += char
        else:
            return False
    return True
