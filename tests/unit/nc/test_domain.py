"""The document that libvirt keeps of a guest."""

from __future__ import annotations

import re

import pytest

from mallee.domain.guest import GuestKey
from mallee.nc.drivers.libvirt.domain import Boot, Identity, Place, Shape, document
from tests.unit.nc.pretend import a_guest

LOOKED_AT_AT_ONCE = 64 * 4096  # bytes that QEMU's emulator looks at together, and forgets to watch again


def written(accelerator: str, *, incoming: bool = False) -> str:
    me = Identity(cloud="mallee", key=GuestKey("i-1", 1), guest=a_guest("i-1"))
    shape = Shape(accelerator, "pc-q35-7.2", "qemu64")
    return document(me, shape, Boot(kernel="/vmlinuz"), Place("/console"), incoming=incoming)


@pytest.mark.parametrize("incoming", [False, True])
def test_memory_of_an_emulated_guest_is_looked_at_page_by_page(incoming: bool) -> None:
    text = written("qemu", incoming=incoming)
    [size] = re.findall(r"memory-backend-ram,id=mallee.ram,size=(\d+)", text)
    assert int(size) % LOOKED_AT_AT_ONCE
    assert f"size={int(size) // 1024}k" in text
    assert ("defer" in text) is incoming


def test_a_guest_on_kvm_has_the_memory_that_it_is_given() -> None:
    assert "memory-backend" not in written("kvm")
