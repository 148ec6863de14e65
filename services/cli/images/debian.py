"""A whole Debian with cloud-init as an image: built by mmdebstrap, its root disk one file system without partitions.

The disk boots by the kernel and the ramdisk beside it, which are taken out of it: no boot loader, no loop
devices, and nothing is ever mounted, so it can be built wherever root can make a chroot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from mallee.cli.images.importing import Files
from mallee.domain.disk_image import Format
from mallee.kernel.errors import Fault, Kind

SUITE: Final = "bookworm"
_TOOLS: Final = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"}
_PACKAGES: Final = (
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd", "systemd-sysv", "udev", "dbus", "libpam-systemd"),
    *("cloud-init", "cloud-guest-utils", "e2fsprogs", "ifupdown", "isc-dhcp-client", "iproute2"),
    *("openssh-server", "ca-certificates", "iputils-ping", "less", "netbase", "sudo", "vim-tiny"),
)
_FILES: Final = {
    "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
    # The metadata service is there or it is not: no other source is waited for.
    "etc/cloud/cloud.cfg.d/90_mallee.cfg": "datasource_list: [ Ec2, None ]\ndatasource:\n  Ec2:\n    max_wait: 60\n",
    "etc/network/interfaces": "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n",
    "etc/hostname": "debian\n",
}


def build(to: Path, *, gib: int = 2, suite: str = SUITE) -> Files:
    """Make `disk.qcow2`, `vmlinuz` and `initrd` in the folder `to`; takes some minutes and the network.

    Args:
        to: where.
        gib: of the disk; a guest that is given a larger one grows its file system at its first boot.
        suite: Debian's.

    Raises:
        Fault: INVALID when a tool or the right to make a chroot is missing; UNAVAILABLE when a tool fails.
    """
    _check_tools()
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mallee-debian-") as scratch:
        root, raw = Path(scratch) / "root", Path(scratch) / "disk.raw"
        included = ",".join(_PACKAGES)
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={included}", suite, str(root))
        _settle(root)
        for name, pattern in (("vmlinuz", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            [found] = (root / "boot").glob(pattern)
            shutil.copyfile(found, to / name)
        _run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(raw), f"{gib}G")
        _run(
            *("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"),
            *(str(raw), str(to / "disk.qcow2")),
        )
    return Files(to / "disk.qcow2", Format.QCOW2, to / "vmlinuz", to / "initrd")


def _settle(root: Path) -> None:
    """What makes it a guest of any cloud of EC2's kind, and one that has never been booted."""
    for name, text in _FILES.items():
        (root / name).write_text(text)
    (root / "etc/machine-id").write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _check_tools() -> None:
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        why = f"Not installed: {', '.join(missing)}." if missing else "Only root can make a chroot."
        fix = f"apt install {' '.join(missing)}" if missing else "Do it as root."
        raise Fault(
            Kind.INVALID, "The Debian image cannot be made here.", why=why, fix=fix, code="missing-tools"
        )


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - tools of the machine, with names of our own
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:]
        raise Fault(
            Kind.UNAVAILABLE,
            f"{command[0]} failed.",
            why=" ".join(said) or f"Exit code {done.returncode}.",
            fix="Look whether this machine reaches its Debian archive, and try again.",
            code="build-failed",
        )
