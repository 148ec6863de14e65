"""What the operator decides for a node controller: section `[nc]` of `mallee.toml`."""

from __future__ import annotations

from dataclasses import dataclass

from mallee.kernel.errors import Fault, Kind


@dataclass(frozen=True, slots=True)
class NcConfig:
    """The node controller's settings.

    Attributes:
        zone: the availability zone it belongs to.
        address: `host:port` of its gRPC server; port 0 for any.
        cluster: `host:port` of its cluster controller.
        fake_nodes: how many pretend hosts this process is. One has the process's name, more of them
            are called `<name>.1`, `<name>.2` ...
        connection_each: every node reaches the cluster controller over a TCP connection of its own,
            as nodes on machines of their own would.
        hypervisor: `fake`.
        vcpus, memory_mib, cpu_model: what each node offers.
        start_seconds: how long a pretend guest takes to run.
        instant: pretend guests take no time at all, for test suites.
        bandwidth_mbps: of each node's line for migrations, megabits a second.
        lease_seconds: how long a restarted controller lets adopted guests run unconfirmed.
        look_seconds: how often the inventory is read again, for what nobody announced.
    """

    zone: str = "local-1a"
    address: str = "127.0.0.1:0"
    cluster: str = "127.0.0.1:8774"
    fake_nodes: int = 1
    connection_each: bool = False
    hypervisor: str = "fake"
    vcpus: int = 128
    memory_mib: int = 524_288
    cpu_model: str = "mallee-fake-v1"
    start_seconds: float = 1.0
    instant: bool = False
    bandwidth_mbps: float = 10_000.0
    lease_seconds: float = 10.0
    look_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.hypervisor != "fake":
            raise _wrong("hypervisor", self.hypervisor, "Give fake; it is the only one there is yet.")
        for name in ("fake_nodes", "vcpus", "memory_mib"):
            if not 1 <= getattr(self, name) <= 1 << 30:
                raise _wrong(name, getattr(self, name), "Give 1 or more.")
        for name in ("bandwidth_mbps", "lease_seconds", "look_seconds"):
            if not getattr(self, name) > 0:
                raise _wrong(name, getattr(self, name), "Give more than 0.")
        if not self.start_seconds >= 0:
            raise _wrong("start_seconds", self.start_seconds, "Give 0 or more.")

    def node_names(self, own: str) -> list[str]:
        """What the nodes of a process called `own` are called."""
        if self.fake_nodes == 1:
            return [own]
        return [f"{own}.{number}" for number in range(1, self.fake_nodes + 1)]


def _wrong(key: str, value: object, fix: str) -> Fault:
    return Fault(
        Kind.INVALID, f"A node controller cannot have {key} = {value!r}.", fix=fix, code="bad-config"
    )
