"""What the lab tells its user: one line per step with the time it took, and lines in between when a step is slow."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence


class LabError(Exception):
    """The lab cannot do what was asked; the message says what, why and what to do."""


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"lab: {text}", flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step that may take more than a moment, and say how long it took."""
    say(f"{text} ...")
    start = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - start:.1f} s")


def run(command: Sequence[str], *, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output.

    Raises:
        LabError: the command failed; the message carries its own words.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(command)} failed with status {done.returncode}: {words}")
    return done.stdout


def stream(command: Sequence[str], *, env: dict[str, str] | None = None, keep: int = 40) -> None:
    """Run a slow command and pass on every line that it prints, as progress.

    Raises:
        LabError: the command failed; the message carries its last lines.
    """
    tail: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-keep:], line.rstrip()]
            if line.startswith(("I:", "W:", "E:")):
                say(f"  {line.rstrip()}")
    if process.returncode != 0:
        print("\n".join(tail), file=sys.stderr)
        raise LabError(f"{command[0]} failed with status {process.returncode}; its last lines are above")
