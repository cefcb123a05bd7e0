#!/bin/sh
# Remove hostmesh from a host: services, capture rules, drop-ins, files, users. Prints `removed` if there was anything.
# Usage: uninstall.sh [--purge]. Without --purge, /etc/hostmesh and what was issued (keys, certificates) stay.
set -eu
purge=${1:-}
units=/usr/local/lib/systemd/system
removed=''

remove() {
  for path in "$@"; do
    if [ -e "$path" ] || [ -L "$path" ]; then
      rm -rf -- "$path"
      removed=yes
    fi
  done
}

# First what would hold up the captured services, then the agent, then its rules: until those are gone, captured
# services are refused connections; afterwards they connect as they did before there was a mesh.
for drop_in in /etc/systemd/system/*.service.d/50-hostmesh.conf /etc/systemd/system/*.socket.d/50-hostmesh.conf; do
  remove "$drop_in"
  rmdir --ignore-fail-on-non-empty "${drop_in%/*}" 2>/dev/null || true
done
remove /etc/systemd/system/hostmesh-agent.service.d/60-hostmesh-iptables.conf
rmdir --ignore-fail-on-non-empty /etc/systemd/system/hostmesh-agent.service.d 2>/dev/null || true
# Whatever was told to ask the agent for names; the unit that does so may never have run.
/usr/local/bin/hostmesh dns remove >/dev/null 2>&1 || true
for unit in "$units"/hostmesh[-.]*; do
  [ -e "$unit" ] || continue
  case $unit in
  *@*) systemctl stop "$(basename "${unit%@*}")@*" && systemctl disable --quiet "${unit##*/}" || true ;;
  *.slice) ;; # after all that is in it
  *) systemctl disable --now --quiet "${unit##*/}" || systemctl stop "${unit##*/}" ;;
  esac
  removed=yes
done
if [ -e "$units/hostmesh.slice" ]; then systemctl stop hostmesh.slice; fi
if [ -x /opt/hostmesh/current/remove-rules ] && [ -n "$(/opt/hostmesh/current/remove-rules)" ]; then
  removed=yes
fi

folders=$(tac /opt/hostmesh/folders 2>/dev/null || true)
remove "$units"/hostmesh[-.]*
remove /usr/local/bin/hostmesh /opt/hostmesh /opt/hostmesh-envoy /run/hostmesh /run/hostmesh-*
remove /etc/sysusers.d/hostmesh.conf /etc/tmpfiles.d/hostmesh.conf /etc/sysctl.d/60-hostmesh.conf
remove /usr/local/share/man/man1/hostmesh.1 /usr/local/share/man/man1/hostmesh-*.1
remove /usr/local/share/bash-completion/completions/hostmesh /usr/local/share/zsh/site-functions/_hostmesh
remove /usr/local/share/fish/vendor_completions.d/hostmesh.fish
for folder in $folders; do
  rmdir --ignore-fail-on-non-empty "$folder" 2>/dev/null || true
done
if [ "$purge" = --purge ]; then
  remove /etc/hostmesh /var/lib/hostmesh /var/lib/hostmesh-control-plane /var/lib/hostmesh-waypoint
  for user in hostmesh-agent hostmesh-netns hostmesh-proxy hostmesh-cp; do
    if id "$user" >/dev/null 2>&1; then
      userdel "$user"
      removed=yes
    fi
  done
  if getent group hostmesh >/dev/null; then
    groupdel hostmesh
    removed=yes
  fi
fi
if [ -n "$removed" ]; then
  systemctl daemon-reload
  # Nobody else asks for it, or the next line would have been overruled: the kernel's default.
  sysctl --quiet --write net.ipv4.tcp_fwmark_accept=0
  systemd-sysctl 2>/dev/null || /lib/systemd/systemd-sysctl
  echo removed
fi
