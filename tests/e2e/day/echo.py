"""Answers with what it hears, to any number of clients. Knows nothing of any mesh."""

from __future__ import annotations

import asyncio


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client, until it ends."""
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main() -> None:
    """Serve."""
    server = await asyncio.start_server(echo, "0.0.0.0", 7000, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
