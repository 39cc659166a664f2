"""``system boot`` starts what is to run after a reboot; ``system unit`` is who calls it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.cli import streams
from pycontain.cli.flags import Verb
from pycontain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.cli.flags import Values
    from pycontain.cli.main import App
    from pycontain.errors import PycontainError
    from pycontain.pod.declared import Declared

# What runs stays in the unit's cgroup where it has none of its own: the supervisor, and all of an
# ordinary user's. KillMode=process: nothing of that is killed while ExecStop ends it in order.
_UNIT = """\
[Unit]
Description=Start the containers of pycontain that are to run after a reboot
Documentation=man:systemd.service(5)
{order}
[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={command} system boot
ExecStop={command} system shutdown
TimeoutStopSec={longest}

[Install]
WantedBy={target}
"""
_LONGEST = 300  # seconds that containers may take before systemd goes on without them
_ORDER = """\
Wants=network-online.target
After=network-online.target local-fs.target
RequiresMountsFor={root}
"""


def _boot(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    problems: list[PycontainError] = []
    for container in app.engine.containers.boot(problems):
        streams.write(f"{container.name}\n")
    for declared in _kept(app, problems):
        streams.write(f"{declared.name}\n")
    return app.report(problems)


def _kept(app: App, problems: list[PycontainError]) -> Sequence[Declared]:
    """Have what is declared kept, where anything is."""
    if not os.path.isdir(app.engine.layout.kube):
        return ()
    from pycontain.pod.play import Kube

    return Kube(app.engine).boot(problems)


def _unit(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    is_root = os.geteuid() == 0
    command = [_program()]
    for flag, folder in (("--root", app.root), ("--state", app.state)):
        if folder is not None:
            command += [flag, os.path.abspath(folder)]
    streams.write(
        _UNIT.format(
            order=_ORDER.format(root=_quoted(app.engine.layout.root)) if is_root else "",
            longest=_LONGEST,
            command=" ".join(_quoted(word.replace("$", "$$")) for word in command),
            target="multi-user.target" if is_root else "default.target",
        )
    )
    return 0


def _program() -> str:
    """Return the absolute path of the command line, by which systemd starts it."""
    import shutil
    import sys

    called = sys.argv[0]
    if os.path.basename(called) == "pycontain" and os.access(called, os.X_OK):
        return os.path.abspath(called)
    found = shutil.which("pycontain")
    if found is None:
        raise NotFound("system unit: there is no program pycontain in PATH", "install it first")
    return os.path.abspath(found)


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back."""
    if not word.isprintable():
        raise InvalidInput(f"system unit: {word!a}: systemd takes no such path")
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word}"' if set(word) & set(" \\'\"") else word


BOOT = Verb(
    "boot",
    "[OPTIONS]",
    "Start what is to run after a reboot: by its restart policy, or because it is declared",
    _boot,
    most=0,
    examples=(("pycontain system boot", "once after each boot; prints what was started"),),
)

UNIT = Verb(
    "unit",
    "[OPTIONS]",
    "Print a unit for systemd that calls system boot and system shutdown: root's, or a user's",
    _unit,
    most=0,
    examples=(
        ("pycontain system unit >/etc/systemd/system/pycontain.service", "then systemctl enable"),
        (
            "pycontain system unit >~/.config/systemd/user/pycontain.service",
            "then systemctl --user enable, and loginctl enable-linger",
        ),
    ),
)
