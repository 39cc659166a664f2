"""The supervisor's loop: callbacks in one thread, jobs in others."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pycontain.supervisor import loop as loops
from pycontain.supervisor.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    # A test whose callback never comes fails, and does not hang.
    loop.at(PATIENCE, loop.stop)
    others = set(threading.enumerate())
    yield loop
    # One whose outcome was told may still be about to wake the loop: in a descriptor of another.
    for thread in set(threading.enumerate()) - others:
        thread.join(PATIENCE)
    loop.close()


@contextlib.contextmanager
def at_one_moment() -> Iterator[None]:
    """The loop's clock stands: what is made here is due in its order, however long this process
    has to wait for a processor in between.
    """
    now = time.monotonic()
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(loops, "time", SimpleNamespace(monotonic=lambda: now))
        yield


def test_timers_are_called_in_the_order_of_their_moments(loop: Loop) -> None:
    called: list[str] = []

    def last() -> None:
        called.append("last")
        loop.stop()

    with at_one_moment():
        loop.at(0.03, last)
        loop.at(0.01, lambda: called.append("second"))
        loop.at(0, lambda: called.append("first"))
        loop.at(0.01, lambda: called.append("third"))
    loop.run()
    assert called == ["first", "second", "third", "last"]


def test_a_cancelled_timer_is_not_called(loop: Loop) -> None:
    called: list[str] = []
    with at_one_moment():
        timer = loop.at(0.01, lambda: called.append("cancelled"))
        loop.at(0, timer.cancel)
        loop.at(0.02, loop.stop)
    loop.run()
    assert called == []


def test_a_timer_of_a_callback_is_called(loop: Loop) -> None:
    called: list[float] = []
    begin = time.monotonic()

    def again() -> None:
        called.append(time.monotonic() - begin)
        if len(called) == 3:
            loop.stop()
        else:
            loop.at(0.01, again)

    loop.at(-1, again)
    loop.run()
    assert len(called) == 3
    assert called[2] >= 0.02


def test_a_descriptor_is_read_until_it_is_unwatched(loop: Loop) -> None:
    read, write = os.pipe()
    got: list[bytes] = []

    def ready() -> None:
        got.append(os.read(read, 1))
        if len(got) == 2:
            loop.unwatch(read)
            loop.at(0.02, loop.stop)

    loop.watch(read, ready)
    os.write(write, b"abc")
    loop.run()
    assert got == [b"a", b"b"]
    loop.unwatch(read)  # once more is no error
    for fd in (read, write):
        os.close(fd)


def test_a_descriptor_that_an_earlier_callback_unwatched_is_not_called(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    called: list[int] = []

    def ready(at: int) -> None:
        called.append(at)
        for read, _ in pipes:
            loop.unwatch(read)
        loop.at(0.01, loop.stop)

    loop.watch(pipes[0][0], lambda: ready(0))
    loop.watch(pipes[1][0], lambda: ready(1))
    for _, write in pipes:
        os.write(write, b"x")
    loop.run()
    assert len(called) == 1
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)


def test_the_outcome_of_a_job_comes_back_into_the_loop(loop: Loop) -> None:
    told: list[object] = []
    here = threading.get_ident()

    def done(outcome: object) -> None:
        told.append((outcome, threading.get_ident() == here))
        if len(told) == 2:
            loop.stop()

    def fail() -> int:
        raise KeyError("no")

    loop.submit(threading.get_ident, done)
    loop.submit(fail, done)
    assert loop.pending == 2
    loop.run()
    assert loop.pending == 0
    values = sorted(((type(one).__name__, one, inside) for one, inside in told), key=str)  # type: ignore[misc, has-type]
    assert [kind for kind, _, _ in values] == ["KeyError", "int"]
    assert values[1][1] != here
    assert all(inside for _, _, inside in values)


def test_a_job_that_blocks_holds_up_neither_the_loop_nor_other_jobs(loop: Loop) -> None:
    gate = threading.Event()
    told: list[str] = []
    count = 20
    for _ in range(count):
        loop.submit(lambda: gate.wait(PATIENCE), lambda _: told.append("blocked"))

    def quick(_: object) -> None:
        told.append("quick")
        gate.set()

    loop.submit(lambda: None, quick)
    loop.at(0, lambda: told.append("timer"))

    def look() -> None:
        loop.stop() if len(told) == count + 2 else loop.at(0.01, look)

    look()
    loop.run()
    assert set(told[:2]) == {"quick", "timer"}
    assert told.count("blocked") == count


def test_threads_end_when_there_are_no_jobs(loop: Loop) -> None:
    # One of another test may end meanwhile.
    before = set(threading.enumerate())
    for _ in range(8):
        loop.submit(lambda: None, lambda _: None)

    def look() -> None:
        over = not loop.pending and before.issuperset(threading.enumerate())
        loop.stop() if over else loop.at(0.01, look)

    look()
    loop.run()
    assert set(threading.enumerate()) <= before


def test_more_jobs_than_threads_are_all_done(loop: Loop) -> None:
    done: list[int] = []
    count = 300

    def told(value: int | BaseException) -> None:
        assert isinstance(value, int)
        done.append(value)
        if len(done) == count:
            loop.stop()

    for at in range(count):
        loop.submit(lambda at=at: at, told)  # type: ignore[misc]
    loop.run()
    assert sorted(done) == list(range(count))


def test_an_exception_of_a_callback_is_raised(loop: Loop) -> None:
    def fail() -> None:
        raise ValueError("told")

    loop.at(0, fail)
    with pytest.raises(ValueError, match="told"):
        loop.run()


def test_a_loop_that_was_stopped_before_does_not_run(loop: Loop) -> None:
    called: list[str] = []
    loop.at(0, lambda: called.append("late"))
    loop.stop()
    loop.run()
    assert called == []


def test_jobs_that_hang_hold_up_no_others(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_MOST_THREADS", 3)
    monkeypatch.setattr(loops, "_STALLED", 0.01)
    gate = threading.Event()
    told: list[str] = []
    loop._most = 3

    def quick(_: object) -> None:
        told.append("quick")
        if told.count("quick") == 20:
            gate.set()

    for _ in range(10):
        loop.submit(lambda: gate.wait(PATIENCE), lambda _: told.append("hung"))
    for _ in range(20):
        loop.submit(lambda: None, quick)

    def look() -> None:
        loop.at(0.01, look) if loop.pending else loop.stop()

    look()
    loop.run()
    assert told[:20] == ["quick"] * 20
    assert told.count("hung") == 10


def test_timers_that_were_cancelled_do_not_pile_up(loop: Loop) -> None:
    for _ in range(5000):
        loop.at(1e6, lambda: None).cancel()
    assert len(loop._timers) < 200
    called: list[str] = []
    loop.at(0.0, lambda: called.append("due"))
    loop.at(0.01, loop.stop)
    loop.run()
    assert called == ["due"]
