#!/bin/sh
# Everything of a host that somebody could have changed: files with owner, mode and contents; rules, routes, sysctls;
# units and whether they are enabled; users and groups.
find /etc /opt /usr /var/lib -xdev ! -path '*/__pycache__*' ! -name '*-' ! -path '/etc/.pwd.lock' \
  ! -path '/var/lib/systemd/*' ! -path '/var/lib/private/*' \( -type f -o -type l -o -type d \) \
  -printf '%p %y %m %u:%g %l ' \( -type f -path '/usr/[!l]*' -exec stat -c %s {} ';' \
  -o -type f ! -path '/usr/*' -exec sha256sum {} ';' -o -printf '\n' \)
nft --stateless list ruleset
iptables-save 2>/dev/null | grep -v '^#' | sed 's/\[[0-9:]*\]//'
ip rule
ip -6 rule
ip route show table all
cat /proc/sys/net/ipv4/tcp_fwmark_accept /proc/sys/net/ipv4/ip_forward
systemctl list-unit-files --no-legend --no-pager | grep -v transient
systemctl list-units --all --no-legend --no-pager --plain --type=service,socket,slice | awk '/hostmesh/ {print "unit", $1, $3}'
