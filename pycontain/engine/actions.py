"""What a probe or a hook does with a container that runs, bounded in time, once.

A socket belongs to the network namespace in which it was made (network_namespaces(7)): it is made
in the container's, by a thread that ends there, and used from here.

Source: Kubernetes' core/v1: ``ExecAction``, ``HTTPGetAction``, ``TCPSocketAction``,
``SleepAction``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from pycontain.engine import networks, probe, records
from pycontain.engine.cancel import Cancel, Deadline, wait_readable
from pycontain.errors import InvalidState, PycontainError, kernel_error
from pycontain.kernel import netns, process
from pycontain.model.health import Probe
from pycontain.model.probe import ExecAction, HttpAction, SleepAction
from pycontain.runtime import handover

if TYPE_CHECKING:
    import http.client

    from pycontain.engine.containers import Containers, View
    from pycontain.model.probe import TcpAction
    from pycontain.store.layout import Layout

    Action = ExecAction | HttpAction | TcpAction | SleepAction

FAILED = -1
_AGENT = "pycontain-probe"
_MOST_BODY = 10 << 10
_MOST_MESSAGE = 1024
_MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_LOCALHOST = "127.0.0.1"
# What a request line has as it is: RFC 3986, with what is escaped already.
_PLAIN = "/?:@!$&'()*+,;=-._~%[]"


def carry_out(
    containers: Containers,
    layout: Layout,
    view: View,
    action: Action,
    timeout: float | None,
    cancel: Cancel | None,
) -> Probe:
    """Carry an action out.

    Args:
        containers: of the store.
        layout: of the same store.
        view: of a container that runs.
        action: what is done.
        timeout: seconds, None for ever.
        cancel: ends it from another thread.

    Returns:
        What came of it: code 0 is a success, -1 that there was no answer; and what was said.

    Raises:
        InvalidState, NotFound: the container does not run any more, or is paused.
        Cancelled: by `cancel`.
    """
    if isinstance(action, ExecAction):
        return probe.execute(containers, view.container, action.command, timeout, cancel)
    start = time.time_ns()
    if isinstance(action, SleepAction):
        code, text = _sleep(action, timeout, cancel)
    else:
        code, text = _ask(containers, layout, view, action, timeout, cancel)
    return Probe(start=start, end=time.time_ns(), code=code, output=text[:_MOST_MESSAGE])


def _sleep(action: SleepAction, timeout: float | None, cancel: Cancel | None) -> tuple[int, str]:
    left = action.seconds if timeout is None else min(timeout, action.seconds)
    wait_readable((), left * 1000, cancel)
    return (
        (0, "") if left == action.seconds else (FAILED, f"there was no time for {action.seconds}s")
    )


# ---- over the network ----


def _ask(
    containers: Containers,
    layout: Layout,
    view: View,
    action: HttpAction | TcpAction,
    timeout: float | None,
    cancel: Cancel | None,
) -> tuple[int, str]:
    host = action.host or address(containers, layout, view)
    namespace = _open_namespace(view)
    try:
        question = _Question(namespace, host, action)
        try:
            return _bounded(question, timeout, cancel)
        finally:
            question.close()
    finally:
        os.close(namespace)


def address(containers: Containers, layout: Layout, view: View) -> str:
    """Return the address at which a container is asked: the first that it has in its networks, or
    its pod; without any the loopback one.

    Raises:
        StoreError: a document is damaged.
        NotFound: it shares the network of a container that is not there any more.
    """
    identity = view.container.id
    mode = view.container.options.network
    if mode.startswith("container:"):
        ref = mode.partition(":")[2]
        identity = ref if layout.has_pod(ref) else containers.find(ref)
    elif not view.container.options.networks:
        return _LOCALHOST
    found = networks.attachments(layout, identity)
    addresses = [line.partition("/")[0] for one in found for line in one.addresses]
    return addresses[0] if addresses else _LOCALHOST


def _open_namespace(view: View) -> int:
    """Open the network namespace of a container.

    Raises:
        InvalidState: it does not run any more.
        KernelError: it cannot be opened.
    """
    record = records.load_run(view.paths)
    if record is None:
        raise _gone(view)
    try:
        namespace = handover.open_namespace(f"/proc/{record.pid}/ns/net")
    except PycontainError:
        if process.start_time(record.pid) != record.pid_start:
            raise _gone(view) from None
        raise
    if process.start_time(record.pid) != record.pid_start:
        os.close(namespace)
        raise _gone(view)
    return namespace


def _gone(view: View) -> InvalidState:
    return InvalidState(f"container {view.container.name}: its process has ended")


class _Question:
    """What is asked of a container, by one thread, until another ends it.

    Args:
        namespace: descriptor of the network namespace; it stays open till ``close``.
        host: name or address.
        action: what is asked.
    """

    def __init__(self, namespace: int, host: str, action: HttpAction | TcpAction) -> None:
        self._namespace = namespace
        self._host = host
        self._action = action
        self._guard = threading.Lock()
        self._handles: list[socket.socket] = []
        self._closed = False

    def close(self) -> None:
        """End what is under way: it fails, in its thread."""
        with self._guard:
            self._closed = True
            for handle in self._handles:
                # A connection that is waited for, or was never made.
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()
            self._handles.clear()

    def ask(self) -> tuple[int, str]:
        """Return the code and what was said.

        Raises:
            OSError: there was no connection, or it broke.
        """
        action = self._action
        if not isinstance(action, HttpAction):
            self._connected(action.port).close()
            return 0, ""
        for _ in range(_MOST_REDIRECTS):
            answer = self._get(action)
            further = _redirected(action, self._host, answer)
            if further is None:
                return answer.outcome()
            action = further
        return self._get(action).outcome()

    def _get(self, action: HttpAction) -> _Answer:
        with contextlib.closing(self._connected(action.port)) as connection:
            return _get(connection, self._host, action)

    def _connected(self, port: int) -> socket.socket:
        # Names are the host's to resolve: resolv.conf belongs to mount namespaces.
        found = socket.getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        # Not the exception: it would keep this frame, which keeps it.
        failure = (0, "it has no address")
        for family, _, _, _, target in found:
            connection = self._new(family)
            try:
                connection.connect(target)
            except OSError as err:
                failure = (err.errno or 0, err.strerror or str(err))
                connection.close()
            else:
                return connection
        raise OSError(*failure)

    def _new(self, family: int) -> socket.socket:
        with self._guard:
            if self._closed:
                raise TimeoutError
            made = self._make(family)
            # Of its own: TLS takes the first one over.
            self._handles.append(made.dup())
        return made

    def _make(self, family: int) -> socket.socket:
        # An ordinary user may not enter the host's namespace, and is there already.
        if netns.is_current(self._namespace):
            return socket.socket(family, socket.SOCK_STREAM)
        return netns.within(self._namespace, lambda: socket.socket(family, socket.SOCK_STREAM))


def _bounded(question: _Question, timeout: float | None, cancel: Cancel | None) -> tuple[int, str]:
    """Ask in a thread of its own, so that name servers, connections and slow answers all end with
    the time.
    """
    ended = Cancel()
    found: list[tuple[int, str]] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            found.append(question.ask())
        except Exception as err:  # noqa: BLE001 - told below, in the caller's thread
            failures.append(err)
        finally:
            ended.set()

    try:
        threading.Thread(target=ask, daemon=True).start()
    except RuntimeError as err:  # a limit of tasks is reached (pthread_create(3))
        raise kernel_error("start a thread", "", errno.EAGAIN) from err
    if not wait_readable((ended.fileno(),), Deadline(timeout).left(), cancel):
        return FAILED, f"no answer in {timeout:g}s"
    ended.close()
    # An exception that is kept keeps its frames, and what they have open.
    return found.pop() if found else (FAILED, _words(failures.pop()))


def _words(err: BaseException) -> str:
    """What a failed connection or a broken answer has to say."""
    import http.client

    if isinstance(err, http.client.HTTPException):
        return f"not an HTTP answer: {err or type(err).__name__}"
    if isinstance(err, OSError):
        return (err.strerror or str(err) or type(err).__name__).lower()
    if isinstance(err, (PycontainError, ValueError)):  # ValueError: a header that cannot be sent
        return str(err)
    raise err


# ---- HTTP ----


class _Answer(NamedTuple):
    status: int
    location: str
    body: bytes

    def outcome(self) -> tuple[int, str]:
        text = f"status {self.status}"
        if 200 <= self.status < 400:
            return 0, text
        said = self.body.decode(errors="replace")
        return self.status, f"{text}: {said}" if said else text


def _get(connection: socket.socket, host: str, action: HttpAction) -> _Answer:
    import http.client

    if action.scheme == "https":
        connection = _encrypted(connection, action.host)
    try:
        client = http.client.HTTPConnection(host, action.port)
        client.sock = connection
        _send(client, action)
        answer = client.getresponse()
        body = answer.read(_MOST_BODY)
    finally:
        connection.close()
    return _Answer(answer.status, answer.getheader("Location", ""), body)


def _redirected(action: HttpAction, host: str, answer: _Answer) -> HttpAction | None:
    """Return what is asked next, where an answer leads on within the same host.

    Raises:
        ValueError: it leads to what is no URL of HTTP.
    """
    if answer.status not in _REDIRECTS or not answer.location:
        return None
    from urllib.parse import urljoin, urlsplit

    there = f"[{host}]" if ":" in host else host
    asked = f"{action.scheme}://{there}:{action.port}{_path(action)}"
    try:
        url = urlsplit(urljoin(asked, answer.location))
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise _no_url(answer) from None
    if url.hostname != host.lower():
        return None
    if url.scheme not in ("http", "https"):
        raise _no_url(answer)
    # A name that was asked for in a header is the name of this one, not of what was written out.
    elsewhere = bool(urlsplit(answer.location).netloc)
    headers = [one for one in action.headers if not (elsewhere and one[0].lower() == "host")]
    return replace(
        action,
        scheme=url.scheme,
        port=port,
        path=f"{url.path or '/'}?{url.query}" if url.query else url.path,
        headers=tuple(headers),
    )


def _no_url(answer: _Answer) -> ValueError:
    return ValueError(f"status {answer.status}: leads to {answer.location}, which is no HTTP URL")


def _send(client: http.client.HTTPConnection, action: HttpAction) -> None:
    from urllib.parse import quote

    said = {name.lower() for name, _ in action.headers}
    path = quote(_path(action).partition("#")[0], safe=_PLAIN)
    client.putrequest("GET", path, skip_host="host" in said, skip_accept_encoding=True)
    own = {"User-Agent": _AGENT, "Accept": "*/*", "Connection": "close"}
    for name, value in own.items():
        if name.lower() not in said:
            client.putheader(name, value)
    for name, value in action.headers:
        if value or name.lower() not in ("user-agent", "accept"):  # empty: it is not sent
            client.putheader(name, value)
    client.endheaders()


def _path(action: HttpAction) -> str:
    return action.path if action.path.startswith("/") else f"/{action.path}"


def _encrypted(connection: socket.socket, host: str) -> socket.socket:
    """Speak TLS without asking for whose certificate it is, as Kubernetes does."""
    import ipaddress
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        ipaddress.ip_address(host)
    except ValueError:
        name = host or None
    else:
        name = None  # RFC 6066: a server's name is no address
    return context.wrap_socket(connection, server_hostname=name)
