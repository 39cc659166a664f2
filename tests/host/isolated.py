"""A machine of its own for tests of ordinary users' networks: mounts and network of its own.

Its only neighbour is the ``outside``, another network namespace, so that nothing of the real
machine's network is used, and no port of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from harness import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE4, OUTSIDE4 = "198.51.100.2", "198.51.100.1"
HERE6, OUTSIDE6 = "2001:db8:71::2", "2001:db8:71::1"
RESOLVER = "127.0.0.53"
HAS_IPV6 = os.path.isdir("/proc/sys/net/ipv6")
ANSWER = "203.0.113.77"
"""What the machine's resolver says to any question."""

_RESOLVE = f"""\
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(({RESOLVER!r}, 53))
while True:
    asked, client = server.recvfrom(512)
    end = asked.index(b"\\0", 12) + 5
    found = asked[end - 4 : end - 2] == b"\\0\\1"  # a question for A
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton({ANSWER!r})
    counts = b"\\0\\1" + (b"\\0\\1" if found else b"\\0\\0") + bytes(4)
    data = asked[:2] + b"\\x81\\x80" + counts + asked[12:end] + (answer if found else b"")
    server.sendto(data, client)
"""
# Says from where it was asked. It hangs up first: what it has said was asked for by then.
_SERVE = """\
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{sys.argv[2]} {self.client_address[0]}\\n".encode())
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    def server_bind(self):
        if ":" in sys.argv[1]:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()
Server((sys.argv[1], 7777), Handler).serve_forever()
"""
_ASK = """\
import socket, sys, time
end = time.monotonic() + 5
while True:
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as asking:
            print(asking.recv(100).decode(), end="")
        break
    except ConnectionResetError:  # what leads there is there, and the server not yet
        if time.monotonic() > end:
            raise
        time.sleep(0.05)
"""


class Machine:
    """A machine.

    Attributes:
        words: before a command that is to run there.
        outside: before a command that is to run at its neighbour.
    """

    def __init__(self, pid: int, outside: int, folder: Path) -> None:
        nsenter, env = shutil.which("nsenter") or "nsenter", shutil.which("env") or "env"
        self.words = [nsenter, "-t", str(pid), "-m", "-n", env, "-C", str(folder)]
        self.outside = [nsenter, "-t", str(outside), "-n"]
        self.pid = pid

    def do(self, *words: str) -> str:
        """Run a command there, and return what it says."""
        done = subprocess.run([*self.words, *words], capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, address: str, port: int, place: list[str] | None = None) -> str:
        """Return what a server says to whom connects to it from there, or from `place`."""
        words = [sys.executable, "-IS", "-c", _ASK, address, str(port)]
        done = subprocess.run(
            [*(self.words if place is None else place), *words],
            capture_output=True, check=False, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Make a machine; its commands begin in `folder`."""
    with contextlib.ExitStack() as stack:
        pids = []
        for flags in (["-m", "-n", "--propagation", "private"], ["-n"]):
            sleep = ["unshare", *flags, "sh", "-c", "echo there; exec sleep 100000"]
            made = subprocess.Popen(sleep, stdout=subprocess.PIPE)
            stack.callback(_end, made)
            assert made.stdout
            assert made.stdout.readline() == b"there\n"
            pids.append(made.pid)
        found = Machine(pids[0], pids[1], folder)
        _equip(found, pids[1])
        servers = [
            [*found.words, _RESOLVE],
            [*found.words, _SERVE, "127.0.0.1", "loopback"],
            [*found.outside, _SERVE, OUTSIDE4, "outside"],
            *([[*found.outside, _SERVE, OUTSIDE6, "outside"]] if HAS_IPV6 else []),
        ]
        for words in servers:
            at = words.index(next(word for word in words if "import" in word))
            argv = [*words[:at], sys.executable, "-IS", "-c", *words[at:]]
            stack.callback(_end, subprocess.Popen(argv))
        wait_until(lambda: "127.0.0.53" in found.do("ss", "-Huln"))
        for place in (found.words, found.outside):
            wait_until(functools.partial(_listens, place))
        yield found


def _listens(place: list[str]) -> bool:
    said = subprocess.run([*place, "ss", "-Htln"], capture_output=True, check=True).stdout
    return said.count(b":7777") >= (1 if "-m" in place or not HAS_IPV6 else 2)


CONNECT = f"""
    ip link set up0 up
    ip route add default via {OUTSIDE4}
    {f"ip address add {HERE6}/64 dev up0 nodad" if HAS_IPV6 else ""}
    {f"ip route add default via {OUTSIDE6}" if HAS_IPV6 else ""}
"""
"""What a machine does that has lost its link, to be connected again."""


def _equip(found: Machine, outside: int) -> None:
    found.do("sh", "-ec", f"""
        ip link add up0 type veth peer name down0 netns {outside}
        ip link set lo up
        ip address add {HERE4}/24 dev up0
        {CONNECT}
        mount -t tmpfs none /mnt
        mkdir -p /dev/net
        test -c /dev/net/tun || : > /dev/net/tun
        mknod -m 666 /mnt/tun c 10 200
        mount --bind /mnt/tun /dev/net/tun
        echo nameserver {RESOLVER} > /mnt/resolv.conf
        touch /etc/resolv.conf
        mount --bind /mnt/resolv.conf /etc/resolv.conf
    """)  # fmt: skip
    script = f"""
        ip link set lo up
        ip link set down0 up
        ip address add {OUTSIDE4}/24 dev down0
        {f"ip address add {OUTSIDE6}/64 dev down0 nodad" if HAS_IPV6 else ""}
    """
    subprocess.run([*found.outside, "sh", "-ec", script], check=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
