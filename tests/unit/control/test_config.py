"""The control plane's configuration: strict where it is written, complete where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.config import DEFAULT_CONFIG, ControlPlaneConfig, load


def test_without_a_file_everything_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the default path may be missing."""
    monkeypatch.setattr("hostmesh.control.config.DEFAULT_CONFIG", tmp_path / "none.yaml")
    assert load(tmp_path / "none.yaml") == ControlPlaneConfig()
    with pytest.raises(InvalidYaml, match="no such file; give its path with --config"):
        load(tmp_path / "other.yaml")
    assert Path("/etc/hostmesh/control-plane.yaml") == DEFAULT_CONFIG


def test_defaults_are_istios() -> None:
    """Port, trust domain, cluster and root namespace."""
    config = ControlPlaneConfig()
    assert (config.listen.port, config.trust_domain, config.cluster_id) == (15012, "cluster.local", "Kubernetes")
    assert (config.root_namespace, config.certificates.max_ttl) == ("istio-system", 86400)


def test_a_full_file(tmp_path: Path) -> None:
    """Every setting, as the role writes it."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "listen: {address: '::', port: 15013}\nnames: [cp.example.org, 10.0.0.1]\ntrust_domain: example.org\n"
        "cluster_id: c1\ncluster_domain: example.org\nnetwork: n\nroot_namespace: mesh\n"
        "certificates: {max_ttl: 90s}\nlog: {level: debug, format: json}\ndocuments_dir: /d\nstate_dir: /s\n"
        "socket: /run/x.sock\nsocket_group: ops\n"
    )
    config = load(path)
    assert config.certificates.max_ttl == 90
    assert config.server_names[:2] == ("cp.example.org", "10.0.0.1")
    assert (config.mesh.trust_domain, config.mesh.network, config.mesh.root_namespace) == ("example.org", "n", "mesh")


WRONG = [
    ("trust_domian: a", "1: trust_domian: unknown field; did you mean 'trust_domain'?"),
    ("listen:\n  port: 70000", "2: listen.port: input should be less than or equal to 65535 (got 70000)"),
    ("listen: {address: localhost}", "1: listen.address: 'localhost' does not appear to be an IPv4 or IPv6 address"),
    ("names: [a_b]", "1: names[0]: 'a_b' is neither a DNS name nor an IP address (got 'a_b')"),
    ("trust_domain: a/b", "1: trust_domain: 'a/b' is not a trust domain"),
    ("root_namespace: A", "1: root_namespace: 'A' is not a namespace (a DNS label)"),
    ("certificates: {max_ttl: 5 days}", "1: certificates.max_ttl: '5 days' is not a duration"),
    ("certificates: {max_ttl: 10s}", "1: certificates.max_ttl: input should be greater than or equal to 30"),
    ("- a", "1: must be a mapping of settings, like `trust_domain: example.org`"),
    ("network: a\n---\nnetwork: b", "3: one document only; remove what follows `---`"),
]


@pytest.mark.parametrize(("text", "complaint"), WRONG)
def test_mistakes(tmp_path: Path, text: str, complaint: str) -> None:
    """File, line, field, reason."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InvalidYaml) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}:{complaint}")


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """Comments only, say."""
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert load(path) == ControlPlaneConfig()
