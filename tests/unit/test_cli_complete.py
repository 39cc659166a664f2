"""What may come next on a command line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pycontain.cli import complete
from pycontain.cli.complete import candidates, split
from pycontain.cli.completion import SCRIPTS
from pycontain.cli.main import NOUNS, VERBS, main
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IDENTITY = "abc" + "0" * 61


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A store with the containers web, worker and db, and the images that recipes make."""
    layout = Layout(f"{tmp_path}/root", f"{tmp_path}/state")
    layout.prepare()
    for name in ("web", "worker", "db"):
        os.symlink(IDENTITY, layout.name(name))
    os.mkdir(layout.container(IDENTITY).folder)
    monkeypatch.setenv("PYCONTAIN_ROOT", layout.root)
    monkeypatch.setenv("PYCONTAIN_STATE", layout.state)
    monkeypatch.setattr(complete._Store, "images", lambda self: ["mine:latest", "base:2"])
    monkeypatch.setattr(complete._Store, "recipes", lambda self: ["busybox:latest"])
    return layout


def words(line: str) -> list[str] | None:
    found = candidates(split(line)[1:])
    return None if found is None else [word for word, _ in found]


def test_verbs_and_nouns_come_first() -> None:
    assert words("pycontain ") == sorted([*VERBS, *NOUNS])
    assert words("pycontain sto") == ["stop"]
    assert words("pycontain container l") == ["list", "logs", "ls"]
    assert words("pycontain nosuch ") == []
    assert words("pycontain container nosuch ") == []


def test_the_hidden_verb_is_not_offered() -> None:
    assert words("pycontain _") == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pycontain stop ", ["db", "web", "worker"]),
        ("pycontain stop w", ["web", "worker"]),
        ("pycontain stop web w", ["web", "worker"]),
        ("pycontain stop -t 3 d", ["db"]),
        ("pycontain stop -t3 d", ["db"]),
        ("pycontain stop --time=3 d", ["db"]),
        ("pycontain container stop w", ["web", "worker"]),
        ("pycontain stop ab", ["abc000000000"]),
        ("pycontain exec w", ["web", "worker"]),
        ("pycontain exec -it w", ["web", "worker"]),
        ("pycontain logs web ", []),
        ("pycontain run ", ["base:2", "busybox:latest", "mine:latest"]),
        ("pycontain run --rm -it b", ["base:2", "busybox:latest"]),
        ("pycontain images m", ["mine:latest"]),
        ("pycontain inspect ", ["base:2", "db", "mine:latest", "web", "worker"]),
        ("pycontain image inspect ", ["base:2", "mine:latest"]),
        ("pycontain container inspect ", ["db", "web", "worker"]),
        ("pycontain cp w", ["web:", "worker:"]),
        ("pycontain ps ", []),
        ("pycontain completion z", ["zsh"]),
    ],
)
def test_arguments(line: str, found: list[str]) -> None:
    assert words(line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pycontain kube get ", ["configmap", "deployment", "pod", "pvc", "secret"]),
        ("pycontain kube get po ", ["api", "shop"]),
        ("pycontain kube get pod api s", ["shop"]),
        ("pycontain kube delete deploy/", ["deploy/many"]),
        ("pycontain kube delete deploy/many pod/a", ["pod/api"]),
        ("pycontain kube describe nosuch ", []),
        ("pycontain kube describe nosuch/", []),
        ("pycontain kube logs s", ["secret", "shop"]),
        ("pycontain kube logs pod/s", ["pod/shop"]),
        ("pycontain kube logs shop ", []),
        ("pycontain kube generate w", ["web", "worker"]),
        ("pycontain kube generate --type d", ["deployment"]),
        ("pycontain kube get -o n", ["name"]),
    ],
)
def test_what_is_declared(line: str, found: list[str], place: Layout) -> None:
    for path in ("pod/shop", "pod/api", "deployment/many"):
        os.makedirs(os.path.dirname(f"{place.kube}/{path}"), exist_ok=True)
        with open(f"{place.kube}/{path}", "w", encoding="utf-8"):
            pass
    assert words(line) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pycontain run --netw", ["--network", "--network-alias"]),
        ("pycontain ps --f", ["--filter", "--format"]),
        ("pycontain --r", ["--root"]),
        ("pycontain stop --t", ["--time"]),
        ("pycontain stop -- --t", []),
        ("pycontain run --network h", ["host"]),
        ("pycontain run --network=h", ["--network=host"]),
        ("pycontain run --network container:w", ["container:web", "container:worker"]),
        ("pycontain run --network=container:d", ["--network=container:db"]),
        ("pycontain run --log-driver j", ["json-file"]),
        ("pycontain run --cap-add NET_A", ["NET_ADMIN"]),
        ("pycontain kill -s TER", ["TERM"]),
        ("pycontain inspect --type i", ["image"]),
        ("pycontain run --name w", []),
        ("pycontain wait --condition h", ["healthy"]),
        ("pycontain run --health-s", ["--health-start-interval", "--health-start-period"]),
        ("pycontain healthcheck run we", ["web"]),
    ],
)
def test_flags_and_their_values(line: str, found: list[str]) -> None:
    assert words(line) == found


@pytest.mark.parametrize(
    "line",
    [
        "pycontain run busybox ls ",
        "pycontain exec web cat ",
        "pycontain run --env-file ",
        "pycontain run -v ",
        "pycontain --root ",
        "pycontain run --cidfile=",
        "pycontain cp /etc/ho",
        "pycontain cp web:/etc/hosts .",
    ],
)
def test_paths_are_the_shells(line: str) -> None:
    assert words(line) is None


def test_a_command_in_a_container_has_its_own_flags() -> None:
    assert words("pycontain run busybox --") is None


def test_global_flags_say_which_store(tmp_path: Path, place: Layout) -> None:
    other = Layout(f"{tmp_path}/other", place.state)
    other.prepare()
    os.symlink(IDENTITY, other.name("elsewhere"))
    assert words(f"pycontain --root {other.root} --state {other.state} stop ") == ["elsewhere"]


def test_a_store_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    where = f"--root {tmp_path}/no --state {tmp_path}/no"
    assert words(f"pycontain {where} stop ") == []
    assert not (tmp_path / "no").exists()


def test_every_verb_can_be_completed() -> None:
    names = [*VERBS, *(f"{noun} {verb}" for noun in NOUNS for verb in NOUNS[noun][1])]
    for name in names:
        words(f"pycontain {name} ")
        flags = words(f"pycontain {name} --")
        assert flags is not None
        assert "--help" in flags


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a", ["a"]),
        ("a ", ["a", ""]),
        ("  a  b", ["", "a", "b"][1:]),
        ("a 'b c' d", ["a", "b c", "d"]),
        ('a "b c', ["a", "b c"]),
        ("a b\\ c", ["a", "b c"]),
        ("a '' b", ["a", "", "b"]),
        ("a '\\'", ["a", "\\"]),
        ('a --x="y z"w', ["a", "--x=y zw"]),
    ],
)
def test_words_of_a_line(line: str, found: list[str]) -> None:
    assert split(line) == found


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["__complete", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_bash_gets_what_is_behind_its_word_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    line = "pycontain run --network=container:w"
    assert answer(capsys, "bash", line, " =:") == ["words", "web", "worker"]
    assert answer(capsys, "bash", line, " =") == ["words", "container:web", "container:worker"]
    assert answer(capsys, "bash", "pycontain run base:", " =:") == ["words", "2"]
    assert answer(capsys, "bash", "pycontain cp w", " ") == ["nospace", "web:", "worker:"]
    assert answer(capsys, "bash", "pycontain run -v ", " ") == ["files"]


def test_the_hidden_verb_is_for_the_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["bash"], ["bash", "pycontain stop"], ["zsh"]):
        assert main(["__complete", *arguments]) == 1
        assert "for the scripts of 'pycontain completion' alone" in capsys.readouterr().err
    assert answer(capsys, "bash", "pycontain", "")[0] == "words"


def test_others_get_words_with_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "fish", "run", "base") == ["words", "base:2"]
    assert answer(capsys, "zsh", "run", "base") == ["words", "base\\:2"]
    found = answer(capsys, "fish", "stop", "--sig")
    assert found == ["words", "--signal\tsignal to send"]
    assert answer(capsys, "zsh", "stop", "--sig") == ["words", "--signal:signal to send"]


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_script_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == SCRIPTS[shell]


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 1
    assert "no completion for csh\nhint: there are bash, fish, zsh\n" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["pycontain sto", "pycontain stop w", "pycontain run --"])
def test_a_press_of_the_key_imports_nothing_dear(line: str) -> None:
    script = (
        "import sys; from pycontain.cli.main import main;"
        f" main(['__complete', 'bash', {line!r}, '']); print(*sys.modules)"
    )
    path = os.pathsep.join([ROOT, *(part for part in sys.path if part)])
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": path}, timeout=60,
    )  # fmt: skip
    modules = set(done.stdout.split())
    assert "pycontain.cli.complete" in modules
    assert not modules & {"asyncio", "click", "difflib", "psutil", "pyroute2", "subprocess"}
