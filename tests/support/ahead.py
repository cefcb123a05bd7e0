"""`hostmesh` on a host whose clock is wrong: `AHEAD` in the environment says by how many seconds."""

from __future__ import annotations

import os
import runpy
import time

_right = time.time


def _wrong() -> float:
    return _right() + float(os.environ.get("AHEAD", "300"))


if __name__ == "__main__":
    time.time = _wrong
    runpy.run_module("hostmesh", run_name="__main__")
