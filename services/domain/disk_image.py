"""What an uploaded disk image is, read from its header before any tool opens it.

A tool that opens an image obeys it: a qcow2 file may name a file of the host as its backing or data
file, and a tool that guesses the format lets the guest choose it. So the format is declared, the
header is read here, and only plain images pass: no names of other files, no encryption, no internal
snapshots, no feature that is not known. Sources: the qcow2 specification (QEMU, docs/interop/qcow2)
and the OpenStack advisories OSSA-2013-012, 2015-014, 2024-001 and 2024-002, whose attacks these are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, NoReturn

from mallee.kernel.errors import Fault, Kind

HEAD_BYTES: Final = 128 * 1024  # of an image are all that `inspect` looks at
# Then an account: the bucket where images are that the cloud made for it. The object store lets nobody else make
# such a bucket: whoever made another account's first would own what is put there.
IMAGES_OF: Final = "mallee-images-"
LARGEST: Final = 64 << 40  # bytes, as a guest sees a disk


class Format(StrEnum):
    """The formats that are taken."""

    RAW = "raw"
    QCOW2 = "qcow2"


@dataclass(frozen=True, slots=True)
class DiskImage:
    """An image that passed. `virtual_bytes` is the size of the disk as a guest sees it."""

    format: Format
    virtual_bytes: int


def inspect(head: bytes, length: int, declared: Format) -> DiskImage:
    """Tell what an image is, or refuse it.

    Args:
        head: its first `HEAD_BYTES`, or all of it when it is shorter.
        length: of the whole file in bytes.
        declared: what the owner says that it is.

    Raises:
        Fault: INVALID, code `bad-image`, with the reason.
    """
    if length < len(head) or (length > len(head) and len(head) < HEAD_BYTES):
        raise ValueError("the head of an image is its first HEAD_BYTES, or all of it")
    found = _format_of(head)
    if found != declared.value:
        _refuse(f"It is declared as {declared}, but its first bytes are those of {found}.")
    if declared is Format.QCOW2:
        return _qcow2(head, length)
    if not length or length % _SECTOR:
        _refuse(f"A raw disk has whole sectors of {_SECTOR} bytes, and this one has {length} bytes.")
    return _of_size(Format.RAW, length)


_SECTOR: Final = 512

# (offset, magic, name): everything that QEMU and its tools would recognise if they were let guess.
_MAGICS: Final = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"VMDK", "VMDK"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"conectix", "VHD"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"OOOM\0", "a User-mode Linux COW file"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"<?xml", "XML"),
)


def _format_of(head: bytes) -> str:
    for offset, magic, name in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return name
    # A VMDK descriptor may begin with blank lines or comments, and QEMU looks past them.
    for line in head[:20_480].splitlines():
        stripped = line.strip()
        if stripped.lower().startswith((b"# disk descriptorfile", b"createtype", b"parentfilenamehint")):
            return "a VMDK descriptor"
        if stripped and not stripped.startswith(b"#"):
            break
    return "raw"


class _Header(NamedTuple):
    """The fields of version 2, in their order."""

    magic: bytes
    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int


class _Features(NamedTuple):
    """What version 3 adds."""

    incompatible: int
    compatible: int
    autoclear: int
    refcount_order: int
    header_length: int


_HEADER: Final = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES: Final = struct.Struct(">QQQII")
_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _EXTENDED_L2 = (1 << bit for bit in range(5))
_LAZY_REFCOUNTS: Final = 1
_BITMAPS, _RAW_DATA_FILE = 1, 2
_COMPRESSION_TYPES: Final = {0, 1}  # zlib, Zstandard

_END, _BACKING_FORMAT, _FEATURE_NAMES = 0, 0xE2792ACA, 0x6803F857
_BITMAP_TABLE, _CRYPTO_HEADER, _DATA_FILE_NAME = 0x23852875, 0x0537BE77, 0x44415441
_EXTENSIONS: Final = {
    _BACKING_FORMAT: "a backing file's format",
    _BITMAP_TABLE: "dirty bitmaps",
    _CRYPTO_HEADER: "an encryption header",
    _DATA_FILE_NAME: "the name of an external data file",
}


def _qcow2(head: bytes, length: int) -> DiskImage:
    if len(head) < _HEADER.size:
        _refuse("It ends within its header.")
    header = _Header(*_HEADER.unpack_from(head))
    if header.version not in {2, 3}:
        _refuse(f"Version {header.version} of qcow2 is not known; 2 and 3 are.")
    if header.backing_offset or header.backing_length:
        _refuse("It names a backing file, which would be a file of the host.")
    if header.encryption:
        _refuse("It is encrypted.")
    if header.snapshots or header.snapshots_offset:
        _refuse("It holds internal snapshots.")
    if not 9 <= header.cluster_bits <= 21:
        _refuse(f"Its clusters would have 2^{header.cluster_bits} bytes.")
    extensions_at = _HEADER.size
    extended = False
    if header.version == 3:
        features = _features(head)
        extensions_at, extended = features.header_length, bool(features.incompatible & _EXTENDED_L2)
    for kind, name in _extensions(head[: 1 << header.cluster_bits], extensions_at):
        if kind != _FEATURE_NAMES:
            _refuse(f"Its header carries {name}.")
    _check_tables(header, length, extended=extended)
    return _of_size(Format.QCOW2, header.size)


def _features(head: bytes) -> _Features:
    if len(head) < _HEADER.size + _FEATURES.size:
        _refuse("It ends within its header.")
    features = _Features(*_FEATURES.unpack_from(head, _HEADER.size))
    if features.incompatible & _DATA_FILE or features.autoclear & _RAW_DATA_FILE:
        _refuse("It keeps its data in another file.")
    if features.incompatible & (_DIRTY | _CORRUPT):
        _refuse("It is marked as dirty or corrupt; repair it with `qemu-img check -r all` first.")
    unknown = features.incompatible & ~(_COMPRESSION | _EXTENDED_L2)
    if unknown or features.compatible & ~_LAZY_REFCOUNTS or features.autoclear:
        _refuse("It uses features that are not known.")
    if features.refcount_order > 6:
        _refuse(f"Its reference counts would have 2^{features.refcount_order} bits.")
    ends = _HEADER.size + _FEATURES.size
    if features.header_length % 8 or not ends <= features.header_length <= min(len(head), 4096):
        _refuse(f"Its header says that it has {features.header_length} bytes.")
    compression = head[ends] if features.header_length > ends else 0
    if compression not in _COMPRESSION_TYPES or bool(compression) != bool(
        features.incompatible & _COMPRESSION
    ):
        _refuse(f"Its compression, number {compression}, is not known.")
    return features


def _extensions(cluster: bytes, at: int) -> Iterator[tuple[int, str]]:
    """The kinds of the header's extensions, which lie in its first cluster and end with a zero."""
    while at + 8 <= len(cluster):
        kind, size = struct.unpack_from(">II", cluster, at)
        if kind == _END:
            return
        if kind not in _EXTENSIONS and kind != _FEATURE_NAMES:
            yield kind, f"an extension that is not known, {kind:#010x}"
        else:
            yield kind, _EXTENSIONS.get(kind, "")
        at += 8 + (size + 7) // 8 * 8
    _refuse("The extensions of its header have no end.")


def _check_tables(header: _Header, length: int, *, extended: bool) -> None:
    """The first table maps the whole disk, and both tables lie in the file."""
    cluster = 1 << header.cluster_bits
    of_one_entry = cluster * (cluster // (16 if extended else 8))
    needed = -(-header.size // of_one_entry)
    if header.size > LARGEST:
        _refuse(f"Its disk would have {header.size} bytes; {LARGEST} are the most.")
    if header.l1_entries < needed or header.l1_entries * 8 > 32 << 20:
        _refuse(f"Its first table has {header.l1_entries} entries, and a disk of this size needs {needed}.")
    tables = (
        ("first table", header.l1_offset, header.l1_entries * 8),
        ("table of reference counts", header.refcount_offset, header.refcount_clusters * cluster),
    )
    for name, offset, size in tables:
        if offset % cluster or offset < cluster or offset + size > length:
            _refuse(f"Its {name} lies outside of the file.")


def _of_size(kind: Format, virtual_bytes: int) -> DiskImage:
    if not 0 < virtual_bytes <= LARGEST:
        _refuse(f"Its disk would have {virtual_bytes} bytes; 1 to {LARGEST} are taken.")
    return DiskImage(kind, virtual_bytes)


def _refuse(why: str) -> NoReturn:
    raise Fault(
        Kind.INVALID,
        "The disk image is refused.",
        why=why,
        fix="Convert it with `qemu-img convert -O qcow2` or `-O raw` into a plain image of its own, and upload that.",
        code="bad-image",
    )
