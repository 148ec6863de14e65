"""What real guests have on a host is seen, told, and taken away with the cloud: a real daemon and a real network."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mallee.cli.commands.clouds import down
from mallee.cli.lab import Host, missing, some_hosts
from mallee.domain.guest import GuestKey, MetadataOptions, Phase
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault
from mallee.nc.drivers.libvirt.disks import Disks
from mallee.nc.drivers.libvirt.driver import Host as HostOptions
from mallee.nc.drivers.libvirt.driver import LibvirtDriver
from mallee.nc.drivers.libvirt.traces import Traces
from mallee.nc.images.cache import ImageCache
from mallee.nc.images.tool import QemuImg
from tests.live import namespaces
from tests.live.drivers import SHAPE, FromNothing
from tests.live.namespaces import SUBNET, NetHost, inside
from tests.unit.nc.pretend import a_guest
from tests.unit.nc.pretend_store import PretendStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = GuestKey("i-4", 1)
GUEST = a_guest("i-4", mac_address="02:00:00:00:00:04", private_address="172.31.0.4", subnet_cidr=SUBNET)


class Node:
    """A host with a guest on its bridge, as a node controller makes it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.state = folder / "state"
        self.traces = self.state / "services/nc-node/host.json"
        self.traces.parent.mkdir(parents=True)
        self.guests = folder / "guests/node"
        self.net = NetHost(host.netns, host.address, folder, ())
        self._folder = folder

    def begin(self) -> None:
        network = self.net.network
        found = (self.host.uri, "a-cloud", str(self.guests), str(self._folder / "images"))
        Traces(*found, network.bridge, str(network.folder)).keep(self.traces)
        self.driver = self.net.do(self._driver())

    async def _driver(self) -> LibvirtDriver:
        tool = QemuImg()
        cache = ImageCache(self._folder / "images", 1 << 30, PretendStore(), tool, SystemClock())
        await cache.open()
        driver = LibvirtDriver(
            HostOptions(self.host.uri, SHAPE, self.host.address, self.guests, patience=0.3),
            "a-cloud",
            Disks(FromNothing(self._folder), cache, tool),
            self.net.network,
            clock=SystemClock(),
        )
        await driver.open()
        return driver

    def left(self) -> list[str]:
        """Everything of ours that the host has."""
        links = [each.split(":")[1].strip() for each in self.host.said("ip", "-o", "link").splitlines()]
        tables = self.host.said("nft", "list", "tables").split()
        domains = self.host.said("virsh", "-c", self.host.uri, "list", "--all", "--name").split()
        processes = subprocess.run(
            ["pgrep", "-f", f"{self._folder}/(net|guests)"], capture_output=True, text=True, check=False
        )
        files = [str(path) for path in (self.guests, self.net.network.folder) if path.exists()]
        ours = [each for each in (*links, *tables) if "mallee0" in each or each.startswith("mt")]
        return [*ours, *domains, *processes.stdout.split(), *files]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if reason := missing() or namespaces.missing():
        pytest.skip(reason)
    with some_hosts(1, tmp_path_factory.mktemp("hosts")) as (made,):
        yield made


@pytest.fixture
def node(host: Host, tmp_path: Path) -> Iterator[Node]:
    made = Node(host, tmp_path)
    made.begin()
    yield made
    made.net.do(made.driver.close())
    made.net.end()


def test_a_purge_leaves_nothing_of_a_cloud_whose_node_was_killed(node: Node) -> None:
    node.net.do(node.driver.start(KEY, GUEST))
    assert (
        len(node.left()) >= 7
    )  # the bridge, its tunnel, the guest's card, tables, a domain, dnsmasq, folders
    # The node controller is killed: the guest runs on, and its network with it.
    inside(node.host.netns, lambda: down(node.state, purge=True))
    assert node.left() == []
    assert not node.state.exists()


def test_a_host_whose_daemon_is_silent_is_not_forgotten(node: Node) -> None:
    node.net.do(node.driver.start(KEY, GUEST))
    known = msgspec.json.decode(node.traces.read_bytes(), type=Traces)
    nobody = f"qemu+unix:///system?socket={node.state}/nobody"
    msgspec.structs.replace(known, uri=nobody).keep(node.traces)
    with pytest.raises(Fault, match="could not be looked for"):
        inside(node.host.netns, lambda: down(node.state, purge=True))
    assert node.traces.exists()
    known.keep(node.traces)
    inside(node.host.netns, lambda: down(node.state, purge=True))
    assert node.left() == []


def test_a_purge_leaves_the_guests_of_others_alone(node: Node) -> None:
    node.net.do(node.driver.start(KEY, GUEST))
    Traces(node.host.uri, "another", str(node.guests), str(node.guests), "", "").keep(node.traces)
    node.guests.rename(aside := node.guests.with_name("aside"))
    inside(node.host.netns, lambda: down(node.state, purge=True))
    aside.rename(node.guests)
    (found,) = node.net.do(node.driver.inventory())
    assert found.phase is Phase.RUNNING
    node.net.do(node.driver.destroy(KEY))
    assert [each for each in node.left() if not each.startswith("/")] == []


def test_a_running_guest_is_described_anew_and_a_restart_finds_it(node: Node) -> None:
    node.net.do(node.driver.start(KEY, GUEST))
    later = a_guest("i-4", metadata=MetadataOptions(tokens_required=True), description=3, memory_mib=999)
    node.net.do(node.driver.describe(KEY, later))
    node.net.do(node.driver.close())
    node.net.do(node.net.network.let_go())
    node.net.do(node.net.metadata.close_all())
    node.net.begin()
    node.begin()
    (found,) = node.net.do(node.driver.inventory())
    assert found.guest == GUEST.described_anew(later)
    assert node.net.do(node.driver.capabilities()).guards
    node.net.do(node.driver.destroy(KEY))


def test_a_screen_is_shown_and_a_console_is_followed(node: Node) -> None:
    node.net.do(node.driver.start(KEY, GUEST))
    picture = node.net.do(node.driver.screenshot("i-4"))
    assert picture.startswith(b"\xff\xd8\xff")
    assert picture.endswith(b"\xff\xd9")

    async def followed() -> list[bytes]:
        heard: list[bytes] = []
        written = node.driver.follow_console("i-4")
        async for some in written:
            heard.append(some)
            if len(heard) == 1:
                with (node.guests / "i-4.1/console.log").open("ab") as log:
                    log.write(b"login: ")
            if b"login: " in some:
                await written.aclose()
        return heard

    assert node.net.do(followed())[-1].endswith(b"login: ")
    node.net.do(node.driver.destroy(KEY))
