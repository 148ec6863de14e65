"""A real guest migrates: by Mallee, by libvirt alone (what `virsh migrate --live` calls) and by QEMU alone over QMP.

Same machine, guest, workload and line for all, one after the other in interleaved rounds. Downtime is
from the source QEMU's STOP to the destination QEMU's RESUME, by their own clocks; total is from the order
until the source is gone, the start of the destination's QEMU included. Workloads after performance goal
B5: memory of 256 MiB or 1 GiB, touched or not, and a set of pages that is written over and over.

    sudo python benches/real_migration.py [--rounds N] [--quick]

Needs root, QEMU and libvirt; a floor that is missed fails the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import libvirt
import libvirt_qemu

sys.path.insert(0, str(Path(__file__).parent.parent))

from mallee.cli.lab import Host, missing, some_hosts, until
from mallee.domain.guest import GuestKey, Resources
from mallee.domain.migration import Limits
from mallee.nc.drivers.libvirt.connection import _run_events
from mallee.nc.drivers.libvirt.domain import Boot, Identity, Place, Shape, document
from tests.live.dirty_guest import Work, put
from tests.live.field import RealField
from tests.unit.nc.pretend import a_guest

LIMITS = Limits()
EXTRA_DOWNTIME_MS, EXTRA_TOTAL_MS, SHARE_OF_WORST = 20.0, 500.0, 0.5
AIM_DOWNTIME_MS, AIM_TOTAL_MS, AIM_OF_WORST = 5.0, 100.0, 0.1
SHAPE = Shape("qemu", "pc-q35-7.2", "qemu64")
CPUS_MS = 1e3


@dataclass(frozen=True, slots=True)
class Load:
    """A guest and what it does."""

    name: str
    memory_mib: int
    work: Work


LOADS = (
    Load("256 MiB idle", 256, Work()),
    Load("256 MiB touched, 1 MiB at 4 MiB/s", 256, Work(216, 1, 4)),
    Load("1 GiB touched, quiet", 1024, Work(980)),
    Load("1 GiB touched, 64 MiB at 100 MiB/s", 1024, Work(980, 64, 100)),
    Load("1 GiB touched, 256 MiB at 400 MiB/s", 1024, Work(980, 256, 400)),
)


class Cost(NamedTuple):
    """Milliseconds."""

    downtime: float
    total: float
    rounds: int


class Events:
    """What both hosts' QEMUs say, with their own time stamps."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        _run_events()
        self.heard: list[tuple[str, float]] = []
        self._connections = [libvirt.open(host.uri) for host in hosts]
        for connection in self._connections:
            for event in ("STOP", "RESUME"):
                libvirt_qemu.qemuMonitorEventRegister(connection, None, event, self._hear, None, 0)

    def _hear(
        self, _connection: Any, _domain: Any, event: str, seconds: int, micros: int, *_rest: Any
    ) -> None:
        self.heard.append((event, seconds * 1e3 + micros / 1e3))

    def downtime(self) -> float:
        until(lambda: {"STOP", "RESUME"} <= {name for name, _ in self.heard}, "both events")
        stopped = next(at for name, at in self.heard if name == "STOP")
        return next(at for name, at in self.heard if name == "RESUME" and at >= stopped) - stopped


async def ours(hosts: Sequence[Host], events: Events, load: Load, folder: Path, *, tls: bool) -> Cost:
    """Through a cluster controller and two node controllers, each with its database on disk."""
    size = Resources(1, load.memory_mib)
    field = RealField(hosts, folder, work=load.work, size=size, limits=LIMITS, grpc=True, tls=tls)
    await field.open()
    try:
        await field.run()
        events.heard.clear()
        began = time.monotonic()
        migration = await field.migrate()
        assert migration is not None

        async def over() -> bool:
            return not migration.open

        await field.until(over, 120)
        total = (time.monotonic() - began) * CPUS_MS
        assert migration.state == "completed", migration
        return Cost(events.downtime(), total, len(migration.rounds))
    finally:
        await field.close()


def by_libvirt(hosts: Sequence[Host], events: Events, load: Load, folder: Path) -> Cost:
    """What `virsh migrate --live GUEST qemu+unix://... --migrateuri tcp://...` does, without the start of virsh."""
    here, there = [libvirt.open(host.uri) for host in hosts]
    console = folder / "console"
    domain = here.createXML(_document(load, folder, console), 0)
    try:
        _await_work(console)
        events.heard.clear()
        began = time.monotonic()
        words = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp://{hosts[1].address}"}
        domain = domain.migrate3(there, words, libvirt.VIR_MIGRATE_LIVE)
        total = (time.monotonic() - began) * CPUS_MS
        return Cost(events.downtime(), total, 0)
    finally:
        domain.destroy()


def _document(load: Load, folder: Path, console: Path) -> str:
    put(folder, "guest", load.work)
    guest = a_guest(memory_mib=load.memory_mib)
    me = Identity(cloud="bench", key=GuestKey("i-1", 1), guest=guest)
    boot = Boot(kernel=str(folder / "guest/vmlinuz"), ramdisk=str(folder / "guest/initrd"))
    return document(me, SHAPE, boot, Place(str(console)))


def _await_work(console: Path) -> None:
    until(lambda: console.exists() and console.read_bytes().endswith(b"R"), "the guest's word", 60)


class Qemu:
    """One QEMU and its monitor."""

    def __init__(self, host: Host, load: Load, folder: Path, *options: str) -> None:
        name = folder / f"qmp-{len(list(folder.glob('qmp-*')))}"
        self.console = name.with_suffix(".console")
        command = (
            f"qemu-system-x86_64 -machine {SHAPE.machine},accel=tcg -cpu {SHAPE.cpu_model} -m {load.memory_mib}"
            f" -nodefaults -display none -vga std -serial file:{self.console} -qmp unix:{name},server,nowait"
            f" -kernel {folder}/guest/vmlinuz -initrd {folder}/guest/initrd -append console=ttyS0"
        )
        inside = ["ip", "netns", "exec", host.netns]
        self.process = subprocess.Popen([*inside, *command.split(), *options], stdin=subprocess.DEVNULL)
        until(name.exists, "the monitor")
        self._socket = socket.socket(socket.AF_UNIX)
        until(lambda: not self._socket.connect_ex(str(name)), "the monitor")
        self._lines = self._socket.makefile("rw")
        self.events: list[dict[str, Any]] = []
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Any:
        self._lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._lines.flush()
        while True:
            said = json.loads(self._lines.readline())
            if "event" not in said:
                return said["return"]
            self.events.append(said)

    def when(self, event: str) -> float:
        """When it said so; asks until it has."""
        while True:
            self.ask("query-status")
            for each in self.events:
                if each["event"] == event:
                    stamp = each["timestamp"]
                    return float(stamp["seconds"] * 1e3 + stamp["microseconds"] / 1e3)

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()


def by_qemu(hosts: Sequence[Host], _events: Events, load: Load, folder: Path) -> Cost:
    """QEMU's defaults, but for the bandwidth, which is everybody's."""
    put(folder, "guest", load.work)
    here = Qemu(hosts[0], load, folder)
    with _closing(here):
        _await_work(here.console)
        began = time.monotonic()
        there = Qemu(hosts[1], load, folder, "-incoming", "defer")
        with _closing(there):
            there.ask("migrate-incoming", uri=f"tcp:{hosts[1].address}:4444")
            here.ask("migrate-set-parameters", **{"max-bandwidth": int(LIMITS.bandwidth_mbps * 1e6 / 8)})
            here.events.clear()
            here.ask("migrate", uri=f"tcp:{hosts[1].address}:4444")
            while (now := here.ask("query-migrate"))["status"] != "completed":
                assert now["status"] != "failed", now
                _breath()
            resumed = there.when("RESUME")
            total = (time.monotonic() - began) * CPUS_MS
            return Cost(resumed - here.when("STOP"), total, now["ram"]["dirty-sync-count"])


@contextmanager
def _closing(qemu: Qemu) -> Iterator[None]:
    try:
        yield
    finally:
        qemu.close()


def _breath() -> None:
    time.sleep(0.005)


WAYS: dict[str, Callable[..., Cost]] = {
    "mallee": lambda *words: asyncio.run(ours(*words, tls=True)),
    "mallee, in the clear": lambda *words: asyncio.run(ours(*words, tls=False)),
    "libvirt": by_libvirt,
    "qemu": by_qemu,
}


def measured(rounds: int, loads: Sequence[Load]) -> dict[tuple[str, str], list[Cost]]:
    found: dict[tuple[str, str], list[Cost]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="mallee-bench-") as scratch,
        some_hosts(2, Path(scratch)) as hosts,
    ):
        events = Events(hosts)
        for number in range(rounds):
            for load in loads:
                for way, work in WAYS.items():
                    folder = Path(scratch) / f"{number}-{loads.index(load)}-{list(WAYS).index(way)}"
                    folder.mkdir()
                    cost = work(hosts, events, load, folder)
                    found.setdefault((load.name, way), []).append(cost)
                    print(
                        f"  {number + 1} {load.name:<38}{way:<22}{cost.downtime:9.1f}{cost.total:10.0f}",
                        flush=True,
                    )
    return found


def verdict(value: float, floor: float, aim: float) -> str:
    return "aim reached" if value <= aim else "floor reached" if value <= floor else "MISSED"


def report(found: dict[tuple[str, str], list[Cost]], loads: Sequence[Load]) -> bool:
    """Print medians and how they compare; whether every floor is reached."""
    print(f"\n{'medians, ms':<40}{'way':<22}{'downtime':>9}{'total':>10}")
    middle = {
        each: Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))
        for each, costs in found.items()
    }
    for (load, way), cost in middle.items():
        print(f"{load:<40}{way:<22}{cost.downtime:9.1f}{cost.total:10.0f}")
    good = True
    for way in list(WAYS)[:2]:
        for peer in list(WAYS)[2:]:
            more = [
                (
                    middle[each.name, way].downtime - middle[each.name, peer].downtime,
                    middle[each.name, way].total - middle[each.name, peer].total,
                )
                for each in loads
            ]
            down, total = max(each[0] for each in more), max(each[1] for each in more)
            print(
                f"{way} against {peer}: downtime at most {down:+.1f} ms ({verdict(down, EXTRA_DOWNTIME_MS, AIM_DOWNTIME_MS)}), "
                f"total at most {total:+.0f} ms ({verdict(total, EXTRA_TOTAL_MS, AIM_TOTAL_MS)})"
            )
            good = good and down <= EXTRA_DOWNTIME_MS and total <= EXTRA_TOTAL_MS
        worst = {name: max(middle[each.name, name].downtime for each in loads) for name in (way, "qemu")}
        share = worst[way] / worst["qemu"]
        print(
            f"{way}: worst downtime {worst[way]:.0f} ms, QEMU's defaults {worst['qemu']:.0f} ms: {share:.2f} ({verdict(share, SHARE_OF_WORST, AIM_OF_WORST)})"
        )
        good = good and share <= SHARE_OF_WORST
    return good


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="the three smallest workloads, one round")
    asked = options.parse_args()
    if reason := missing():
        print(f"skipped: {reason}")
        return 0
    loads = LOADS[:3] if asked.quick else LOADS
    return not report(measured(1 if asked.quick else asked.rounds, loads), loads)


if __name__ == "__main__":
    raise SystemExit(main())
