"""Registries, as the engine reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.errors import InvalidInput
from pycontain.image.credentials import Credential, Keychain
from pycontain.image.registry import Registry
from pycontain.image.settings import Settings

if TYPE_CHECKING:
    from pycontain.config import Config

DEFAULT = "docker.io"


def settings_of(config: Config) -> Settings:
    """Return how registries are reached, from what is configured.

    Raises:
        InvalidInput: a mirror is not ``URL`` or ``REGISTRY=URL``.
    """
    mirrors: dict[str, tuple[str, ...]] = {}
    for word in config.registry_mirrors:
        domain, url = _mirror(word)
        mirrors[domain] = (*mirrors.get(domain, ()), url)
    return Settings(
        credentials=Keychain().find,
        mirrors=mirrors,
        insecure=frozenset(config.insecure_registries),
        ca_files=tuple(config.registry_ca_files),
    )


def _mirror(word: str) -> tuple[str, str]:
    domain, equals, url = word.partition("=")
    if not equals or "://" in domain:
        domain, url = "*", word
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"registry mirror {word!r}: not URL or REGISTRY=URL")
    return domain, url


def domain_of(word: str) -> str:
    """Return the registry that somebody means by a host or a URL; by nothing Docker Hub."""
    host = (word.partition("://")[2] or word).partition("/")[0]
    return DEFAULT if host in ("", "index.docker.io", "registry-1.docker.io") else host


def opened(domain: str, config: Config) -> Registry:
    """Return a registry; close it.

    Raises:
        RegistryError: the URL of a mirror is none.
        InvalidInput: as ``settings_of``.
    """
    return Registry(domain, settings_of(config))


def login(domain: str, user: str, secret: str, config: Config) -> str:
    """Try a user's password at a registry, and keep it; return where.

    Raises:
        RegistryError: the registry refused it, or cannot be reached.
        StoreError: it cannot be kept.
    """
    with opened(domain, config) as registry:
        credential = registry.login(Credential(username=user, password=secret))
    return Keychain().store(domain, credential)


def logout(domain: str) -> bool:
    """Forget the password of a registry; whether there was one.

    Raises:
        StoreError: it cannot be forgotten.
    """
    return Keychain().erase(domain)
