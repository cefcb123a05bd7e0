#!/bin/sh
# Remove from the kernel what the agent laid out: tables of nftables, chains of iptables, routes. The agent must be stopped.
# Installed as /opt/hostmesh/VERSION/remove-rules. Prints `removed` if there was anything.
set -eu
removed=''
case "$(cat /var/lib/hostmesh/backend 2>/dev/null)" in
iptables-* | python-iptables) "$(dirname "$(readlink -f "$0")")/bin/hostmesh" rules remove >/dev/null && removed=yes ;;
esac
rm -f /var/lib/hostmesh/backend
for table in "inet hostmesh" "inet hostmesh_held" "inet hostmesh_firewall" "inet hostmesh_dns" "inet hostmesh_probes" \
  "bridge hostmesh_probes"; do
  # shellcheck disable=SC2086 -- family and name
  if nft list table $table >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    nft delete table $table
    removed=yes
  fi
done
# What keeps clients' addresses: the rules first, then the route that they lead to.
for family in -4 -6; do
  if ip "$family" rule del pref 15007 fwmark 0x539/0xfff table 15008 2>/dev/null; then removed=yes; fi
  if ip "$family" rule del pref 15006 fwmark 0x539 goto 15008 2>/dev/null; then removed=yes; fi
  if ip "$family" rule del pref 15008 nop 2>/dev/null; then removed=yes; fi
  if ip "$family" route del local default dev lo table 15008 2>/dev/null; then removed=yes; fi
done
[ -z "$removed" ] || echo removed
