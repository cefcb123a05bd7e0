"""The program that a process runs, and how it becomes the one that is installed now (execve(2))."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SIGNALS = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT})
"""They wait while nobody in the process handles them; the next program lets them in."""


@dataclass(frozen=True, slots=True)
class Program:
    """What this process runs and would run again; `path` is what changes when another version is installed."""

    argv: tuple[str, ...]
    path: Path

    @classmethod
    def current(cls) -> Program:
        """The running one. An executable is started again by its own path, so that a symlink in it counts anew."""
        script = Path(sys.argv[0]).absolute()
        if os.access(script, os.X_OK):
            return cls((str(script), *sys.argv[1:]), script)
        return cls((sys.executable, "-m", "hostmesh", *sys.argv[1:]), script)

    def installed(self) -> str:
        """Where `path` leads now."""
        return str(self.path.resolve())

    def replace(self, environment: Mapping[str, str]) -> NoReturn:
        """Become this program.

        Raises:
            OSError: it cannot be started; everything is as it was.
        """
        os.execve(self.argv[0], self.argv, environment)  # noqa: S606 -- our own program
