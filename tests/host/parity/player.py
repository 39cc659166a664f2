"""Carries rows out with one engine, and makes its answers comparable."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field
from fcntl import ioctl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .rows import Row, Scene

IMAGES = ("busybox:latest", "tooled:latest")
PATIENCE = 80.0  # other tests, and an emulated machine, have the same processors
BRIEF = 20.0  # for what is over for a moment only, and may never be seen so
TIMED_OUT = -1000
BOX = "--network none busybox"
TOOL = "--network none tooled"
_PASSED = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
_ROWS_AND_COLUMNS = (30, 100)

# A profile that refuses one call.
_PROFILE = (
    '{"defaultAction": "SCMP_ACT_ALLOW",'
    ' "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": []}]}'
)
_FILES = {
    "env.list": "# a comment\nFILE=from file\nBOTH=file\nFROM_HOST\nNOT_THERE\n\nQUOTED='q'\n",
    "bad.list": "A B=1\n",
    "labels.list": "# a comment\na=1\nb=from file\nc.d=x=y\n",
    "profile.json": _PROFILE,
    "broken.json": "{",
    "src/file": "host\n",
}


@dataclass
class Answer:
    """What a command line answered, normalised."""

    code: int
    out: str
    err: str


@dataclass
class Player:
    """One engine's command line.

    Attributes:
        argv: how it is called.
        folder: for scratch folders; need not exist.
        docker: whether it is docker.
        extra: additional environment.
        servers: the registries, None where there are none.
        images: an archive of the table's images, which ``clear`` brings back.
    """

    argv: Sequence[str]
    folder: str
    docker: bool
    extra: dict[str, str] = field(default_factory=dict)
    servers: Servers | None = None
    images: str | None = None

    def play(self, scene: Scene, known: Sequence[Answer] | None = None) -> list[Answer]:
        """Carry out all rows of a scene, in order; their answers.

        Args:
            scene: the rows.
            known: recorded answers, taken for the slow rows.
        """
        scratch = f"{self.folder}/{scene.name.replace(' ', '-')}"
        furnish(scratch)
        words = {"dir": scratch, **_host_namespaces(), **self.places()}
        if self.servers is not None:
            words |= self.servers.words(self.docker)
        ids: dict[str, str] = {}
        return [
            known[at] if known and row.slow else self._answer(row, scratch, words, ids)
            for at, row in enumerate(scene.rows)
        ]

    def places(self) -> dict[str, str]:
        """Return what of the host's network this side may have: ports in a row, and a subnet."""
        # Below those that the kernel gives to connections, and that other tests take.
        first = 17001 if self.docker else 17011
        ports = {f"port_{letter}": str(first + at) for at, letter in enumerate("abc")}
        return {**ports, "net": "10.231.7" if self.docker else "10.231.8"}

    def clear(self) -> None:
        """Remove every container, and have the table's images, no others."""
        names = self._say("ps", "-aq").split()
        if names:
            self._say("rm", "-fv", *names)
        volumes = self._say("volume", "ls", "-q").split()
        if volumes:
            self._say("volume", "rm", *volumes)
        if self.images is None:
            return
        form = "{{.Repository}}:{{.Tag}}"
        if sorted(self._say("images", "--format", form).split()) != sorted(IMAGES):
            while left := set(self._say("images", "-q").split()):
                # One that others were made from goes after them; docker says so, and removes those.
                said = self._say("rmi", "-f", *left, check=False)
                assert "Deleted" in said, said
            self._say("load", "-i", self.images)

    def _say(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self.argv, *words], capture_output=True, check=check, env=self._environment("/")
        )
        return done.stdout.decode()

    def _answer(self, row: Row, scratch: str, words: dict[str, str], ids: dict[str, str]) -> Answer:
        end = time.monotonic() + (PATIENCE if row.until else BRIEF)
        while True:
            code, out, err = self._run(row, scratch, {**words, **ids})
            if _seen(row.until, out + err) or time.monotonic() > end:
                break
            time.sleep(0.05)
        if row.save:
            ids[row.save] = out.strip()
        if self.servers is not None:
            out, err = (self.servers.normalised(text) for text in (out, err))
        for name, place in self.places().items():
            # Not what is a part of an id.
            place = rf"(?<![0-9a-f]){re.escape(place)}(?![0-9a-f])"
            out, err = (re.sub(place, f"<{name}>", text) for text in (out, err))
        out, err = (normalised(text, scratch, ids) for text in (out, err))
        return Answer(code, out, err)

    def _run(self, row: Row, scratch: str, words: dict[str, str]) -> tuple[int, str, str]:
        line = _replaced(row.spelt(self.docker), words)
        argv = ["sh", "-c", line[1:]] if row.on_host else [*self.argv, *line_words(line)]
        run = _on_terminal if row.tty else _on_pipes
        code, out, err = run(argv, row, scratch, self._environment(scratch))
        return code, out.decode(errors="replace"), err.decode(errors="replace")

    def _environment(self, home: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,  # no configuration of a user's
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "TZ": "UTC",
            "FROM_HOST": "host value",
            "PYCONTAIN_NETWORK": "none",  # where no row says another, as docker beside us has it
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            **self.extra,
        }


class Servers:
    """The registries that both engines talk to, each engine to repositories of its own.

    Args:
        open: host and port of the one that anybody may use.
        locked: of the one that wants the user ``me`` with the password ``secret``.
    """

    def __init__(self, open: str, locked: str) -> None:
        self._open = open
        self._locked = locked

    def words(self, docker: bool) -> dict[str, str]:
        """Return what rows call them."""
        user = "by-docker" if docker else "by-pycontain"
        return {
            "registry": self._open,
            "repo": f"{self._open}/{user}",
            "locked": self._locked,
            "locked_repo": f"{self._locked}/{user}",
        }

    def normalised(self, text: str) -> str:
        """Return `text` without ports, and the same for both engines."""
        text = text.replace(self._open, "<registry>").replace(self._locked, "<locked>")
        return re.sub(r"\bby-(docker|pycontain)\b", "<user>", text)


def _seen(until: str | None, text: str) -> bool:
    return until is None or (until in text if until else not text)


def furnish(scratch: str) -> None:
    """Make a scratch folder with the files that rows speak of."""
    os.makedirs(f"{scratch}/src/inner")
    for name, text in _FILES.items():
        with open(f"{scratch}/{name}", "w") as file:
            file.write(text)


def _host_namespaces() -> dict[str, str]:
    kinds = ("pid", "ipc", "uts", "net", "cgroup")
    return {f"{kind}_ns": os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}


def _replaced(line: str, words: dict[str, str]) -> str:
    def word(match: re.Match[str]) -> str:
        name, length = match[1], match[2]
        if name not in words:
            return match[0]
        if name.startswith("port_"):  # what follows is the container's port
            return words[name] + (f":{length}" if length else "")
        return words[name][: int(length)] if length else words[name]

    return re.sub(r"@(\w+)(?::(\d+))?", word, line)


def line_words(line: str) -> list[str]:
    """Return the arguments of a line."""
    return list(_expanded(line))


def _expanded(line: str) -> Iterator[str]:
    for word in shlex.split(line):
        if word in ("BOX", "TOOL"):
            yield from (BOX if word == "BOX" else TOOL).split()
        else:
            yield word


# ---------------------------------------------------------------------------------- normalisation

_COMMON = (
    (r"\bsha256:[0-9a-f]{64}\b", "sha256:<id>"),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b", "<id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC", "<time>"),
    (r"\b\d+(\.\d+)?[kM]?B\b", "<size>"),
    (r"(Less than a second|About a minute|\d+ (second|minute|week|month|year)s?)( ago)?", "<ago>"),
)


def normalised(text: str, scratch: str, ids: dict[str, str]) -> str:
    """Return `text` with what cannot be the same twice replaced by its name."""
    text = text.replace(scratch, "<dir>")
    for name, identity in ids.items():
        if identity:
            text = re.sub(r"\b[0-9a-f]{5,64}\b", _prefix_of(identity, name), text)
    for pattern, word in _COMMON:
        text = re.sub(pattern, word, text)
    # times of different lengths change the widths of a table's columns
    return re.sub(" {3,}", "   ", text) if "<ago>" in text or "CREATED" in text else text


def _prefix_of(identity: str, name: str) -> Callable[[re.Match[str]], str]:
    def word(match: re.Match[str]) -> str:
        text = match[0]
        return f"<{name}:{len(text)}>" if identity.startswith(text) else text

    return word


# --------------------------------------------------------------------------------------- processes


def _on_pipes(
    argv: list[str], row: Row, scratch: str, env: dict[str, str]
) -> tuple[int, bytes, bytes]:
    if row.signal:
        return _signalled(argv, row, scratch, env)
    stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL}
    if row.stdin is not None:
        stdin = {"input": row.stdin.encode()}
    try:
        done = subprocess.run(
            argv, capture_output=True, cwd=scratch, env=env, timeout=PATIENCE, check=False, **stdin
        )
    except subprocess.TimeoutExpired as err:  # an answer too, and the other rows have theirs
        return TIMED_OUT, err.stdout or b"", b"no end"
    return done.returncode, done.stdout, done.stderr


def _signalled(
    argv: list[str], row: Row, scratch: str, env: dict[str, str]
) -> tuple[int, bytes, bytes]:
    """Send a signal once the output says that the container is ready for it."""
    assert row.after
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(
        argv, stdin=null, stdout=pipe, stderr=pipe, cwd=scratch, env=env
    ) as child:
        assert child.stdout is not None
        try:
            out = _read_until(child.stdout.fileno(), row.after)
            child.send_signal(signal.Signals[f"SIG{row.signal}"])
            rest, err = child.communicate(timeout=PATIENCE)
        except BaseException:
            child.kill()
            raise
    return child.returncode, out + rest, err


def _read_until(descriptor: int, text: str) -> bytes:
    end = time.monotonic() + PATIENCE
    found = b""
    while text.encode() not in found:
        assert time.monotonic() < end, f"no {text!r} in {found!r}"
        if select.select([descriptor], [], [], 0.1)[0]:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            found += chunk
    return found


def _on_terminal(
    argv: list[str], row: Row, scratch: str, env: dict[str, str]
) -> tuple[int, bytes, bytes]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *_ROWS_AND_COLUMNS, 0, 0))
    keys = row.keys.encode()
    end = time.monotonic() + PATIENCE
    out = b""
    with subprocess.Popen(
        argv, stdin=slave, stdout=slave, stderr=slave, cwd=scratch, env=env, start_new_session=True
    ) as child:
        os.close(slave)
        try:
            while True:
                if keys and (row.after or "").encode() in out:
                    keys = keys[os.write(master, keys) :]
                if select.select([master], [], [], 0.1)[0]:
                    try:
                        out += os.read(master, 65536)
                    except OSError:  # EIO: nobody has the other end any more, pty(7)
                        break
                if time.monotonic() > end:
                    child.kill()
                    return TIMED_OUT, out, b"no end"
        finally:
            os.close(master)
    return child.returncode, out, b""
