"""The istiod of tests as a process of a namespace: `python -m tests.support.istiod_process DIRECTORY ADDRESS TOLD`.

TOLD is JSON: `tokens` (token to SPIFFE URI) and `addresses` (name to resource in hexadecimal). Says `ready` when it
listens on port 15012.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.istiod import Istiod

from hostmesh.model.identity import Identity
from hostmesh.xds.codec import ADDRESS_TYPE


async def _main(istiod: Istiod, what: dict[str, dict[str, str]]) -> None:
    istiod.tokens = {token: Identity.parse(uri) for token, uri in what["tokens"].items()}
    istiod.resources[ADDRESS_TYPE] = {name: bytes.fromhex(data) for name, data in what["addresses"].items()}
    async with istiod.serving():
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Istiod(Path(sys.argv[1]), sys.argv[2], 15012), json.loads(Path(sys.argv[3]).read_text())))
