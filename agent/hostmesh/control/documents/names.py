"""Syntax of names in documents (Kubernetes object names and labels; RFC 1123 host names)."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9._]{0,253}[a-z0-9])?")


def is_dns_label(text: str) -> bool:
    """A Kubernetes name without dots (RFC 1123 label, lower case)."""
    return _LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """A Kubernetes object name: lower-case labels joined by dots, at most 253 characters."""
    return len(text) <= 253 and all(is_dns_label(label) for label in text.split("."))


def is_fqdn(text: str) -> bool:
    """A host name of one or more labels; a trailing dot is allowed, an IP address is not one."""
    name = text.removesuffix(".")
    return len(name) <= 255 and not is_ip(text) and all(_HOST_LABEL.fullmatch(label) for label in name.split("."))


def is_wildcard_host(text: str) -> bool:
    """`*.` followed by a host name."""
    return text.startswith("*.") and is_fqdn(text[2:])


def is_ip(text: str) -> bool:
    """An IPv4 or IPv6 address, without a prefix length or an interface."""
    if "%" in text:
        return False
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """An address with a prefix length; host bits may be set, as Istio allows."""
    address, _, length = text.partition("/")
    if not (is_ip(address) and length.isascii() and length.isdigit()):
        return False
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def is_trust_domain(text: str) -> bool:
    """A SPIFFE trust domain."""
    return _TRUST_DOMAIN.fullmatch(text) is not None


def label_key_complaint(key: str) -> str | None:
    """What is wrong with a label or annotation key, or None."""
    prefix, separator, name = key.rpartition("/")
    if separator and not is_dns_subdomain(prefix):
        return f"the key's prefix {prefix!r} is not a DNS name"
    if not _QUALIFIED.fullmatch(name):
        return f"the key {key!r} is not letters, digits, '-', '_' and '.' (1 to 63 of them)"
    return None


def label_value_complaint(value: str) -> str | None:
    """What is wrong with a label value, or None."""
    if not value or _QUALIFIED.fullmatch(value):
        return None
    return f"the label value {value!r} is not letters, digits, '-', '_' and '.' (at most 63 of them)"
