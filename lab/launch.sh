#!/bin/bash
# The supervisor of one host. Runs in the lab's network namespace and a mount namespace of its own; ends when the host
# is powered off. Arguments: cgroup (in the cgroup2 tree), root filesystem, the host's folder, its name, the bridge.
set -euo pipefail
cgroup=$1 rootfs=$2 folder=$3 name=$4 bridge=$5

# --keep-unit boots in the caller's cgroup, so every host has one of its own.
echo $$ > "$cgroup/cgroup.procs"
mount -t overlay overlay -o "volatile,lowerdir=$rootfs,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
# nspawn leaves things in /run/systemd that the next machine would trip over.
mkdir -p /run/systemd
mount -t tmpfs -o mode=755 tmpfs /run/systemd
# With cgroup v2 alone in sight, the host gets the unified layout that production has.
mount -t cgroup2 cgroup2 /sys/fs/cgroup

# The kernel is this machine's: modules are none of the hosts' business (Debian 13 wants some at boot).
# --keep-unit makes nspawn end with 133 where it would otherwise reboot the host itself.
status=133
while [ "$status" = 133 ]; do
  status=0
  systemd-nspawn --quiet --boot --directory="$folder/root" --machine="$name" --register=no --keep-unit \
    --notify-ready=yes --private-users=no --capability=all --network-bridge="$bridge" --console=pipe \
    --resolv-conf=off --timezone=off --link-journal=no systemd.mask=systemd-modules-load.service || status=$?
done
exit "$status"
