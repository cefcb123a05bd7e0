"""The audit log: who was admitted or refused, one JSON object a line, 0600, bounded in size."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

_log = logging.getLogger(__name__)

ROTATE_BYTES = 32 << 20
"""The current and one previous file are kept: at most twice this."""


class AuditLog:
    """Appends events; every event is also a line of the program's log.

    Args:
        path: the file, made 0600; its directory must exist.
        now: seconds since the epoch.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._path = path
        self._now = now
        self._rotate_bytes = rotate_bytes

    def record(self, event: str, **fields: str | float) -> None:
        """Write one event, as in `record("enrol", node="mesh2", result="refused", reason="TOKEN_EXPIRED")`.

        Raises:
            OSError: it could not be written; what it would have recorded must then not happen.
        """
        moment = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, **fields}, ensure_ascii=True) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, line.encode())
            full = os.fstat(descriptor).st_size > self._rotate_bytes
        finally:
            os.close(descriptor)
        if full:
            self._path.replace(self._path.with_name(self._path.name + ".1"))
        _log.info("audit: %s %s", event, " ".join(f"{key}={json.dumps(value)}" for key, value in fields.items()))
