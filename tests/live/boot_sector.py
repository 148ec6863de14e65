"""A guest of 512 bytes: what firmware loads from a disk counts its boots on that disk, says so, and acts.

It boots in a fifth of a second under software emulation, so that what disks, captures and sudden ends
promise is tested with real QEMUs. Assembled from, in short:

    read the second sector with INT 13h; add one to its first byte; write it back;
    say "boot N" over the first serial port; then, by the byte at 0x1F0 of this sector:
    'p' power off (ACPI: 0x2000 to port 0x604), 'r' reset (6 to port 0xCF9) until the third boot,
    'c' tell of a panic (1 to pvpanic's port 0x505), 'w' write 32 KiB after 32 KiB to the end of the disk
    with INT 13h's extension, from 0x10000; anything else: halt.
"""

from __future__ import annotations

from typing import Final

_CODE: Final = bytes.fromhex(
    "31c08ed88ec08ed0bc007c8816fe8fb80102e87100fe060080b80103e86700bea67cac84c07405e86b00ebf6a0008004"
    "30e86100b00ae85c00a0f07d3c7074103c7274153c6374203c777424fbf4ebfcba0406b80020efebf3803e00800373ec"
    "b006baf90ceeebe4ba0505b001eeebdcbeac7c8a16fe8fb80043cd1372ce668306b47c40ebeabb0080b90200b6008a16"
    "fe8fcd13c388c4bafd03eca82074fbbaf80388e0eec3626f6f742000100040000000001008000000"
)
REST, POWER_OFF, RESET, PANIC, WRITE = " prcw"
_ACTION: Final = 0x1F0


def disk(action: str = REST, size: int = 1 << 20) -> bytes:
    """A raw disk of `size` bytes with nothing on it but this guest."""
    sector = bytearray(_CODE.ljust(512, b"\0"))
    sector[_ACTION] = ord(action)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector).ljust(size, b"\0")
