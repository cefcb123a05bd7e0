"""`make bench-profile`: where the workers' time goes, work by work, and what system calls a connection costs.

Samples are perf's (cpu-clock), so they cost little and see the kernel; system calls are strace's, so those runs are
slow and only counted.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare import WORKS, Work
from bench.generator import BenchFailed, build
from bench.setups import Setup, all_setups

_FREQUENCY = 997
"""Samples each second; a prime, so that nothing periodic is met always or never."""

_STRACED_SECONDS = 2.0
_NULL = subprocess.DEVNULL

KERNEL, OPENSSL, INTERPRETER = "kernel", "openssl", "interpreter"

_OPENSSL = re.compile(r"libssl|libcrypto|_rust\.abi3|_openssl")
"""cryptography's extension holds its own OpenSSL; what else is in it is not called by the byte path."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Parts of one process's samples, summing to 1."""

    kernel: float
    openssl: float
    interpreter: float

    @classmethod
    def of(cls, samples: Mapping[str, int]) -> Shares:
        """From samples by part."""
        total = sum(samples.values()) or 1
        return cls(*(samples.get(part, 0) / total for part in (KERNEL, OPENSSL, INTERPRETER)))


def profile(seconds: float, top: int) -> None:
    """Print both tables for the hostmesh pair.

    Args:
        seconds: of one work.
        top: how many functions of each work are listed too.

    Raises:
        BenchFailed: neither perf nor strace is here.
    """
    perf, strace = shutil.which("perf"), shutil.which("strace")
    if perf is None and strace is None:
        raise BenchFailed("profiling needs perf and strace; next: apt-get install linux-perf strace")
    with tempfile.TemporaryDirectory() as directory, all_setups(build(), Path(directory), ["hostmesh"]) as [setup]:
        print(f"cipher: {setup.cipher}")
        if perf is not None:
            _print_shares(perf, setup, seconds, top, Path(directory))
        else:
            print("no shares: perf is missing; next: apt-get install linux-perf")
        if strace is not None:
            _print_calls(strace, setup)
        else:
            print("no system calls: strace is missing; next: apt-get install strace")


def part_of(library: str) -> str:
    """Which part of the path a mapped file belongs to, by the name perf gives it."""
    if library.startswith("[kernel") or library.endswith(".ko"):
        return KERNEL
    return OPENSSL if _OPENSSL.search(library) else INTERPRETER


def read_samples(script: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    """Pid, function and mapped file of each sample, from lines of `perf script -F pid,ip,sym,dso`."""
    for line in script:
        found = re.match(r"\s*(\d+)\s+[0-9a-f]+\s+(.*)\s+\((.*)\)\s*$", line)
        if found:
            yield int(found[1]), found[2].strip(), found[3]


def read_calls(summary: Iterable[str]) -> dict[str, int]:
    """Calls by name, from the table of `strace -c`."""
    calls = {}
    for line in summary:
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls


def _print_shares(perf: str, setup: Setup, seconds: float, top: int, directory: Path) -> None:
    print(f"\n{'':28}{'process':16}{'CPU':>8}  {KERNEL:>8}{OPENSSL:>9}{INTERPRETER:>13}")
    for name, work in WORKS.items():
        before = {process: setup.cpu_of(process) for process in setup.processes}
        samples = _sampled(perf, setup, work, seconds, directory / "perf.data")
        for process, pid in setup.processes.items():
            mine = [(function, library) for owner, function, library in samples if owner == pid]
            used = (setup.cpu_of(process) - before[process]) / seconds
            shares = Shares.of(Counter(part_of(library) for _, library in mine))
            print(
                f"{name:28}{process:16}{used:8.0%}  {shares.kernel:8.0%}{shares.openssl:9.0%}{shares.interpreter:13.0%}"
            )
            for (function, library), count in Counter(mine).most_common(top):
                print(f"{'':30}{count / len(mine):6.1%}  {function} ({Path(library).name})")


def _sampled(perf: str, setup: Setup, work: Work, seconds: float, data: Path) -> list[tuple[int, str, str]]:
    with _recording(perf, setup.processes.values(), data):
        setup.generator.run(work.job, setup.target, work.parallel, seconds)
    script = [perf, "script", "-i", str(data), "-F", "pid,ip,sym,dso"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"perf cannot read what it recorded: {done.stderr.strip()}")
    return list(read_samples(done.stdout.splitlines()))


@contextmanager
def _recording(perf: str, pids: Iterable[int], data: Path) -> Iterator[None]:
    """Samples are taken from the start of the body to its end; perf is attached before."""
    commands, to_perf = os.pipe()
    from_perf, answers = os.pipe()
    who = ",".join(map(str, pids))
    command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(_FREQUENCY), "-p", who, "-o", str(data), "-D", "-1"]
    command += ["--control", f"fd:{commands},{answers}"]
    with (
        os.fdopen(to_perf, "wb", buffering=0) as orders,
        os.fdopen(from_perf, "rb") as acknowledged,
        subprocess.Popen(command, pass_fds=[commands, answers], stdout=_NULL, stderr=_NULL) as tracer,
    ):
        os.close(commands)
        os.close(answers)
        try:
            orders.write(b"enable\n")
            if not acknowledged.read(1):
                raise BenchFailed(f"perf ended with status {tracer.wait()}; next: perf record -e cpu-clock true")
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)


def _print_calls(strace: str, setup: Setup) -> None:
    print("\nsystem calls of one connection (connect, 64 bytes there and back, end)")
    for name in ("connections_per_second", "connections_per_second_x8"):
        for process, pid in setup.processes.items():
            calls, connections = _counted(strace, setup, WORKS[name], pid)
            each = {call: count / connections for call, count in calls.items()}
            print(f"{name:28}{process:16}{sum(each.values()):6.1f}  {_listed(each)}")


def _counted(strace: str, setup: Setup, work: Work, pid: int) -> tuple[dict[str, int], int]:
    with tempfile.NamedTemporaryFile("r") as summary:
        command = [strace, "-c", "-f", "-o", summary.name, "-p", str(pid)]
        with subprocess.Popen(command, stdout=_NULL, stderr=subprocess.PIPE) as tracer:
            try:
                assert tracer.stderr is not None
                tracer.stderr.readline()  # it says when it is attached
                done = setup.generator.run(work.job, setup.target, work.parallel, _STRACED_SECONDS)
            finally:
                tracer.send_signal(signal.SIGINT)
                tracer.wait(30)
        return read_calls(summary), done.count


def _listed(each: Mapping[str, float]) -> str:
    ordered: Sequence[tuple[str, float]] = sorted(each.items(), key=lambda item: -item[1])
    return " ".join(f"{call} {count:.1f}" for call, count in ordered if count >= 0.05)
