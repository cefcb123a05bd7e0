"""What a proxy worker is made of."""

from __future__ import annotations

import subprocess
import sys

_BELONGS_TO_MAIN = ("pydantic", "yaml", "asyncio", "aiohttp", "grpclib", "pyroute2", "ssl")


def test_a_worker_loads_nothing_that_only_main_needs() -> None:
    """There are several on each host, and what they load they hold for life: pydantic alone is 6 MB."""
    program = "import sys, hostmesh.daemon.worker, hostmesh.transport.tls.bundled; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "hostmesh.proxy.server" in loaded
    assert [name for name in _BELONGS_TO_MAIN if name in loaded] == []
