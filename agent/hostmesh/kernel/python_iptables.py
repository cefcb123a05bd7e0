"""The old kernel tables by a library, in a process for each family: for hosts whose tools have other names or none."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys

from hostmesh.kernel.iptables import Family
from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable, NoSuchCgroup

_TIMEOUT = 30.0
_REMEMBERED = 2000
"""Bytes of what a process printed that a failure quotes: the library warns with every rule of some kinds."""


class PythonIptables:
    """As Iptables; its processes begin with the first call and work in the network namespace of that call."""

    name = "python-iptables"

    def __init__(self) -> None:
        self._helpers: dict[Family, subprocess.Popen[bytes]] = {}
        self._murmurs = -1

    def restore(self, family: Family, text: str) -> None:
        """As Iptables's.

        Raises:
            NoSuchCgroup, NetfilterUnavailable, NetfilterError: as Iptables's.
        """
        try:
            self._ask(family, "restore", text)
        except NetfilterUnavailable:
            raise
        except NetfilterError as error:
            if "--path" in text:
                raise NoSuchCgroup(str(error)) from error
            raise

    def save(self, family: Family, table: str) -> str:
        """As Iptables's, but only our own chains, and what leads to them, are complete.

        Raises:
            NetfilterUnavailable, NetfilterError: as Iptables's.
        """
        return self._ask(family, "save", table)

    def close(self) -> None:
        """End the processes; the next call starts them again."""
        for helper in self._helpers.values():
            with helper:
                helper.kill()
        self._helpers.clear()
        if self._murmurs >= 0:
            os.close(self._murmurs)
            self._murmurs = -1

    def _ask(self, family: Family, verb: str, argument: str) -> str:
        answer = self._exchange(family, json.dumps({verb: argument}).encode() + b"\n")
        murmured = self._murmured()
        if not answer:
            self.close()
            raise NetfilterError(
                f"python-iptables ended, or said nothing for {_TIMEOUT:.0f} s, at: {verb} {family.value}. {murmured}"
            )
        said = json.loads(answer)
        if "ok" in said:
            return str(said["ok"])
        complaint = str(said["error"])
        if "Permission denied" in complaint or "you must be root" in complaint:
            raise NetfilterUnavailable(f"python-iptables needs CAP_NET_ADMIN and CAP_NET_RAW: {complaint}")
        raise NetfilterError(f"python-iptables: {complaint}")

    def _exchange(self, family: Family, request: bytes) -> bytes:
        """Empty if there is no answer."""
        helper = self._helper(family)
        assert helper.stdin is not None
        assert helper.stdout is not None
        try:
            helper.stdin.write(request)
            helper.stdin.flush()
        except BrokenPipeError:
            return b""
        ready, _, _ = select.select([helper.stdout], [], [], _TIMEOUT)
        return helper.stdout.readline() if ready else b""

    def _murmured(self) -> str:
        """The end of what the processes have printed beside their answers, and no longer keep."""
        size = os.fstat(self._murmurs).st_size
        said = os.pread(self._murmurs, _REMEMBERED, max(0, size - _REMEMBERED))
        os.ftruncate(self._murmurs, 0)
        return said.decode(errors="replace").strip()

    def _helper(self, family: Family) -> subprocess.Popen[bytes]:
        helper = self._helpers.get(family)
        if helper is None or helper.poll() is not None:
            command = [sys.executable, "-m", "hostmesh.kernel.iptables_helper", family.value]
            if self._murmurs < 0:
                self._murmurs = os.memfd_create("python-iptables")
                fcntl.fcntl(self._murmurs, fcntl.F_SETFL, os.O_APPEND)
            helper = subprocess.Popen(  # noqa: S603 - ours
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._murmurs
            )
            self._helpers[family] = helper
        return helper
