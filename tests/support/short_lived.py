"""`hostmesh`, whose certificates may live for seconds and are renewed long before: a day of rotations in a minute.

How often they are renewed and how long they live afterwards are two things: a host that stands still for some seconds
renews later, and nothing has expired.
"""

from __future__ import annotations

import runpy

from hostmesh.control import ca
from hostmesh.identity import schedule

if __name__ == "__main__":
    ca.MIN_TTL = 1.0
    schedule.RENEWED_AFTER = 0.25  # less up to 0.1 of jitter, and a tenth has passed when it comes
    runpy.run_module("hostmesh", run_name="__main__")
