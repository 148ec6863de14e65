"""What limits and steers a real migration: its bandwidth, a guest that is slowed, an operator, a refusal."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from mallee.cli.lab import Host
from mallee.domain.guest import Guest, GuestImage, GuestKey, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.errors import Fault
from mallee.nc.driver import Steering
from mallee.nc.drivers.libvirt.landing import Landing
from tests.live import dirty_guest
from tests.live.dirty_guest import Work
from tests.live.drivers import RealNodes
from tests.unit.nc.pretend import DirectWire, a_guest, phases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY, NEXT = GuestKey("i-1", 1), GuestKey("i-1", 2)
MBPS = 80.0
BUSY = Work(touched_mib=8, set_mib=8)  # as fast as it can: no line of that width keeps up


@pytest.fixture
async def nodes(hosts: Sequence[Host], tmp_path: Path) -> AsyncIterator[RealNodes]:
    made = RealNodes(hosts, tmp_path)
    await made.open()
    yield made
    await made.close()


async def ready(nodes: RealNodes) -> str:
    """A busy guest runs, and its copy waits; where."""
    kernel = nodes.store.put("kernel", dirty_guest.kernel(BUSY))
    guest = Guest(**{**_fields(a_guest()), "image": GuestImage(kernel=kernel), "resources": Resources(1, 32)})
    await nodes.here.start(KEY, guest)
    return await nodes.there.prepare(NEXT, guest, "mig-1")


def _fields(guest: Guest) -> dict[str, object]:
    return {name: getattr(guest, name) for name in Guest.__dataclass_fields__}


def copying(
    nodes: RealNodes, landing: str, steer: Steering | None = None, *, auto_converge: bool = False
) -> AsyncGenerator[Round | str, None]:
    limits = Limits(bandwidth_mbps=MBPS, auto_converge=auto_converge)
    wire = DirectWire(nodes.there, NEXT)
    return nodes.here.pre_copy(KEY, "mig-1", wire, limits, steer or Steering(), landing)


async def test_a_line_that_does_not_keep_up_ends_the_rounds_within_its_bandwidth(nodes: RealNodes) -> None:
    words = [word async for word in copying(nodes, await ready(nodes))]
    rounds = [word for word in words if isinstance(word, Round)]
    assert words[-1] == "no-progress"
    assert [each.number for each in rounds] == list(range(1, len(rounds) + 1))
    # QEMU lets a tenth of a second's worth go at once.
    assert all(0 < each.bandwidth_mbps < 1.5 * MBPS for each in rounds), rounds
    assert all(each.pages_dirtied > 200 for each in rounds), rounds

    assert (await nodes.here.stop_and_copy(KEY, "mig-1")).digest == await nodes.there.digest(NEXT)


async def test_a_guest_is_slowed_until_it_fits(nodes: RealNodes) -> None:
    words = [word async for word in copying(nodes, await ready(nodes), auto_converge=True)]
    throttled = [word.throttle_percent for word in words if isinstance(word, Round)]
    assert throttled[0] == 0
    assert throttled[-1] > 0, words
    assert throttled == sorted(throttled)


async def test_an_operator_ends_the_rounds_and_widens_the_line(nodes: RealNodes) -> None:
    steer = Steering()
    async with aclosing(copying(nodes, await ready(nodes), steer)) as words:
        first = await anext(words)
        assert isinstance(first, Round)
        steer.bandwidth_mbps = 50 * MBPS
        wider = await anext(words)
        assert isinstance(wider, Round)
        assert wider.bandwidth_mbps > 2 * first.bandwidth_mbps
        steer.finish = True
        rest = [word async for word in words]
    assert rest[-1] == "forced" or rest[-1] == "fits-budget"
    assert (await nodes.here.stop_and_copy(KEY, "mig-1")).digest


async def test_one_that_is_called_off_runs_on_and_may_move_again(nodes: RealNodes) -> None:
    landing = await ready(nodes)
    async with aclosing(copying(nodes, landing)) as words:
        await anext(words)
    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
    await nodes.there.destroy(NEXT)


@pytest.mark.parametrize(
    ("changed", "code"), [({"qemu": (1, 0)}, "older-hypervisor"), ({"disk_port": 1}, "storage-mismatch")]
)
async def test_what_does_not_fit_is_refused_before_anything_is_touched(
    nodes: RealNodes, changed: dict[str, object], code: str
) -> None:
    way = msgspec.structs.replace(msgspec.json.decode(await ready(nodes), type=Landing), **changed)
    with pytest.raises(Fault) as caught:
        await anext(copying(nodes, msgspec.json.encode(way).decode()))
    assert caught.value.code == code
    assert await phases(nodes.here) == {KEY: Phase.RUNNING}
