"""Every path of the store, in one place.

::

    ROOT (survives a reboot)             STATE (dies with it)
    version        the store's form      containers/<id>/  run.json, config.json, attach
    images/        OCI image layout      events/           journal of what happened
    layers/<hex>/  unpacked layers       locks/            one file for each locked object
    containers/<id>/                     images/<hex>/     images that are mounted
    names/<name>   holds an id
    volumes/<name>/  volume.json, data
    networks/<name>.json                 networks/<id>/  addresses in use
    pods/<id>/                           pods/<id>/      run.json, network.json
    cache/         may be deleted
    work/          unfinished builds
    unsynced/<boot>/  layers that may not be on the disk

Everything is mode 0700: layers hold setuid programs of the images, which no user of the host may
reach by path. Containers do not need these paths: their roots are handed over as descriptors, and
overlayfs reads its layers with the rights of whoever mounted it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontain import config
from pycontain.errors import InvalidInput, NotFound, StoreError
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
"""The form of the store that this code reads and writes."""


class ContainerPaths:
    """The files of one container, as absolute paths.

    Attributes:
        folder: all that survives a reboot; the next ones lie in it.
        document: ``container.json``, a ``model.container.Container``.
        exit_record: ``exit.json``, a ``model.container.ExitRecord``.
        log: the monitor's log file; rotated ones are beside it.
        upper, work: the overlay's writable layer and its working folder.
        hosts, hostname, resolv_conf: the files that the container sees in /etc.
        volumes: folder of its anonymous volumes.
        state_folder: all that dies with the boot; the next ten lie in it.
        spec: ``config.json``, the OCI runtime configuration of the last run.
        run_record: ``run.json``, a ``model.container.RunRecord``.
        endpoints: ``network.json``, a ``model.network.Endpoints``.
        attach: the monitor's socket for attach clients.
        health: ``health.json``, a ``model.health.Health``.
        probes: ``probes.json``, a ``model.probe.ProbeRecord``.
        post_start: a word: how far the hook of the present run's start has got.
        ending: a word: who stops the container, where it has probes.
        event: whom the events of its present run are about, until its end was told.
        event_after: events that follow its end, a line each.
        lock: the object's lock file, outside both folders, since it outlives either.
    """

    def __init__(self, folder: str, state_folder: str, lock: str) -> None:
        self.folder = folder
        self.document = f"{folder}/container.json"
        self.exit_record = f"{folder}/exit.json"
        self.log = f"{folder}/container.log"
        self.upper = f"{folder}/upper"
        self.work = f"{folder}/work"
        self.hosts = f"{folder}/hosts"
        self.hostname = f"{folder}/hostname"
        self.resolv_conf = f"{folder}/resolv.conf"
        self.volumes = f"{folder}/volumes"
        self.state_folder = state_folder
        self.spec = f"{state_folder}/config.json"
        self.run_record = f"{state_folder}/run.json"
        self.endpoints = f"{state_folder}/network.json"
        self.attach = f"{state_folder}/attach"
        self.health = f"{state_folder}/health.json"
        self.probes = f"{state_folder}/probes.json"
        self.post_start = f"{state_folder}/post-start"
        self.ending = f"{state_folder}/ending"
        self.event = f"{state_folder}/event"
        self.event_after = f"{state_folder}/event.after"
        self.lock = lock


class PodPaths(ContainerPaths):
    """The files of one pod: those of a container as far as its sandbox is like one, which runs, is
    in networks, and has a hosts file.

    Attributes:
        pod: ``pod.json``, a ``model.pod.Pod``.
        memory: what tells the file systems of its volumes in memory from others, in their order.
    """

    def __init__(self, folder: str, state_folder: str, lock: str) -> None:
        super().__init__(folder, state_folder, lock)
        self.pod = f"{folder}/pod.json"
        self.memory = f"{state_folder}/memory.json"


class VolumePaths:
    """The files of one volume, as absolute paths.

    Attributes:
        folder: the next four lie in it.
        document: ``volume.json``, a ``model.volume.Volume``.
        boot: the boot that the volume dies with; nothing where it stays.
        data: what containers see, unless the volume is a mount of something else.
        filling: there while it is filled from an image: what is there then is not whole.
        mounted: what is mounted for its users, in this boot.
        lock: the object's lock file.
    """

    def __init__(self, folder: str, state: str, lock: str) -> None:
        self.folder = folder
        self.document = f"{folder}/volume.json"
        self.boot = f"{folder}/boot"
        self.data = f"{folder}/data"
        self.filling = f"{folder}/filling"
        self.mounted = state
        self.lock = lock


class Layout:
    """The paths of one store.

    Args:
        root: folder for what survives a reboot; made absolute against the working directory now.
        state: folder for what dies with the boot, likewise.
        shared: `state` lies in a folder where everybody may write, so ``prepare`` is strict.

    Raises:
        InvalidInput: a folder is the empty string.
    """

    def __init__(self, root: str, state: str, *, shared: bool = False) -> None:
        if not root or not state:
            raise InvalidInput("store: root and state folder must not be empty")
        self.root = root = os.path.abspath(root)
        self.state = state = os.path.abspath(state)
        self._shared = shared
        self.version = f"{root}/version"
        self.images = f"{root}/images"
        self.layers = f"{root}/layers"
        self.containers = f"{root}/containers"
        self.names = f"{root}/names"
        self.volumes = f"{root}/volumes"
        self.cache = f"{root}/cache"
        self.work = f"{root}/work"
        self.unsynced = f"{root}/unsynced"
        self.images_lock = f"{root}/images.lock"
        self.build_lock = f"{root}/build.lock"
        self.content_lock = f"{root}/content.lock"
        self.networks = f"{root}/networks"
        self.pods = f"{root}/pods"
        self.kube = f"{root}/kube"
        self.state_containers = f"{state}/containers"
        self.state_networks = f"{state}/networks"
        self.state_pods = f"{state}/pods"
        self.state_kube = f"{state}/kube"
        self.locks = f"{state}/locks"
        self.events = f"{state}/events"
        self.image_mounts = f"{state}/images"

    @classmethod
    def default(
        cls,
        environ: Mapping[str, str] | None = None,
        uid: int | None = None,
        settings: config.Config | None = None,
    ) -> Layout:
        """Return the layout of the user `uid` under `environ` (default: this process's).

        What the settings say (default: those of `environ`) wins. Else root has
        ``/var/lib/pycontain`` and ``/run/pycontain``; others the folders of the XDG base directory
        specification, and without ``XDG_RUNTIME_DIR`` the stated fallback ``/tmp/pycontain-<uid>``.
        Give the user's own `uid` where the process has entered a user namespace, in which it is
        always 0.

        Raises:
            InvalidInput: an ordinary user has no home; the configuration is wrong.
        """
        environ = os.environ if environ is None else environ
        uid = os.geteuid() if uid is None else uid
        settings = config.load(environ, uid) if settings is None else settings
        root = settings.root or _default_root(environ, uid)
        state = settings.state or _default_state(environ, uid)
        return cls(root, state, shared=state == _fallback_state(uid))

    def container(self, id: str) -> ContainerPaths:  # noqa: A002 - the field's word
        """Return the paths of the container `id`; nothing is looked up on disk."""
        return ContainerPaths(
            f"{self.containers}/{id}", f"{self.state_containers}/{id}", self.lock("container", id)
        )

    def pod(self, id: str) -> PodPaths:  # noqa: A002 - the field's word
        """Return the paths of the pod `id`; nothing is looked up on disk."""
        return PodPaths(f"{self.pods}/{id}", f"{self.state_pods}/{id}", self.lock("pod", id))

    def has_pod(self, id: str) -> bool:  # noqa: A002 - the field's word
        """Whether there is a folder of a pod `id`."""
        return os.path.isdir(f"{self.pods}/{id}")

    def in_networks(self, id: str) -> ContainerPaths:  # noqa: A002 - the field's word
        """Return the paths of what has an id and is in networks: a container, or a pod."""
        return self.pod(id) if self.has_pod(id) else self.container(id)

    def layer(self, chain: str) -> str:
        """Return the folder of the unpacked layer `chain`, ``sha256:<hex>`` or its hex alone."""
        return f"{self.layers}/{chain.removeprefix('sha256:')}"

    def volume(self, name: str) -> VolumePaths:
        """Return the paths of the volume `name`; nothing is looked up on disk."""
        return VolumePaths(
            f"{self.volumes}/{name}", f"{self.state}/volumes/{name}", self.lock("volume", name)
        )

    def name(self, name: str) -> str:
        """Return the file that claims the container name `name`."""
        return f"{self.names}/{name}"

    def lock(self, kind: str, name: str) -> str:
        """Return the lock file of an object, as ``("container", id)``."""
        return f"{self.locks}/{kind}-{name}"

    def prepare(self) -> None:
        """Make what is missing and check that this code understands the store.

        Raises:
            StoreError: a folder cannot be made, the store is newer than this code, or the state
                folder is somebody else's.
        """
        files.make_folders(self.root)
        self._check_version()
        folders = (self.images, self.layers, self.containers, self.names, self.cache, self.work)
        for folder in folders:
            files.make_folder(folder)
        files.make_folders(self.state)
        self._check_state()
        files.make_folder(self.state_containers)
        files.make_folder(self.locks)
        files.make_folder(self.events)

    def _check_version(self) -> None:
        try:
            text = files.read(self.version)
        except NotFound:
            files.sweep(self.root)  # the first command ever may have been killed right here
            files.write_atomic(self.version, b"%d\n" % VERSION)
            return
        found = text.decode("ascii", "replace").strip()
        if not found.isdecimal():
            raise StoreError(f"store: {self.version}: damaged: not a number")
        if int(found) != VERSION:
            raise StoreError(
                f"store: {self.root}: has form {found}, this pycontain knows {VERSION}",
                "use the pycontain that wrote it, or another --root",
            )

    def _check_state(self) -> None:
        """Refuse a state folder that another user made or may write: sockets and pids lie there.

        lstat(2): in a folder like /tmp anybody can put a symbolic link in our place.
        """
        try:
            info = os.lstat(self.state)
        except OSError as err:
            raise files.store_error("state folder", self.state, err) from err
        forbidden = 0o077 if self._shared else 0o022
        if not stat.S_ISDIR(info.st_mode):
            reason = "is a symbolic link"
        elif info.st_uid != os.geteuid():
            reason = f"belongs to uid {info.st_uid}"
        elif info.st_mode & forbidden:
            reason = f"mode {stat.S_IMODE(info.st_mode):04o} lets other users in"
        else:
            return
        raise StoreError(
            f"state folder: {self.state}: {reason}",
            "set XDG_RUNTIME_DIR or PYCONTAIN_STATE to a folder of your own",
        )


def _fallback_state(uid: int) -> str:
    return f"/tmp/pycontain-{uid}"  # noqa: S108 - prepare() checks owner, mode and kind


def _default_root(environ: Mapping[str, str], uid: int) -> str:
    if uid == 0:
        return "/var/lib/pycontain"
    data = environ.get("XDG_DATA_HOME", "")
    # "If an implementation encounters a relative path … it should consider it invalid and ignore
    # it" (XDG base directory specification).
    if data.startswith("/"):
        return f"{data}/pycontain"
    return f"{_home(environ, uid)}/.local/share/pycontain"


def _default_state(environ: Mapping[str, str], uid: int) -> str:
    if uid == 0:
        return "/run/pycontain"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime}/pycontain" if runtime.startswith("/") else _fallback_state(uid)


def _home(environ: Mapping[str, str], uid: int) -> str:
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return home
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError as err:
        raise InvalidInput(
            f"store: user {uid} has no home folder", "set HOME or PYCONTAIN_ROOT"
        ) from err
