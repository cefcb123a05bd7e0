#!/bin/sh
# What a drop-in of a socket unit runs before systemd listens (systemd.socket(5)): the unit's ports are closed to everybody
# but the proxy and loopback, until the agent has captured them. It is then that the agent opens them again.
# Installed as /opt/hostmesh/VERSION/hold-sockets. Usage: hold-sockets UNIT.
set -eu
# Where iptables captures nothing holds them, and the service's own drop-in alone fails closed.
case "$(cat /var/lib/hostmesh/backend 2>/dev/null)" in
iptables-* | python-iptables) exit 0 ;;
esac
ports=$(systemctl show --property=Listen -- "$1" | sed -nE 's/.*:([0-9]+) \(Stream\)$/\1/p' | sort -u)
[ -n "$ports" ] || exit 0
table="inet hostmesh_held"
{
  echo "add table $table"
  echo "add set $table ports { type inet_service; }"
  echo "add chain $table input { type filter hook input priority -6; policy accept; }"
  echo "flush chain $table input"
  echo "add rule $table input tcp flags & (fin | syn | rst | ack) != syn return comment \"of a connection that has been judged\""
  echo "add rule $table input meta mark & 0xfff == 0x539 return comment \"the proxy\""
  echo "add rule $table input ip daddr 127.0.0.0/8 return comment \"never captured: the host itself\""
  echo "add rule $table input ip6 daddr ::1 return comment \"never captured: the host itself\""
  echo "add rule $table input tcp dport @ports log group 15006 queue-threshold 1 drop comment \"not captured yet\""
  for port in $ports; do echo "add element $table ports { $port }"; done
} | nft -f - || {
  echo "hostmesh cannot hold the ports of $1, so it does not listen; next: nft list table $table" >&2
  exit 1
}
