"""FetchFailed: a certificate could not be had now."""

from __future__ import annotations


class FetchFailed(Exception):
    """The text says why and is shown to users; the same request may succeed later."""
