"""`python3 -m lab.vm LAB NAME=ADDRESS/PREFIX`: a virtual machine with Debian's own kernel beside the hosts of a lab.

Software emulation (no KVM needed): slow, but with what hosts in namespaces share with this machine or lack: a kernel
of its own, its modules, limits of memory. The lab must be up; the machine goes when its lab goes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab import rootfs
from lab.console import LabError, run, say, step
from lab.hosts import CLEAN_ENVIRONMENT, Host
from lab.instance import Address, Lab
from lab.network import BRIDGE

PACKAGES = ("initramfs-tools", "kmod", "linux-image-cloud-amd64", "udev", "zstd")
MEMORY_MB, CORES, DISK = 1024, 2, "3G"
BOOT_TIMEOUT = 240.0
# The hosts' network unit calls its link host0, as systemd-nspawn does.
RENAME = "[Service]\nExecStartPre=-/bin/ip link set eth0 name host0\n"


def up(lab: Lab, address: Address) -> None:
    """Boot it, and make it known to the lab's ssh.

    Raises:
        LabError: the lab is not up, or the machine does not boot.
    """
    if not lab.namespace_path.exists():
        raise LabError(f"lab {lab.name} is not up; a virtual machine needs its bridge: lab up")
    if shutil.which("qemu-system-x86_64") is None:
        raise LabError("qemu is missing; install it with: apt-get install --no-install-recommends qemu-system-x86")
    filesystem = rootfs.ensure(PACKAGES)
    host = Host(lab, address.host)
    image = host.folder / "disk.img"
    with step(f"making the disk of {address.host}"):
        _prepare(host, address)
        _make_disk(host, filesystem, image)
    with step(f"booting {address.host} (software emulation)"):
        _start(host, filesystem, image)
        _introduce(lab, host, address)
        _wait(lab, address)


def _prepare(host: Host, address: Address) -> None:
    network = address.interface.network
    gateway = type(address.interface)(f"{network[1]}/{network.prefixlen}")
    host.prepare(address, [address], gateway)
    etc = host.folder / "upper" / "etc"
    (etc / "fstab").write_text("LABEL=root / ext4 rw,noatime 0 0\n", encoding="utf-8")
    drop_in = etc / "systemd" / "system" / "lab-net.service.d" / "vm.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text(RENAME, encoding="utf-8")


def _make_disk(host: Host, filesystem: Path, image: Path) -> None:
    """The shared file system with what is this host's own, as one ext4."""
    layers = f"lowerdir={filesystem},upperdir={host.folder / 'upper'},workdir={host.folder / 'work'}"
    script = 'mount -t overlay overlay -o "$1" "$2" && truncate -s "$3" "$4" && mkfs.ext4 -q -F -L root -d "$2" "$4"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    run([*command, layers, str(host.folder / "root"), DISK, str(image)])


def _start(host: Host, filesystem: Path, image: Path) -> None:
    inside = ["ip", "-n", host.lab.namespace]
    link = f"vm-{host.name}"
    run([*inside, "tuntap", "add", "dev", link, "mode", "tap"])
    run([*inside, "link", "set", link, "master", BRIDGE, "up"])
    (kernel,), (initrd,) = filesystem.glob("boot/vmlinuz-*"), filesystem.glob("boot/initrd.img-*")
    machine = ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(CORES), "-m", str(MEMORY_MB)]
    machine += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{host.console}"]
    disk = ["-drive", f"file={image},if=none,id=disk,format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=disk"]
    disk += ["-netdev", f"tap,id=net,ifname={link},script=no,downscript=no", "-device", "virtio-net-pci,netdev=net"]
    disk += ["-device", "virtio-rng-pci"]
    words = "root=/dev/vda ro console=ttyS0 net.ifnames=0 mitigations=off quiet"
    boot = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", words]
    subprocess.Popen(
        ["nsenter", f"--net={host.lab.namespace_path}", "qemu-system-x86_64", *machine, *disk, *boot],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(host.folder / "qemu.log").open("wb"),
        start_new_session=True,
        env=CLEAN_ENVIRONMENT,
    )


def _introduce(lab: Lab, host: Host, address: Address) -> None:
    """Put it in front of the lab's ssh_config, whose last entry is for everybody."""
    with lab.known_hosts.open("a", encoding="utf-8") as known:
        known.write(f"{address.host},{address.interface.ip} {host.public_key()}\n")
    entry = f"Host {address.host} {address.interface.ip}\n  HostName {address.interface.ip}\n"
    entry += (
        "  ServerAliveInterval 20\n"  # an emulated processor on a busy machine stands still for longer than a host does
    )
    lab.ssh_config.write_text(entry + lab.ssh_config.read_text(encoding="utf-8"), encoding="utf-8")


def _wait(lab: Lab, address: Address) -> None:
    """Until every unit of it is up; it tells nobody here, so it is asked."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    ssh = ["ssh", "-F", str(lab.ssh_config), "-o", "ConnectTimeout=5", address.host]
    # It ends by itself where a unit of the machine never does.
    command = [*ssh, f"timeout {BOOT_TIMEOUT:.0f} systemctl is-system-running --wait"]
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.strip() in {"running", "degraded"}:
            say(f"{address.host} is {done.stdout.strip()}")
            return
        if time.monotonic() > deadline:
            folder = Host(lab, address.host).folder
            raise LabError(
                f"{address.host} has not booted within {BOOT_TIMEOUT:.0f} s; see {folder}/console.log and qemu.log"
            )
        time.sleep(1)


def main() -> int:
    """Run the command."""
    if len(sys.argv) != 3:
        print("usage: python3 -m lab.vm LAB NAME=ADDRESS/PREFIX", file=sys.stderr)
        return 2
    try:
        rootfs.require_tools()
        up(Lab(sys.argv[1]), Address.parse(sys.argv[2]))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
