"""Syntax of names (Kubernetes, RFC 1123)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hostmesh.control.documents import names

CASES: list[tuple[Callable[[str], bool], list[str], list[str]]] = [
    (names.is_dns_label, ["a", "a-b", "1a", "a" * 63], ["", "-a", "a-", "A", "a.b", "a" * 64, "a\n"]),
    (names.is_dns_subdomain, ["a", "a.b-c.d"], ["", "a..b", ".a", "a.", "A.b", ".".join(["a" * 63] * 4)]),
    (names.is_fqdn, ["a", "a.b", "A.b.", "xn--a.b"], ["", ".", "a..b", "*.a", "a_b", "10.0.0.1", "::1"]),
    (names.is_wildcard_host, ["*.a", "*.a.b"], ["*", "*.", "a.*", "**.a", "*a.b"]),
    (names.is_ip, ["10.0.0.1", "::1"], ["10.0.0.0/8", "10.0.0", "", "01.2.3.4", "fe80::1%eth0"]),
    (
        names.is_cidr,
        ["10.0.0.0/8", "10.0.0.1/8", "::/0"],
        ["10.0.0.1", "10.0.0.0/33", "a/8", "/", "10.0.0.0/255.0.0.0"],
    ),
    (names.is_trust_domain, ["cluster.local", "a_b-c"], ["", "a/b", "A", "-a"]),
]


@pytest.mark.parametrize(("check", "right", "wrong"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_syntax(check: Callable[[str], bool], right: list[str], wrong: list[str]) -> None:
    """One line for each kind of name."""
    assert [text for text in right if not check(text)] == []
    assert [text for text in wrong if check(text)] == []


def test_label_values_may_be_empty_and_keys_may_have_a_prefix() -> None:
    """Kubernetes label syntax."""
    assert names.label_value_complaint("") is None
    assert names.label_key_complaint("hostmesh.io/node") is None
    assert names.label_key_complaint("a/b/c") is not None
    assert names.label_key_complaint("hostmesh.io/") is not None
    assert names.label_value_complaint("a" * 64) is not None
