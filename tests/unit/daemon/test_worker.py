"""What a proxy worker is made of."""

from __future__ import annotations

import subprocess
import sys

_BELONGS_TO_MAIN = ("pydantic", "yaml", "asyncio", "h11", "grpclib", "ssl", "_hashlib")


def test_a_worker_loads_nothing_that_only_main_needs() -> None:
    """There are several on each host, and what they load they hold for life: pydantic alone is 6 MB."""
    program = (
        "import sys; from hostmesh.daemon.proxy_worker import leave_out_openssl; leave_out_openssl();"
        "import hostmesh.daemon.worker, hostmesh.transport.tls.bundled;"
        "print(*(name for name, module in sys.modules.items() if module))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "hostmesh.proxy.server" in loaded
    assert [name for name in _BELONGS_TO_MAIN if name in loaded] == []
