"""`hostmesh`, with an authority that signs for as few seconds as it is asked: a day of rotations in a minute."""

from __future__ import annotations

import runpy

from hostmesh.control import ca

if __name__ == "__main__":
    ca.MIN_TTL = 1.0
    runpy.run_module("hostmesh", run_name="__main__")
