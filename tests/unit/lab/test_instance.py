"""Names and addresses of a lab, refused before anything is made of them."""

from __future__ import annotations

import pytest
from lab.console import LabError
from lab.distributions import DEBIAN_12
from lab.instance import Address, Lab


def test_a_host_is_a_name_and_an_address() -> None:
    """NAME=ADDRESS/PREFIX."""
    address = Address.parse("mesh1=10.231.0.11/24")
    assert (address.host, str(address.interface)) == ("mesh1", "10.231.0.11/24")


@pytest.mark.parametrize(
    "text",
    [
        "mesh1",
        "mesh1=",
        "mesh1=10.0.0.300/24",
        "=10.0.0.1/24",
        "a b=10.0.0.1/24",
        "../x=10.0.0.1/24",
        "toolongforalink=10.0.0.1/24",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """With the text in the message; a name becomes part of paths and of a link's name."""
    with pytest.raises(LabError, match=r"letters, digits and hyphens|NAME=ADDRESS"):
        Address.parse(text)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 41])
def test_a_labs_name_is_harmless(name: str) -> None:
    """It is part of paths that are removed with everything in them."""
    with pytest.raises(LabError, match="cannot name a lab"):
        Lab(name)


def test_a_host_is_debian_12_unless_it_says_otherwise() -> None:
    """Hosts of one lab may differ."""
    assert Address.parse("mesh1=10.231.0.11/24").release is DEBIAN_12
    assert Address.parse("mesh2=10.231.0.12/24@ubuntu-24.04").release.suite == "noble"
    with pytest.raises(LabError, match=r"no distribution of the lab; there are debian-12, "):
        Address.parse("mesh1=10.231.0.11/24@plan9")
