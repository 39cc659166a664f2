"""How layers come into the store: received, verified, decompressed and unpacked in one go.

Each layer has two threads: one reads, hashes and keeps the bytes as they come, and decompresses
them; the other hashes what that gives and hands it to the extractor. What costs time there lets go
of the interpreter's lock. Several layers are under way at once, since unpacking needs nothing of
the layers below; what does (folders that a layer does not list, links to files that it does not
have) is settled afterwards, bottom up.

All happens in a folder of its own below ``work/``, whose lock says that its owner lives. Only when
every layer of the image is whole do they get their names, so a name in ``layers/`` is a whole layer
whoever is killed. Blobs are synced, folders are not: those have a mark (``marks``) until they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from pycontain.errors import Cancelled, DigestMismatch, ImageError, RegistryError
from pycontain.image import compression, documents, parents, work
from pycontain.image.blobs import CHUNK
from pycontain.image.extract import Budget, Extraction
from pycontain.image.marks import WRITTEN, Marks
from pycontain.model.progress import LayerProgress
from pycontain.store import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from pycontain.image.blobs import Blobs, Partial
    from pycontain.image.compression import Reader
    from pycontain.image.documents import Configuration, Descriptor, Manifest
    from pycontain.image.extract import Extracted, Limits
    from pycontain.store.layout import Layout

    Report = Callable[[LayerProgress], None]

JOBS = 3
"""Layers that are under way at once."""
_QUEUED = 4
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Source(Protocol):
    """Where the layers of an image come from."""

    def layer(
        self, descriptor: Descriptor, start: int
    ) -> contextlib.AbstractContextManager[Reader]:
        """Open a layer's blob from byte `start` on. Called from several threads."""
        ...

    def abort(self) -> None:
        """Make reads that wait fail: somebody gave up."""
        ...


class Intake:
    """The coming of one image's layers.

    Args:
        layout: of a prepared store.
        blobs: of that store.
        source: of the layers that are not there.
        rootless: overlay's attributes are ``user.`` ones.
        limits: what a layer, and all of them, may have at most.
        report: is told how far each layer is, from several threads.
    """

    def __init__(
        self,
        layout: Layout,
        blobs: Blobs,
        source: Source,
        *,
        rootless: bool,
        limits: Limits,
        report: Report | None = None,
    ) -> None:
        self._layout = layout
        self._blobs = blobs
        self._source = source
        self._rootless = rootless
        self._limits = limits
        self._budget = Budget(limits)
        self._report = report
        self._stop = threading.Event()

    def run(self, manifest: Manifest, configuration: Configuration) -> None:
        """Bring what is missing of an image's layers, packed and unpacked.

        Raises:
            ImageError: a layer is damaged, hostile or not the one that it should be.
            DigestMismatch: of them, the last.
            RegistryError: it cannot be had.
            StoreError: it cannot be written.
            Cancelled: another layer failed, or the caller was interrupted.
        """
        chains = documents.chain_ids(configuration.rootfs.diff_ids)
        tasks = [
            _Task(layer, diff_id, chain)
            for layer, diff_id, chain in zip(
                manifest.layers, configuration.rootfs.diff_ids, chains, strict=True
            )
        ]
        # Of what came before, while there is nothing of ours to wait for.
        Marks(self._layout).sync(WRITTEN)
        with work.folder(self._layout) as (place, _):
            self._bring(place, tasks)
            self._settle(place, tasks)
            self._install(place, tasks)

    def _bring(self, place: str, tasks: list[_Task]) -> None:
        with ThreadPoolExecutor(JOBS, "pycontain-layer") as pool:
            futures: list[Future[None]] = []
            try:
                # The largest first: else it is what all wait for in the end, on one core.
                order = sorted(tasks, key=lambda task: task.layer.size, reverse=True)
                futures = [pool.submit(self._layer, place, task) for task in order]
                for future in futures:
                    future.result()
            except BaseException as err:  # noqa: BLE001 - raised again
                self._stop.set()
                self._source.abort()
                for future in futures:
                    future.cancel()
                pool.shutdown()
                raise _first_cause(futures, err) from None

    def _layer(self, place: str, task: _Task) -> None:
        try:
            self._attempt(place, task)
        except DigestMismatch:
            if not task.resumed:
                raise
            # An earlier try's bytes may have been lost with the power. The blob goes, and again.
            task.resumed = False
            files.remove_tree(f"{place}/{documents.hex_of(task.chain)}")
            self._attempt(place, task)

    def _attempt(self, place: str, task: _Task) -> None:
        unpacked = os.path.isdir(self._layout.layer(task.chain))
        with self._blobs.receive(task.layer) as partial:
            if partial is None and unpacked:
                self.tell(task, "exists", task.layer.size)
                return
            with self._stored(task) if partial is None else self._coming(task, partial) as raw:
                try:
                    task.extracted = self._take(
                        raw, place, task, unpacked=unpacked, verified=partial is not None
                    )
                except RegistryError:
                    raise
                except ImageError:
                    # Bytes that are not the blob's are no blame of the image.
                    if partial is not None:
                        _drain(raw)
                        partial.finish()
                    raise
            if partial is not None:
                partial.finish()
        self.tell(task, "done", task.layer.size)

    def _take(
        self, raw: Reader, place: str, task: _Task, *, unpacked: bool, verified: bool
    ) -> Extracted | None:
        """Unpack a layer. `verified`: whoever keeps the blob compares its digest."""
        if unpacked:
            _drain(raw)
            return None
        content, kind = compression.opened(raw)
        folder = f"{place}/{documents.hex_of(task.chain)}"
        # What is not compressed has one digest, which is not computed twice.
        known = verified and not kind and task.layer.digest == task.diff_id
        return self._unpack(content, folder, task, hashed=not known)

    @contextlib.contextmanager
    def _stored(self, task: _Task) -> Iterator[Reader]:
        """The blob of the store."""
        path = self._blobs.path(task.layer.digest)
        with open(path, "rb", buffering=0) as file:
            yield _Counted(self, task, lambda size: file.read(size) or b"", "extracting")

    @contextlib.contextmanager
    def _coming(self, task: _Task, partial: Partial) -> Iterator[Reader]:
        """What an earlier try left of the blob, and then what the source has, kept while read."""
        before = partial.present()
        with contextlib.ExitStack() as stack:
            reader: Reader | None = None

            def read(size: int) -> bytes:
                nonlocal reader
                if reader is None:
                    if chunk := next(before, b""):
                        task.resumed = True
                        return chunk
                    if partial.size == task.layer.size:
                        return b""
                    reader = stack.enter_context(self._source.layer(task.layer, partial.size))
                chunk = reader.read(size)
                if chunk:
                    partial.write(chunk)
                return chunk

            yield _Counted(self, task, read, "downloading")

    def _unpack(self, content: Reader, folder: str, task: _Task, *, hashed: bool) -> Extracted:
        files.make_folder(folder, 0o755)
        try:
            with (
                _opened(folder) as fd,
                contextlib.closing(
                    Extraction(
                        fd, rootless=self._rootless, limits=self._limits, budget=self._budget
                    )
                ) as extraction,
            ):
                found = hashlib.sha256() if hashed else None

                def take(chunk: bytes) -> None:
                    if found is not None:
                        found.update(chunk)
                    extraction.feed(chunk)

                with _Beside(take) as beside:
                    while chunk := content.read(CHUNK):
                        beside.put(chunk)
                extracted = extraction.finish()
        except RegistryError:
            raise
        except ImageError as err:
            raise type(err)(f"{task.layer.digest[7:19]}: {err.message}", err.hint) from err
        if found is not None and f"sha256:{found.hexdigest()}" != task.diff_id:
            raise DigestMismatch(
                f"layer {task.layer.digest}: unpacked it has digest sha256:{found.hexdigest()}"
                f" instead of {task.diff_id}"
            )
        return extracted

    def _settle(self, place: str, tasks: list[_Task]) -> None:
        """Give each layer what it takes from those below."""
        below: list[str] = []
        for task in tasks:
            folder = self._layout.layer(task.chain)
            if task.extracted is not None:
                folder = f"{place}/{documents.hex_of(task.chain)}"
                with _opened(folder) as fd:
                    parents.settle(fd, task.extracted, below, rootless=self._rootless)
            below.append(folder)

    def _install(self, place: str, tasks: list[_Task]) -> None:
        new = [task for task in tasks if task.extracted is not None]
        if not new:
            return
        names = [documents.hex_of(task.chain) for task in new]
        Marks(self._layout).make(names)
        work.install(*((f"{place}/{name}", self._layout.layer(name)) for name in names))

    def check(self) -> None:
        """Raise Cancelled where somebody gave up."""
        if self._stop.is_set():
            raise Cancelled

    def tell(self, task: _Task, step: str, done: int) -> None:
        """Report how far a layer is."""
        if self._report is not None:
            self._report(LayerProgress(task.layer.digest, step, done, task.layer.size))


class _Task:
    """One layer of the image."""

    __slots__ = ("chain", "diff_id", "extracted", "layer", "resumed")

    def __init__(self, layer: Descriptor, diff_id: str, chain: str) -> None:
        self.layer = layer
        self.diff_id = diff_id
        self.chain = chain
        self.extracted: Extracted | None = None
        self.resumed = False


class _Counted:
    """A reader that tells how far it is, and stops where somebody gave up."""

    def __init__(
        self, intake: Intake, task: _Task, read: Callable[[int], bytes], step: str
    ) -> None:
        self._intake = intake
        self._task = task
        self._read = read
        self._step = step
        self._done = 0

    def read(self, size: int, /) -> bytes:
        self._intake.check()
        chunk = self._read(size)
        self._done += len(chunk)
        self._intake.tell(self._task, self._step, self._done)
        return chunk


class _Beside:
    """A thread that is given chunks; what it raises comes out of ``put`` or at the end."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="pycontain-unpack", daemon=True)

    def put(self, chunk: bytes) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(chunk)

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._take(chunk)
                except BaseException as err:  # noqa: BLE001 - raised again by the other thread
                    self._error = err

    def __enter__(self) -> _Beside:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    fd = os.open(folder, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def _drain(content: Reader) -> None:
    while content.read(CHUNK):
        pass


def _first_cause(futures: list[Future[None]], current: BaseException) -> BaseException:
    """What made the others give up; the caller's interruption where no layer failed by itself."""
    for future in futures:
        if future.done() and not future.cancelled():
            error = future.exception()
            if error is not None and not isinstance(error, Cancelled):
                return error
    return current
