"""Writes docker's answers to ``recorded.json``.

As root, from the checkout's folder::

    python -m tests.host.parity.record            all scenes
    python -m tests.host.parity.record NAME...    these, and keep the others
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import msgspec

from pycontain import Engine

from . import images, live
from .table import SCENES

if TYPE_CHECKING:
    from .player import Player


def main(names: list[str]) -> None:
    """Record the scenes `names`, or all."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        layout = Engine(f"{folder}/root", f"{folder}/state").layout
        layout.prepare()
        images.prepare(layout)
        with (
            live.servers(f"{folder}/registries") as servers,
            live.docker(f"{folder}/docker", layout, servers) as player,
        ):
            assert servers is not None, "docker-registry, apache2-utils and openssl are missing"
            scenes = _record(player, names)
            version = _versions(player)
    recording = live.Recording(*version, scenes)
    data = msgspec.json.format(msgspec.json.encode(recording), indent=1)
    with open(f"{live.RECORDED}.new", "wb") as file:
        file.write(data + b"\n")
    os.rename(f"{live.RECORDED}.new", live.RECORDED)


def _record(player: Player, names: list[str]) -> dict[str, list[dict[str, object]]]:
    kept = live.recorded().scenes if names else {}
    found = {}
    for scene in SCENES:
        if scene.name in kept and scene.name not in names:
            found[scene.name] = kept[scene.name]
            continue
        print(scene.name, flush=True)
        found[scene.name] = live.entries(scene, player.play(scene))
        player.clear()
    return found


def _versions(player: Player) -> tuple[str, str]:
    form = "{{.Client.Version}} {{.Server.Version}}"
    said = subprocess.run(
        [*player.argv, "version", "--format", form], capture_output=True, check=True, text=True
    )
    client, server = said.stdout.split()
    return client, server


if __name__ == "__main__":
    main(sys.argv[1:])
