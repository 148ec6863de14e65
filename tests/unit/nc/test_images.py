"""Images on a node: one fetch for many, resumed, refused when changed, made ready, dropped when unused."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mallee.domain.disk_image import Format
from mallee.domain.guest import GuestImage, ImageFile
from mallee.kernel.clock import ManualClock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.images import cache as caches
from mallee.nc.images.cache import ImageCache, name_of
from mallee.nc.images.fetch import TRIES
from tests.unit.nc.pretend import driven
from tests.unit.nc.pretend_store import PretendStore

MIB = 1 << 20


def qcow2(virtual_bytes: int, payload: bytes = b"") -> bytes:
    """A plain image, whole as far as anybody looks who does not read its clusters."""
    cluster = 1 << 16
    l1 = max(1, -(-virtual_bytes // (cluster * cluster // 8)))
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, virtual_bytes, 0, l1, cluster, 2 * cluster, 1, 0, 0
    )
    return head.ljust(3 * cluster, b"\0") + payload


class PretendTool:
    """Implements `DiskTool`: its disks are headers with what they were made from behind them."""

    def __init__(self) -> None:
        self.flattened: list[tuple[Format, int]] = []
        self.fault: Fault | None = None

    async def flatten(
        self, source: Path, kind: Format, target: Path, *, most_bytes: int, compress: bool = False
    ) -> None:
        self.flattened.append((kind, most_bytes))
        if self.fault is not None:
            raise self.fault
        _flatten(source, kind, target)

    async def overlay(self, base: Path, target: Path, virtual_bytes: int) -> None:
        await asyncio.to_thread(target.write_bytes, qcow2(virtual_bytes))


def _flatten(source: Path, kind: Format, target: Path) -> None:
    content = source.read_bytes()
    size = len(content) if kind is Format.RAW else struct.unpack_from(">Q", content, 24)[0]
    target.write_bytes(qcow2(size, content))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> PretendStore:
    return PretendStore()


@pytest.fixture
def tool() -> PretendTool:
    return PretendTool()


@pytest.fixture
async def cache(
    tmp_path: Path, clock: ManualClock, store: PretendStore, tool: PretendTool
) -> AsyncIterator[ImageCache]:
    made = ImageCache(tmp_path / "cache", 16 * MIB, store, tool, clock)
    await made.open()
    yield made
    await made.close()


def inside(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").iterdir()}


async def refused(work: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await work
    return caught.value


async def test_many_guests_wait_for_one_fetch_and_each_has_a_link(
    cache: ImageCache, store: PretendStore, tool: PretendTool, tmp_path: Path
) -> None:
    image = store.put("disk", bytes(MIB), "raw", MIB)
    homes = [tmp_path / f"guest{n}" for n in range(5)]
    await asyncio.gather(*(cache.link(image, home) for home in homes))
    await cache.link(image, tmp_path / "later")

    assert store.reads == [0]
    assert [kind for kind, _ in tool.flattened] == [Format.RAW]
    assert {path.stat().st_ino for path in homes} == {(tmp_path / "later").stat().st_ino}
    assert inside(tmp_path) == {name_of(image)}


async def test_a_cut_line_goes_on_where_it_broke(
    cache: ImageCache, store: PretendStore, clock: ManualClock, tmp_path: Path
) -> None:
    content = os.urandom(300_000)
    store.cut_after = [2, 0, 1]
    await driven(clock, cache.link(store.put("kernel", content), tmp_path / "kernel"))

    assert store.reads == [0, 131_072, 131_072, 196_608]
    assert (tmp_path / "kernel").read_bytes() == content


async def test_a_store_that_never_answers_is_given_up_and_nothing_is_left(
    cache: ImageCache, store: PretendStore, clock: ManualClock, tmp_path: Path
) -> None:
    image = store.put("kernel", bytes(100_000))
    store.cut_after = [0] * 99
    fault = await refused(driven(clock, cache.link(image, tmp_path / "kernel")))

    assert (fault.kind, fault.code) == (Kind.UNAVAILABLE, "cut-off")
    assert len(store.reads) == TRIES
    assert inside(tmp_path) == set()


async def test_an_object_that_was_written_over_is_not_booted(
    cache: ImageCache, store: PretendStore, tmp_path: Path
) -> None:
    image = store.put("disk", bytes(MIB), "raw")
    store.put("disk", b"\1" * MIB, "raw")
    fault = await refused(cache.link(image, tmp_path / "disk"))

    assert fault.code == "image-changed"
    assert image.etag in fault.why
    assert inside(tmp_path) == set()


async def test_an_object_that_is_gone_says_so(cache: ImageCache, store: PretendStore, tmp_path: Path) -> None:
    image = store.put("disk", bytes(MIB), "raw")
    store.objects.clear()
    assert (await refused(cache.link(image, tmp_path / "disk"))).code == "no-such-image"


HOSTILE = {
    "a backing file": (qcow2(MIB)[:8] + struct.pack(">QI", 1024, 11) + qcow2(MIB)[20:], "qcow2"),
    "a VMDK descriptor": (b"# Disk DescriptorFile\nRW 2 FLAT secret\n".ljust(1024, b"\0"), "raw"),
    "half a sector": (bytes(777), "raw"),
    "no qcow2": (bytes(MIB), "qcow2"),
    "cut off": (qcow2(MIB)[:70_000], "qcow2"),
    "too huge a disk": (qcow2(1 << 60), "qcow2"),
    "an unknown format": (bytes(MIB), "vmdk"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_no_plain_disk_is_seen_by_no_tool(
    cache: ImageCache, store: PretendStore, tool: PretendTool, tmp_path: Path, name: str
) -> None:
    content, kind = HOSTILE[name]
    fault = await refused(cache.link(store.put("disk", content, kind), tmp_path / "disk"))

    assert (fault.kind, fault.code) == (Kind.INVALID, "bad-image")
    assert tool.flattened == []
    assert inside(tmp_path) == set()


async def test_another_size_than_was_registered_is_refused(
    cache: ImageCache, store: PretendStore, tool: PretendTool, tmp_path: Path
) -> None:
    image = store.put("disk", qcow2(3 * MIB), "qcow2", 2 * MIB)
    assert (await refused(cache.link(image, tmp_path / "disk"))).code == "bad-image"
    assert tool.flattened == []


async def test_what_the_tool_refuses_is_told_and_leaves_nothing(
    cache: ImageCache, store: PretendStore, tool: PretendTool, tmp_path: Path
) -> None:
    tool.fault = Fault(Kind.INVALID, "qemu-img refused.", why="L2 table is corrupt", code="tool-refused")
    fault = await refused(cache.link(store.put("disk", qcow2(MIB), "qcow2"), tmp_path / "disk"))

    assert (fault.code, fault.why) == ("bad-image", "L2 table is corrupt")
    assert "images/disk" in fault.what
    assert inside(tmp_path) == set()


async def test_after_a_failure_the_next_guest_tries_again(
    cache: ImageCache, store: PretendStore, tool: PretendTool, tmp_path: Path
) -> None:
    image = store.put("disk", qcow2(MIB), "qcow2")
    tool.fault = Fault(Kind.NO_CAPACITY, "The disk is full.", code=STORAGE_FULL)
    assert (await refused(cache.link(image, tmp_path / "disk"))).code == STORAGE_FULL
    tool.fault = None
    await cache.link(image, tmp_path / "disk")
    assert (tmp_path / "disk").exists()


async def test_the_least_used_goes_first_and_never_what_a_guest_stands_on(
    cache: ImageCache, store: PretendStore, clock: ManualClock, tmp_path: Path
) -> None:
    images = [store.put(f"disk{n}", bytes([n]) * (4 * MIB), "raw") for n in range(5)]
    for number in range(3):
        await cache.link(images[number], tmp_path / f"disk{number}")
        await clock.advance(1)
    for number in (0, 2):
        (tmp_path / f"disk{number}").unlink()
    await cache.link(images[0], tmp_path / "again")  # used later than the others now
    (tmp_path / "again").unlink()
    await clock.advance(1)

    await cache.link(images[3], tmp_path / "disk3")
    await cache.link(images[4], tmp_path / "disk4")

    kept = inside(tmp_path)
    assert name_of(images[1]) in kept, "a guest stands on it"
    assert name_of(images[2]) not in kept, "nobody had used it for the longest"
    assert {name_of(images[3]), name_of(images[4])} <= kept


async def test_a_guest_keeps_its_base_whatever_the_cache_drops(
    cache: ImageCache, store: PretendStore, tmp_path: Path
) -> None:
    await cache.link(store.put("disk", bytes(MIB), "raw"), tmp_path / "base")
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    assert len((tmp_path / "base").read_bytes()) > MIB


async def test_what_a_dead_process_left_is_swept_and_what_was_ready_is_used(
    store: PretendStore, tool: PretendTool, clock: ManualClock, tmp_path: Path
) -> None:
    image = store.put("disk", bytes(MIB), "raw")
    first = ImageCache(tmp_path / "cache", 64 * MIB, store, tool, clock)
    await first.open()
    await first.link(image, tmp_path / "one")
    half = tmp_path / "cache" / f"{name_of(store.put('other', bytes(MIB), 'raw'))}.part"
    half.write_bytes(b"half")
    half.with_name("flat-x.part").write_bytes(b"half")

    second = ImageCache(tmp_path / "cache", 64 * MIB, store, tool, clock)
    await second.open()
    await second.link(image, tmp_path / "two")

    assert inside(tmp_path) == {name_of(image)}
    assert store.reads == [0]


async def test_a_disk_without_room_refuses_before_it_fetches(
    cache: ImageCache, store: PretendStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "RESERVE", 1 << 62)
    image = store.put("disk", bytes(MIB), "raw")
    fault = await refused(cache.link(image, tmp_path / "disk"))

    assert (fault.kind, fault.code) == (Kind.NO_CAPACITY, STORAGE_FULL)
    assert store.reads == []
    assert inside(tmp_path) == set()


@pytest.mark.parametrize(
    "file",
    [
        ImageFile("images", "disk", "", 17 * MIB, "e", "raw"),
        ImageFile("images", "kernel", "", 3 << 30, "e"),
    ],
)
async def test_what_is_too_large_is_refused_unfetched(
    cache: ImageCache, store: PretendStore, tmp_path: Path, file: ImageFile
) -> None:
    assert (await refused(cache.link(file, tmp_path / "disk"))).code == "image-too-large"
    assert store.reads == []


async def test_a_place_that_is_gone_is_not_fetched_for_for_ever(
    cache: ImageCache, store: PretendStore, tmp_path: Path
) -> None:
    image = store.put("disk", bytes(MIB), "raw")
    fault = await refused(cache.link(image, tmp_path / "gone" / "disk"))
    assert fault.code == "image-lost"
    assert len(store.reads) <= 3


async def test_a_fetch_goes_on_when_its_guest_has_gone(
    cache: ImageCache, store: PretendStore, tmp_path: Path
) -> None:
    image = store.put("disk", bytes(MIB), "raw")
    gone = asyncio.ensure_future(cache.link(image, tmp_path / "gone"))
    await store.asked.wait()
    gone.cancel()
    await asyncio.wait((gone,))
    await cache.link(image, tmp_path / "next")

    assert store.reads == [0]
    assert not (tmp_path / "gone").exists()


def test_each_part_of_the_pin_makes_another_name() -> None:
    pin = ImageFile("b", "k", "v", 1, "e", "raw", 1)
    others = [
        replace(pin, **{name: value})
        for name, value in (("bucket", "x"), ("key", "x"), ("version_id", "x"), ("size", 2), ("etag", "x"))
    ]
    assert len({name_of(each) for each in (pin, *others, replace(pin, format="qcow2"))}) == 7
    assert GuestImage() == GuestImage(None, None, None)
