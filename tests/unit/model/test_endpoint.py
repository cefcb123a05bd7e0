"""Rules for writing down where the control plane is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "endpoint", "printed"),
    [
        ("mesh1:15012", Endpoint("mesh1", 15012), "mesh1:15012"),
        ("mesh1", Endpoint("mesh1", 15012), "mesh1:15012"),
        ("https://mesh1:443", Endpoint("mesh1", 443), "mesh1:443"),
        ("10.0.0.1:1", Endpoint("10.0.0.1", 1), "10.0.0.1:1"),
        ("[fd00::1]:15012", Endpoint("fd00::1", 15012), "[fd00::1]:15012"),
        ("[fd00::1]", Endpoint("fd00::1", 15012), "[fd00::1]:15012"),
        ("fd00::1", Endpoint("fd00::1", 15012), "[fd00::1]:15012"),
    ],
)
def test_parse(text: str, endpoint: Endpoint, printed: str) -> None:
    """Host, port and brackets; ztunnel's URLs too."""
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == printed
    assert Endpoint.parse(printed) == endpoint


@pytest.mark.parametrize("text", ["", ":15012", "http://mesh1", "mesh1:0", "mesh1:65536", "m:x", "m/x:1", "m:-1"])
def test_nonsense(text: str) -> None:
    """Plain http above all: the control plane is only spoken to over TLS."""
    with pytest.raises(ValueError, match=r"not host:port|the port must be|unsupported scheme"):
        Endpoint.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No other exception, and what is parsed can be printed and parsed again."""
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    assert 1 <= endpoint.port <= 65535
    assert str(endpoint)
