"""A task whose stream was lost goes on like any other."""

from __future__ import annotations

import asyncio

import pytest
from grpclib.utils import Wrapper

import hostmesh.rpc  # noqa: F401 -- amends grpclib


async def wait(wrapper: Wrapper) -> None:
    with wrapper:
        await asyncio.Event().wait()


def test_a_lost_stream_is_an_error_and_no_cancellation() -> None:
    """Said twice, as when a channel is closed and its connection then ends; time-outs work afterwards."""

    async def main() -> None:
        wrapper, task = Wrapper(), asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        loop.call_soon(wrapper.cancel, ConnectionError("first"))
        loop.call_soon(wrapper.cancel, ConnectionError("second"))
        with pytest.raises(ConnectionError):
            await wait(wrapper)
        assert task.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        with pytest.raises(ConnectionError):
            await wait(wrapper)

    asyncio.run(main())


def test_a_cancellation_at_the_same_moment_is_not_swallowed() -> None:
    """Whoever wants the task to end would wait for ever."""

    async def main() -> None:
        wrapper = Wrapper()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(wait(wrapper))
            await asyncio.sleep(0)
            wrapper.cancel(ConnectionError("lost"))
            task.cancel()
        assert task.cancelled()

    asyncio.run(main())


def test_a_time_out_at_the_same_moment_is_a_time_out() -> None:
    """The reason that is known first."""

    async def main() -> None:
        wrapper = Wrapper()
        asyncio.get_running_loop().call_later(0.01, wrapper.cancel, ConnectionError("lost"))
        with pytest.raises((TimeoutError, ConnectionError)):
            async with asyncio.timeout(0.01):
                await wait(wrapper)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())
