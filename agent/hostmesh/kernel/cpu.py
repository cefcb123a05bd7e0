"""What the processor is good at (/proc/cpuinfo)."""

from __future__ import annotations

from pathlib import Path


def encrypts_blocks_in_parallel(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether it has VAES: several blocks of AES at once, so that the longer key costs next to nothing."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("flags") and "vaes" in line.split() for line in lines)
