# Copyright: The hostmesh authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Files that are replaced as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """Put a file in place of the one that is there, with this mode, or with mode and owner of that one (0600 if new).

    It is written under a name that nobody can foresee and plant a link at.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        if mode is not None:
            fresh.chmod(mode)
        elif path.exists():
            before = path.stat()
            os.chown(fresh, before.st_uid, before.st_gid)
            fresh.chmod(before.st_mode & 0o7777)
        fresh.replace(path)
    except BaseException:
        fresh.unlink()
        raise
