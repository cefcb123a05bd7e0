"""Python's collector of cycles in a program that holds a whole mesh: it need not look at that again and again."""

from __future__ import annotations

import gc

THRESHOLDS = (5000, 20, 100)
"""Connections and requests leave few cycles: it looks at larger batches, and less often (Python's own: 700, 10, 10)."""


def settle() -> None:
    """What is held now will stay: 10,000 documents are a million objects, and a look at them stops everything."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
