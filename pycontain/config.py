"""The settings: what is configurable, what it is set to, and where that was said.

Later ones win: what is built in, the system's file, the user's file, the file that
``PYCONTAIN_CONFIG`` names, the variable of the key. Command line flags win over all of them, which
is their verbs' business. Files are TOML (toml.io, v1.0.0), flat: a key and its value.

Looking costs one open(2) for each of the files; a parser is imported where there is one to read.
Nothing is kept: whoever needs the settings twice keeps them.
"""

from __future__ import annotations

import os

from pycontain.errors import InvalidInput, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

SYSTEM_FILE = "/etc/pycontain/config.toml"
LOG_DRIVERS = ("k8s-file", "json-file", "none")
PREFIX = "PYCONTAIN_"
FILE_VARIABLE = "PYCONTAIN_CONFIG"
ORIGIN_BUILT_IN = "built in"

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST = (1 << 63) - 1


class Setting:
    """One key.

    Attributes:
        name: as in a file; its variable is ``PYCONTAIN_`` and the name in capitals.
        help: what it is, one line.
        allowed: its values, in words.
        default: the built-in value; None where there is none, or it depends on the user.
        read: returns the value, or raises ValueError.
        of_root: in the system's file it is root's alone.
        number: the text of its variable is a whole number.
    """

    __slots__ = ("allowed", "default", "help", "name", "number", "of_root", "read")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - the field's word
        allowed: str,
        default: object,
        read: Callable[[object], object],
        *,
        of_root: bool = False,
        number: bool = False,
    ) -> None:
        self.name = name
        self.help = help
        self.allowed = allowed
        self.default = default
        self.read = read
        self.of_root = of_root
        self.number = number

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


def _folder(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError
    return value


def _driver(value: object) -> str:
    if not isinstance(value, str) or value not in LOG_DRIVERS:
        raise ValueError
    return value


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        # bool is an int: true is no number here
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return read


def _size(value: object) -> int:
    if isinstance(value, str):
        digits = value.rstrip("kmgtbiKMGTBI")
        unit = value[len(digits) :].lower()
        if unit[1:] not in ("", "b", "ib") or not (digits.isascii() and digits.isdecimal()):
            raise ValueError
        factor = 1 if unit == "b" else _UNITS.get(unit[:1], 0)
        value = int(digits) * factor
    return _whole(1, _MOST)(value)


def _mirror(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise ValueError
    return value


def _network(value: object) -> str:
    # what a network can be called, its user checks
    if not isinstance(value, str) or not value.isprintable() or not value.strip() or ":" in value:
        raise ValueError
    return value


def _subnet(value: object) -> str:
    # whether it is one that can be, the network's maker checks
    if not isinstance(value, str) or "/" not in value or not value.isprintable():
        raise ValueError
    return value


def _host_address(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

    family = AF_INET6 if ":" in value else AF_INET
    try:
        return str(inet_ntop(family, inet_pton(family, value)))
    except OSError as err:
        raise ValueError from err


def _words(value: object) -> tuple[str, ...]:
    """A list; of a variable the words between commas."""
    if isinstance(value, str):
        value = [word for word in value.split(",") if word]
    if not isinstance(value, list) or not all(
        isinstance(word, str) and word.isprintable() and word.strip() for word in value
    ):
        raise ValueError
    return tuple(value)


SETTINGS = (
    Setting("root", "folder for what survives a reboot, as --root",
            "an absolute path", None, _folder, of_root=True),
    Setting("state", "folder for what dies with the boot, as --state",
            "an absolute path", None, _folder, of_root=True),
    Setting("log_driver", "log of new containers, as --log-driver",
            f"one of {', '.join(LOG_DRIVERS)}", "k8s-file", _driver),
    Setting("log_max_size", "bytes of a log file, as --log-opt max-size",
            "a number of bytes, or a text like 16m", 16 << 20, _size),
    Setting("log_max_files", "files of a log, as --log-opt max-file",
            "a number from 1 to 1000", 3, _whole(1, 1000), number=True),
    Setting("shm_size", "bytes of /dev/shm, as --shm-size",
            "a number of bytes, or a text like 64m", 64 << 20, _size),
    Setting("stop_timeout", "seconds between the stop signal and SIGKILL, as --stop-timeout",
            "a number of seconds, -1 for ever", 10, _whole(-1, _MOST), number=True),
    Setting("pids_limit", "tasks of a container, as --pids-limit",
            "a number, -1 for no limit", -1, _whole(-1, _MOST), of_root=True, number=True),
    Setting("network", "network of new containers, as --network",
            "none, host, bridge or a network's name", "bridge", _network),
    Setting("default_subnet", "subnet of the network bridge, where that is not made yet",
            "a subnet like 10.90.0.0/16; without it the first free one", None, _subnet),
    Setting("publish_address", "address of the host for published ports, where -p has none",
            "an IP address; without it all of the host's", None, _host_address),
    Setting("debian_mirror", "mirror that the built-in Debian images are made from",
            "an address, or a line of sources.list(5)", None, _mirror),
    Setting("search_registries", "where images are looked for whose name has no registry",
            "a list of HOST or HOST:PORT", ("docker.io",), _words),
    Setting("registry_mirrors", "where images are looked for before their registry",
            "a list of addresses (for every registry), or REGISTRY=ADDRESS", (), _words),
    Setting("insecure_registries", "registries that may speak plain HTTP, or show any certificate",
            "a list of HOST or HOST:PORT", (), _words),
    Setting("registry_ca_files", "certificates of authorities (PEM) trusted beside the system's",
            "a list of paths", (), _words),
    Setting("layer_max_entries", "entries that a layer of an image may have",
            "a number of 1 or more", 4_000_000, _whole(1, _MOST), number=True),
    Setting("layer_max_size", "bytes that a layer's files may have, unpacked",
            "a number of bytes, or a text like 20g", 1 << 40, _size),
    Setting("image_max_size", "bytes that the files of an image's layers may have together",
            "a number of bytes, or a text like 100g", 1 << 40, _size),
)  # fmt: skip
"""Every key there is."""

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_OF_CONTAINERS = (
    "log_driver", "log_max_size", "log_max_files", "shm_size", "stop_timeout", "pids_limit",
)  # fmt: skip


class Config:
    """The settings; immutable.

    Args:
        values: by name; what is missing is as it is built in.
        origins: by name, where each of `values` was said.
        files: that were read.

    Attributes:
        root, state: folders, None for those of the user (``store.layout``).
        log_driver, log_max_size, log_max_files: bytes and number.
        shm_size: bytes.
        stop_timeout: seconds, -1 for ever.
        pids_limit: -1 and 0 are no limit.
        network: of new containers: ``none``, ``host``, ``bridge`` or a network's name.
        default_subnet: None for the first free one.
        publish_address: None for all of the host's.
        debian_mirror: None for Debian's own servers.
        search_registries: in the order in which they are asked.
        registry_mirrors, insecure_registries, registry_ca_files: see ``image.settings.Settings``.
        layer_max_entries, layer_max_size, image_max_size: see ``image.extract.Limits``.
        origins: by name, of every setting.
        files: that were read.
    """

    __slots__ = (
        "debian_mirror", "default_subnet", "files", "image_max_size", "insecure_registries",
        "layer_max_entries", "layer_max_size", "log_driver", "log_max_files", "log_max_size",
        "network", "origins", "pids_limit", "publish_address", "registry_ca_files",
        "registry_mirrors", "root", "search_registries", "shm_size", "state", "stop_timeout",
    )  # fmt: skip

    root: str | None
    state: str | None
    log_driver: str
    log_max_size: int
    log_max_files: int
    shm_size: int
    stop_timeout: int
    pids_limit: int
    network: str
    default_subnet: str | None
    publish_address: str | None
    debian_mirror: str | None
    search_registries: tuple[str, ...]
    registry_mirrors: tuple[str, ...]
    insecure_registries: tuple[str, ...]
    registry_ca_files: tuple[str, ...]
    layer_max_entries: int
    layer_max_size: int
    image_max_size: int
    origins: Mapping[str, str]
    files: tuple[str, ...]

    def __init__(
        self,
        values: Mapping[str, object] | None = None,
        origins: Mapping[str, str] | None = None,
        files: tuple[str, ...] = (),
    ) -> None:
        values = values or {}
        fix = object.__setattr__
        for setting in SETTINGS:
            fix(self, setting.name, values.get(setting.name, setting.default))
        said = origins or {}
        fix(self, "origins", {s.name: said.get(s.name, ORIGIN_BUILT_IN) for s in SETTINGS})
        fix(self, "files", files)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings are fixed: {name}")

    def for_containers(self) -> dict[str, Any]:
        """Return what new containers have unless they are told: the options that were said."""
        found = {
            name: getattr(self, name)
            for name in _OF_CONTAINERS
            if self.origins[name] != ORIGIN_BUILT_IN
        }
        if found.get("pids_limit", 1) <= 0:
            # no limit asks nothing of the machine
            del found["pids_limit"]
        return found


BUILT_IN = Config()
"""Nobody said anything."""


def load(
    environ: Mapping[str, str], uid: int | None = None, system_file: str = SYSTEM_FILE
) -> Config:
    """Return the settings of a user.

    Args:
        environ: of the process: ``PYCONTAIN_…``, ``XDG_CONFIG_HOME`` and ``HOME`` count.
        uid: the user, default the effective one. Where a process has entered a user namespace, in
            which it is 0, give the user's own.
        system_file: the system's.

    Raises:
        InvalidInput: an unknown key or a value that is not allowed, with file and line.
        KernelError: a file cannot be read.
    """
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    files = []
    is_root = (os.geteuid() if uid is None else uid) == 0
    for path, wanted in _places(environ, system_file):
        text = _text(path, wanted=wanted)
        if text is None:
            continue
        files.append(path)
        for name, value in _parsed(path, text).items():
            setting = _BY_NAME[name]
            if setting.of_root and path == system_file and not is_root:
                continue
            values[name] = value
            origins[name] = path
    for setting in SETTINGS:
        word = environ.get(setting.variable)
        if word:
            values[setting.name] = _of_variable(setting, word)
            origins[setting.name] = f"${setting.variable}"
    return Config(values, origins, tuple(files)) if values or files else BUILT_IN


def _places(environ: Mapping[str, str], system_file: str) -> list[tuple[str, bool]]:
    """The files, and whether each has to be there."""
    found = [(system_file, False)]
    # "If an implementation encounters a relative path … it should consider it invalid and ignore
    # it" (XDG base directory specification).
    folder, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if not folder.startswith("/") and home.startswith("/"):
        folder = f"{home}/.config"
    if folder.startswith("/"):
        found.append((f"{folder}/pycontain/config.toml", False))
    if named := environ.get(FILE_VARIABLE):
        found.append((named, True))
    return found


def _text(path: str, *, wanted: bool) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as err:
        if not wanted:
            return None
        hint = f"{FILE_VARIABLE} names it"
        raise kernel_error("read configuration", path, err.errno or 0, hint) from err
    except OSError as err:
        if not wanted and _is_out_of_sight(path):
            return None
        raise kernel_error("read configuration", path, err.errno or 0) from err
    try:
        with open(fd, "rb") as file:
            return file.read()
    except OSError as err:
        raise kernel_error("read configuration", path, err.errno or 0) from err


def _is_out_of_sight(path: str) -> bool:
    """Whether it is below somebody else's home: HOME may be that of whoever called su(1)."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    return False


def _parsed(path: str, data: bytes) -> dict[str, object]:
    import tomllib

    try:
        text = data.decode("utf-8")
        found = tomllib.loads(text)
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise InvalidInput(f"configuration: {path}: line {line}: not valid utf-8") from err
    except tomllib.TOMLDecodeError as err:
        reason = str(err)
        raise InvalidInput(f"configuration: {path}: {reason[:1].lower()}{reason[1:]}") from err
    values = {}
    for name, value in found.items():
        place = f"{path}: line {_line_of(text, name)}"
        if name not in _BY_NAME:
            raise _unknown(place, name)
        values[name] = _read(_BY_NAME[name], place, value)
    return values


def _line_of(text: str, key: str) -> int:
    """The line of a top-level key or table; tomllib does not tell."""
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip().lstrip("[").partition("=")[0].partition("]")[0].partition(".")[0]
        if name.strip().strip("\"'") == key:
            return number
    return 1


def _unknown(place: str, name: str) -> InvalidInput:
    import difflib

    close = difflib.get_close_matches(name, list(_BY_NAME), n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_BY_NAME)}"
    return InvalidInput(f"configuration: {place}: unknown key {name}", hint)


def _read(setting: Setting, place: str, value: object) -> object:
    try:
        return setting.read(value)
    except ValueError as err:
        raise _not_allowed(setting, place, value) from err


def _of_variable(setting: Setting, word: str) -> object:
    place = f"${setting.variable}"
    if not setting.number:
        return _read(setting, place, word)
    digits = word.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()):
        raise _not_allowed(setting, place, word)
    return _read(setting, place, int(word))


def _not_allowed(setting: Setting, place: str, value: object) -> InvalidInput:
    word = str(value).lower() if isinstance(value, bool) else repr(value)
    return InvalidInput(
        f"configuration: {place}: {setting.name}: {word}: must be {setting.allowed}"
    )
