"""What every hypervisor driver must do: each verb, said twice, of the wrong life, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from mallee.domain.disk_image import HEAD_BYTES, inspect
from mallee.domain.guest import Cause, GuestImage, GuestKey, ImageFile, MetadataOptions, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.nc.db import MIGRATIONS, metadata
from mallee.nc.db.fakes import FakeStore
from mallee.nc.driver import CapturedDisk, CaptureProgress, Driver, Steering
from mallee.nc.drivers.fake import FakeDriver, FakeHost
from mallee.nc.drivers.fake_knobs import Knobs
from mallee.nc.drivers.fake_migration import CopyRules
from tests.unit.nc.pretend import DirectWire, a_guest, copied, driven, migrated, phases

T = TypeVar("T")
KEY, NEXT = GuestKey("i-1", 1), GuestKey("i-1", 2)
BUSY = {"mallee:workload": "web"}


class Host(Protocol):
    """A pair of nodes with a driver each, and the way to wait for them."""

    here: Driver
    there: Driver

    async def go(self, work: Awaitable[T]) -> T:
        """The result of `work`."""

    async def restart(self) -> None:
        """Both node controllers end and start again; `here` and `there` are new objects."""

    async def end(self, key: GuestKey) -> None:
        """A guest `here` powers itself off."""

    def image(self) -> GuestImage:
        """Of a guest with a root disk."""

    def left_over(self) -> list[str]:
        """Names of what captures left `here`."""


class FakeNodes:
    def __init__(self, url: str) -> None:
        self._url = url
        self._clock = ManualClock()
        self._drivers: list[FakeDriver] = []
        self._db: Database | None = None

    async def open(self) -> None:
        self._db = await Database.open(self._url, metadata=metadata, migrations=MIGRATIONS, durable=False)
        store = FakeStore(self._db)
        rows = await store.load()
        # A slow line, so that a small guest takes several rounds.
        host = FakeHost(copying=CopyRules(bandwidth_mbps=100.0, chunk_pages=512))
        self._drivers = [
            FakeDriver(
                name,
                store,
                rows.get(name, {}),
                clock=self._clock,
                entropy=SeededEntropy(7),
                host=host,
                knobs=Knobs(),
            )
            for name in ("here", "there")
        ]
        self.here, self.there = self._drivers
        for driver in self._drivers:
            await driver.open()

    async def close(self) -> None:
        for driver in self._drivers:
            await driver.close()
        if self._db is not None:
            await self._db.close()

    async def go(self, work: Awaitable[T]) -> T:
        result: T = await driven(self._clock, work)
        return result

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def end(self, key: GuestKey) -> None:
        await self.here.end(key, Cause("guest-shut-down", "It powered itself off."))  # type: ignore[attr-defined]

    def image(self) -> GuestImage:
        return GuestImage(root=ImageFile("images", "disk", "", 4096, "etag", "raw", 4096))

    def left_over(self) -> list[str]:
        return []


@pytest.fixture(params=["fake", "libvirt"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    made: Any = FakeNodes(f"sqlite:///{tmp_path}/nodes.db")
    if request.param == "libvirt":
        from tests.live.drivers import RealNodes

        made = RealNodes(request.getfixturevalue("two_hosts"), tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def fakes(tmp_path: Path) -> AsyncIterator[Host]:
    """For what only pretended memory can show page by page."""
    made = FakeNodes(f"sqlite:///{tmp_path}/nodes.db")
    await made.open()
    yield made
    await made.close()


async def refused(work: Awaitable[Any]) -> Kind:
    with pytest.raises(Fault) as caught:
        await work
    return caught.value.kind


async def test_a_guest_starts_once_however_often_it_is_said(host: Host) -> None:
    moments = await host.go(host.here.start(KEY, a_guest()))
    await host.go(host.here.start(KEY, a_guest()))

    assert [moment.name for moment in moments] == ["image", "customise", "boot", "verify"]
    assert [m.at_ms for m in moments] == sorted(m.at_ms for m in moments)
    assert await phases(host.here) == {KEY: Phase.RUNNING}


async def test_inventory_is_the_truth_after_a_restart(host: Host) -> None:
    guest = a_guest(user_data=b"\x00\xff", tags={"Name": "x"})
    await host.go(host.here.start(KEY, guest, reboots=3))
    await host.go(host.here.start(GuestKey("i-2", 9), a_guest("i-2")))
    await host.go(host.here.shut_down(GuestKey("i-2", 9), force=False))

    await host.restart()

    found = {each.key: each for each in await host.here.inventory()}
    assert found[KEY].guest == guest
    assert (found[KEY].phase, found[KEY].reboots) == (Phase.RUNNING, 3)
    assert found[GuestKey("i-2", 9)].phase is Phase.STOPPED


@pytest.mark.parametrize("force", [True, False])
async def test_shut_down_keeps_the_guest_and_start_runs_it_again(host: Host, force: bool) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    for _ in range(2):
        await host.go(host.here.shut_down(KEY, force=force))
        assert await phases(host.here) == {KEY: Phase.STOPPED}

    await host.go(host.here.start(KEY, a_guest()))
    assert await phases(host.here) == {KEY: Phase.RUNNING}


async def test_destroy_leaves_nothing_also_after_a_restart(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    for _ in range(2):
        await host.go(host.here.destroy(KEY))
    await host.restart()
    assert await phases(host.here) == {}


async def test_an_end_of_what_is_not_here_is_success(host: Host) -> None:
    await host.go(host.here.destroy(KEY))
    await host.go(host.here.shut_down(KEY, force=True))
    assert await phases(host.here) == {}


@pytest.mark.parametrize("verb", ["pause", "resume", "reboot", "digest", "stop_and_copy"])
async def test_an_unknown_guest_is_not_found_and_an_old_one_stale(host: Host, verb: str) -> None:
    arguments: tuple[Any, ...] = {"reboot": (1,), "stop_and_copy": ("mig-1",)}.get(verb, ())
    call = getattr(host.here, verb)
    assert await refused(host.go(call(KEY, *arguments))) is Kind.NOT_FOUND

    await host.go(host.here.start(NEXT, a_guest()))
    assert await refused(host.go(call(KEY, *arguments))) is Kind.STALE
    assert await phases(host.here) == {NEXT: Phase.RUNNING}


async def test_the_wrong_generation_ends_nothing(host: Host) -> None:
    await host.go(host.here.start(NEXT, a_guest()))
    await host.go(host.here.destroy(KEY))
    await host.go(host.here.shut_down(KEY, force=True))
    assert await phases(host.here) == {NEXT: Phase.RUNNING}


async def test_pause_and_resume(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    for _ in range(2):
        await host.go(host.here.pause(KEY))
        assert await phases(host.here) == {KEY: Phase.PAUSED}
    await host.restart()
    assert await phases(host.here) == {KEY: Phase.PAUSED}
    for _ in range(2):
        await host.go(host.here.resume(KEY))
        assert await phases(host.here) == {KEY: Phase.RUNNING}


async def test_a_stopped_guest_is_not_resumed(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    await host.go(host.here.shut_down(KEY, force=True))
    assert await refused(host.go(host.here.resume(KEY))) is Kind.CONFLICT


async def test_a_later_description_is_kept_beside_the_guest(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    later = a_guest(memory_mib=999, metadata=MetadataOptions(tokens_required=True), description=4)
    for _ in range(2):
        await host.go(host.here.describe(KEY, later))
    await host.restart()
    (found,) = await host.here.inventory()
    assert found.guest == a_guest(metadata=later.metadata, description=4)
    assert found.phase is Phase.RUNNING


async def test_a_description_of_a_guest_that_is_not_here_is_refused(host: Host) -> None:
    with pytest.raises(Fault) as refused:
        await host.go(host.here.describe(KEY, a_guest()))
    assert refused.value.kind is Kind.NOT_FOUND


async def test_a_screen_is_a_jpeg_and_a_console_is_followed_from_its_last_words_on(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    picture = await host.go(host.here.screenshot(KEY.instance_id))
    assert picture[:3] == b"\xff\xd8\xff"
    async with aclosing(host.here.follow_console(KEY.instance_id)) as written:
        first = await host.go(anext(written))
    assert first == await host.go(host.here.console(KEY.instance_id))


async def test_reboots_are_counted_not_repeated(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest(), reboots=1))
    await host.go(host.here.reboot(KEY, 1))
    assert [each.reboots for each in await host.here.inventory()] == [1]

    for _ in range(2):
        await host.go(host.here.reboot(KEY, 2))
    await host.restart()
    await host.go(host.here.reboot(KEY, 2))
    assert [each.reboots for each in await host.here.inventory()] == [2]


async def test_a_reboot_that_was_counted_is_not_done_again(fakes: Host) -> None:
    await fakes.go(fakes.here.start(KEY, a_guest(), reboots=1))
    first = await fakes.here.console("i-1")
    await fakes.go(fakes.here.reboot(KEY, 1))
    assert await fakes.here.console("i-1") == first

    for _ in range(2):
        await fakes.go(fakes.here.reboot(KEY, 2))
    again = await fakes.here.console("i-1")
    assert again.count(b"Linux version") == first.count(b"Linux version") + 1


async def test_the_console_shows_who_the_guest_is(fakes: Host) -> None:
    await fakes.go(
        fakes.here.start(KEY, a_guest(hostname="ip-10-0-0-77", user_data=b"#!/bin/sh\necho hello\n"))
    )
    log = await fakes.here.console("i-1")
    assert b"Linux version" in log
    assert b"ip-10-0-0-77" in log
    assert b"echo hello" in log
    assert await refused(fakes.here.console("i-unknown")) is Kind.NOT_FOUND


async def test_the_console_is_a_ring_of_64_kib(fakes: Host) -> None:
    await fakes.go(fakes.here.start(KEY, a_guest(user_data=b"#!/bin/sh\n" + b"echo filling\n" * 6_000)))
    log = await fakes.here.console("i-1")
    assert len(log) == 64 * 1024
    assert log.rstrip().endswith(b"login:")


async def test_a_guest_that_ends_by_itself_is_told(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest()))
    changes = host.here.changes()
    told = asyncio.ensure_future(anext(changes))
    await host.end(KEY)
    found = await host.go(told)
    assert (found.key, found.phase) == (KEY, Phase.STOPPED)
    assert found.cause is not None


async def test_rounds_shrink_under_load(fakes: Host) -> None:
    guest = a_guest(memory_mib=32, tags=BUSY)
    await fakes.go(fakes.here.start(KEY, guest))
    rounds, reason, _ = await fakes.go(migrated(fakes.here, fakes.there, guest))
    assert reason == "fits-budget"
    assert rounds[0].pages_sent > rounds[-1].pages_dirtied > 0


async def test_both_copies_are_equal_after_copying(host: Host) -> None:
    guest = a_guest(memory_mib=32, tags=BUSY)
    await host.go(host.here.start(KEY, guest, reboots=4))

    rounds, reason, handed = await host.go(migrated(host.here, host.there, guest))

    assert reason == "fits-budget"
    assert rounds[0].pages_sent > 0
    assert handed.digest == await host.there.digest(NEXT) == await host.here.digest(KEY) != ""
    assert await phases(host.here) == {KEY: Phase.PAUSED}
    assert await phases(host.there) == {NEXT: Phase.INCOMING}
    assert {
        found.migration_id for found in [*await host.here.inventory(), *await host.there.inventory()]
    } == {"mig-1"}
    assert [found.reboots for found in await host.there.inventory()] == [4]


async def test_a_handed_over_guest_runs_there_and_is_discarded_here(host: Host) -> None:
    guest = a_guest()
    await host.go(host.here.start(KEY, guest))
    booted = await host.here.console("i-1")
    await host.go(migrated(host.here, host.there, guest))

    for _ in range(2):
        await host.go(host.there.resume(NEXT))
        await host.go(host.here.destroy(KEY))

    assert await phases(host.here) == {}
    assert await phases(host.there) == {NEXT: Phase.RUNNING}
    assert [found.migration_id for found in await host.there.inventory()] == [""]
    assert await host.there.console("i-1") == booted


async def test_both_whole_copies_survive_a_restart(host: Host) -> None:
    guest = a_guest()
    await host.go(host.here.start(KEY, guest))
    _, _, handed = await host.go(migrated(host.here, host.there, guest))

    await host.restart()

    assert await phases(host.here) == {KEY: Phase.PAUSED}
    assert await host.here.digest(KEY) == await host.there.digest(NEXT) == handed.digest
    assert (await host.go(host.here.stop_and_copy(KEY, "mig-1"))).digest == handed.digest
    await host.go(host.here.resume(KEY))
    assert await phases(host.here) == {KEY: Phase.RUNNING}


async def test_half_a_copy_does_not_survive_a_restart(host: Host) -> None:
    guest = a_guest()
    await host.go(host.here.start(KEY, guest))
    landing = await host.there.prepare(NEXT, guest, "mig-1")
    await host.go(copied(host.here, KEY, DirectWire(host.there, NEXT), Limits(), landing=landing))
    assert await host.there.digest(NEXT) == ""

    await host.restart()

    assert await phases(host.here) == {KEY: Phase.RUNNING}
    assert await phases(host.there) == {}


@pytest.mark.parametrize("size", [Resources(1, 1 << 26), Resources(1 << 20, 16)])
async def test_a_guest_larger_than_the_host_is_refused_before_it_takes_anything(
    host: Host, size: Resources
) -> None:
    giant = replace(a_guest(), resources=size)
    assert await refused(host.go(host.here.start(KEY, giant))) is Kind.NO_CAPACITY
    assert await refused(host.go(host.there.prepare(NEXT, giant, "mig-1"))) is Kind.NO_CAPACITY
    assert await phases(host.here) == await phases(host.there) == {}


async def captured(driver: Driver, key: GuestKey, capture_id: str = "cap-1") -> tuple[CapturedDisk, bytes]:
    """A captured disk, and the bytes of its file."""
    told: list[CaptureProgress] = []
    async with aclosing(driver.capture(key, capture_id)) as words:
        async for word in words:
            if isinstance(word, CapturedDisk):
                assert told
                assert all(each.done <= each.total for each in told)
                return word, b"".join([piece async for piece in word.pieces()])
            told.append(word)
    raise AssertionError("a capture ended without a disk")


@pytest.mark.parametrize("off", [False, True])
async def test_a_root_disk_is_captured_whole_and_the_guest_goes_on(host: Host, off: bool) -> None:
    await host.go(host.here.start(KEY, a_guest(image=host.image())))
    if off:
        await host.go(host.here.shut_down(KEY, force=True))
    was = await phases(host.here)

    disk, content = await host.go(captured(host.here, KEY))

    assert len(content) == disk.size
    found = inspect(content[:HEAD_BYTES], len(content), disk.format)
    assert found.virtual_bytes == disk.virtual_bytes > 0
    assert await phases(host.here) == was
    assert host.left_over() == []


async def test_a_capture_that_is_broken_off_leaves_nothing_and_may_begin_anew(host: Host) -> None:
    await host.go(host.here.start(KEY, a_guest(image=host.image())))

    async def begun() -> None:
        async with aclosing(host.here.capture(KEY, "cap-1")) as words:
            await anext(words)

    await host.go(begun())
    assert host.left_over() == []
    await host.go(captured(host.here, KEY))
    await host.go(host.here.destroy(KEY))
    assert host.left_over() == []


async def test_what_is_not_here_or_on_its_way_elsewhere_is_not_captured(host: Host) -> None:
    guest = a_guest(image=host.image())
    assert await refused(host.go(captured(host.here, KEY))) is Kind.NOT_FOUND
    await host.go(host.here.start(KEY, guest))
    await host.go(host.here.start(GuestKey("i-2", 2), replace(guest, instance_id="i-2")))
    assert await refused(host.go(captured(host.here, GuestKey("i-2", 1)))) is Kind.STALE

    await host.go(migrated(host.here, host.there, guest))
    assert await refused(host.go(captured(host.here, KEY))) is Kind.CONFLICT
    assert await refused(host.go(captured(host.there, NEXT))) is Kind.CONFLICT


async def test_the_next_life_of_a_guest_takes_the_disk_of_the_last_one(host: Host) -> None:
    guest = a_guest(image=host.image())
    await host.go(host.here.start(KEY, guest))
    await host.go(host.here.shut_down(KEY, force=True))

    await host.go(host.here.start(NEXT, guest))
    await host.go(host.here.destroy(KEY))
    await host.restart()

    assert await phases(host.here) == {NEXT: Phase.RUNNING}
    await host.go(captured(host.here, NEXT))
    await host.go(host.here.destroy(NEXT))
    assert await phases(host.here) == {}
    assert host.left_over() == []


BAD_PAGES = [
    (b"\x01", b"\x01", b""),
    (b"\x01\0\0\0", b"", b""),
    (b"\xff\xff\xff\xff", b"\0\0\0\0", b""),
    (b"", b"", b"no state"),
]


@pytest.mark.parametrize(("numbers", "contents", "state"), BAD_PAGES)
async def test_what_is_no_page_is_refused_and_makes_no_image_whole(
    host: Host, numbers: bytes, contents: bytes, state: bytes
) -> None:
    await host.there.prepare(NEXT, a_guest(), "mig-1")
    assert await refused(host.go(host.there.receive(NEXT, 1, numbers, contents, state))) is Kind.INVALID
    assert await host.there.digest(NEXT) == ""


async def test_half_a_copy_never_runs(host: Host) -> None:
    await host.there.prepare(NEXT, a_guest(), "mig-1")
    assert await refused(host.go(host.there.resume(NEXT))) is Kind.CONFLICT
    await host.go(host.there.destroy(NEXT))
    assert await phases(host.there) == {}


async def test_a_place_that_is_taken_is_not_prepared(host: Host) -> None:
    await host.go(host.there.start(NEXT, a_guest()))
    assert await refused(host.go(host.there.prepare(NEXT, a_guest(), "mig-1"))) is Kind.CONFLICT
    assert await phases(host.there) == {NEXT: Phase.RUNNING}


async def test_copying_may_begin_anew(host: Host) -> None:
    guest = a_guest(tags=BUSY)
    await host.go(host.here.start(KEY, guest))
    landing = await host.there.prepare(NEXT, guest, "mig-1")
    await host.go(copied(host.here, KEY, DirectWire(host.there, NEXT), Limits(), landing=landing))

    _, _, handed = await host.go(migrated(host.here, host.there, guest))

    assert handed.digest == await host.there.digest(NEXT)


async def test_copying_that_is_broken_off_leaves_the_guest_running(host: Host) -> None:
    guest = a_guest(tags=BUSY)
    await host.go(host.here.start(KEY, guest))
    landing = await host.there.prepare(NEXT, guest, "mig-1")

    async def one_round() -> None:
        wire = DirectWire(host.there, NEXT)
        words = host.here.pre_copy(KEY, "mig-1", wire, Limits(), Steering(), landing)
        async with aclosing(words):
            await anext(words)

    await host.go(one_round())
    assert await phases(host.here) == {KEY: Phase.RUNNING}
    assert await refused(host.go(host.here.stop_and_copy(KEY, "mig-1"))) is Kind.CONFLICT
    assert await phases(host.here) == {KEY: Phase.RUNNING}


async def test_a_guest_that_ends_during_copying_ends_the_copying(host: Host) -> None:
    guest = a_guest(tags=BUSY)
    await host.go(host.here.start(KEY, guest))
    landing = await host.there.prepare(NEXT, guest, "mig-1")
    wire = DirectWire(host.there, NEXT)
    copying = asyncio.ensure_future(copied(host.here, KEY, wire, Limits(), landing=landing))
    await asyncio.sleep(0)  # noqa: TID251 - one turn, so that the copying has begun
    await host.go(host.here.destroy(KEY))
    assert await refused(host.go(copying)) in {Kind.NOT_FOUND, Kind.CONFLICT}


async def test_a_guest_that_ended_after_its_copying_is_not_handed_over(host: Host) -> None:
    """It was paused, said to be whole, and resumed by the way back: a stopped instance ran."""
    guest = a_guest()
    await host.go(host.here.start(KEY, guest))
    landing = await host.there.prepare(NEXT, guest, "mig-1")
    await host.go(copied(host.here, KEY, DirectWire(host.there, NEXT), Limits(), landing=landing))
    await host.end(KEY)
    with pytest.raises(Fault):
        await host.go(host.here.stop_and_copy(KEY, "mig-1"))
    assert await phases(host.here) == {KEY: Phase.STOPPED}


LIMITS = Limits(downtime_budget_ms=1.0)


@pytest.mark.parametrize(
    ("limits", "steer", "reason"),
    [
        (Limits(downtime_budget_ms=300.0), Steering(), "fits-budget"),
        (replace(LIMITS, max_rounds=2), Steering(), "max-rounds"),
        (replace(LIMITS, max_factor=0.4), Steering(), "max-factor"),
        (LIMITS, Steering(), "no-progress"),
        (LIMITS, Steering(finish=True), "forced"),
    ],
)
async def test_copying_stops_for_a_reason(fakes: Host, limits: Limits, steer: Steering, reason: str) -> None:
    guest = a_guest(memory_mib=32, tags={"mallee:workload": "memory"} if reason != "fits-budget" else BUSY)
    await fakes.go(fakes.here.start(KEY, guest))
    await fakes.there.prepare(NEXT, guest, "mig-1")
    rounds, said = await fakes.go(copied(fakes.here, KEY, DirectWire(fakes.there, NEXT), limits, steer))
    assert said == reason
    assert [each.number for each in rounds] == list(range(1, len(rounds) + 1))


async def test_auto_converge_slows_the_guest_until_it_fits(fakes: Host) -> None:
    guest = a_guest(memory_mib=16, tags={"mallee:workload": "memory"})
    await fakes.go(fakes.here.start(KEY, guest))
    await fakes.there.prepare(NEXT, guest, "mig-1")
    limits = Limits(auto_converge=True, max_factor=1e9, max_rounds=100, downtime_budget_ms=300.0)

    rounds, reason = await fakes.go(copied(fakes.here, KEY, DirectWire(fakes.there, NEXT), limits))

    throttles = [each.throttle_percent for each in rounds]
    assert reason == "fits-budget"
    assert throttles[:4] == [0, 0, 20, 30]
    assert throttles == sorted(throttles)
    await fakes.go(fakes.here.stop_and_copy(KEY, "mig-1"))


async def test_the_bandwidth_is_kept(fakes: Host) -> None:
    guest = a_guest(memory_mib=16)
    await fakes.go(fakes.here.start(KEY, guest))
    await fakes.there.prepare(NEXT, guest, "mig-1")
    rounds, _ = await fakes.go(
        copied(fakes.here, KEY, DirectWire(fakes.there, NEXT), Limits(bandwidth_mbps=50.0))
    )
    whole: Round = rounds[0]
    assert whole.bytes_sent * 8 / (whole.duration_ms / 1e3) / 1e6 == pytest.approx(50.0, rel=0.02)
