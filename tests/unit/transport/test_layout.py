"""Where the compiler has put what every byte passes: in one place of the library (agent/hatch_build.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.support.scripts import script

from hostmesh.transport import loop

ROOT = Path(__file__).parents[3]
LIBRARY = next(Path(loop.__file__).parents[2].glob("hostmesh__mypyc*.so"), None)

HOT_BYTES = 96 << 10
"""A twentieth of the library; its functions as they come are spread over all of it."""


@pytest.mark.skipif(LIBRARY is None, reason="interpreted here; `make compiled` runs it")
def test_what_every_byte_passes_lies_together() -> None:
    """And what only errors meet lies elsewhere."""
    table = subprocess.run(["nm", "--defined-only", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    places = {name: int(place, 16) for place, kind, name in map(str.split, table.splitlines()) if kind in "tT"}
    hot = [places[name] for name in script("agent/hatch_build.py").hot(ROOT)]
    assert max(hot) - min(hot) < HOT_BYTES
    errors = [place for name, place in places.items() if name.endswith(".cold")]
    assert len(errors) > 500
    assert all(place < min(hot) or place > max(hot) for place in errors)
