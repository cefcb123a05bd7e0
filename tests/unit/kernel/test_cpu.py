"""Which AES a processor prefers."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.kernel.cpu import encrypts_blocks_in_parallel


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu aes avx512f vaes vpclmulqdq\n", True),
        ("processor\t: 0\nflags\t\t: fpu aes avx2\nbugs\t\t: vaes\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd aes pmull\n", False),
        ("", False),
    ],
)
def test_vaes_is_a_flag_of_the_processor(tmp_path: Path, cpuinfo: str, has: bool) -> None:
    """Other architectures have no such line."""
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert encrypts_blocks_in_parallel(tmp_path / "cpuinfo") is has


def test_an_unknown_processor_has_nothing(tmp_path: Path) -> None:
    """Without /proc the shorter key is the safe guess: it is never slower."""
    assert not encrypts_blocks_in_parallel(tmp_path / "nothing")
