"""The hostmesh command: one module per command group."""
