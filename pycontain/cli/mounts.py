"""``-v``, ``--mount`` and ``--tmpfs`` as mounts.

Source: docker's reference for these flags; the option words are those of mount(8).
"""

from __future__ import annotations

import os

from pycontain.cli.flags import boolean
from pycontain.errors import InvalidInput
from pycontain.model.container import Mount

_PROPAGATION = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
_DEFAULT_PROPAGATION = "rprivate"
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_TMPFS_WORDS = frozenset(
    (
        "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async",
        "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
        "strictatime", "nostrictatime",
    )
)  # fmt: skip
_TMPFS_KEYS = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))
_NO_VOLUMES = "named volumes are not supported; give an absolute path"


def target(path: str) -> str:
    """Return a mount's place in the container, normalised.

    Raises:
        InvalidInput: not absolute, or the root itself.
    """
    if not path.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{path}' mount path must be absolute")
    # POSIX leaves two leading slashes alone, the kernel does not
    normal = "/" + os.path.normpath(path).lstrip("/")
    if normal == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    return normal


def volume(text: str) -> Mount:
    """Return the mount of ``-v [SOURCE:]TARGET[:OPTIONS]``.

    Raises:
        InvalidInput: what docker refuses, and named volumes.
    """
    parts = text.split(":")
    if len(parts) > 3 or "" in parts[:2]:
        raise InvalidInput(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return Mount(type="volume", target=_target_in(text, parts[0]))
    source, place, words = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not source.startswith(("/", ".")):
        raise InvalidInput(f"invalid volume specification: '{text}'", _NO_VOLUMES)
    return Mount(
        type="bind",
        source=os.path.abspath(source),
        target=_target_in(text, place),
        options=_bind_options(words.split(",") if words else []),
        make_source=True,
    )


def _target_in(text: str, path: str) -> str:
    try:
        return target(path)
    except InvalidInput as err:
        raise InvalidInput(f"invalid volume specification: '{text}': {err.message}") from err


def _bind_options(words: list[str]) -> tuple[str, ...]:
    propagation = _DEFAULT_PROPAGATION
    access: list[str] = []
    seen: set[str] = set()
    for word in words:
        group = "propagation" if word in _PROPAGATION else "access"
        if word not in _PROPAGATION and word not in ("ro", "rw"):
            hint = "SELinux labels are not supported" if word in ("z", "Z") else None
            raise InvalidInput(f"invalid mode: {','.join(words)}", hint)
        if group in seen:
            raise InvalidInput(f"invalid mode: {','.join(words)}")
        seen.add(group)
        if group == "propagation":
            propagation = word
        else:
            access = ["ro"] if word == "ro" else []
    return ("rbind", propagation, *access)


def tmpfs(text: str) -> Mount:
    """Return the mount of ``--tmpfs TARGET[:OPTIONS]``.

    Raises:
        InvalidInput: a bad target or option.
    """
    place, _, words = text.partition(":")
    options = [word for word in words.split(",") if word]
    bad = [word for word in options if not _is_tmpfs_option(word)]
    if bad:
        listed = " ".join(f'"{word}"' for word in bad)
        raise InvalidInput(f"invalid tmpfs option [{listed}]")
    return Mount(type="tmpfs", target=target(place), options=(*_TMPFS_DEFAULTS, *options))


def _is_tmpfs_option(word: str) -> bool:
    key, equals, value = word.partition("=")
    if equals:
        return key in _TMPFS_KEYS and bool(value)
    return word in _TMPFS_WORDS


def _fields(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as err:
        raise InvalidInput(f"invalid csv: {str(err).lower()}") from err
    return rows[0] if rows else []


class _MountFields:
    """The fields of one ``--mount``."""

    def __init__(self) -> None:
        self.type = "volume"
        self.source = ""
        self.target = ""
        self.readonly = False
        self.options: dict[str, str] = {}

    def take(self, field: str) -> None:
        key, equals, value = field.partition("=")
        key = key.lower()
        if key in ("readonly", "ro", "bind-nonrecursive") and not equals:
            value, equals = "true", "="
        if not equals:
            raise InvalidInput(f"invalid field '{field}' must be a key=value pair")
        if key == "type":
            self.type = value.lower()
        elif key in ("source", "src"):
            self.source = value
        elif key in ("target", "destination", "dst"):
            self.target = value
        elif key in ("readonly", "ro"):
            self.readonly = self._truth(key, value)
        elif key in ("bind-propagation", "bind-nonrecursive", "tmpfs-size", "tmpfs-mode"):
            self.options[key] = value
        else:
            raise InvalidInput(f"unexpected key '{key}' in '{field}'")

    @staticmethod
    def _truth(key: str, value: str) -> bool:
        try:
            return boolean(value)
        except InvalidInput as err:
            raise InvalidInput(f"invalid value for {key}: {value}") from err

    def mount(self) -> Mount:
        if not self.target:
            raise InvalidInput("target is required")
        for key in self.options:
            kind = key.partition("-")[0]
            if kind != self.type:
                raise InvalidInput(f"cannot mix '{kind}-*' options with mount type '{self.type}'")
        makers = {"bind": self._bind, "tmpfs": self._tmpfs, "volume": self._volume}
        if self.type not in makers:
            raise InvalidInput(f'mount type unknown: "{self.type}"', "bind, tmpfs or volume")
        return makers[self.type](target(self.target))

    def _bind(self, place: str) -> Mount:
        if not self.source:
            raise InvalidInput(
                'invalid mount config for type "bind": field Source must not be empty'
            )
        if not self.source.startswith(("/", ".")):
            raise InvalidInput(
                f"invalid mount config for type \"bind\": invalid mount path: '{self.source}' "
                "mount path must be absolute"
            )
        propagation = self.options.get("bind-propagation", _DEFAULT_PROPAGATION)
        if propagation not in _PROPAGATION:
            raise InvalidInput(f"invalid propagation value: {propagation}")
        single = self._truth("bind-nonrecursive", self.options.get("bind-nonrecursive", "false"))
        access = ("ro",) if self.readonly else ()
        return Mount(
            type="bind",
            source=os.path.abspath(self.source),
            target=place,
            options=("bind" if single else "rbind", propagation, *access),
        )

    def _tmpfs(self, place: str) -> Mount:
        if self.source:
            raise InvalidInput(
                'invalid mount config for type "tmpfs": field Source must not be specified'
            )
        options = list(_TMPFS_DEFAULTS)
        if "tmpfs-size" in self.options:
            from pycontain.cli.quantities import size

            options.append(f"size={size(self.options['tmpfs-size'])}")
        if "tmpfs-mode" in self.options:
            options.append(f"mode={_octal(self.options['tmpfs-mode'])}")
        if self.readonly:
            options.append("ro")
        return Mount(type="tmpfs", target=place, options=tuple(options))

    def _volume(self, place: str) -> Mount:
        if self.source:
            raise InvalidInput(f"volume {self.source}: not found", _NO_VOLUMES)
        return Mount(type="volume", target=place, options=("ro",) if self.readonly else ())


def _octal(text: str) -> str:
    if not text or text.strip("01234567") or int(text, 8) > 0o7777:
        raise InvalidInput(f"invalid value for tmpfs-mode: {text}")
    return f"{int(text, 8):o}"


def mount(text: str) -> Mount:
    """Return the mount of ``--mount type=…,source=…,target=…``: fields of a line of CSV.

    Raises:
        InvalidInput: an unknown field, a bad value, a field of another type, a named volume.
    """
    fields = _MountFields()
    for field in _fields(text):
        fields.take(field)
    return fields.mount()
