"""Configurations and root file systems that mean harm: the host is never touched.

A canary on the host stands where a link of the rootfs, followed by somebody outside, would lead.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from pace import seconds

from .bundle import bind, differs, environment, mount, spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .bundle import Bundle

pytestmark = [pytest.mark.host, pytest.mark.slow]


class Canary:
    """A folder on the host that must stay exactly as it is."""

    def __init__(self, bundle: Bundle) -> None:
        self.folder = bundle.make("canary")
        bundle.make("canary/file", "host")
        bundle.make("canary/dir/inner", "host")
        self.before = self._look()

    def _look(self) -> list[object]:
        seen: list[object] = []
        for folder, folders, files in sorted(os.walk(self.folder)):
            status = os.lstat(folder)
            seen.append((folder, sorted(folders), sorted(files), status.st_mode, status.st_uid))
            for name in sorted(files):
                status = os.lstat(f"{folder}/{name}")
                seen.append((name, status.st_mode, status.st_uid, status.st_size))
        return seen

    def check(self) -> None:
        assert self._look() == self.before
        with open("/proc/self/mountinfo") as lines:
            assert not any(self.folder in line for line in lines)


@pytest.fixture
def canary(bundle: Bundle) -> Iterator[Canary]:
    found = Canary(bundle)
    yield found
    found.check()


def relink(bundle: Bundle, path: str, target: str) -> None:
    """Make `path` of the rootfs a symbolic link."""
    place = bundle.rootfs + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.isdir(place) and not os.path.islink(place):
        os.rmdir(place)
    os.symlink(target, place)


def start_and_end(bundle: Bundle, script: str = "exit 0") -> bool:
    """Whether the container ran; either is right, as long as the host stays as it is."""
    bundle.process["args"] = ["sh", "-c", script]
    return bundle.run().returncode == 0


UP = "../" * 20


# -------------------------------------------------------------------------------- links for targets


@pytest.mark.parametrize("form", ["absolute", "dots", "chain", "middle"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "proc"])
def test_a_mount_target_that_is_a_link(
    bundle: Bundle, canary: Canary, form: str, kind: str
) -> None:
    """It is resolved inside the rootfs; the path on the host of the same name is not meant."""
    bundle.make("rootfs/opt")
    target = {
        "absolute": canary.folder, "dots": UP + canary.folder[1:], "chain": "/opt/next",
        "middle": canary.folder,
    }[form]  # fmt: skip
    relink(bundle, "/srv", target)
    if form == "chain":
        relink(bundle, "/opt/next", canary.folder)
    point = "/srv/dir" if form == "middle" else "/srv"
    bundle.make("data/f", "inside")
    if kind == "bind":
        bundle.mounts.append(bind("data", point))
    else:
        bundle.mounts.append(mount(kind, point, kind))
    start_and_end(bundle, f"touch {point}/x")


@pytest.mark.parametrize("form", ["host", "dots", "inside", "loop"])
@pytest.mark.parametrize(
    "path",
    [
        "/proc", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue",
        pytest.param("/dev", marks=differs("it makes links and devices on the host", "runc")),
    ],
)  # fmt: skip
def test_links_in_place_of_the_usual_mount_points(
    bundle: Bundle, canary: Canary, path: str, form: str
) -> None:
    targets = {
        "host": canary.folder, "dots": UP + canary.folder[1:], "inside": "/mnt",
        "loop": os.path.basename(path),
    }  # fmt: skip
    if path.startswith("/dev/"):
        bundle.mounts = [each for each in bundle.mounts if each["destination"] != "/dev"]
    relink(bundle, path, targets[form])
    start_and_end(bundle, "echo x >/dev/shm/x")


def test_proc_that_is_a_link_is_refused(bundle: Bundle, canary: Canary) -> None:
    """Else masks and labels would be written to a file of the image's choice."""
    relink(bundle, "/proc", "/mnt")
    bundle.refused()


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("form", ["absolute", "dots", "middle"])
def test_masks_through_links(bundle: Bundle, canary: Canary, key: str, form: str) -> None:
    target = UP + canary.folder[1:] if form == "dots" else canary.folder
    relink(bundle, "/srv", target)
    bundle.linux[key] = ["/srv/file" if form == "middle" else "/srv"]
    start_and_end(bundle)
    with open(f"{canary.folder}/file") as file:
        assert file.read() == "host"


@pytest.mark.parametrize(
    "form",
    [
        "link",
        pytest.param(
            "folder link", marks=differs("it makes links and devices on the host", "runc")
        ),
    ],
)
def test_devices_through_links(bundle: Bundle, canary: Canary, form: str) -> None:
    bundle.mounts = [each for each in bundle.mounts if not each["destination"].startswith("/dev")]
    if form == "link":
        relink(bundle, "/dev/null", f"{canary.folder}/file")
        entry = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3}
        relink(bundle, "/dev/mine", f"{canary.folder}/made")
    else:
        relink(bundle, "/dev", canary.folder)
        entry = {"path": "/dev/made", "type": "c", "major": 1, "minor": 3}
    bundle.linux["devices"] = [entry]
    start_and_end(bundle)


def test_the_working_folder_through_a_link(bundle: Bundle, canary: Canary) -> None:
    relink(bundle, "/srv", canary.folder)
    bundle.process["cwd"] = "/srv/new/folder"
    start_and_end(bundle)


def test_tmpcopyup_through_a_link(bundle: Bundle, canary: Canary) -> None:
    relink(bundle, "/srv", canary.folder)
    bundle.mounts.append(mount("tmpfs", "/srv", "tmpfs", "tmpcopyup"))
    bundle.process["args"] = ["sh", "-c", "cat /srv/file"]
    assert "host" not in bundle.run().stdout


def test_sysctl_names_lead_nowhere_else(bundle: Bundle, canary: Canary) -> None:
    path = os.path.relpath(f"{canary.folder}/file", "/proc/sys")
    for name in (
        path,
        f"net/{path}",
        "net.ipv4/../../../..",
        "net...ipv4",
        f"{canary.folder}/file",
    ):
        bundle.linux["sysctl"] = {name: "bad"}
        bundle.refused()


@pytest.mark.parametrize("destination", ["/../../..", "/..", "/mnt/../../..", "/proc/1/root/tmp"])
def test_destinations_with_dots(bundle: Bundle, canary: Canary, destination: str) -> None:
    bundle.mounts.append(mount("tmpfs", destination + canary.folder, "tmpfs"))
    start_and_end(bundle, "echo x >/etc/x")


@pytest.mark.parametrize("destination", ["/", "/.", "", "/.."])
def test_a_mount_over_the_root(bundle: Bundle, canary: Canary, destination: str) -> None:
    bundle.private_mounts()
    bundle.mounts.append(mount("tmpfs", destination, "tmpfs"))
    start_and_end(bundle)


def test_a_rootfs_that_is_the_hosts(bundle: Bundle) -> None:
    """Somebody may want that; the host's own mount stays as it is."""
    bundle.config["root"] = {"path": "/", "readonly": True}
    bundle.config["mounts"] = []
    bundle.process["args"] = ["/bin/true"]
    bundle.write()
    script = """
    "$@"
    findmnt --noheadings --output OPTIONS / | grep -q '^rw' || echo changed
    """
    # In a mount namespace of its own: this shell's root stands for the host's.
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*argv, *bundle.argv("run", "--bundle", bundle.folder, bundle.id)],
        capture_output=True, text=True, check=False, env=environment(), timeout=seconds(20),
    )  # fmt: skip
    assert "changed" not in done.stdout


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize(
    "what",
    [
        "link", "huge", "folder", "bytes",
        pytest.param("fifo", marks=differs("it waits for a writer", "runc")),
    ],
)  # fmt: skip
def test_account_files_that_are_traps(bundle: Bundle, what: str, name: str) -> None:
    """Whoever reads them for HOME must neither hang nor leave the rootfs."""
    path = f"{bundle.rootfs}/etc/{name}"
    if what == "link":
        os.symlink("/proc/self/root" + UP + "etc/" + name, path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(b"\xff\0:::\n" * 10 if what == "bytes" else b"root:" + b"x" * (1 << 20))
    bundle.process["args"] = ["echo", "x"]
    done = bundle.run(timeout=seconds(10))
    assert done.returncode != 0 or done.stdout == "x\n"


@differs("it makes the mount point on the host", "runc")
def test_a_rootfs_that_changes_meanwhile(bundle: Bundle, canary: Canary) -> None:
    """A folder that becomes a link between look and mount, over and over."""
    bundle.make("rootfs/srv")
    bundle.make("rootfs/swap")
    bundle.mounts.append(mount("tmpfs", "/srv/inner", "tmpfs"))
    bundle.linux["maskedPaths"] = ["/srv/inner"]
    bundle.make("rootfs/srv/inner")
    script = (
        f"import os, sys\nos.chdir({bundle.rootfs!r})\n"
        f"os.symlink({canary.folder!r}, 'link')\n"
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "while True: libc.renameat2(-100, b'srv', -100, b'link', 2)\n"
    )
    with subprocess.Popen(["python3", "-c", script]) as swapper:
        end = time.monotonic() + 1.0
        try:
            while time.monotonic() < end:
                start_and_end(bundle, "echo x >/srv/inner/x")
        finally:
            swapper.kill()


# ------------------------------------------------------------------------------------ odd documents


@spec("config.md#valid-values: invalid and unsupported values are an error")
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "5", "null", '"x"', "{}", '{"ociVersion": "1.0.2"', "\x00", "\xff\xfe",
        '{"ociVersion": "1.0.2", "process": [], "root": []}', "[" * 100000, '{"a":' * 5000,
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_configuration(bundle: Bundle, text: str) -> None:
    with open(f"{bundle.folder}/config.json", "wb") as file:
        file.write(text.encode("latin-1"))
    done = bundle.leave("create", "--bundle", bundle.folder, bundle.id, ok=False)
    assert done.returncode != 0
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert not bundle.kept()


@pytest.mark.parametrize("what", ["missing", "folder", "fifo", "link to nothing"])
def test_a_configuration_that_cannot_be_read(bundle: Bundle, what: str) -> None:
    path = f"{bundle.folder}/config.json"
    if what == "folder":
        os.mkdir(path)
    elif what == "fifo":
        pytest.skip("a pipe may be meant: its writer decides when it ends")
    elif what == "link to nothing":
        os.symlink("/nonexistent", path)
    done = bundle.leave("create", "--bundle", bundle.folder, bundle.id, ok=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert not bundle.kept()


@spec("config.md#configSpecificationVersion: ociVersion is a semantic version")
@differs("any version that parses, or none, is taken", "runc", "crun")
@pytest.mark.parametrize(
    "version", ["", "1", "1.0", "x", "2.0.0", "0.9.0", None, 1, "1.0.2 ", "01.0.0"]
)
def test_a_version_that_cannot_be(bundle: Bundle, version: object) -> None:
    bundle.config["ociVersion"] = version
    bundle.refused()


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.1.0-rc.1+build", "1.2.1", "1.3.0"])
def test_versions_that_are_taken(bundle: Bundle, version: str) -> None:
    bundle.config["ociVersion"] = version
    assert bundle.out("echo", "x") == "x\n"


@spec(
    "config.md#configExtensibility: unknown properties are ignored",
    "config.md#configAnnotations: unknown annotations are ignored as unknown properties are",
)
def test_unknown_properties_are_ignored(bundle: Bundle) -> None:
    odd = {"x": [1, {"y": None}], "": "", "é\n": 2**70}
    bundle.config |= {"unknown": odd, "windows": {"x": 1}, "annotations": {"org.unknown": "x"}}
    for part in (bundle.process, bundle.linux, bundle.config["root"], *bundle.mounts):
        part["unknown"] = odd
    bundle.linux["resources"] = {"unknown": odd}
    bundle.linux["namespaces"][0]["unknown"] = odd
    assert bundle.out("echo", "x") == "x\n"


NUL = "a\0b"
PLACES = {
    "args": lambda c: c["process"].update(args=["echo", NUL]),
    "program": lambda c: c["process"].update(args=["/bin/echo" + NUL]),
    "env": lambda c: c["process"].update(env=["A=" + NUL]),
    "cwd": lambda c: c["process"].update(cwd="/" + NUL),
    "hostname": lambda c: c.update(hostname=NUL),
    "root": lambda c: c["root"].update(path="rootfs" + NUL),
    "destination": lambda c: c["mounts"].append(mount("tmpfs", "/" + NUL, "tmpfs")),
    "source": lambda c: c["mounts"].append(bind("/tmp" + NUL, "/mnt")),
    "option": lambda c: c["mounts"].append(mount("tmpfs", "/mnt", "tmpfs", "mode=" + NUL)),
    "type": lambda c: c["mounts"].append(mount("tmpfs" + NUL, "/mnt", "tmpfs")),
    "masked": lambda c: c["linux"].update(maskedPaths=["/" + NUL]),
    "readonly": lambda c: c["linux"].update(readonlyPaths=["/" + NUL]),
    "device": lambda c: c["linux"].update(
        devices=[{"path": "/dev/" + NUL, "type": "c", "major": 1, "minor": 3}]
    ),
    "sysctl": lambda c: c["linux"].update(sysctl={"net.ipv4.ip_forward": NUL}),
    "sysctl name": lambda c: c["linux"].update(sysctl={"net.ipv4." + NUL: "1"}),
    "namespace": lambda c: c["linux"]["namespaces"].append(
        {"type": "user", "path": "/proc/self/ns/user" + NUL}
    ),
    "cgroup": lambda c: c["linux"].update(cgroupsPath="/x" + NUL),
    "hook": lambda c: c.update(hooks={"createRuntime": [{"path": "/bin/true" + NUL}]}),
}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=differs("it takes it", "runc")) if place == "hostname" else place
        for place in PLACES
    ],
)
def test_a_nul_in_a_name(bundle: Bundle, canary: Canary, place: str) -> None:
    """Cut at the NUL, a name would mean something else than what was checked."""
    PLACES[place](bundle.config)
    if place in ("masked", "readonly") and not os.path.exists(f"{bundle.rootfs}/a"):
        bundle.make("rootfs/a", "text")
    said = bundle.refused("run")
    assert "Traceback" not in said


NEWLINE = "a\nb"


@pytest.mark.parametrize("place", ["env", "destination", "annotation", "args"])
def test_a_newline_in_a_name_is_nothing_special(bundle: Bundle, place: str) -> None:
    if place == "env":
        bundle.process["env"].append(f"A={NEWLINE}")
        assert bundle.sh('printf %s "$A"') == NEWLINE
    elif place == "destination":
        bundle.mounts.append(mount("tmpfs", f"/mnt/{NEWLINE}", "tmpfs"))
        assert bundle.out("find", "/mnt", "-mindepth", "1", "-print0") == f"/mnt/{NEWLINE}\0"
    elif place == "args":
        assert bundle.out("printf", "%s", NEWLINE) == NEWLINE
    else:
        bundle.config["annotations"] = {NEWLINE: NEWLINE}
        bundle.create()
        assert bundle.state()["annotations"] == {NEWLINE: NEWLINE}


unknown = differs("it does not know the property", "runc", "crun")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("process",), "x"), (("process", "args"), "echo"), (("process", "args"), [5]),
        (("process", "env"), "A=1"), (("process", "env"), [5]), (("process", "cwd"), 5),
        (("process", "user"), []), (("process", "rlimits"), {}), (("process", "rlimits"), ["x"]),
        (("process", "capabilities"), ["CAP_KILL"]),
        (("process", "capabilities"), {"bounding": "CAP_KILL"}),
        (("process", "terminal"), "yes"), (("process", "noNewPrivileges"), 1),
        (("root",), "rootfs"), (("root", "readonly"), "yes"),
        (("mounts",), {}), (("mounts",), "x"), (("hostname",), 5), (("hooks",), []),
        (("hooks",), {"createRuntime": {}}), (("annotations",), []), (("linux",), []),
        (("linux", "namespaces"), {}), (("linux", "namespaces"), ["pid"]),
        (("linux", "devices"), {}), (("linux", "devices"), ["x"]), (("linux", "sysctl"), []),
        (("linux", "sysctl"), {"net.ipv4.ip_forward": 1}), (("linux", "resources"), []),
        (("linux", "seccomp"), []), (("linux", "maskedPaths"), "/x"),
        (("linux", "cgroupsPath"), 5), (("linux", "uidMappings"), {}),
        pytest.param(("linux", "personality"), "LINUX", marks=unknown),
        pytest.param(("linux", "timeOffsets"), [], marks=unknown),
    ],
    ids=str,
)  # fmt: skip
@spec(
    "config.md#valid-values: invalid and unsupported values are an error",
    "config.md#configAnnotations: annotations are a map",
)
def test_values_of_the_wrong_type(bundle: Bundle, path: tuple[str, ...], value: object) -> None:
    place: Any = bundle.config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    said = bundle.refused()
    assert "Traceback" not in said


@spec(
    "config.md#configAnnotations: annotation keys are not empty",
    "config.md#configAnnotations: annotation values are strings",
)
@differs("an empty key is taken", "runc", "crun")
@pytest.mark.parametrize("annotations", [{"": "x"}, {"a": 5}, {"a": None}, {"a": {}}])
def test_annotations_that_cannot_be(bundle: Bundle, annotations: dict[str, Any]) -> None:
    bundle.config["annotations"] = annotations
    bundle.refused()


@pytest.mark.parametrize(
    "what",
    [
        "args", "env", "annotations", "hostname",
        pytest.param("mount options", marks=differs("it repeats it all", "runc")),
    ],
)  # fmt: skip
def test_what_is_too_big(bundle: Bundle, what: str) -> None:
    big = "x" * (4 << 20)
    if what == "args":
        bundle.process["args"] = ["echo", big]
    elif what == "env":
        bundle.process["env"].append(f"A={big}")
    elif what == "annotations":
        bundle.config["annotations"] = {"a": big}
        bundle.create()
        assert bundle.state()["annotations"] == {"a": big}
        return
    elif what == "hostname":
        bundle.config["hostname"] = "x" * 65
    else:
        bundle.mounts.append(mount("tmpfs", "/mnt", "tmpfs", f"mode={big}"))
    said = bundle.refused("run")
    assert "Traceback" not in said
    assert len(said) < 100_000


def test_a_large_configuration_that_is_right(bundle: Bundle) -> None:
    bundle.process["env"] += [f"V{number}={'x' * 100}" for number in range(2000)]
    bundle.process["args"] = ["sh", "-c", "env | grep -c '^V'", *("y" * 1000 for _ in range(100))]
    bundle.config["annotations"] = {f"k{number}": "v" * 100 for number in range(2000)}
    assert bundle.run(ok=True).stdout == "2000\n"


def test_surrogates_and_odd_letters(bundle: Bundle) -> None:
    """A lone surrogate is no text that a kernel interface takes; the rest of Unicode is."""
    assert bundle.out("printf", "%s", "\U0001f600é\u200f") == "\U0001f600é\u200f"
    bundle.process["args"] = ["printf", "%s", "\ud800"]
    done = bundle.run()
    assert "Traceback" not in done.stderr


def test_a_key_given_twice_counts_once(bundle: Bundle) -> None:
    bundle.process["args"] = ["echo", "x"]
    text = json.dumps(bundle.config)
    text = text.replace('"hostname": "box"', '"hostname": "one", "hostname": "two"')
    with open(f"{bundle.folder}/config.json", "w") as file:
        file.write(text)
    done = bundle.call("run", "--bundle", bundle.folder, bundle.id, ok=False)
    assert done.returncode != 0 or done.stdout == "x\n"


# ------------------------------------------------------------------------------- what is left of us


def test_the_runtime_is_not_reachable_from_the_container(bundle: Bundle) -> None:
    """/proc/self/exe of whatever of ours runs in the container must not be a file of the host."""
    for name in ("self-exe", "entry"):
        relink(bundle, f"/bin/{name}", "/proc/self/exe")
    bundle.process["args"] = ["/proc/self/exe"]
    before = _digests()
    bundle.run()
    bundle.process["args"] = ["sh", "-c", "for p in /proc/[0-9]*; do echo x >$p/exe; done"]
    bundle.run()
    assert _digests() == before


def _digests() -> dict[str, float]:
    from .bundle import RUNTIME

    folder = os.path.dirname(os.path.realpath(RUNTIME[0]))
    return {name: os.lstat(f"{folder}/{name}").st_mtime for name in os.listdir(folder)}


def test_the_callers_descriptors_do_not_come_along(bundle: Bundle) -> None:
    bundle.process["args"] = ["sh", "-c", "ls /proc/self/fd | wc -l"]
    bundle.write()
    with open("/etc/hostname") as file:
        done = subprocess.run(
            bundle.argv("run", "--bundle", bundle.folder, bundle.id),
            capture_output=True, text=True, check=True, env=environment(),
            pass_fds=[file.fileno()], stdin=subprocess.DEVNULL, timeout=seconds(10),
        )  # fmt: skip
    assert done.stdout == "4\n"  # the fourth is ls's own


def test_the_callers_working_folder_does_not_come_along(bundle: Bundle) -> None:
    bundle.up()
    assert os.readlink(f"/proc/{bundle.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{bundle.pid}/root") == "/"
