"""The documents that libvirt keeps for us: a domain from typed values, and its identity read back.

Who a domain is stands in its metadata: the instance, the generation, the cloud, the guest as it was
described, and what a restart must find. Nothing is read from any other part of the document.
https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

import msgspec
from lxml import etree

from mallee.domain.guest import Cause, Guest, GuestKey

NAMESPACE: Final = "urn:mallee:guest:1"
PREFIX: Final = "mallee"
_SHORT: Final = 8192  # bytes, the unit that QEMU rounds the size of memory to
_QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
register_namespace(PREFIX, NAMESPACE)
register_namespace("qemu", _QEMU)


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a domain is to us.

    Attributes:
        cloud: whose guest it is; domains of others are left alone.
        incoming: the migration for which it is an empty or whole copy; '' when it is none.
        whole: whether that copy was confirmed to be whole, with its digest.
        outgoing: the migration that has paused it as a source.
        handed_over: the digest that the source gave with it.
        wanted: whether it was last told to run; a domain that is off although it should run ended by itself.
    """

    cloud: str
    key: GuestKey
    guest: Guest
    reboots: int = 0
    incoming: str = ""
    whole: str = ""
    outgoing: str = ""
    handed_over: str = ""
    wanted: bool = True
    cause: Cause | None = None

    def change(self, **changed: object) -> Identity:
        return msgspec.structs.replace(self, **changed)


@dataclass(frozen=True, slots=True)
class Shape:
    """How guests of a host are made.

    Args:
        accelerator: `kvm` or `qemu`, libvirt's types of domains.
        machine: QEMU's machine, with its version: both ends of a migration must have the same.
        cpu_model: by name, so that both ends of a migration agree.
    """

    accelerator: str
    machine: str
    cpu_model: str


@dataclass(frozen=True, slots=True)
class Boot:
    """What a guest boots from: a kernel with its ramdisk, a root disk, or both. Paths on the host.

    `base` is what the disk stands on, a qcow2 file as the disk is one.
    """

    kernel: str = ""
    ramdisk: str = ""
    disk: str = ""
    base: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What a guest is plugged into.

    Args:
        console: the file that takes what it writes to its first serial port.
        bridge: of the host; empty for a guest without a network.
        tap: the host side of its card; empty for a name that libvirt makes up.
    """

    console: str
    bridge: str = ""
    tap: str = ""


def name_of(key: GuestKey) -> str:
    return f"{key.instance_id}.{key.generation}"


def uuid_of(instance_id: str) -> str:
    """The same for every copy of an instance; begins with `ec2`, by which guests know where they are.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    digits = "ec2" + sha256(instance_id.encode()).hexdigest()[:29]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def document(me: Identity, shape: Shape, boot: Boot, place: Place, *, incoming: bool = False) -> str:
    """The domain. `incoming` makes it wait for another QEMU to fill it, instead of booting."""
    root = Element("domain", {"type": shape.accelerator})
    _text(root, "name", name_of(me.key))
    _text(root, "uuid", uuid_of(me.key.instance_id))
    SubElement(root, "metadata").append(_identity_element(me, f"{{{NAMESPACE}}}guest"))
    _text(root, "memory", str(me.guest.resources.memory_mib), unit="MiB")
    _text(root, "vcpu", str(me.guest.resources.vcpus), placement="static")
    _os(root, shape, boot)
    SubElement(SubElement(root, "features"), "acpi")
    cpu = SubElement(root, "cpu", {"mode": "custom", "match": "exact", "check": "none"})
    _text(cpu, "model", shape.cpu_model, fallback="forbid")
    SubElement(root, "clock", {"offset": "utc"})
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(root, event, action)
    _devices(SubElement(root, "devices"), me.guest, boot, place)
    words = [*_memory_of_emulated(me, shape), *(("-incoming", "defer") if incoming else ())]
    if words:
        line = SubElement(root, f"{{{_QEMU}}}commandline")
        for word in words:
            SubElement(line, f"{{{_QEMU}}}arg", {"value": word})
    return tostring(root, encoding="unicode")


def _memory_of_emulated(me: Identity, shape: Shape) -> tuple[str, ...]:
    """What has QEMU's emulator not lose writes of a guest that moves.

    Before version 9, QEMU forgets to tell its emulated processors that pages are to be watched again when it looks at
    64 of them at once: the guest breaks after a few passes. Memory that is two pages short of a multiple of that is
    looked at one by one. libvirt knows whole MiB alone.
    https://gitlab.com/qemu-project/qemu/-/commit/03bfc2188f073ac1
    """
    if shape.accelerator != "qemu":
        return ()
    size = (me.guest.resources.memory_mib << 20) - _SHORT
    memory = f"memory-backend-ram,id=mallee.ram,size={size}"
    return ("-object", memory, "-machine", "memory-backend=mallee.ram", "-m", f"size={size >> 10}k")


def _os(root: Element, shape: Shape, boot: Boot) -> None:
    system = SubElement(root, "os")
    _text(system, "type", "hvm", arch="x86_64", machine=shape.machine)
    if boot.kernel:
        _text(system, "kernel", boot.kernel)
        if boot.ramdisk:
            _text(system, "initrd", boot.ramdisk)
        root_device = " root=/dev/vda" if boot.disk else ""
        _text(system, "cmdline", f"console=ttyS0{root_device}")
    else:
        SubElement(system, "boot", {"dev": "hd"})


def _devices(devices: Element, guest: Guest, boot: Boot, place: Place) -> None:
    _text(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    if boot.disk:
        disk = SubElement(devices, "disk", {"type": "file", "device": "disk"})
        # `none` keeps nothing in the host's cache that the other end of a migration could not see.
        SubElement(disk, "driver", {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"})
        SubElement(disk, "source", {"file": boot.disk})
        # Said to its end, so that no file is asked what it stands on: a guest may have written the answer.
        below = disk
        if boot.base:
            below = SubElement(disk, "backingStore", {"type": "file"})
            SubElement(below, "format", {"type": "qcow2"})
            SubElement(below, "source", {"file": boot.base})
        SubElement(below, "backingStore")
        SubElement(disk, "target", {"dev": "vda", "bus": "virtio"})
    if place.bridge:
        card = SubElement(devices, "interface", {"type": "bridge"})
        SubElement(card, "mac", {"address": guest.mac_address})
        SubElement(card, "source", {"bridge": place.bridge})
        if place.tap:
            SubElement(card, "target", {"dev": place.tap})
        SubElement(card, "model", {"type": "virtio"})
    serial = SubElement(devices, "serial", {"type": "file"})
    SubElement(serial, "source", {"path": place.console, "append": "on"})
    SubElement(serial, "target", {"port": "0"})
    video = SubElement(devices, "video")
    SubElement(video, "model", {"type": "vga"})
    SubElement(devices, "panic", {"model": "isa"})
    SubElement(devices, "memballoon", {"model": "none"})
    rng = SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")


def _text(parent: Element, name: str, text: str, **attributes: str) -> None:
    SubElement(parent, name, attributes).text = text


def _identity_element(me: Identity, tag: str) -> Element:
    element = Element(tag, {"instance": me.key.instance_id, "cloud": me.cloud})
    # As base64, because user data and tags may hold what XML cannot.
    element.text = base64.b64encode(msgspec.json.encode(me)).decode()
    return element


def machine_of(capabilities: str) -> str:
    """The full name of the machine that libvirt describes."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return str(etree.fromstring(capabilities, parser).findtext("machine", ""))


def identity_document(me: Identity) -> str:
    """The metadata element alone, as libvirt wants it for a domain that lives: it adds the namespace."""
    return tostring(_identity_element(me, "guest"), encoding="unicode")


def identity_of(metadata: str) -> Identity:
    """The identity in a metadata element.

    Raises:
        ValueError: it is none of ours.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    element = etree.fromstring(metadata, parser)
    try:
        return msgspec.json.decode(base64.b64decode(element.text or ""), type=Identity)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
