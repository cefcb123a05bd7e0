"""Twenty new connections a second and two hundred that stay, half an hour at most; says every second how it goes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

HOST = os.environ["TARGET"]
PORT = 7000
RATE, STREAMS, LIMIT, PATIENCE = 20, 200, 1800, 30
STATE = Path("/run/load/state.json")


@dataclass
class Seen:
    """What became of connections."""

    tried: int = 0
    answered: int = 0
    failed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    alive: set[int] = field(default_factory=set)


seen = Seen()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte there and back."""
    writer.write(b"x")
    async with asyncio.timeout(PATIENCE):
        if await reader.readexactly(1) != b"x":
            raise ConnectionError("another byte came back")


async def once() -> None:
    """A connection for one byte."""
    seen.tried += 1
    began = time.time()
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(HOST, PORT)
        try:
            await exchange(reader, writer)
        finally:
            writer.close()
        seen.answered += 1
    except (OSError, EOFError, TimeoutError) as error:
        seen.failed.append(f"{began:.1f}: {error!r}")


async def stream(number: int) -> None:
    """A connection that stays; it is opened again once it breaks."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(HOST, PORT)
            try:
                while True:
                    await exchange(reader, writer)
                    seen.alive.add(number)
                    await asyncio.sleep(1)
            finally:
                writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            if number in seen.alive:
                seen.alive.discard(number)
                seen.broken.append(f"{time.time():.1f}: {error!r}")
            await asyncio.sleep(0.5)


def tell() -> None:
    """Write how it goes, in one piece."""
    found = {"tried": seen.tried, "answered": seen.answered, "alive": len(seen.alive)}
    text = json.dumps({**found, "failed": seen.failed[:200], "broken": seen.broken[:200]})
    fresh = STATE.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(STATE)


async def main() -> None:
    """Until the time is up."""
    end = time.monotonic() + LIMIT
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(stream(number)) for number in range(STREAMS)]
        while time.monotonic() < end:
            for _ in range(RATE // 4):
                group.create_task(once())
                await asyncio.sleep(1 / RATE)
            tell()
        for task in tasks:
            task.cancel()


asyncio.run(main())
