"""Names of containers, sysctls, modes of namespaces, and keys that detach."""

from __future__ import annotations

from pycontain.model.parse.words import ALNUM, bad, is_text

_NAME_MAX = 255  # names are file names in the store (limits.h)


def validate_name(word: str) -> str:
    """Check ``--name``: ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``, a leading ``/`` is dropped as in docker.

    Raises:
        InvalidInput: another character, fewer than two, or more than 255.
    """
    name = word.removeprefix("/")
    if len(name) < 2 or name[0] not in ALNUM or not set(name) <= ALNUM | set("_.-"):
        raise bad(
            "--name", word, "invalid container name", "only [a-zA-Z0-9][a-zA-Z0-9_.-]+ is allowed"
        )
    if len(name) > _NAME_MAX:
        raise bad("--name", word, f"longer than {_NAME_MAX} characters")
    return name


_IPC_SYSCTLS = frozenset({"msgmax", "msgmnb", "msgmni", "sem"}) | frozenset(
    {"shmall", "shmmax", "shmmni", "shm_rmid_forced"}
)


def parse_sysctl(word: str) -> tuple[str, str]:
    """Read ``--sysctl KEY=VALUE``; see :func:`sysctl_namespace` for the keys.

    Raises:
        InvalidInput: not in that form, or the key does not belong to one namespace.
    """
    key, equals, value = word.partition("=")
    if not equals or sysctl_namespace(key) is None:
        raise bad(
            "--sysctl",
            word,
            "not allowed",
            "kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.* and net.* are",
        )
    if not is_text(value):
        raise bad("--sysctl", word, "a value with a NUL byte, or not UTF-8")
    return key, value


def sysctl_namespace(key: str) -> str | None:
    """Return the OCI namespace type that a sysctl belongs to, None for one of the whole machine.

    A key with an empty part or with ``/`` is none: turned into a path it could leave the folder of
    its namespace.
    """
    if "/" in key or not is_text(key) or not all(key.split(".")):
        return None
    folder, _, name = key.rpartition(".")
    if folder == "fs.mqueue" or (folder == "kernel" and name in _IPC_SYSCTLS):
        return "ipc"
    return "network" if key.startswith("net.") else None


_NAMESPACE_WORDS = {
    "pid": ("private", "host", "container"),
    "ipc": ("private", "shareable", "host", "none", "container"),
    "uts": ("private", "host"),
    "cgroupns": ("private", "host"),
    "network": ("none", "host", "container"),
}


def parse_namespace(kind: str, word: str) -> str:
    """Read ``--pid``, ``--ipc``, ``--uts``, ``--cgroupns`` or ``--network``.

    Args:
        kind: the flag's name without the dashes.
        word: ``private``, ``shareable``, ``host``, ``none`` or ``container:NAME``, as far as the
            kind has them.

    Returns:
        The word; ``private`` for an empty one, which is docker's word for the default.

    Raises:
        InvalidInput: this kind has no such mode.
    """
    words = _NAMESPACE_WORDS[kind]
    if not word and "private" in words:
        return "private"
    mode, colon, name = word.partition(":")
    if mode not in words or bool(colon) != (mode == "container") or (colon and not name):
        offered = ", ".join(f"{item}:NAME" if item == "container" else item for item in words)
        raise bad(f"--{kind}", word, f"invalid {kind} mode", f"possible are {offered}")
    return word


DETACH_KEYS = b"\x10\x11"


def parse_detach_keys(word: str) -> bytes:
    r"""Read ``--detach-keys``: single characters and ``ctrl-X``, with commas between them.

    Args:
        word: such as ``ctrl-p,ctrl-q``; X is one of ``a-z @ [ \ ] ^ _``. ``DEL`` is 127. An
            empty word is the default, as in docker.

    Returns:
        The bytes that a terminal sends for the sequence.

    Raises:
        InvalidInput: an unknown key.
    """
    if not word:
        return DETACH_KEYS
    return bytes(_key(word, key) for key in word.split(","))


def _key(word: str, key: str) -> int:
    if len(key) == 1 and key.isascii():
        return ord(key)
    control = key.removeprefix("ctrl-")
    if control != key and len(control) == 1 and control in "@abcdefghijklmnopqrstuvwxyz[\\]^_":
        return (
            ord(control.upper()) - 64
        )  # what a terminal sends with the control key held (ascii(7))
    if key == "DEL":
        return 127
    raise bad("--detach-keys", word, f"unknown key {key!r}")
