"""A docker of our own with the table's images in it, and what it answered once."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from . import images
from .player import Answer, Player, Servers

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import registry

from tests import peers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pycontain.store.layout import Layout

    from .rows import Row, Scene

RECORDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recorded.json")


class Recording(msgspec.Struct):
    """``recorded.json``.

    Attributes:
        client, server: docker's versions.
        scenes: name to the lines and what was answered.
    """

    client: str
    server: str
    scenes: dict[str, list[dict[str, object]]]

    def answers(self, scene: Scene) -> list[Answer] | None:
        """Return the answers to a scene, None where they are not to its present rows."""
        found = self.scenes.get(scene.name, [])
        if [entry["line"] for entry in found] != [row.spelt(True) for row in scene.rows]:
            return None
        return [
            Answer(int(str(entry["code"])), str(entry["out"]), str(entry["err"])) for entry in found
        ]


def recorded() -> Recording:
    """Return what the last recording holds."""
    with open(RECORDED, "rb") as file:
        return msgspec.json.decode(file.read(), type=Recording)


def entries(scene: Scene, answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Return a scene's part of a recording: of each answer what is compared."""
    pairs = zip(scene.rows, answers, strict=True)
    return [{"line": row.spelt(True), **asdict(_compared(row, answer))} for row, answer in pairs]


def _compared(row: Row, answer: Answer) -> Answer:
    if row.local or row.powers:  # never compared elsewhere
        return Answer(answer.code, "", "")
    unread = row.any_out or (row.dockers is not None and row.dockers.out is ...)
    err = answer.err if row.same_err else _first_line(answer.err)
    phrase = row.dockers.err if row.dockers is not None else row.err
    if isinstance(phrase, str) and phrase.lower() not in err.lower():
        err = answer.err
    return Answer(answer.code, "" if unread else answer.out, err)


def _first_line(text: str) -> str:
    """Return the message without the usage that follows it."""
    return text.strip().partition("\n")[0]


def installed() -> bool:
    """Whether docker is here, with its daemon."""
    return peers.available("docker", "dockerd")


@contextlib.contextmanager
def servers(folder: str) -> Iterator[Servers | None]:
    """The registries, None where Debian's ``docker-registry`` is not installed."""
    if registry.missing():
        yield None
        return
    os.makedirs(folder)
    auth = registry.htpasswd(f"{folder}/passwords", "me", "secret")
    with (
        registry.served(f"{folder}/open") as anybodys,
        registry.served(f"{folder}/locked", auth=auth) as locked,
    ):
        yield Servers(anybodys.domain, locked.domain)


@contextlib.contextmanager
def docker(folder: str, layout: Layout, servers: Servers | None) -> Iterator[Player]:
    """A docker daemon of our own with the images of a store, and its command line."""
    os.makedirs(folder)
    archive = f"{folder}/images.tar"
    images.archive(layout, archive)
    with peers.docker(Path(folder) / "daemon") as client:
        loaded = client("load", "-i", archive)
        assert loaded.returncode == 0, loaded.stderr
        player = Player(
            client.argv, f"{folder}/scratch", docker=True, servers=servers, images=archive
        )
        try:
            yield player
        finally:
            player.clear()
