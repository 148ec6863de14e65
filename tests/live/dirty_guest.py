"""A guest of 129 bytes that writes its memory at a set rate, and boots in half a second.

It touches so many MiB once, says `R` on its serial port, and writes to one word of every page of its
working set, over and over. No kernel: firmware loads it by the Multiboot header in front of it.
https://www.gnu.org/software/grub/manual/multiboot/multiboot.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOADED_AT: Final = 0x100000
_CODE: Final = bytes.fromhex(
    "fa"  # cli
    "baf8030000 b042 ee"  # 'B' to the serial port: it has begun
    "bf00004000"  # edi: 4 MiB, past everything that firmware uses
    "b911111111 e30b"  # ecx: the pages to touch, if there are any
    "893f 81c700100000 49 75f5"  # touch one, go to the next
    "baf8030000 b052 ee"  # 'R': all is touched
    "bf00004000"  # again, from the first page:
    "be22222222 85f6 7428"  # esi: the pages of the working set; none: sleep
    "ff07"  # write to one
    "0f31 89c3 89d5 81c333333333 83d500"  # ebp:ebx: the time when the next is due, by the processor's clock
    "0f31 39ea 72fa 7704 39d8 72f4"  # wait for it
    "81c700100000 4e 75da ebca"  # go to the next, or begin again
    "f4 ebfd"  # sleep
)
_TOUCHED, _SET, _TICKS = (_CODE.index(bytes([digit]) * 4) for digit in (0x11, 0x22, 0x33))


@dataclass(frozen=True, slots=True)
class Work:
    """What the guest does.

    Args:
        touched_mib: of its memory are written once, at first.
        set_mib: are written again and again.
        mib_a_second: of them, at most; 0 for as fast as it can.
    """

    touched_mib: int = 0
    set_mib: int = 0
    mib_a_second: float = 0.0


def kernel(work: Work) -> bytes:
    """What is given to QEMU as a kernel."""
    code = bytearray(_CODE)
    ticks = int(_ticks_a_second() / (work.mib_a_second * 256)) if work.mib_a_second else 0
    for at, value in ((_TOUCHED, work.touched_mib * 256), (_SET, work.set_mib * 256), (_TICKS, ticks)):
        struct.pack_into("<I", code, at, value)
    magic, flags = 0x1BADB002, 0x10000  # the addresses below are given
    end = _LOADED_AT + 32 + len(code)
    header = (magic, flags, -(magic + flags) & 0xFFFFFFFF, _LOADED_AT, _LOADED_AT, end, end, _LOADED_AT + 32)
    return struct.pack("<8I", *header) + bytes(code)


def put(folder: Path, name: str, work: Work) -> str:
    """Make it an image of a node's image folder; returns its location."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    (home / "vmlinuz").write_bytes(kernel(work))
    (home / "initrd").write_bytes(b"\n")  # every image of a node's folder has one
    return f"builtin:{name}"


def _ticks_a_second() -> float:
    """An emulated processor's clock is the host's."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((float(line.partition(":")[2]) * 1e6 for line in lines if line.startswith("cpu MHz")), 2e9)
