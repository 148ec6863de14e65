"""The hypervisors of a process's nodes, as the operator chose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path

from mallee.domain.guest import Resources
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Credentials, Identity, Keys
from mallee.nc.config import NcConfig
from mallee.nc.db.fakes import FakeStore
from mallee.nc.driver import Driver
from mallee.nc.drivers.fake import FakeDriver, FakeHost
from mallee.nc.drivers.fake_knobs import Knobs
from mallee.nc.drivers.fake_migration import CopyRules
from mallee.nc.images.cache import ImageCache
from mallee.nc.images.objects import Objects
from mallee.nc.images.tool import QemuImg
from mallee.nc.metadata.server import MetadataServer

BootId = Callable[[str], str]
"""The name of a node -> what changes when its host has rebooted, and its guests are gone."""


async def open_drivers(
    config: NcConfig,
    me: Identity,
    db: Database,
    knobs: Mapping[str, Knobs],
    *,
    clock: Clock,
    entropy: Entropy,
    stack: AsyncExitStack,
    objects: Objects,
    keys: Keys | None = None,
    traces: Path | None = None,
) -> tuple[Mapping[str, Driver], BootId]:
    """A driver for each node, open; `stack` closes them.

    `keys` are those of the node controller; in `traces` it says what it leaves on its host.

    Raises:
        Fault: UNAVAILABLE when the hypervisor does not answer; INVALID when its library is missing.
    """
    if config.hypervisor == "libvirt":
        return {
            me.name: await _libvirt(config, me, clock, entropy, stack, objects, keys, traces)
        }, _hosts_boot_id
    store = FakeStore(db)
    stack.push_async_callback(store.settle)
    found = await store.load()
    host = _fake_host(config)
    drivers: dict[str, Driver] = {}
    for name in config.node_names(me.name):
        rows = found.get(name, {})
        driver = FakeDriver(name, store, rows, clock=clock, entropy=entropy, host=host, knobs=knobs[name])
        await driver.open()
        stack.push_async_callback(driver.close)
        drivers[name] = driver
    # Pretend hosts do not reboot: their guests are as they were however often we start.
    return drivers, lambda name: f"fake-{name}"


async def _libvirt(
    config: NcConfig,
    me: Identity,
    clock: Clock,
    entropy: Entropy,
    stack: AsyncExitStack,
    objects: Objects,
    keys: Keys | None,
    traces: Path | None,
) -> Driver:
    try:
        from mallee.nc.drivers.libvirt.confidence import Confidence
        from mallee.nc.drivers.libvirt.disks import Disks
        from mallee.nc.drivers.libvirt.driver import Host, LibvirtDriver
        from mallee.nc.drivers.libvirt.host import shape_of
        from mallee.nc.drivers.libvirt.images import LocalImages
        from mallee.nc.drivers.libvirt.network import Network, NoNetwork
        from mallee.nc.drivers.libvirt.network.flat import FlatNetwork
        from mallee.nc.drivers.libvirt.traces import Traces
    except ImportError as error:
        raise Fault(
            Kind.INVALID,
            "This node cannot run real guests.",
            why="The Python library of libvirt is not installed.",
            fix="apt install libvirt-dev pkg-config gcc python3-dev, then pip install 'mallee[libvirt]'.",
            code="no-libvirt-python",
        ) from error
    guests = Path(config.guest_folder)
    images, run_folder = guests / f"{me.name}.images", _run_folder(me, guests)
    if traces is not None:
        bridge = config.bridge if config.network == "flat" else ""
        found = (config.libvirt_uri, me.cloud, *map(str, (guests / me.name, images)), bridge, str(run_folder))
        Traces(*found).keep(traces)
    tool = QemuImg()
    cache = ImageCache(images, config.image_cache_mib << 20, objects, tool, clock)
    await cache.open()
    stack.push_async_callback(cache.close)
    disks = Disks(LocalImages(Path(config.image_folder)), cache, tool)
    shape = await shape_of(config)
    address = config.migration_host or config.address.rpartition(":")[0]
    # A folder of this node's own, also where several nodes share a file system: what is there is its guests'.
    host = Host(config.libvirt_uri, shape, address, guests / me.name, vcpus=config.host_vcpus)
    network: Network = NoNetwork(config.bridge if config.network == "bridge" else "")
    if config.network == "flat":
        metadata = MetadataServer(clock, entropy)
        stack.push_async_callback(metadata.close_all)
        network = flat = FlatNetwork(config.bridge, address, config.network_peers, run_folder, metadata)
        stack.push_async_callback(flat.let_go)
    confidence = None
    if config.migration_tls:
        confidence = Confidence(me, _own(keys, me), Path(config.migration_keys))
    driver = LibvirtDriver(host, me.cloud, disks, network, clock=clock, confidence=confidence)
    await driver.open()
    stack.push_async_callback(driver.close)
    return driver


def _own(keys: Keys | None, me: Identity) -> Callable[[], Credentials]:
    """The node controller's certificate as it is when asked for."""
    if keys is None:
        raise Fault(
            Kind.INVALID,
            "This node cannot send guests to others in confidence.",
            why="It has no certificate.",
            fix="Join the cloud, or send memory in the clear: migration_tls = false in [nc].",
            code="no-certificate",
        )
    return partial(keys.current, me)


def _run_folder(me: Identity, guests: Path) -> Path:
    """For what another user must read, which the DHCP server is: the state folder is ours alone."""
    return Path("/run/mallee") / f"{me.name}-{sha256(str(guests).encode()).hexdigest()[:8]}"


def _hosts_boot_id(_node: str) -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _fake_host(config: NcConfig) -> FakeHost:
    return FakeHost(
        config.cpu_model,
        Resources(config.vcpus, config.memory_mib),
        0.0 if config.instant else config.start_seconds,
        CopyRules(config.bandwidth_mbps, instant=config.instant),
    )
