"""The settings: files and variables to values, each with its origin; mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontain.cli.flags import parse
from pycontain.cli.run_options import CONTAINER_FLAGS, run_options
from pycontain.config import BUILT_IN, SETTINGS, Config, load
from pycontain.engine import containers
from pycontain.engine.handle import run_options as run_options_of_api
from pycontain.errors import InvalidInput, KernelError
from pycontain.image import recipes
from pycontain.model.container import RunOptions
from pycontain.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[[str, str], str]

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def settings_of(text: str, write: Write, uid: int = 0) -> Config:
    return load({}, uid, write("system.toml", text))


def test_nobody_said_anything(tmp_path: Path) -> None:
    assert load({}, 0, f"{tmp_path}/none") is BUILT_IN
    assert set(BUILT_IN.origins.values()) == {"built in"}
    assert BUILT_IN.for_containers() == {}


def test_what_is_built_in_is_what_options_have_by_themselves() -> None:
    options = RunOptions(image="x")
    for name in ("log_driver", "log_max_size", "log_max_files", "shm_size"):
        assert getattr(options, name) == getattr(BUILT_IN, name)
    assert BUILT_IN.stop_timeout == containers.DEFAULT_STOP_TIMEOUT


def test_later_ones_win(write: Write, tmp_path: Path) -> None:
    system = write("system.toml", 'log_driver = "none"\nlog_max_files = 5\nstop_timeout = 1\n')
    user = write("pycontain/config.toml", "log_max_files = 6\nstop_timeout = 2\npids_limit = 9\n")
    named = write("named.toml", "stop_timeout = 3\npids_limit = 10\n")
    environ = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "PYCONTAIN_CONFIG": named,
        "PYCONTAIN_PIDS_LIMIT": "11",
    }
    found = load(environ, 0, system)
    said = (found.log_driver, found.log_max_files, found.stop_timeout, found.pids_limit)
    assert said == ("none", 6, 3, 11)
    assert found.origins["log_driver"] == system
    assert found.origins["log_max_files"] == user
    assert found.origins["stop_timeout"] == named
    assert found.origins["pids_limit"] == "$PYCONTAIN_PIDS_LIMIT"
    assert found.origins["shm_size"] == "built in"
    assert found.files == (system, user, named)


def test_the_users_file_is_below_home_where_xdg_says_nothing(write: Write, tmp_path: Path) -> None:
    write(".config/pycontain/config.toml", "stop_timeout = 4\n")
    nothing = f"{tmp_path}/none"
    assert load({"HOME": str(tmp_path)}, 0, nothing).stop_timeout == 4
    relative = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "here"}
    assert load(relative, 0, nothing).stop_timeout == 4
    assert load({}, 0, nothing) is BUILT_IN


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    environ = {"PYCONTAIN_ROOT": "", "PYCONTAIN_CONFIG": ""}
    assert load(environ, 0, f"{tmp_path}/none") is BUILT_IN


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ('root = "/data"', "root", "/data"),
        ("log_max_size = 4096", "log_max_size", 4096),
        ('log_max_size = "4k"', "log_max_size", 4096),
        ('shm_size = "2MiB"', "shm_size", 2 << 20),
        ('shm_size = "10b"', "shm_size", 10),
        ("stop_timeout = -1", "stop_timeout", -1),
        ('debian_mirror = "http://x/debian"', "debian_mirror", "http://x/debian"),
    ],
)
def test_values(line: str, name: str, value: object, write: Write) -> None:
    assert getattr(settings_of(line, write), name) == value


@pytest.mark.parametrize(
    ("setting", "word", "value"),
    [
        ("ROOT", "/r", "/r"),
        ("LOG_MAX_SIZE", "4k", 4096),
        ("LOG_MAX_SIZE", "4096", 4096),
        ("LOG_MAX_FILES", "2", 2),
        ("STOP_TIMEOUT", "-1", -1),
    ],
)
def test_variables(setting: str, word: str, value: object, tmp_path: Path) -> None:
    found = load({f"PYCONTAIN_{setting}": word}, 0, f"{tmp_path}/none")
    assert getattr(found, setting.lower()) == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('root = "data"', "root: 'data': must be an absolute path"),
        ("root = 1", "root: 1: must be an absolute path"),
        ('log_driver = "syslog"', "'syslog': must be one of k8s-file, json-file, none"),
        ('log_max_size = "4q"', "log_max_size: '4q': must be a number of bytes"),
        ("log_max_size = 0", "log_max_size: 0: must be"),
        ('log_max_size = "k"', "log_max_size: 'k': must be"),
        ("log_max_files = 0", "log_max_files: 0: must be a number from 1 to 1000"),
        ("log_max_files = 2.0", "log_max_files: 2.0: must be"),
        ("stop_timeout = true", "stop_timeout: true: must be a number of seconds"),
        ('stop_timeout = "3"', "stop_timeout: '3': must be"),
        ("stop_timeout = -2", "stop_timeout: -2: must be"),
        ("pids_limit = []", r"pids_limit: \[\]: must be"),
        ('debian_mirror = " "', "debian_mirror: ' ': must be"),
    ],
)
def test_a_value_that_is_not_allowed_is_told_with_its_line(
    line: str, message: str, write: Write, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        settings_of(f"# first\n\n{line}\n", write)
    assert caught.value.message.startswith(f"configuration: {tmp_path}/system.toml: line 3: ")


@pytest.mark.parametrize("text", ["stop_timeot = 1", "[stop_timeot]", "'stop_timeot' = 1"])
def test_an_unknown_key_is_told_with_its_line_and_the_nearest(text: str, write: Write) -> None:
    with pytest.raises(InvalidInput, match="line 2: unknown key stop_timeot") as caught:
        settings_of(f"log_max_files = 1\n{text}\n", write)
    assert caught.value.hint == "did you mean stop_timeout?"


def test_an_unknown_key_like_no_other_is_answered_with_all(write: Write) -> None:
    with pytest.raises(InvalidInput) as caught:
        settings_of("x = 1", write)
    assert caught.value.hint is not None
    assert all(setting.name in caught.value.hint for setting in SETTINGS)


@pytest.mark.parametrize("text", ["stop_timeout 1", "stop_timeout = 1\nstop_timeout = 2"])
def test_what_is_no_toml_is_told_with_file_and_line(text: str, write: Write) -> None:
    with pytest.raises(InvalidInput, match=r"configuration: .*/system.toml: .*\(at .*line \d"):
        settings_of(text + "\n#\n", write)


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(InvalidInput, match="/bad: line 2: not valid utf-8"):
        load({}, 0, f"{tmp_path}/bad")


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    for word in ("three", "3.0", "", "-"):
        environ = {"PYCONTAIN_STOP_TIMEOUT": word}
        if word:
            with pytest.raises(InvalidInput, match=r"\$PYCONTAIN_STOP_TIMEOUT: stop_timeout: "):
                load(environ, 0, f"{tmp_path}/none")


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="no such file") as caught:
        load({"PYCONTAIN_CONFIG": f"{tmp_path}/none"}, 0, f"{tmp_path}/none")
    assert caught.value.hint == "PYCONTAIN_CONFIG names it"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="is a directory"):
        load({}, 0, str(tmp_path))


def test_folders_and_limits_of_the_systems_file_are_roots(write: Write, tmp_path: Path) -> None:
    text = 'root = "/data"\nstate = "/s"\npids_limit = 5\nstop_timeout = 1\n'
    system = write("system.toml", text)
    assert load({}, 0, system).root == "/data"
    found = load({}, 1000, system)
    assert (found.root, found.state, found.pids_limit, found.stop_timeout) == (None, None, -1, 1)
    # one's own file and variables are one's own
    write("pycontain/config.toml", 'root = "/mine"\n')
    assert load({"XDG_CONFIG_HOME": str(tmp_path)}, 1000, system).root == "/mine"


def test_settings_are_fixed() -> None:
    with pytest.raises(AttributeError):
        BUILT_IN.root = "/x"


def test_the_store_is_where_the_settings_say() -> None:
    layout = Layout.default({}, 0, Config({"root": "/r"}))
    assert (layout.root, layout.state) == ("/r", "/run/pycontain")


SAID = {
    "log_driver": "json-file",
    "log_max_size": 1 << 20,
    "log_max_files": 7,
    "shm_size": 1 << 16,
    "stop_timeout": 2,
    "pids_limit": 50,
}


def configured(values: dict[str, object]) -> Config:
    return Config(values, dict.fromkeys(values, "/f"))


def by_words(settings: Config, *words: str) -> RunOptions:
    values, arguments = parse(CONTAINER_FLAGS, [*words, "busybox"], mixed=False)
    return run_options(values, arguments, settings)


def test_new_containers_have_what_is_configured() -> None:
    settings = configured(SAID)
    for options in (by_words(settings), run_options_of_api("busybox", (), {}, settings)):
        assert {name: getattr(options, name) for name in SAID} == SAID


def test_what_is_said_wins_over_what_is_configured() -> None:
    settings = configured(SAID)
    words = (
        "--log-driver k8s-file --log-opt max-size=2k --log-opt max-file=2 --shm-size 3k"
        " --stop-timeout 9 --pids-limit -1"
    )
    said = {
        "log_driver": "k8s-file",
        "log_max_size": 2048,
        "log_max_files": 2,
        "shm_size": 3072,
        "stop_timeout": 9,
        "pids_limit": -1,
    }
    for options in (
        by_words(settings, *words.split()),
        run_options_of_api("busybox", (), said, settings),
    ):
        assert {name: getattr(options, name) for name in said} == said


def test_no_limit_asks_nothing_of_the_machine() -> None:
    settings = configured({"pids_limit": -1})
    assert by_words(settings).pids_limit is None
    assert run_options_of_api("busybox", (), {}, settings).pids_limit is None


def test_looking_for_files_is_one_call_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[object] = []
    opened = os.open

    def watched(path: str, *arguments: int) -> int:
        calls.append(path)
        return opened(path, *arguments)

    monkeypatch.setattr("os.open", watched)
    load({"HOME": str(tmp_path)}, 0, f"{tmp_path}/none")
    assert calls == [f"{tmp_path}/none", f"{tmp_path}/.config/pycontain/config.toml"]


def test_recipes_see_the_mirror_that_a_file_says(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYCONTAIN_DEBIAN_MIRROR", raising=False)
    monkeypatch.setenv("PYCONTAIN_CONFIG", write("c.toml", 'debian_mirror = "http://m/debian"'))
    assert recipes._environment(0)["PYCONTAIN_DEBIAN_MIRROR"] == "http://m/debian"
    monkeypatch.setenv("PYCONTAIN_DEBIAN_MIRROR", "http://other")
    assert recipes._environment(0)["PYCONTAIN_DEBIAN_MIRROR"] == "http://other"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes somebody else")
def test_a_home_of_somebody_else_is_not_looked_into(tmp_path: Path) -> None:
    """As after su(1) without a login, where HOME is still root's."""
    folder = tmp_path / "home"
    (folder / ".config/pycontain").mkdir(parents=True)
    (folder / ".config/pycontain/config.toml").write_text("stop_timeout = 3")
    folder.chmod(0o700)
    environ = {"HOME": str(folder)}
    assert load(environ, system_file="/nonexistent").stop_timeout == 3
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            code = load(environ, system_file="/nonexistent").stop_timeout
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{word}`" for word in value)
    return "" if value is None else f"`{value}`"


def test_the_documentation_has_the_table() -> None:
    text = DOCS.read_text()
    for setting in SETTINGS:
        row = (
            f"| `{setting.name}` | {setting.help} | {setting.allowed} | {shown(setting.default)} |"
        )
        assert row in text, row
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(SETTINGS)
