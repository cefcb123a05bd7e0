"""How long a test waits for what is to come: much longer than it takes, as only a failure spends it."""

from __future__ import annotations

PATIENCE = 40.0
"""Seconds; the machines that run these tests stand still for some of them."""
