"""``version``, and ``info``, which is ``system info`` too."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import pycontain
from pycontain.cli import output, streams
from pycontain.cli.flags import FORMAT, Verb
from pycontain.cli.template import to_json
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from pycontain.cli.flags import Values
    from pycontain.cli.main import App

_GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def _machine() -> str:
    machine = os.uname().machine
    return _GO_MACHINES.get(machine, machine)


def _version_document() -> dict[str, Any]:
    # no daemon: the server that scripts ask for is this program
    part = {
        "Version": pycontain.__version__,
        "PythonVersion": platform.python_version(),
        "Os": "linux",
        "Arch": _machine(),
        "KernelVersion": os.uname().release,
    }
    return {"Client": part, "Server": dict(part)}


_VERSION_LINES = (
    ("Version", "Version"),
    ("Python version", "PythonVersion"),
    ("Kernel version", "KernelVersion"),
)


def _write(document: dict[str, Any], form: str | None, lines: list[str]) -> int:
    if not form:
        streams.write("".join(f"{line}\n" for line in lines))
    elif form == "json":
        streams.write(f"{to_json(document)}\n")
    else:
        streams.write(f"{output.document_template(form).render(document)}\n")
    return 0


def _version(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    document = _version_document()
    part = document["Client"]
    lines = ["pycontain:"]
    lines += [f" {title + ':':<16} {part[name]}" for title, name in _VERSION_LINES]
    lines.append(f" {'OS/Arch:':<16} {part['Os']}/{part['Arch']}")
    return _write(document, values["format"], lines)


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _cgroup_version(mountinfo: str) -> str:
    """Return ``2`` where only cgroup v2 is mounted, ``1`` where v1 has a part.

    Args:
        mountinfo: the text of /proc/self/mountinfo (proc_pid_mountinfo(5)): the file system's type
            is the first word behind the lone dash.
    """
    kinds = {line.partition(" - ")[2].partition(" ")[0] for line in mountinfo.splitlines()}
    return "1" if "cgroup" in kinds else "2"


def _info_document(app: App) -> dict[str, Any]:
    import psutil

    engine = app.engine
    states = [view.status.state for view in engine.containers.list(all=True, problems=[])]
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        cgroups = _cgroup_version(file.read())
    machine = os.uname()
    return {
        "Containers": len(states),
        "ContainersRunning": states.count("running") + states.count("restarting"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": states.count("created") + states.count("exited"),
        "Images": len(engine.images.list()),
        "Driver": "overlay",
        "CgroupVersion": cgroups,
        "KernelVersion": machine.release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": machine.machine,
        "NCPU": psutil.cpu_count() or 0,
        "MemTotal": psutil.virtual_memory().total,
        "DockerRootDir": engine.layout.root,
        "StateDir": engine.layout.state,
        "Name": machine.nodename,
        "ServerVersion": pycontain.__version__,
        "Rootless": engine.rootless,
        **({"RootlessNetwork": _way_out()} if engine.rootless else {}),
        "Configuration": _configuration(app),
    }


def _way_out() -> str:
    """By what an ordinary user's networks reach the outside, or why they cannot."""
    from pycontain.network import outside

    try:
        return outside.check()
    except PycontainError as err:
        return f"none: {err.message}"


def _configuration(app: App) -> dict[str, dict[str, Any]]:
    """Return each setting's value and origin, as this command goes by them."""
    settings, layout = app.settings, app.engine.layout
    # what the user's folders are, and what flags say, no file says
    used = {"root": layout.root, "state": layout.state}
    flags = {"root": app.root, "state": app.state}
    return {
        name: {
            "Value": used.get(name, getattr(settings, name)),
            "Origin": f"--{name}" if flags.get(name) else origin,
        }
        for name, origin in settings.origins.items()
    }


_INFO_LINES = (
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Version", "ServerVersion"),
    ("Storage driver", "Driver"),
    ("Root folder", "DockerRootDir"),
    ("State folder", "StateDir"),
    ("Rootless", "Rootless"),
    ("Cgroup version", "CgroupVersion"),
    ("Kernel version", "KernelVersion"),
    ("Operating system", "OperatingSystem"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
)


def _info(app: App, values: Values, arguments: list[str]) -> int:  # noqa: ARG001 - one signature for a table
    document = _info_document(app)
    lines = [f"{title}: {_word(document[name])}" for title, name in _INFO_LINES]
    if "RootlessNetwork" in document:
        lines.append(f"Rootless network: {document['RootlessNetwork']}")
    lines.append(f"Total memory: {document['MemTotal'] / (1 << 30):.4g}GiB")
    lines.append(f"Name: {document['Name']}")
    lines.append("Configuration:")
    for name, entry in document["Configuration"].items():
        value = entry["Value"]
        if isinstance(value, tuple):
            value = ", ".join(value)
        value = "none" if value in (None, "") else value
        lines.append(f" {name}: {value} ({entry['Origin']})")
    return _write(document, values["format"], lines)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


VERSION = Verb(
    "version",
    "[OPTIONS]",
    "Show the version information",
    _version,
    flags=(FORMAT,),
    most=0,
    examples=(
        ("pycontain version", "pycontain, Python and kernel"),
        ("pycontain version -f '{{.Server.Version}}'", "pycontain's alone"),
    ),
)

INFO = Verb(
    "info",
    "[OPTIONS]",
    "Display system-wide information",
    _info,
    flags=(FORMAT,),
    most=0,
    examples=(
        ("pycontain info", "the store and the machine"),
        ("pycontain info -f '{{.ContainersRunning}}'", "how many run"),
        ("pycontain info -f '{{json .Configuration}}'", "what is configured, and where"),
    ),
)
