"""Roots: whom this host believes to be the control plane: the file it was given, and what it has learned since."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from hostmesh.kernel.files import write_atomically

_log = logging.getLogger(__name__)


class Roots:
    """Roots that replace each other while the host runs must not depend on who wrote the first file, and when.

    What was learned over an authenticated connection replaces the file, until somebody changes the file: from then on
    both count, because a mesh may have been made anew.

    Args:
        given: PEM file with the roots that the host was installed with.
        learned: where later roots are kept; None keeps none.
    """

    def __init__(self, given: Path, learned: Path | None = None) -> None:
        self.given = given
        self._learned = learned

    def pem(self) -> str:
        """The roots that count now.

        Raises:
            OSError: the given file cannot be read and nothing has been learned.
        """
        value = self._read()
        if value is None:
            return self.given.read_text(encoding="ascii")
        try:
            given = self.given.read_bytes()
        except OSError:
            return value["roots"]
        if hashlib.sha256(given).hexdigest() == value["given"]:
            return value["roots"]
        return value["roots"] + "\n" + given.decode("ascii", errors="replace")

    def learn(self, roots_pem: bytes) -> None:
        """Remember newer roots. A disk that is full is logged: the former ones go on to count after a restart."""
        if self._learned is None:
            return
        try:
            digest = hashlib.sha256(self.given.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        value = {"given": digest, "roots": roots_pem.decode("ascii")}
        if self._read() == value:
            return
        try:
            write_atomically(self._learned, json.dumps(value).encode())
        except OSError as error:
            _log.warning("%s: the mesh's roots could not be kept: %s", self._learned, error.strerror)

    def _read(self) -> dict[str, str] | None:
        if self._learned is None:
            return None
        try:
            value = json.loads(self._learned.read_bytes())
            return {"given": str(value["given"]), "roots": str(value["roots"])}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s: not usable (%s); the roots of %s count", self._learned, error, self.given)
            return None
