"""Envoy's life: started again, replaced, and kept where what is to replace it is no good."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from tests.support.mesh import background, until
from tests.support.patience import PATIENCE

from hostmesh.waypoint.envoy import EnvoyMissing
from hostmesh.waypoint.process import EnvoyProcess

FAKE = """
import http.server, json, os, signal, socketserver, sys, threading, time
from pathlib import Path

here = Path(__file__).parent
if (here / "broken").exists():
    sys.exit(3)
argv = sys.argv
if "--base-id-path" in argv:
    Path(argv[argv.index("--base-id-path") + 1]).write_text("7")
admin = here / "admin.sock"

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = {"state": "LIVE", "version": "x/1.40.0/y", "uptime_all_epochs": "1s"}
        if self.path.startswith("/stats"):
            said = {"stats": [{"name": "listener_manager.total_listeners_active", "value": 3}]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return ""
    def log_message(self, *_):
        pass

admin.unlink(missing_ok=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
socketserver.ThreadingUnixStreamServer(str(admin), Answer).serve_forever()
"""


class Runs:
    """An `EnvoyProcess` of a program that answers as Envoy's admin port does."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken = directory / "broken"
        self.missing = False
        script = directory / "envoy"
        script.write_text(f"#!{sys.executable}\n{FAKE}")
        script.chmod(0o755)
        self.pids: list[int] = []
        self.envoy = EnvoyProcess(directory, directory / "bootstrap.json", 1, self.pids.append)

        def binary() -> Path:
            if self.missing:
                raise EnvoyMissing("no envoy")
            return script

        monkeypatch.setattr("hostmesh.waypoint.process.binary", binary)

    async def serves(self) -> bool:
        try:
            return bool((await self.envoy.status())["listeners"])
        except OSError:
            return False

    async def served(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.serves():
                await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(tmp_path, monkeypatch)


def test_one_that_dies_is_started_again(runs: Runs) -> None:
    """And the end of the whole is its end."""

    async def main() -> None:
        async with background(runs.envoy.run()):
            await runs.served()
            os.kill(runs.pids[0], signal.SIGKILL)
            await until(lambda: len(runs.pids) == 2)
            await runs.served()
        assert not alive(runs.pids[1])

    asyncio.run(main())


NONSENSE = ("null", "[]", '{"process": 1', '{"process": null, "epoch": 0}', '{"process": "1", "epoch": 0}')
NO_NUMBERS = (
    '{"process": OWN, "epoch": null}',
    '{"process": 1e3, "epoch": 0}',
    f'{{"process": {1 << 70}, "epoch": 0}}',
)


@pytest.mark.parametrize("note", [*NONSENSE, *NO_NUMBERS])
def test_a_note_that_makes_no_sense_is_as_good_as_none(runs: Runs, tmp_path: Path, note: str) -> None:
    """A waypoint starts whatever lies there, also when it names a child that runs."""

    async def main() -> None:
        child = await asyncio.create_subprocess_exec("sleep", "60")
        (tmp_path / "envoy.json").write_text(note.replace("OWN", str(child.pid)))
        async with background(runs.envoy.run()):
            await runs.served()
            assert runs.pids
        child.kill()
        await child.wait()

    asyncio.run(main())


def test_a_successor_that_does_not_start_changes_nothing(runs: Runs) -> None:
    """One that ends at once, or is not there: the running one goes on, and is replaced by the next that is good."""

    async def main() -> None:
        async with background(runs.envoy.run()):
            await runs.served()
            runs.broken.touch()
            runs.envoy.replace()
            await until(lambda: len(runs.pids) == 2)
            await until(lambda: not alive(runs.pids[1]))
            assert await runs.serves()
            assert alive(runs.pids[0])
            runs.missing = True
            runs.envoy.replace()
            await asyncio.sleep(0)
            assert alive(runs.pids[0])
            runs.missing = False
            runs.broken.unlink()
            runs.envoy.replace()
            await until(lambda: len(runs.pids) == 3)
            await runs.served()
            assert alive(runs.pids[2])

    asyncio.run(main())
