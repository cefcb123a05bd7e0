"""`python -m hostmesh`: the same as the `hostmesh` command."""

from __future__ import annotations

from hostmesh.cli import main

main(prog_name="hostmesh")
