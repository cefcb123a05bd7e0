"""The load generator and the application: built from bench/load when its source changed, driven over a pipe."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_SOURCE = Path(__file__).parent / "load"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostmesh-bench"
"""What need not be made again for the next run."""


PATIENCE = 120.0
"""Seconds for one job and its end: a connection that hangs must not hang the whole run."""


class BenchFailed(Exception):
    """The benchmark cannot go on; the text says why and what to do."""


def build() -> Path:
    """The program, compiled at first use and kept in the user's cache.

    Raises:
        BenchFailed: there is no Go compiler, or it refuses.
    """
    sources = sorted(path for path in _SOURCE.iterdir() if path.name == "go.mod" or path.suffix == ".go")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    program = CACHE / f"load-{digest}"
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise BenchFailed("the load generator is written in Go and `go` is missing; next: apt-get install golang-go")
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"building {program}")
    command = [go, "build", "-trimpath", "-o", str(program), "."]
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=_SOURCE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"go build in {_SOURCE} failed:\n{done.stderr}")
    return program


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator says about one job; times in seconds, of pings in microseconds."""

    count: int
    bytes: int
    seconds: float
    p50: float
    p99: float
    longest: float


class Generator:
    """A running `load drive`: one job at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._jobs: IO[str] = process.stdin
        self._results: IO[str] = process.stdout

    def run(
        self, work: str, target: str, parallel: int = 1, seconds: float = 0.0, size: int = 0, rate: float = 0.0
    ) -> Outcome:
        """Do a job and wait for its end.

        Raises:
            BenchFailed: a connection failed, or bytes were not what they should be.
        """
        self.start(work, target, parallel, seconds, size, rate)
        return self.outcome()

    def start(
        self, work: str, target: str, parallel: int = 1, seconds: float = 0.0, size: int = 0, rate: float = 0.0
    ) -> None:
        """Begin a job; `outcome` must follow."""
        job = {"work": work, "target": target, "parallel": parallel, "seconds": seconds, "bytes": size}
        job["rate"] = rate
        print(json.dumps(job), file=self._jobs, flush=True)

    def outcome(self) -> Outcome:
        """Wait for the end of the job that was started.

        Raises:
            BenchFailed: as `run`.
        """
        if not select.select([self._results], [], [], PATIENCE)[0]:
            raise BenchFailed(f"a job did not end in {PATIENCE:.0f} s: a connection hangs")
        line = self._results.readline()
        if not line:
            raise BenchFailed(f"the load generator ended with status {self.process.wait()}")
        said = json.loads(line)
        if said["error"]:
            raise BenchFailed(said["error"])
        return Outcome(said["count"], said["bytes"], said["seconds"], said["p50_us"], said["p99_us"], said["max_us"])


@contextmanager
def driving(program: Path) -> Iterator[Generator]:
    """A generator in the namespace and cgroup of the caller."""
    with subprocess.Popen([program, "drive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Generator(process)
        finally:
            process.kill()


@contextmanager
def application(program: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    """An application that listens on `address`, in the namespace and cgroup of the caller."""
    with subprocess.Popen([program, "serve", address], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise BenchFailed(f"the application cannot listen on {address}")
            yield process
        finally:
            process.kill()
