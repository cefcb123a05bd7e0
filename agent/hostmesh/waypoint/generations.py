"""Generations of configuration files: all of one push come to be in force by one rename (Envoy's file-based xDS)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hostmesh.waypoint.shape import CURRENT, Json


class Generations:
    """Directories below one, and a link to the one in force. Only their owner can read them: keys are among them.

    Args:
        directory: made if missing; what an earlier run left is kept in force until the first `publish`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def publish(self, files: Mapping[str, Json]) -> None:
        """Put these files in force and remove the former ones.

        Raises:
            OSError: the disk is full, say; the former ones stay in force.
        """
        link = self.directory / CURRENT
        former = link.readlink() if link.is_symlink() else None
        number = 1 + max((int(one.name) for one in self.directory.iterdir() if one.name.isdecimal()), default=0)
        fresh = self.directory / str(number)
        try:
            fresh.mkdir(mode=0o700)
            for name, content in files.items():
                _write(fresh / name, json.dumps(content).encode())
            prepared = self.directory / f".{CURRENT}"
            prepared.unlink(missing_ok=True)
            prepared.symlink_to(fresh.name)
            prepared.replace(link)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for one in self.directory.iterdir():
            # Envoy may be reading the one before, so that one goes with the next push
            if one.name.isdecimal() and one.name not in (fresh.name, str(former)):
                shutil.rmtree(one)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
