"""The Python API for asyncio: awaited, cancelled, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from harness import PATIENCE

from pycontain import AsyncEngine
from pycontain.errors import CommandNotFound, TimedOut

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pycontain import Engine

pytestmark = pytest.mark.host


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def ids(engine: Engine) -> list[str]:
    return [view.container.id for view in engine.containers.list(all=True)]


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_many_at_once(engine: Engine) -> None:
    async def main() -> None:
        runs = (AsyncEngine(engine).run("busybox", ["echo", str(n)]) for n in range(12))
        results = await asyncio.gather(*runs)
        assert [result.stdout for result in results] == [f"{n}\n".encode() for n in range(12)]

    play(main())


def test_the_loop_goes_on_meanwhile(engine: Engine) -> None:
    async def main() -> None:
        run = asyncio.create_task(AsyncEngine(engine).run("busybox", ["sleep", "2"]))
        ticks = 0
        while not run.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await run).exit_code == 0
        assert ticks > 10

    play(main())


def test_a_run_that_is_cancelled_is_gone(engine: Engine) -> None:
    async def main() -> None:
        run = asyncio.create_task(AsyncEngine(engine).run("busybox", ["sleep", "1000"]))
        while not engine.containers.list():
            await asyncio.sleep(0.01)
        await cancelled(run)
        assert ids(engine) == []

    play(main())


@pytest.mark.parametrize("pause", [0, 0.005, 0.02, 0.05])
def test_a_start_that_is_cancelled_is_gone(engine: Engine, pause: float) -> None:
    async def main() -> None:
        start = asyncio.create_task(AsyncEngine(engine).start("busybox", idle=True))
        await asyncio.sleep(pause)
        if start.done():
            await (await start).close()
        else:
            await cancelled(start)
        assert ids(engine) == []

    play(main())


def test_exec(engine: Engine) -> None:
    async def main() -> None:
        async with await AsyncEngine(engine).start("busybox", idle=True) as box:
            result = await box.exec(["cat"], input=b"hello")
            assert result.stdout == b"hello"
            with pytest.raises(CommandNotFound):
                await box.exec(["nothing"])
            with pytest.raises(TimedOut):
                await box.exec(["sleep", "1000"], timeout=0.2)
            waiting = asyncio.create_task(box.exec(["sleep", "1000"]))
            while b"sleep" not in (await box.exec(["ps"])).stdout:
                await asyncio.sleep(0.01)
            await cancelled(waiting)
            assert b"sleep" not in (await box.exec(["ps"])).stdout
        assert ids(engine) == []

    play(main())


def test_wait(engine: Engine) -> None:
    async def main() -> None:
        async with await AsyncEngine(engine).start("busybox", ["sleep", "1000"]) as box:
            waiting = asyncio.create_task(box.wait())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await box.wait()
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await box.kill()
            assert (await waiting).code == 137
            assert (await box.status()).state == "exited"

    play(main())


def test_logs_are_followed(engine: Engine) -> None:
    async def main() -> None:
        script = "echo one; echo two; sleep 1000"
        async with await AsyncEngine(engine).start("busybox", ["sh", "-c", script]) as box:
            got = []
            async with box.logs(follow=True) as entries:
                async for entry in entries:
                    got.append(entry.data)
                    if len(got) == 2:
                        break
            assert got == [b"one\n", b"two\n"]

            async def collect() -> list[bytes]:
                return [entry.data async for entry in box.logs(follow=True)]

            following = asyncio.create_task(collect())
            await asyncio.sleep(0.2)
            await cancelled(following)
            following = asyncio.create_task(collect())
            await asyncio.sleep(0.2)
            await box.kill()
            assert await following == [b"one\n", b"two\n"]

    play(main())


def test_events_stats_and_files(engine: Engine) -> None:
    async def main() -> None:
        aio = AsyncEngine(engine)
        async with aio.events() as events:
            async with await aio.start("busybox", idle=True) as box:
                await box.put("/tmp/a", b"hello")
                assert await box.get("/tmp/a") == b"hello"
                async with box.stats(0.01) as samples:
                    assert {(await anext(samples)).id for _ in range(3)} == {box.id}
                await box.pause()
                await box.unpause()
            actions = []
            while "destroy" not in actions:
                actions.append((await anext(events)).action)
        assert actions[:4] == ["create", "start", "pause", "unpause"]

    play(main())


def test_a_pool(engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(engine).pool("busybox", 1) as pool:
            async with await pool.take() as box:
                assert (await box.exec(["echo", "x"])).stdout == b"x\n"
            for _ in range(5):
                await cancelled(asyncio.create_task(pool.take()))
        assert ids(engine) == []

    play(main())


def test_no_thread_waits_when_all_is_over(engine: Engine) -> None:
    async def main() -> None:
        async with await AsyncEngine(engine).start("busybox", ["sleep", "1000"]) as box:
            waits = [asyncio.create_task(box.wait()) for _ in range(40)]
            await asyncio.sleep(0.3)
            for wait in waits:
                await cancelled(wait)
            # All threads are idle: as many calls as there are threads are answered at once.
            names = [name for name in threading.enumerate() if name.name.startswith("pycontain")]
            calls = (box.status() for _ in names)
            assert {status.state for status in await asyncio.gather(*calls)} == {"running"}

    play(main())
