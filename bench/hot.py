"""`python -m bench hot`: the functions that every message meets, beside those that `pyproject.toml` keeps together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.generator import BenchFailed
from bench.meshes import as_installed

ROOT = Path(__file__).parent.parent

_FEW, _MANY = 50, 450
_ALWAYS = 0.9 * (_MANY - _FEW)
"""Calls of what each message meets at least once."""


def hot(directory: Path) -> None:
    """Print what differs.

    Args:
        directory: for what is recorded.

    Raises:
        BenchFailed: valgrind is not here, or what it should run fails.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise BenchFailed("calls are counted by callgrind; next: apt-get install valgrind")
    few, many = (_calls(valgrind, count, directory / str(count)) for count in (_FEW, _MANY))
    found = {name for name, calls in many.items() if calls - few[name] >= _ALWAYS}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    kept = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["hot"])
    print("met by every message, and not kept together:", *sorted(found - kept) or ["none"])
    print("kept together, and not met by every message:", *sorted(kept - found) or ["none"])


def read_calls(recorded: Iterable[str]) -> Counter[str]:
    """Calls of each function, from a file of callgrind (its format: names are given once, then their numbers)."""
    names: dict[str, str] = {}
    calls: Counter[str] = Counter()
    called = ""
    for line in recorded:
        if found := re.match(r"c?fn=\((\d+)\)(?: (\S+))?", line):
            if found[2]:
                names[found[1]] = found[2].partition("'")[0]  # a number behind it tells how deep it has called itself
            if line.startswith("c"):
                called = names[found[1]]
        elif found := re.match(r"calls=(\d+)", line):
            calls[called] += int(found[1])
    return calls


def _calls(valgrind: str, count: int, recorded: Path) -> Counter[str]:
    command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={recorded}"]
    command += [sys.executable, "-m", "bench.steady", str(count)]
    done = subprocess.run(command, env=as_installed(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchFailed(f"bench.steady under callgrind failed:\n{done.stderr}")
    with recorded.open(encoding="utf-8", errors="replace") as lines:
        return Counter({name: calls for name, calls in read_calls(lines).items() if name.startswith("CPy")})
