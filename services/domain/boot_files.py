"""Kernels and ramdisks that guests boot from, known by their first bytes before any tool opens them.

QEMU loads what it is given as a kernel in several ways and decides by what it finds; only Linux's own two
boot formats are taken, so that no other loader of it ever sees a user's bytes. Sources: "The Linux/x86 Boot
Protocol" and "Booting AArch64 Linux" of the kernel's documentation.
"""

from __future__ import annotations

from typing import Final, NoReturn

from mallee.kernel.errors import Fault, Kind

LARGEST_KERNEL: Final = 256 << 20  # bytes
LARGEST_RAMDISK: Final = 2 << 30

# (offset, magic) of the formats.
_KERNELS: Final = {
    "x86_64": (0x202, b"HdrS"),
    "i386": (0x202, b"HdrS"),
    "arm64": (0x38, b"ARM\x64"),
}


def check_kernel(head: bytes, length: int, architecture: str) -> None:
    """Return if these are the first bytes of a kernel for that architecture.

    Raises:
        Fault: INVALID, code `bad-image`, with the reason.
    """
    offset, magic = _KERNELS[architecture]
    if head[offset : offset + len(magic)] != magic:
        _refuse("kernel", f"It has not the header of a Linux kernel for {architecture}.")
    if length > LARGEST_KERNEL:
        _refuse("kernel", f"It has {length} bytes; {LARGEST_KERNEL} are the most.")


def check_ramdisk(length: int) -> None:
    """Return if a ramdisk may have that many bytes; what is in it concerns the guest's kernel alone.

    Raises:
        Fault: INVALID, code `bad-image`, with the reason.
    """
    if not 0 < length <= LARGEST_RAMDISK:
        _refuse("ramdisk", f"It has {length} bytes; 1 to {LARGEST_RAMDISK} are taken.")


def _refuse(what: str, why: str) -> NoReturn:
    raise Fault(
        Kind.INVALID,
        f"The {what} is refused.",
        why=why,
        fix="Upload a bzImage (`vmlinuz`) as the kernel, and what `update-initramfs` made as the ramdisk.",
        code="bad-image",
    )
