"""Real servers in a network: of the built-in recipes, beside each other and with the host."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest
from harness import wait_until
from pace import seconds

if TYPE_CHECKING:
    from harness import CommandLine

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mmdebstrap as root"),
    pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="mmdebstrap is not installed"),
]
PASSWORD = "it's a secret"


def fetched(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        found: bytes = answer.read()
    return found


def test_a_web_tier_a_cache_and_a_database(pycontain: CommandLine) -> None:
    def out(*args: str) -> str:
        done = pycontain(*args, timeout=seconds(400))  # the recipes are followed
        assert done.returncode == 0, done
        return done.stdout.decode()

    def in_network(image: str, *words: str, **env: str) -> str:
        flags = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
        program, *arguments = words
        asked = ("run", "--rm", "--network", "app", *flags, "--entrypoint", program, image)
        return out(*asked, *arguments)

    def sql(text: str) -> str:
        words = ("psql", "-h", "db", "-U", "shop", "-Atc", text)
        return in_network("postgres:bookworm", *words, PGPASSWORD=PASSWORD)

    def has_database() -> bool:
        # Its first start makes the database, with a server that listens nowhere.
        ready = "/usr/lib/postgresql/*/bin/pg_isready -q -h 127.0.0.1"
        return pycontain("exec", "db", "sh", "-c", ready).returncode == 0

    database = (
        "run", "-d", "--name", "db", "--network", "app", "-v", "shop:/var/lib/postgresql/data",
        "-e", "POSTGRES_USER=shop", "-e", f"POSTGRES_PASSWORD={PASSWORD}", "postgres:bookworm",
    )  # fmt: skip
    out("network", "create", "app")
    out("run", "-d", "--name", "web", "--network", "app", "-P", "nginx:bookworm")
    out("run", "-d", "--name", "cache", "--network", "app", "redis:bookworm")
    out(*database)

    # From the host, from a neighbour, and from where another server runs.
    port = int(out("port", "web", "80/tcp").splitlines()[0].rpartition(":")[2])
    assert b"Welcome to nginx" in fetched(port)
    assert "Welcome to nginx" in in_network("busybox", "wget", "-qO-", "http://web/")
    assert in_network("redis:bookworm", "redis-cli", "-h", "cache", "incr", "visits") == "1\n"
    assert out("exec", "cache", "redis-cli", "-h", "cache", "incr", "visits") == "2\n"
    wait_until(has_database, seconds(60))
    assert sql("create table orders (id int); insert into orders values (7), (8)")
    assert sql("select sum(id) from orders") == "15\n"
    assert "GET / HTTP/1.1" in out("logs", "web")

    # What is in a volume outlives the container.
    out("rm", "-f", "db")
    out(*database)
    wait_until(has_database, seconds(60))
    assert sql("select count(*) from orders") == "2\n"

    # Each recipe names the signal that its server takes for a polite request.
    out("stop", "web", "cache", "db")
    codes = out("inspect", "-f", "{{.State.ExitCode}}", "web", "cache", "db")
    assert codes.split() == ["0", "0", "0"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    out("rm", "-v", "web", "cache", "db")
    out("network", "rm", "app")
    out("volume", "rm", "shop")
