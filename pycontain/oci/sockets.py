"""Handing descriptors to whoever listens on a unix socket."""

from __future__ import annotations

import os
import struct

# The C module: what the socket module puts around it costs as much as the rest of a command.
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

from pycontain.errors import kernel_error


def send(path: str, data: bytes, fd: int) -> None:
    """Connect to the socket at `path` and send `data` with a descriptor.

    Raises:
        KernelError: nobody takes it.
    """
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(path)
        rights = [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", fd))]
        sent = connection.sendmsg([data], rights)
        if sent < len(data):
            connection.sendall(data[sent:])
    except OSError as err:
        raise kernel_error("send a descriptor to", path, err.errno or 0) from err
    finally:
        connection.close()


def send_console(path: str, fd: int) -> None:
    """Hand the other end of a terminal over."""
    send(path, b"/dev/ptmx", fd)


def send_pidfd(path: str, pid: int) -> None:
    """Hand a pidfd of our child `pid` over."""
    pidfd = os.pidfd_open(pid)
    try:
        send(path, b"pidfd", pidfd)
    finally:
        os.close(pidfd)
