"""Plain images pass; everything that could make a tool read the host does not."""

from __future__ import annotations

import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mallee.domain.disk_image import HEAD_BYTES, LARGEST, DiskImage, Format, inspect
from mallee.kernel.errors import Fault, Kind

GIB = 1 << 30
CLUSTER = 65536


def qcow2(
    *,
    magic: bytes = b"QFI\xfb",
    version: int = 3,
    backing: tuple[int, int] = (0, 0),
    cluster_bits: int = 16,
    size: int = GIB,
    encryption: int = 0,
    l1: tuple[int, int] = (2, 3 * CLUSTER),
    refcounts: tuple[int, int] = (CLUSTER, 1),
    snapshots: tuple[int, int] = (0, 0),
    features: tuple[int, int, int] = (0, 0, 0),
    refcount_order: int = 4,
    header_length: int = 104,
    extra: bytes = b"",
    extensions: bytes = bytes(8),
    length: int = 4 * CLUSTER,
) -> bytes:
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        magic,
        version,
        *backing,
        cluster_bits,
        size,
        encryption,
        *l1,
        *refcounts,
        *snapshots,
    )
    if version >= 3:
        head += struct.pack(">QQQII", *features, refcount_order, header_length) + extra
    return (head + extensions).ljust(length, b"\0")


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data.ljust(-(-len(data) // 8) * 8, b"\0")


def seen(image: bytes, declared: Format = Format.QCOW2) -> DiskImage:
    return inspect(image[:HEAD_BYTES], len(image), declared)


PLAIN = {
    "version 2": qcow2(version=2),
    "version 3": qcow2(),
    "lazy reference counts": qcow2(features=(0, 1, 0)),
    "Zstandard": qcow2(features=(8, 0, 0), header_length=112, extra=b"\x01".ljust(8, b"\0")),
    "zlib said aloud": qcow2(header_length=112, extra=bytes(8)),
    "named features": qcow2(extensions=extension(0x6803F857, b"\0\0dirty".ljust(48, b"\0")) + bytes(8)),
    "extended entries": qcow2(features=(16, 0, 0), l1=(4, 3 * CLUSTER)),
    "small clusters": qcow2(cluster_bits=9, size=32768, l1=(1, 1024), refcounts=(512, 1), length=2048),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_qcow2_passes(name: str) -> None:
    assert seen(PLAIN[name]).format is Format.QCOW2


def test_a_raw_disk_is_as_large_as_its_file() -> None:
    assert seen(bytes(510) + b"\x55\xaa" + bytes(512), Format.RAW) == DiskImage(Format.RAW, 1024)


HOSTILE = {
    "backing file": qcow2(backing=(512, 11), extensions=bytes(8)),
    "backing file of version 2": qcow2(version=2, backing=(512, 11)),
    "backing file without a length": qcow2(backing=(512, 0)),
    "backing file without an offset": qcow2(backing=(0, 11)),
    "backing format alone": qcow2(extensions=extension(0xE2792ACA, b"raw") + bytes(8)),
    "data file by feature": qcow2(features=(4, 0, 0)),
    "data file by extension": qcow2(extensions=extension(0x44415441, b"/etc/shadow") + bytes(8)),
    "data file by both": qcow2(
        features=(4, 0, 0), extensions=extension(0x44415441, b"/etc/shadow") + bytes(8)
    ),
    "data file behind harmless names": qcow2(
        extensions=extension(0x6803F857, bytes(48)) + extension(0x44415441, b"/dev/sda") + bytes(8)
    ),
    "raw data file": qcow2(features=(0, 0, 2)),
    "json backing": qcow2(backing=(512, 40)),
    "AES": qcow2(encryption=1),
    "LUKS within": qcow2(encryption=2),
    "encryption header": qcow2(extensions=extension(0x0537BE77, bytes(16)) + bytes(8)),
    "internal snapshots": qcow2(snapshots=(1, CLUSTER)),
    "a table of snapshots alone": qcow2(snapshots=(0, CLUSTER)),
    "bitmaps": qcow2(features=(0, 0, 1), extensions=extension(0x23852875, bytes(24)) + bytes(8)),
    "unknown incompatible feature": qcow2(features=(1 << 40, 0, 0)),
    "unknown compatible feature": qcow2(features=(0, 2, 0)),
    "unknown autoclear feature": qcow2(features=(0, 0, 4)),
    "unknown extension": qcow2(extensions=extension(0x12345678, b"?") + bytes(8)),
    "dirty": qcow2(features=(1, 0, 0)),
    "corrupt": qcow2(features=(2, 0, 0)),
    "version 1": qcow2(version=1),
    "version 4": qcow2(version=4),
    "clusters of one byte": qcow2(cluster_bits=0),
    "clusters of a gigabyte": qcow2(cluster_bits=30),
    "clusters of 2^4294967295": qcow2(cluster_bits=2**32 - 1),
    "no disk": qcow2(size=0),
    "a disk of 2^63": qcow2(size=1 << 63),
    "a disk larger than its table": qcow2(size=1 << 40),
    "a huge table": qcow2(l1=(2**31, CLUSTER)),
    "table outside": qcow2(l1=(2, 1 << 40)),
    "table over the header": qcow2(l1=(2, 0)),
    "table off its cluster": qcow2(l1=(2, CLUSTER + 8)),
    "counts outside": qcow2(refcounts=(1 << 50, 1)),
    "counts without number": qcow2(refcounts=(CLUSTER, 2**31)),
    "counts of 2^7 bits": qcow2(refcount_order=7),
    "header longer than a page": qcow2(header_length=1 << 20),
    "header shorter than itself": qcow2(header_length=72),
    "header of odd length": qcow2(header_length=107),
    "unknown compression": qcow2(features=(8, 0, 0), header_length=112, extra=b"\x09".ljust(8, b"\0")),
    "compression without its feature": qcow2(header_length=112, extra=b"\x01".ljust(8, b"\0")),
    "extensions without end": qcow2(extensions=extension(0x6803F857, bytes(48)) * 2000, length=6 * CLUSTER),
    "an extension past its cluster": qcow2(extensions=struct.pack(">II", 0x6803F857, 2**32 - 1)),
    "cut in its header": qcow2()[:40],
    "cut in its features": qcow2()[:80],
    "nothing but the magic": b"QFI\xfb",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_qcow2_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(Fault) as refused:
        seen(HOSTILE[name])
    assert (refused.value.kind, refused.value.code) == (Kind.INVALID, "bad-image")
    assert refused.value.why
    assert refused.value.fix


DISGUISED = {
    "qcow2": qcow2(backing=(512, 11)),
    "VMDK": b"KDMV".ljust(512, b"\0"),
    "VMDK of ESX": b"COWD".ljust(512, b"\0"),
    "VMDK descriptor": b'# Disk DescriptorFile\nRW 20480 FLAT "/etc/shadow" 0\n'.ljust(512, b"\0"),
    "VMDK descriptor behind comments": b'\n# mine\n\ncreateType="monolithicFlat"\n'.ljust(512, b"\0"),
    "VHD": b"conectix".ljust(512, b"\0"),
    "VHDX": b"vhdxfile".ljust(512, b"\0"),
    "QED": b"QED\0".ljust(512, b"\0"),
    "VDI": bytes(0x40) + b"\x7f\x10\xda\xbe".ljust(448, b"\0"),
    "Parallels": b"WithoutFreeSpace".ljust(512, b"\0"),
    "LUKS": b"LUKS\xba\xbe".ljust(512, b"\0"),
    "gzip": b"\x1f\x8b".ljust(512, b"\0"),
    "tar": bytes(257) + b"ustar".ljust(255, b"\0"),
    "half a sector": bytes(700),
    "nothing": b"",
}


@pytest.mark.parametrize("name", DISGUISED)
def test_what_a_tool_would_take_for_another_format_is_no_raw_disk(name: str) -> None:
    with pytest.raises(Fault, match="refused"):
        seen(DISGUISED[name], Format.RAW)


def test_the_declared_format_decides_and_never_the_file() -> None:
    with pytest.raises(Fault, match="declared as qcow2"):
        seen(bytes(1024), Format.QCOW2)


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    image = bytearray(qcow2())
    for _ in range(data.draw(st.integers(1, 6))):
        image[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    with suppress(Fault):
        found = seen(bytes(image))
        assert 0 < found.virtual_bytes <= LARGEST
        # Bytes 8 to 20 name a backing file: whatever passed has none.
        assert bytes(image[8:20]) == bytes(12)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
@pytest.mark.parametrize(
    "options", ["compat=0.10", "compat=1.1", "compression_type=zstd", "cluster_size=512", "extended_l2=on"]
)
def test_what_qemu_makes_passes(tmp_path: Path, options: str) -> None:
    path = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "64M"], check=True)
    image = path.read_bytes()
    assert seen(image) == DiskImage(Format.QCOW2, 64 << 20)
