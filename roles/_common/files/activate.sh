#!/bin/sh
# Make an installed version the one that is used: units, users, settings of the kernel, the command, and what runs now.
# Installed as /opt/hostmesh/VERSION/activate. If the agent refuses it, the version before is used again.
set -eu
target=$(dirname "$(readlink -f "$0")")
prefix=${target%/*} version=${target##*/}
units=/usr/local/lib/systemd/system
previous=$(readlink "$prefix/current" || true)

# Folders that are not there yet are noted, so that taking hostmesh off the host leaves none of them.
folder() {
  [ -d "$1" ] && return
  folder "$(dirname "$1")"
  mkdir -m 0755 "$1"
  echo "$1" >> "$prefix/folders"
}

for path in /etc/sysusers.d /etc/tmpfiles.d /etc/sysctl.d "$units" /usr/local/bin /usr/local/share/man/man1 \
  /usr/local/share/bash-completion/completions /usr/local/share/zsh/site-functions \
  /usr/local/share/fish/vendor_completions.d; do
  folder "$path"
done
# Agent and waypoint take a new version over by a reload, which drops no connection. What changed in their units counts
# from their next start. A program that could not run in the unit of before says so by another number in a line `X-Unit=`,
# and is restarted.
number() { grep -s '^X-Unit=' "$1/$2" || true; }
agent=try-reload-or-restart waypoint=try-reload-or-restart
for unit in hostmesh-agent.service hostmesh-waypoint@.service; do
  [ -f "$units/$unit" ] && ! cmp -s "$target/share/systemd/$unit" "$units/$unit" || continue
  if [ "$(number "$target/share/systemd" "$unit")" = "$(number "$units" "$unit")" ]; then
    echo "$unit has changed, which counts from its next start"
  elif [ "$unit" = hostmesh-agent.service ]; then
    agent=try-restart
  else
    waypoint=try-restart
  fi
done
install -m 0644 "$target"/share/systemd/*.service "$target"/share/systemd/*.socket "$target"/share/systemd/*.slice "$units/"
install -m 0644 "$target/share/systemd/hostmesh.sysusers" /etc/sysusers.d/hostmesh.conf
install -m 0644 "$target/share/systemd/hostmesh.tmpfiles" /etc/tmpfiles.d/hostmesh.conf
install -m 0644 "$target/share/systemd/hostmesh.sysctl" /etc/sysctl.d/60-hostmesh.conf
systemd-sysusers /etc/sysusers.d/hostmesh.conf
systemd-tmpfiles --create /etc/tmpfiles.d/hostmesh.conf
sysctl --quiet --load /etc/sysctl.d/60-hostmesh.conf

ln -sfn "$version" "$prefix/current.new"
mv -T "$prefix/current.new" "$prefix/current"
ln -sfn "$prefix/current/bin/hostmesh" /usr/local/bin/hostmesh
rm -f /usr/local/share/man/man1/hostmesh.1 /usr/local/share/man/man1/hostmesh-*.1
for page in "$target"/share/man/man1/*; do
  ln -sfn "$prefix/current/share/man/man1/${page##*/}" "/usr/local/share/man/man1/${page##*/}"
done
ln -sfn "$prefix/current/share/completions/bash" /usr/local/share/bash-completion/completions/hostmesh
ln -sfn "$prefix/current/share/completions/zsh" /usr/local/share/zsh/site-functions/_hostmesh
ln -sfn "$prefix/current/share/completions/fish" /usr/local/share/fish/vendor_completions.d/hostmesh.fish
systemctl daemon-reload
if [ "$previous" != "$version" ] && [ -n "$previous" ]; then
  ln -sfn "$previous" "$prefix/previous"
fi
# The version before stays, to go back to.
before=$(readlink "$prefix/previous" || true)
find "$prefix" -mindepth 1 -maxdepth 1 -type d ! -name "$version" ! -name "${before:-none}" -exec rm -rf {} +
# What runs now goes on with this version, as after the upgrade of any package.
systemctl try-restart hostmesh-control-plane.service hostmesh-netns.service
systemctl "$waypoint" 'hostmesh-waypoint@*.service'
if ! systemctl "$agent" hostmesh-agent.service; then
  echo "hostmesh $version is refused by the agent; see: journalctl -u hostmesh-agent" >&2
  if [ "$previous" != "$version" ] && [ -x "$prefix/$previous/activate" ] && [ -z "${HOSTMESH_GOING_BACK:-}" ]; then
    HOSTMESH_GOING_BACK=1 "$prefix/$previous/activate"
    echo "back to hostmesh $previous" >&2
  fi
  exit 1
fi
