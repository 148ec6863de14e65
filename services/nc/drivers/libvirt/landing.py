"""What the two ends of a real migration tell each other beside the memory."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mallee.nc.driver import Wire


class Crossing(msgspec.Struct, array_like=True):
    """What crosses beside the memory, over the cluster's own connection."""

    migration_id: str
    generation: int
    ram_bytes: int
    reboots: int
    console: bytes


class Landing(msgspec.Struct, omit_defaults=True):
    """Where a copy waits to be filled, as its QEMU says it and the sender's hears it."""

    host: str
    port: int
    tls: bool = False
    disk_port: int = 0
    qemu: tuple[int, int] = (0, 0)

    @property
    def uri(self) -> str:
        return f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """How a guest gets to its copy.

    Args:
        wire: for what crosses beside the memory.
        landing: what the destination's `prepare` has said.
        receiver: the node controller that must answer there.
    """

    wire: Wire
    landing: str
    receiver: str
