"""A guest's root disk goes along with it, with what is written before and while it moves; and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.lab import Host
from mallee.domain.guest import Guest, GuestImage, GuestKey, Phase, Resources
from mallee.domain.migration import Limits
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault
from mallee.kernel.pki import Authority
from mallee.kernel.rpc import Identity
from mallee.nc.driver import Steering
from mallee.nc.drivers.libvirt import mirror, monitor
from mallee.nc.drivers.libvirt.confidence import Confidence
from mallee.nc.drivers.libvirt.driver import LibvirtDriver
from tests.live import dirty_guest
from tests.live.dirty_guest import Work
from tests.live.drivers import RealNodes
from tests.unit.nc.pretend import DirectWire, a_guest, phases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, NEXT = GuestKey("i-1", 1), GuestKey("i-1", 2)
HERE, THERE = Identity("cloud", "nc", "node-1"), Identity("cloud", "nc", "node-2")
MIB = 1 << 20
LIMITS = Limits()


@pytest.fixture
async def nodes(hosts: Sequence[Host], tmp_path: Path) -> AsyncIterator[RealNodes]:
    authority = Authority.create("cloud", SystemClock())
    shown = [Confidence(me, partial(authority.issue, me), tmp_path / "keys") for me in (HERE, THERE)]
    made = RealNodes(hosts, tmp_path, shown)
    await made.open()
    yield made
    await made.close()


def with_disk(nodes: RealNodes) -> Guest:
    return a_guest(image=nodes.image(), root_gib=1)


async def io(driver: LibvirtDriver, key: GuestKey, command: str) -> str:
    """Read or write the guest's disk as it would itself."""

    def ask(domain: Any) -> str:
        line = f'qemu-io {mirror.disk_of(domain)} "{command}"'
        return str(monitor.ask(domain, "human-monitor-command", {"command-line": line}))

    return await driver._domains.on(key, ask)


async def wrote(driver: LibvirtDriver, key: GuestKey, at_mib: int, byte: int) -> None:
    said = await io(driver, key, f"write -P {byte} {at_mib * MIB} 65536")
    assert "error" not in said.lower(), said


async def holds(driver: LibvirtDriver, key: GuestKey, at_mib: int, byte: int) -> bool:
    said = await io(driver, key, f"read -P {byte} {at_mib * MIB} 65536")
    return "verification failed" not in said and "error" not in said.lower()


async def copied(nodes: RealNodes, landing: str, limits: Limits = LIMITS, *, late: bool = False) -> None:
    """Stage 2; with `late` something is written to the disk when it has been copied, and memory not yet."""
    wire = DirectWire(nodes.there, NEXT)
    words = nodes.here.pre_copy(KEY, "mig-1", wire, limits, Steering(), landing, THERE.name)
    async for _ in words:
        if late:
            await wrote(nodes.here, KEY, 600, 0x66)
        late = False


async def test_what_is_written_late_goes_along_too(nodes: RealNodes) -> None:
    busy = nodes.store.put("kernel", dirty_guest.kernel(Work(touched_mib=8, set_mib=4)))
    guest = replace(with_disk(nodes), resources=Resources(1, 32))
    guest = replace(guest, image=GuestImage(root=nodes.image().root, kernel=busy))
    await nodes.here.start(KEY, guest)
    await wrote(nodes.here, KEY, 600, 0x11)
    landing = await nodes.there.prepare(NEXT, guest, "mig-1", HERE.name)

    await copied(nodes, landing, Limits(bandwidth_mbps=60.0), late=True)
    await nodes.here.stop_and_copy(KEY, "mig-1")
    await nodes.there.resume(NEXT)

    assert await holds(nodes.there, NEXT, 600, 0x66)


async def test_a_disk_goes_along_with_all_that_was_written(nodes: RealNodes) -> None:
    guest = with_disk(nodes)
    await nodes.here.start(KEY, guest)
    await wrote(nodes.here, KEY, 0, 0x11)  # over what the image has there
    await wrote(nodes.here, KEY, 700, 0x22)
    landing = await nodes.there.prepare(NEXT, guest, "mig-1", HERE.name)

    await copied(nodes, landing)
    handed = await nodes.here.stop_and_copy(KEY, "mig-1")
    assert handed.digest == await nodes.there.digest(NEXT)
    await nodes.there.resume(NEXT)
    await nodes.here.destroy(KEY)

    assert await phases(nodes.there) == {NEXT: Phase.RUNNING}
    assert await holds(nodes.there, NEXT, 0, 0x11)
    assert await holds(nodes.there, NEXT, 700, 0x22)
    assert await holds(nodes.there, NEXT, 300, 0)
    await wrote(nodes.there, NEXT, 701, 0x33)
    assert await holds(nodes.there, NEXT, 701, 0x33)


async def test_one_that_goes_back_has_lost_nothing_and_may_move_again(nodes: RealNodes) -> None:
    guest = with_disk(nodes)
    await nodes.here.start(KEY, guest)
    await wrote(nodes.here, KEY, 700, 0x22)
    landing = await nodes.there.prepare(NEXT, guest, "mig-1", HERE.name)
    await copied(nodes, landing)
    await nodes.here.stop_and_copy(KEY, "mig-1")

    await nodes.there.destroy(NEXT)
    await nodes.here.resume(KEY)
    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
    assert await holds(nodes.here, KEY, 700, 0x22)
    await wrote(nodes.here, KEY, 5, 0x44)

    landing = await nodes.there.prepare(NEXT, guest, "mig-1", HERE.name)
    await copied(nodes, landing)
    await nodes.here.stop_and_copy(KEY, "mig-1")
    await nodes.there.resume(NEXT)
    assert await holds(nodes.there, NEXT, 5, 0x44)


async def test_a_destination_that_dies_costs_the_source_nothing(nodes: RealNodes) -> None:
    guest = with_disk(nodes)
    await nodes.here.start(KEY, guest)
    await wrote(nodes.here, KEY, 700, 0x22)
    landing = await nodes.there.prepare(NEXT, guest, "mig-1", HERE.name)
    await nodes.there.destroy(NEXT)
    with pytest.raises(Fault):
        await copied(nodes, landing)

    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
    await wrote(nodes.here, KEY, 1, 0x55)
    assert await holds(nodes.here, KEY, 700, 0x22)
