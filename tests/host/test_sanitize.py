"""The C parts built with ASan and UBSan: containers run with them, and nothing is reported."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_ports
from harness import PATIENCE, collect, wait_until

from pycontain.errors import CommandNotFound
from pycontain.runtime import handover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Store

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: runs containers"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]

CHECKOUT = Path(__file__).parent.parent.parent
BROKEN = "#include <stdlib.h>\nint main(void) { volatile char *at = malloc(4); return at[4]; }\n"
FLOOD = 8 << 20

# What these test is what the C parts do; the others would only take longer.
OTHERS = ("exec", "attach", "log", "monitor", "pod_folders")
# Of the OCI suite what the runner, its clone and the hooks do.
OCI = ("hooks", "namespaces")
# What is true of the programs as they are installed: their size, their memory, how they are linked.
AS_INSTALLED = "small or makes_it_wait or memory or bounded or static or own_program"


def reports(folder: Path) -> str:
    return "\n".join(path.read_text() for path in folder.glob("report.*"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sanitized")
    builder = [sys.executable, f"{CHECKOUT}/native/build.py", "--sanitize", str(folder)]
    result = subprocess.run(builder, capture_output=True, text=True, check=False)
    if "cannot find" in result.stderr and "san" in result.stderr:
        pytest.skip(f"the compiler comes without its sanitizers: {result.stderr[-200:]}")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def sanitized(programs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handover, "NATIVE", str(programs))
    yield
    assert not reports(programs)


def test_a_report_is_seen(programs: Path, tmp_path: Path) -> None:
    """Without environment and standard error, as a monitor has it."""
    source, program = tmp_path / "broken.c", tmp_path / "broken"
    source.write_text(BROKEN)
    subprocess.run(
        ["cc", "-fsanitize=address,undefined", f'-DREPORT="{tmp_path}/report"', "-o", program,
         source, CHECKOUT / "native" / "sanitize.c"],
        check=True,
    )  # fmt: skip
    result = subprocess.run([program], env={}, stderr=subprocess.DEVNULL, check=False)
    assert result.returncode != 0
    assert "heap-buffer-overflow" in reports(tmp_path)


def test_the_monitor_is_the_sanitized_one(sanitized: None, store: Store) -> None:
    identity = store.detach()
    monitor = store.run_record(identity).monitor
    assert "libasan" in Path(f"/proc/{monitor}/maps").read_text()


def test_run(sanitized: None, store: Store) -> None:
    result = store.run("sh", "-c", "cat; echo bad >&2; exit 3", input=b"good", init=True)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"good", b"bad\n")
    assert store.run("sh", "-c", "kill -9 $$", init=True).exit_code == 137
    assert store.run("id", "-u", user="12:34", umask=0o77).stdout == b"12\n"
    timed = store.detach("sleep", "100", timeout=1)
    assert store.containers.await_record(timed).code == 137


def test_failed_start(sanitized: None, store: Store) -> None:
    with pytest.raises(CommandNotFound):
        store.run("/missing")


def test_exec(sanitized: None, store: Store) -> None:
    identity = store.detach()
    assert store.exec(identity, "cat", input=b"x" * 100000).stdout == b"x" * 100000
    assert store.exec(identity, "sh", "-c", "exit 7", tty=True).code == 7


def test_terminal(sanitized: None, store: Store) -> None:
    _, attachment = store.attached("sh", tty=True, interactive=True)
    attachment.resize(33, 99)
    output = collect(attachment, b"stty size; exit 4\n")
    attachment.close()
    assert b"33 99" in output.stdout
    assert output.code == 4


@pytest.mark.parametrize("driver", ["k8s-file", "json-file", "none"])
def test_flood(sanitized: None, store: Store, driver: str) -> None:
    script = f"head -c {FLOOD} /dev/urandom; yes | head -n 100000"
    result = store.run("sh", "-c", script, log_driver=driver, log_max_size=1 << 20)
    assert len(result.stdout) == FLOOD + 200000


def test_attach(sanitized: None, store: Store) -> None:
    """More clients than find room, all but one of whom do not read, and one who goes away."""
    identity = store.detach("sh", "-c", "read line; yes | head -n 500000; echo end; read line",
                            interactive=True)  # fmt: skip
    clients = [store.containers.attach(identity) for _ in range(20)]
    clients[0].close()
    assert clients[2].write_stdin(b"all\n") == 4
    output = collect(clients[1], until=b"end\n")
    assert len(output.stdout) + output.lagged == 1000004
    assert clients[2].write_stdin(b"go\n") == 3
    wait_until(lambda: store.state_of(identity) == "exited")
    for client in clients[1:]:
        client.close()


def test_stop_and_restart(sanitized: None, store: Store) -> None:
    identity = store.detach()
    store.containers.restart(identity, timeout=0)
    store.containers.stop(identity, timeout=0)
    assert store.state_of(identity) == "exited"
    removed = store.detach("true", remove=True)
    wait_until(lambda: not os.path.exists(store.layout.container(removed).folder))


def test_published_ports(sanitized: None, store: Store) -> None:
    """The forwarder: streams that end in every way, datagrams, and its own end."""
    ref = test_ports.serve(
        store, test_ports.publish(80, address="127.0.0.1"), test_ports.publish(90, address="::1"),
        test_ports.publish(53, protocol="udp", address="127.0.0.1"),
    )  # fmt: skip
    ports = {one.target: one.port for one in store.containers.ports(ref)}
    test_ports.await_server("127.0.0.1", ports[80])
    (forwarder,) = test_ports.children(store, ref)
    assert test_ports.echo("127.0.0.1", ports[80], b"x" * 300000) == b"x" * 300000
    assert test_ports.echo("::1", ports[90]) == b""
    for _ in range(50):
        test_ports.connect("127.0.0.1", ports[80]).close()
    with test_ports.server_in(store, ref, "udp", 53):
        for _ in range(20):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.connect(("127.0.0.1", ports[53]))
                client.send(b"hello")
                assert client.recv(100) == b"HELLO"
    assert test_ports.children(store, ref) == [forwarder]


# The runtime's command line over a copy of the package; the interpreter's folders follow.
LAUNCHER = """\
#!{python} -ISB
import sys
sys.path[:0] = {path}
from pycontain.oci.main import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def package(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package around the sanitized programs."""
    folder = tmp_path_factory.mktemp("package")
    skip = shutil.ignore_patterns("_native")
    shutil.copytree(CHECKOUT / "pycontain", folder / "pycontain", ignore=skip)
    native = folder / "pycontain" / "_native"
    shutil.copytree(CHECKOUT / "pycontain" / "_native", native)
    shutil.copytree(CHECKOUT / "images", folder / "images")
    for program in ("monitor", "runner", "init", "holder", "sandbox"):
        shutil.copy(programs / program, native / program)
    return folder


def run_tests(
    package: Path, folder: Path, paths: list[Path], marks: str = "not slow", **environment: str
) -> None:
    """Run test files with that package; all must pass."""
    found = {**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1", **environment}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         "-m", marks, "-k", f"not ({AS_INSTALLED})",
         "--basetemp", folder / "tests", *(path for path in paths if path.exists())],
        cwd=CHECKOUT, env=found, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-8000:]


@pytest.mark.slow
def test_host_tests(programs: Path, package: Path, tmp_path: Path) -> None:
    """The other host tests, with the sanitized programs."""
    paths = [Path(__file__).with_name(f"test_{name}.py") for name in OTHERS]
    run_tests(package, tmp_path, paths)
    assert not reports(programs)


def make_launcher(package: Path, folder: Path) -> Path:
    launcher = folder / "pycontain-runtime"
    places = [str(package), *(place for place in sys.path if place)]
    launcher.write_text(LAUNCHER.format(python=sys.executable, path=places))
    launcher.chmod(0o755)
    return launcher


def test_the_runner_is_the_sanitized_one(package: Path) -> None:
    program = package / "pycontain" / "_native" / "runner"
    assert b"__asan_default_options" in program.read_bytes()


@pytest.mark.slow
def test_oci_tests(programs: Path, package: Path, tmp_path: Path) -> None:
    """The OCI suite, with the sanitized runner."""
    launcher = make_launcher(package, tmp_path)
    paths = [Path(__file__).parent / "oci" / f"test_{name}.py" for name in OCI]
    run_tests(package, tmp_path, paths, "host", PYCONTAIN_TEST_OCI_RUNTIME=str(launcher))
    assert not reports(programs)
