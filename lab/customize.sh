#!/bin/sh
# Run once on a fresh root filesystem ($1): what every host of the lab shares. Part of the cache key.
set -eu
root=$1

: > "$root/etc/machine-id"                   # each host makes its own at first boot
rm -f "$root"/etc/ssh/ssh_host_*             # each host gets its own key
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/apt

cat > "$root/etc/systemd/system/lab-net.service" <<'UNIT'
[Unit]
Description=Address of this host on the lab's bridge
DefaultDependencies=no
After=local-fs.target
Before=network.target network-online.target ssh.service
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/lab-net
ExecStart=/bin/sh -ec 'ip link set lo up; ip link set host0 up; ip address replace $ADDRESS dev host0; ip route replace default via $GATEWAY'

[Install]
WantedBy=multi-user.target network-online.target
UNIT
systemctl --root="$root" enable lab-net.service ssh.service
# Nothing in a lab needs them, and they cost time at every boot.
systemctl --root="$root" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer systemd-timesyncd.service getty@.service console-getty.service
# For tests that start it themselves: a lab has no resolver.
systemctl --root="$root" disable systemd-resolved.service
rm -f "$root/etc/resolv.conf"
printf 'PermitRootLogin prohibit-password\nUseDNS no\n' > "$root/etc/ssh/sshd_config.d/lab.conf"
