"""hostmesh-host-key: signs enrolments with the host's SSH keys, so that the agent need not read them (SSHSIG).

It makes the text that it signs from four checked fields, so whoever asks gets signatures that enrol this host and mean
nothing else. It has no network, keeps nothing, and ends when nobody asks.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from hostmesh.wire.host_proof import MAX_LINE, NAMESPACE, Statement, decode_request, encode_reply
from hostmesh.wire.ssh_key import BadSshKey
from hostmesh.wire.sshsig import load_private_key, sign

KEYS = tuple(Path(f"/etc/ssh/ssh_host_{kind}_key") for kind in ("ed25519", "ecdsa", "rsa"))
IDLE = 30.0
"""Seconds without a request after which it ends."""

_REQUEST_TIMEOUT = 5.0
_FIRST_FD = 3  # sd_listen_fds(3)
_UCRED = struct.Struct("3i")


def serve(listener: socket.socket, users: frozenset[int], keys: Sequence[Path] = KEYS, idle: float = IDLE) -> None:
    """Answer one request after the other until nobody asks for `idle` seconds.

    Args:
        listener: a stream socket.
        users: who may ask.
        keys: files of private keys; those that are missing are passed over.
        idle: seconds.
    """
    listener.settimeout(idle)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(_REQUEST_TIMEOUT)
            try:
                connection.sendall(_answer(connection, users, keys))
            except OSError as error:
                # the caller went away or was too slow; the next one may be fine
                sys.stderr.write(f"a request was not answered: {error}\n")


def _answer(connection: socket.socket, users: frozenset[int], keys: Sequence[Path]) -> bytes:
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    # Read in any case: closing with a request unread would cut the refusal off as well.
    with connection.makefile("rb") as lines:
        line = lines.readline(MAX_LINE)
    if uid not in users:
        return encode_reply((), f"user {uid} may not ask")
    try:
        return encode_reply(signatures(decode_request(line), keys))
    except (ValueError, OSError) as error:
        return encode_reply((), str(error))


def signatures(statement: Statement, keys: Sequence[Path]) -> list[bytes]:
    """One by each key that is there.

    Raises:
        BadSshKey: none is there, or one cannot be used.
        OSError: one cannot be read.
    """
    made = []
    for path in keys:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        try:
            made.append(sign(load_private_key(data), NAMESPACE, statement.encode()))
        except BadSshKey as error:
            raise BadSshKey(f"{path}: {error}") from error
    if not made:
        tried = ", ".join(map(str, keys))
        raise BadSshKey(f"there is no SSH host key ({tried}); make one with ssh-keygen -A, or enrol with a join token")
    return made


def main(arguments: Sequence[str]) -> None:
    """Entry point of `python -m hostmesh.enrolment.host_key_helper [KEY...]`; systemd hands the listening socket over.

    Who may ask is who owns the socket's file, and root.
    """
    keys = tuple(map(Path, arguments)) or KEYS
    with socket.socket(fileno=_FIRST_FD) as listener:
        owner = os.stat(listener.getsockname()).st_uid  # noqa: PTH116 - a name as the kernel has it
        serve(listener, frozenset({0, owner}), keys)


if __name__ == "__main__":
    main(sys.argv[1:])
