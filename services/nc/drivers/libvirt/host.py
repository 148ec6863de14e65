"""What guests of this host are made of: the accelerator that truly works, the machine by its full name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from lxml import etree

from mallee.nc.config import NcConfig
from mallee.nc.drivers.libvirt.domain import Shape
from mallee.nc.drivers.libvirt.images import KERNEL

QEMU: Final = "qemu-system-x86_64"
_PROGRESS: Final = b"Linux version"  # the kernel has come through its decompression and set up its memory
_PROBE_SECONDS: Final = 8.0
_log = structlog.get_logger()


async def shape_of(config: NcConfig) -> Shape:
    """The shape of this host's guests; says aloud when they are emulated."""
    accelerator = config.accelerator
    if accelerator == "auto":
        kernel = Path(config.image_folder) / "tiny" / KERNEL
        accelerator = "kvm" if await kvm_works(kernel) else "qemu"
    if accelerator == "qemu":
        _log.warning(
            "guests of this host are emulated in software, many times slower than with KVM",
            fix='See `mallee doctor`; with accelerator = "kvm" in [nc] KVM is used unasked.',
        )
    return Shape(accelerator, config.machine, config.guest_cpu)


def daemon_version(uri: str) -> str:
    """Of the libvirt that answers there. Raises ValueError with the reason when none does."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)  # else it writes to the terminal by itself
    try:
        connection = libvirt.openReadOnly(uri)
        number: int = connection.getLibVersion()
        connection.close()
    except libvirt.libvirtError as error:
        raise ValueError(str(error)) from error
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def shut_out(capabilities: str, folder: Path) -> str:
    """The folder on the way to guests' files that keeps QEMU's user out; '' when none does.

    Args:
        capabilities: the daemon's document; it says who QEMU is. https://libvirt.org/formatcaps.html
        folder: of the guests; what is not there yet will be open.
    """
    root = etree.fromstring(capabilities.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    labels = root.xpath("//secmodel[model='dac']/baselabel/text()")
    numbers = [part.lstrip("+") for part in str(labels[0]).split(":")] if labels else []
    if len(numbers) != 2 or not all(part.isdecimal() for part in numbers) or numbers[0] == "0":
        return ""
    user, group = (int(part) for part in numbers)
    for each in reversed((folder, *folder.parents)):
        if each.exists():
            found = each.stat()
            bit = 0o100 if found.st_uid == user else 0o010 if found.st_gid == group else 0o001
            if not found.st_mode & bit:
                return str(each)
    return ""


def warn_if_shut_out(capabilities: str, folder: Path) -> None:
    """Say aloud that root disks in `folder` could not be opened; see `shut_out`."""
    if closed := shut_out(capabilities, folder):
        _log.warning(
            "guests with a root disk cannot start here",
            why=f"QEMU's user may not pass {closed}.",
            fix="Let guest_folder in [nc] be a folder that it can reach, /var/lib/mallee/guests for example.",
        )


async def kvm_works(kernel: Path) -> bool:
    """Whether a kernel makes progress under KVM.

    The device file does not say so, nor does the firmware: there are hosts, machines in machines
    among them, on which both work and a kernel hangs.
    """
    if not await asyncio.to_thread(lambda: Path("/dev/kvm").exists() and kernel.exists()):
        return False
    machine = ("-accel", "kvm", "-machine", "q35", "-m", "128", "-nodefaults", "-display", "none")
    guest = ("-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=serial", "-serial", "stdio")
    try:
        process = await asyncio.create_subprocess_exec(
            QEMU,
            *machine,
            *guest,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return False
    try:
        return await _says(process, _PROGRESS)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _says(process: asyncio.subprocess.Process, word: bytes) -> bool:
    assert process.stdout is not None
    with suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(_PROBE_SECONDS):
            await process.stdout.readuntil(word)
            return True
    return False
