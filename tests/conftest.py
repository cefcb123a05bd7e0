"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The machines that run these tests are busy: how long an example takes says nothing about it.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
