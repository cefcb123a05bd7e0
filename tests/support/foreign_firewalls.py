"""Other owners of rules on a host: the real ufw and firewalld, rules like docker's, and plain nft.

Each runs in the network namespace of the test, and in a mount namespace where its files are copies.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.netns import Namespace

_MARKER = "-- done"

_BUS = """<busconfig><type>system</type><listen>unix:path=/mnt/bus</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow own="*"/><allow send_destination="*"/><allow send_type="method_call"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
</policy></busconfig>"""

SET_UP = {
    "ufw": """
mkdir /mnt/ufw && cp -a /etc/ufw/. /mnt/ufw && mount --bind /mnt/ufw /etc/ufw
ufw allow 22/tcp && ufw allow 8080:8100/tcp && ufw --force enable
""",
    "firewalld": f"""
mkdir /mnt/etc && cp -a /etc/firewalld/. /mnt/etc && mount --bind /mnt/etc /etc/firewalld
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/mnt/bus
echo '{_BUS}' > /mnt/bus.conf
timeout 170 dbus-daemon --config-file=/mnt/bus.conf --nofork --nopidfile 2>/dev/null &
for try in $(seq 500); do [ -S /mnt/bus ] && break; sleep 0.1; done
timeout 170 firewalld --nofork --nopid >/mnt/log 2>&1 &
for try in $(seq 50); do timeout 30 firewall-cmd --state && break; sleep 0.1; done
firewall-cmd --permanent --add-port=8080-8100/tcp && firewall-cmd --reload
""",
    "docker": """
for tool in iptables-nft ip6tables-nft; do
  $tool -t nat -N DOCKER
  $tool -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
  $tool -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
  $tool -t nat -A DOCKER -p tcp --dport 81 -j REDIRECT --to-ports 82
  $tool -N DOCKER-USER && $tool -A FORWARD -j DOCKER-USER && $tool -A DOCKER-USER -j RETURN && $tool -P FORWARD DROP
done
""",
    "nft": """
cat > /mnt/rules <<'RULES'
flush ruleset
table inet filter {
  set blocked { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.7 }; }
  chain input { type filter hook input priority filter; policy accept; ip saddr @blocked counter drop comment "ours"; }
}
RULES
nft -f /mnt/rules
""",
}

RELOAD = {
    "ufw": "ufw reload",
    "firewalld": "firewall-cmd --complete-reload",
    "docker": """iptables-nft -t nat -F DOCKER
iptables-nft -t nat -A DOCKER -p tcp --dport 81 -j REDIRECT --to-ports 82""",
    "nft": "nft -f /mnt/rules",
}


class Shell:
    """One shell that goes on; what it starts in the background ends with it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, script: str) -> str:
        """What the script prints; fails when its last command does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{{ {script.strip()}\n}} 2>&1\necho '{_MARKER}' $?", file=self._process.stdin, flush=True)
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_MARKER):
                assert line.split()[-1] == "0", "".join(lines)
                break
            lines.append(line)
        return "".join(lines)


@contextmanager
def foreign(host: Namespace, tool: str) -> Iterator[Shell]:
    """The tool's rules are in the namespace, and `RELOAD[tool]` can be run."""
    command = host.command("unshare", "--mount", "--propagation", "private", "bash")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        shell = Shell(process)
        shell.run("mount -t tmpfs tmpfs /mnt")
        try:
            shell.run(SET_UP[tool])
            yield shell
        finally:
            shell.run("kill $(jobs -p) 2>/dev/null; wait; true")
            assert process.stdin is not None
            process.stdin.close()
