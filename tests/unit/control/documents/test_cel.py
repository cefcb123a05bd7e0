"""Which expressions are CEL over Envoy's attributes, and how they stand in Envoy's format."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.documents.cel import NotCel, check, for_waypoint


@pytest.mark.parametrize(
    "text",
    [
        "response.code >= 400",
        "request.headers['x-a'] == \"b\" && !connection.mtls || has(request.headers.x)",
        "request.headers.exists(k, k.startsWith('x-'))",
        "response.code in [200, 0x1F, 2e3, -1] ? 'a' : {'b': [1,],}",
        "metadata.filter_metadata['a']['b'] % 2 == 0 // a remark\n",
        "filter_state['io.istio.peer_principal'] == r'\\'",
    ],
)
def test_expressions(text: str) -> None:
    """The whole grammar: operators, calls, macros, lists, maps, every kind of literal."""
    check(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a value is expected at character 1, not 'the end'"),
        ("response.code >", "a value is expected at character 16"),
        ("(response.code", "')' is expected at character 15"),
        ("response.code 1", "'1' at character 15 is not expected there"),
        ("'open", '"\'open" at character 1 begins nothing'),
        ("metadata.'code'", "a name is expected at character 10"),
        ("for", "a value is expected at character 1, not 'for'"),
        ("respons.code == 1", "there is no attribute 'respons'; did you mean 'response'?"),
        ("response.cod == 1", "there is no attribute response.cod; did you mean 'code'?"),
        ("(" * 40 + "1" + ")" * 40, "nested deeper than 32 levels"),
    ],
)
def test_what_is_none(text: str, why: str) -> None:
    """An attribute that Envoy does not have would silently let nothing through."""
    with pytest.raises(NotCel) as refused:
        check(text)
    assert why in str(refused.value)


def test_an_expression_can_stand_within_envoys_format() -> None:
    """Which ends at the first `)%` or `):`; and attributes of the tunnel are found where they are carried."""
    text = "(request.host).endsWith(')%') ? (1):connection.mtls"
    made = for_waypoint(text, {"connection.mtls": "true"})
    assert ")%" not in made
    assert "):" not in made
    assert made.endswith(": true")
    assert for_waypoint("r'\\(a)'", {}) == r"'\\(a\x29'"
    assert for_waypoint("a.connection.mtls", {"connection.mtls": "true"}) == "a . connection . mtls"


@given(st.text(alphabet="request.code()[]{}'\"\\ !&|<>=?:,%+-*/1x\n"))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    """Whatever it is, nothing else happens; and what is one stays one in Envoy's format."""
    with suppress(NotCel):
        check(text)
        check(for_waypoint(text, {}))
