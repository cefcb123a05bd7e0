"""SSH host keys as users name them: a file, standard input or the key itself (.pub files, known_hosts)."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hostmesh.wire.ssh_key import ALGORITHMS, BadSshKey, SshPublicKey, is_fingerprint


def read_keys(given: str, node: str) -> list[SshPublicKey]:
    """The keys of one node.

    Args:
        given: a line with a key, a file with such lines, or `-`; of known_hosts only the node's lines count.
        node: by the name that known_hosts has for it.

    Raises:
        click.ClickException: there is no key of this node; with file and line.
    """
    if set(given.split()) & ALGORITHMS:
        return [_key(given, "--host-key")]
    source = "standard input" if given == "-" else given
    try:
        text = sys.stdin.read() if given == "-" else Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise click.ClickException(
            f"{given}: cannot be read ({why}); give a .pub file, known_hosts, `-` or the key itself"
        ) from error
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and _is_of(line, node)
    ]
    if not lines:
        raise click.ClickException(f"{source}: there is no host key of {node}; `ssh-keyscan {node}` shows what it has")
    return [_key(line, f"{source}:{number}") for number, line in lines]


def read_fingerprint(given: str, node: str) -> str:
    """Of the one key that is given as a fingerprint, or as above.

    Raises:
        click.ClickException: none, or several.
    """
    if is_fingerprint(given):
        return given
    keys = read_keys(given, node)
    if len(keys) != 1:
        raise click.ClickException(f"{given}: it holds {len(keys)} keys of {node}; give the fingerprint of one")
    return keys[0].fingerprint


def _is_of(line: str, node: str) -> bool:
    first = line.split()[0]
    return first in ALGORITHMS or node in [name.lstrip("[").partition("]")[0] for name in first.split(",")]


def _key(line: str, where: str) -> SshPublicKey:
    try:
        return SshPublicKey.parse(line)
    except BadSshKey as error:
        raise click.ClickException(f"{where}: {error}") from error
