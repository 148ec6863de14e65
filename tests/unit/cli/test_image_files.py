"""What `mallee image` decides before anything is uploaded or built."""

from __future__ import annotations

from pathlib import Path

import pytest

from mallee.cli.images import debian
from mallee.cli.images.importing import Files, check, format_of
from mallee.domain.boot_files import LARGEST_KERNEL, LARGEST_RAMDISK, check_kernel, check_ramdisk
from mallee.domain.disk_image import Format
from mallee.kernel.errors import Fault

X86 = bytes(0x202) + b"HdrS" + bytes(64)
ARM = bytes(0x38) + b"ARM\x64" + bytes(64)


@pytest.mark.parametrize(
    ("name", "said", "format_"),
    [
        ("a.qcow2", "", Format.QCOW2),
        ("a.QCOW2", "", Format.QCOW2),
        ("a.raw", "", Format.RAW),
        ("a.img", "", Format.RAW),
        ("a.img", "qcow2", Format.QCOW2),
        ("a.qcow2", "raw", Format.RAW),
    ],
)
def test_a_format_is_said_or_named(name: str, said: str, format_: Format) -> None:
    assert format_of(Path(name), said) is format_


def test_a_kernel_is_one_of_its_architecture() -> None:
    check_kernel(X86, len(X86), "x86_64")
    check_kernel(ARM, len(ARM), "arm64")
    for head, length, architecture in (
        (ARM, len(ARM), "x86_64"),
        (X86, len(X86), "arm64"),
        (b"\x7fELF" + bytes(1000), 1004, "x86_64"),
        (b"", 0, "x86_64"),
        (X86, LARGEST_KERNEL + 1, "x86_64"),
    ):
        with pytest.raises(Fault) as refused:
            check_kernel(head, length, architecture)
        assert refused.value.code == "bad-image"


def test_a_ramdisk_has_bytes_and_not_too_many() -> None:
    check_ramdisk(LARGEST_RAMDISK)
    for length in (0, LARGEST_RAMDISK + 1):
        with pytest.raises(Fault, match="ramdisk"):
            check_ramdisk(length)


def test_a_disk_with_another_machines_kernel_is_refused_here(tmp_path: Path) -> None:
    disk, kernel = tmp_path / "disk.raw", tmp_path / "vmlinuz"
    disk.write_bytes(bytes(512))
    kernel.write_bytes(ARM)
    check(Files(disk, Format.RAW, kernel), "arm64")
    with pytest.raises(Fault, match="header of a Linux kernel"):
        check(Files(disk, Format.RAW, kernel), "x86_64")


def test_debian_is_not_built_without_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Fault) as missing:
        debian.build(tmp_path / "image")
    assert missing.value.code == "missing-tools"
    assert missing.value.fix == "apt install mmdebstrap e2fsprogs qemu-utils"
    assert not (tmp_path / "image").exists()
