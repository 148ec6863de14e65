"""Root disks of real guests: found again, captured while they run, full, corrupt; and ends told as they were."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mallee.cli.lab import Host, missing, some_hosts
from mallee.domain.guest import Guest, GuestImage, GuestKey, ImageFile, Phase
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import STORAGE_FULL, Fault, Kind
from mallee.nc.captures import Captures, Wanted
from mallee.nc.driver import Found
from mallee.nc.drivers.libvirt.disks import Disks
from mallee.nc.drivers.libvirt.driver import Host as HostOptions
from mallee.nc.drivers.libvirt.driver import LibvirtDriver
from mallee.nc.drivers.libvirt.network import NoNetwork
from mallee.nc.images.cache import ImageCache, free_bytes
from mallee.nc.images.tool import QemuImg
from tests.live import boot_sector
from tests.live.drivers import SHAPE, FromNothing
from tests.unit.nc.pretend import a_guest, phases
from tests.unit.nc.pretend_store import PretendStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1 << 20
DISK_MIB = 192
PATIENCE = 60.0


@dataclass
class Machine:
    """One host whose guests live on a small file system of their own."""

    host: Host
    disk: Path
    store: PretendStore = field(default_factory=lambda: PretendStore(piece=MIB))

    async def open(self) -> LibvirtDriver:
        clock, tool = SystemClock(), QemuImg()
        self.cache = ImageCache(self.disk / "images", 64 * MIB, self.store, tool, clock)
        await self.cache.open()
        options = HostOptions(self.host.uri, SHAPE, self.host.address, self.disk / "guests", patience=0.3)
        disks = Disks(FromNothing(self.disk), self.cache, tool)
        self.driver = LibvirtDriver(options, "cloud-of-tests", disks, NoNetwork(), clock=clock)
        await self.driver.open()
        return self.driver

    async def close(self) -> None:
        await self.cache.close()
        await self.driver.close()

    def boots(self, key: GuestKey) -> list[str]:
        """What a guest has said, boot after boot."""
        log = self.disk / "guests" / f"{key.instance_id}.{key.generation}" / "console.log"
        said = log.read_text(errors="replace") if log.exists() else ""
        return [line for line in said.splitlines() if line.startswith("boot ")]

    async def until_said(self, key: GuestKey, boot: str) -> None:
        await until(lambda: boot in self.boots(key), f"{boot} of {key}")

    def files(self) -> set[str]:
        """Everything of guests, and what is half made."""
        parts = {path.name for path in (self.disk / "images").glob("*.part")}
        return parts | {str(path.relative_to(self.disk)) for path in (self.disk / "guests").glob("*/*")}


async def until(true: Callable[[], bool], what: str) -> None:
    clock = SystemClock()
    end = clock.monotonic() + PATIENCE
    while not true():
        assert clock.monotonic() < end, f"{what} did not come within {PATIENCE:.0f} s"
        await clock.sleep(0.05)


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("disk")
    image, mounted = folder / "ext4", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    done = subprocess.run(
        ["mount", "-o", "loop", str(image), str(mounted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.fixture(scope="module")
def hosts(small_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Host]]:
    assert small_disk.is_dir()  # mounted before the daemon has its own view of what is mounted
    with some_hosts(1, tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture
async def machine(hosts: Sequence[Host], small_disk: Path) -> AsyncIterator[Machine]:
    made = Machine(hosts[0], small_disk)
    await made.open()
    yield made
    for found in await made.driver.inventory():
        await made.driver.destroy(found.key)
    left = made.files()
    await made.close()
    shutil.rmtree(small_disk / "images")
    assert left == set()


def guest_of(instance_id: str, root: ImageFile, root_gib: int = 0) -> Guest:
    return a_guest(instance_id, image=GuestImage(root=root), root_gib=root_gib)


async def refused(machine: Machine, key: GuestKey, guest: Guest) -> Fault:
    with pytest.raises(Fault) as caught:
        await machine.driver.start(key, guest)
    return caught.value


async def test_a_disk_is_found_again_after_reboot_stop_and_capture(machine: Machine) -> None:
    driver, first, next_life = machine.driver, GuestKey("i-1", 1), GuestKey("i-1", 2)
    guest = guest_of("i-1", machine.store.put("disk", boot_sector.disk(), "raw", MIB), root_gib=1)
    await driver.start(first, guest)
    await machine.until_said(first, "boot 1")
    await driver.reboot(first, 1)
    await machine.until_said(first, "boot 2")
    await driver.shut_down(first, force=True)

    # Neither the store nor the cache is asked for what a stopped guest has.
    machine.store.objects.clear()
    shutil.rmtree(machine.disk / "images")
    (machine.disk / "images").mkdir()
    await driver.start(next_life, guest)
    await driver.destroy(first)
    await machine.until_said(next_life, "boot 3")

    wanted = Wanted("n", next_life, "cap-1", "made", "image", "123456789012")
    words = [word async for word in Captures(machine.store).follow(driver, wanted)]
    image = words[-1]
    assert isinstance(image, ImageFile)
    assert (image.format, image.virtual_bytes) == ("qcow2", 1 << 30)
    assert image.size < MIB

    # What was made of it goes on where it was; what it was made of has not noticed.
    other = GuestKey("i-2", 1)
    await driver.start(other, guest_of("i-2", image))
    await machine.until_said(other, "boot 4")
    assert machine.boots(next_life) == ["boot 3"]
    assert await phases(driver) == {next_life: Phase.RUNNING, other: Phase.RUNNING}


async def test_a_start_that_fails_gives_the_disk_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, first, next_life = machine.driver, GuestKey("i-1", 1), GuestKey("i-1", 2)
    guest = guest_of("i-1", machine.store.put("disk", boot_sector.disk(), "raw"))
    await driver.start(first, guest)
    await machine.until_said(first, "boot 1")
    await driver.shut_down(first, force=True)

    async def fails(*_: object) -> None:
        raise Fault(Kind.UNAVAILABLE, "No port is left.")

    with monkeypatch.context() as patch:
        patch.setattr(driver._network, "plug", fails)
        assert (await refused(machine, next_life, guest)).what == "No port is left."
    assert await phases(driver) == {first: Phase.STOPPED}

    await driver.start(next_life, guest)
    await machine.until_said(next_life, "boot 2")


async def by_itself(driver: LibvirtDriver, key: GuestKey) -> Found:
    """How the driver tells of what this guest has come to."""
    async with asyncio.timeout(PATIENCE):
        async for found in driver.changes():
            if found.key == key:
                return found
    raise AssertionError("nothing was told")


async def test_ends_are_told_as_they_were(machine: Machine) -> None:
    driver = machine.driver
    images = {
        action: machine.store.put(f"disk-{action}", boot_sector.disk(action), "raw")
        for action in (boot_sector.POWER_OFF, boot_sector.PANIC, boot_sector.RESET, boot_sector.REST)
    }

    async def told(instance_id: str, action: str) -> str:
        key = GuestKey(instance_id, 1)
        await driver.start(key, guest_of(instance_id, images[action]))
        found = await by_itself(driver, key)
        assert found.phase is Phase.STOPPED
        assert found.cause is not None
        return found.cause.code

    assert await told("i-1", boot_sector.POWER_OFF) == "guest-shut-down"
    assert await told("i-2", boot_sector.PANIC) == "guest-panicked"

    resets = GuestKey("i-3", 1)
    await driver.start(resets, guest_of("i-3", images[boot_sector.RESET]))
    await machine.until_said(resets, "boot 3")

    killed = GuestKey("i-4", 1)
    await driver.start(killed, guest_of("i-4", images[boot_sector.REST]))
    await machine.until_said(killed, "boot 1")
    # The daemon goes away and comes back: guests do not notice, and their ends are told as before.
    machine.host.kill_daemon()
    machine.host.start_daemon()
    assert (await phases(driver))[killed] is Phase.RUNNING
    os.kill(qemu_of(killed), signal.SIGKILL)
    found = await by_itself(driver, killed)
    assert found.cause is not None
    assert found.cause.code == "hypervisor-killed"

    # What was told is known to whoever comes next.
    await machine.close()
    driver = await machine.open()
    inventory = {each.key.instance_id: each for each in await driver.inventory()}
    causes = {name: each.cause and each.cause.code for name, each in inventory.items()}
    assert causes == {
        "i-1": "guest-shut-down",
        "i-2": "guest-panicked",
        "i-3": None,
        "i-4": "hypervisor-killed",
    }
    assert inventory["i-3"].phase is Phase.RUNNING


def qemu_of(key: GuestKey) -> int:
    name = f"guest={key.instance_id}.{key.generation},"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name in path.read_text():
                return int(path.parent.name)
        except OSError:
            continue
    raise AssertionError(f"there is no QEMU of {key}")


async def test_a_full_disk_is_told_and_a_guest_goes_on_when_there_is_room(machine: Machine) -> None:
    driver, writer = machine.driver, GuestKey("i-1", 1)
    ballast = machine.disk / "ballast"
    await asyncio.to_thread(ballast.write_bytes, bytes(free_bytes(machine.disk) - 6 * MIB))
    try:
        image = machine.store.put("disk", boot_sector.disk(boot_sector.WRITE), "raw")
        rest = machine.store.put("rest", boot_sector.disk(size=2 * MIB), "raw")
        await driver.start(writer, guest_of("i-1", image, root_gib=1))
        found = await by_itself(driver, writer)
        assert found.phase is Phase.PAUSED
        assert found.cause is not None
        assert found.cause.code == "disk-failed"
        assert [each.cause for each in await driver.inventory()] == [found.cause]

        with pytest.raises(Fault) as caught:
            await driver.resume(writer)
        assert caught.value.code == STORAGE_FULL
        assert (await refused(machine, GuestKey("i-2", 1), guest_of("i-2", rest))).code == STORAGE_FULL
        with pytest.raises(Fault) as caught:
            async with aclosing(driver.capture(writer, "cap-1")) as words:
                await anext(words)
        assert caught.value.code == STORAGE_FULL
        assert {name.split("/")[1] for name in machine.files()} == {"i-1.1"}
    finally:
        ballast.unlink()
    disk = machine.disk / "guests" / "i-1.1" / "root.qcow2"
    before = disk.stat().st_blocks
    await driver.resume(writer)
    await until(lambda: disk.stat().st_blocks > before, "the guest writes on")
    assert await phases(driver) == {writer: Phase.RUNNING}


def made_qcow2(folder: Path) -> bytes:
    raw, qcow2 = folder / "raw", folder / "qcow2"
    raw.write_bytes(boot_sector.disk()[:1024] + os.urandom(MIB - 1024))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-f", "raw", str(raw), str(qcow2)], check=True)
    return qcow2.read_bytes()


async def test_corrupt_and_hostile_images_are_refused_and_leave_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    put, key = machine.store.put, GuestKey("i-1", 1)
    whole = made_qcow2(tmp_path)
    wild = bytearray(whole)
    first_table = int.from_bytes(whole[40:48])
    wild[first_table : first_table + 8] = (1 << 63 | 0x7FFF_FFFF_0000).to_bytes(8)
    bad = {
        "cut off": put("cut", whole[: len(whole) - 300_000], "qcow2", MIB),
        "a table that leads nowhere": put("wild", bytes(wild), "qcow2", MIB),
        "another format": put("raw", boot_sector.disk(), "qcow2"),
        "another size": put("size", whole, "qcow2", 2 * MIB),
    }
    for name, image in bad.items():
        fault = await refused(machine, key, guest_of("i-1", image))
        assert fault.code == "bad-image", name
        assert fault.why
        assert machine.files() == set(), name
    assert await phases(machine.driver) == {}
    assert list((machine.disk / "images").iterdir()) == []

    await machine.driver.start(key, guest_of("i-1", put("good", whole, "qcow2", MIB)))
    await machine.until_said(key, "boot 1")


async def test_what_a_dead_controller_was_copying_is_swept(machine: Machine) -> None:
    key = GuestKey("i-1", 1)
    await machine.driver.start(key, guest_of("i-1", machine.store.put("disk", boot_sector.disk(), "raw")))
    left = machine.disk / "guests" / "i-1.1" / "capture-left.copy"
    left.write_bytes(b"half")
    await machine.close()
    await machine.open()
    assert not left.exists()
    assert await phases(machine.driver) == {key: Phase.RUNNING}
