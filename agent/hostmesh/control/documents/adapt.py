"""NetworkPolicies written for a world without a mesh: what ambient traffic they would cut, and the exceptions for it.

Istio's page on ambient and NetworkPolicy: connections of the mesh arrive at TCP port 15008 whatever port is meant, and
health probes come from 169.254.7.127. So a rule that admits TCP admits 15008 for the same peers, and probes are
admitted wherever ingress is isolated and no rule admits them already. A policy that admits nobody gets no 15008.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import yaml

from hostmesh.config.strict_yaml import Document, InvalidYaml, Path, Problem, load_documents, parse
from hostmesh.config.yaml_edit import Editor
from hostmesh.control.documents.network_policy import (
    EgressRule,
    IngressRule,
    NetworkPolicyDocument,
    check_network_policy,
)
from hostmesh.control.documents.read import text_keys
from hostmesh.model.network_policy import Direction

HBONE_PORT = 15008
PROBE4 = "169.254.7.127/32"
PROBE6 = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128"

_NULL = "tag:yaml.org,2002:null"
_TUNNEL = {"port": HBONE_PORT, "protocol": "TCP"}


@dataclass(frozen=True, slots=True)
class Lack:
    """An exception that a policy lacks: `value` is to be added to the list at `path` of its document."""

    document: int
    path: Path
    value: Any
    problem: Problem


def lacks(text: str, source: str, probes: Sequence[str] = (PROBE4,)) -> tuple[Lack, ...]:
    """What NetworkPolicies of a file would cut; documents of other kinds are not looked at.

    Args:
        text: YAML or JSON; metadata may be missing.
        source: what complaints call the file.
        probes: addresses of health probes.

    Raises:
        InvalidYaml: every mistake of the policies.
    """
    found: list[Lack] = []
    problems: list[Problem] = []
    for number, document in enumerate(load_documents(text, source)):
        if isinstance(document.value, dict) and document.value.get("kind") == "NetworkPolicy":
            try:
                found += _lacks(number, document, _read(document), probes)
            except InvalidYaml as invalid:
                problems += invalid.problems
    if problems:
        raise InvalidYaml(problems)
    return tuple(found)


def adapt(text: str, source: str, probes: Sequence[str] = (PROBE4,)) -> str:
    """The same text with exactly the exceptions that it lacks; all else stays as it is, to the byte.

    Raises:
        InvalidYaml: every mistake of the policies, or aliases where something is to be added.
    """
    wanted = lacks(text, source, probes)
    composed = yaml.compose_all(text, Loader=yaml.SafeLoader)
    nodes = [node for node in composed if node is not None and node.tag != _NULL]
    values = [document.value for document in load_documents(text, source)]
    editor = Editor(text)
    for lack in wanted:
        _add(editor, nodes[lack.document], lack)
        _set(values[lack.document], lack)
    result = editor.result
    if _means(result) != values:
        why = "an alias stands where an exception must be added; write the rule out, or add what `netpol check` says"
        raise InvalidYaml([Problem(source, wanted[0].problem.line, wanted[0].problem.field, why)])
    return result


def _read(document: Document) -> NetworkPolicyDocument:
    value = text_keys(document.value)
    assert isinstance(value, dict), "its kind was read"
    resource = parse(document, NetworkPolicyDocument, value={"metadata": {"name": "unnamed"}, **value})
    fatal = [document.problem(each.path, each.why) for each in check_network_policy(resource) if each.fatal]
    if resource.api_version != "networking.k8s.io/v1":
        fatal.append(document.problem(("apiVersion",), "must be networking.k8s.io/v1"))
    if fatal:
        raise InvalidYaml(fatal)
    return resource


def _lacks(number: int, document: Document, policy: NetworkPolicyDocument, probes: Sequence[str]) -> Iterator[Lack]:
    spec = policy.spec
    several: tuple[tuple[Direction, str, str, Sequence[IngressRule | EgressRule]], ...] = (
        (Direction.INGRESS, "ingress", "arrive", spec.ingress or ()),
        (Direction.EGRESS, "egress", "leave", spec.egress or ()),
    )
    for direction, field, word, rules in several:
        for position, rule in enumerate(rules if direction in policy.isolates else ()):
            if _lacks_tunnel(rule):
                path: Path = ("spec", field, position, "ports")
                why = f"connections of the mesh {word} at TCP port {HBONE_PORT}, which the rule does not admit"
                yield Lack(number, path, _TUNNEL, document.problem(path, why))
    missing = [cidr for cidr in probes if not _admits_probe(spec.ingress or (), cidr)]
    if missing and Direction.INGRESS in policy.isolates:
        path = ("spec", "ingress")
        why = f"no rule admits health probes, which come from {', '.join(missing)}"
        value = {"from": [{"ipBlock": {"cidr": cidr}} for cidr in missing]}
        yield Lack(number, path, value, document.problem(path, why))


def _lacks_tunnel(rule: IngressRule | EgressRule) -> bool:
    tcp = [port for port in rule.ports or () if port.protocol == "TCP"]
    return bool(tcp) and not any(
        port.port is None or (isinstance(port.port, int) and port.port <= HBONE_PORT <= (port.end_port or port.port))
        for port in tcp
    )


def _admits_probe(rules: Sequence[IngressRule], cidr: str) -> bool:
    address = ip_address(cidr.split("/")[0])
    blocks = [peer.ip_block for rule in rules for peer in rule.peers if peer.ip_block is not None]
    inside = [block for block in blocks if address in ip_network(block.cidr)]
    admitted = [block for block in inside if not any(address in ip_network(text) for text in block.except_ or ())]
    return bool(admitted) or any(not rule.peers for rule in rules)


def _add(editor: Editor, node: yaml.Node, lack: Lack) -> None:
    parent: Any = None
    found: Any = node
    for part in lack.path:
        parent, found = found, _child(found, part)
        if found is None:
            break
    if isinstance(found, yaml.SequenceNode) and (found.value or found.flow_style):
        editor.append(found, lack.value)
    else:
        editor.add_key(parent, str(lack.path[-1]), [lack.value])


def _child(node: Any, part: str | int) -> Any:  # noqa: ANN401 - nodes of PyYAML have no types
    if isinstance(part, int):
        return node.value[part]
    return next((value for key, value in node.value if key.value == part), None)


def _set(value: Any, lack: Lack) -> None:  # noqa: ANN401 - a YAML document is anything
    for part in lack.path[:-1]:
        value = value[part]
    value[lack.path[-1]] = [*(value.get(lack.path[-1]) or []), lack.value]


def _means(text: str) -> object:
    try:
        return [document.value for document in load_documents(text, "")]
    except InvalidYaml:
        return None
