"""Times that are longer than one system call can wait: 24.8 days."""

from __future__ import annotations

import os
import threading

import pytest

from pycontain.engine import cancel as waits
from pycontain.engine.cancel import Cancel, wait_readable
from pycontain.engine.ending import wait_process
from pycontain.errors import Cancelled
from pycontain.supervisor.loop import Loop

MONTHS = 2147483647  # seconds; the most that Kubernetes' fields take


def test_a_timer_that_is_due_in_years_ends_no_loop() -> None:
    loop = Loop()
    called: list[str] = []
    loop.at(MONTHS, lambda: called.append("never"))
    loop.submit(lambda: None, lambda _: loop.stop())
    loop.run()
    loop.close()
    assert called == []


def test_a_wait_may_take_years() -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        wait_readable((), MONTHS * 1000, cancel)
    reader, writer = os.pipe()
    os.write(writer, b"x")
    assert wait_readable((reader,), MONTHS * 1000) == [reader]
    os.close(reader)
    os.close(writer)


def test_a_process_may_have_years_to_end() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(pid)
    assert wait_process(pidfd, MONTHS)
    os.waitpid(pid, 0)
    os.close(pidfd)


def test_a_long_wait_is_made_of_parts_and_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_LONGEST", 1.0)
    assert wait_readable((), 5.5) == []
    reader, writer = os.pipe()
    thread = threading.Thread(target=lambda: os.write(writer, b"x"))
    thread.start()
    assert wait_readable((reader,), 60_000.0) == [reader]
    thread.join()
    os.close(reader)
    os.close(writer)
