"""A guest, a wire without a network, and a clock that is driven until something has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mallee.domain.guest import Guest, GuestKey, MetadataOptions, Phase, Resources
from mallee.domain.migration import Limits, Round
from mallee.kernel.clock import ManualClock
from mallee.nc.driver import Driver, HandedOver, Steering
from mallee.rpc import common_pb2


def a_guest(instance_id: str = "i-1", *, memory_mib: int = 16, **changed: Any) -> Guest:
    usual: dict[str, Any] = {
        "instance_id": instance_id,
        "account_id": "123456789012",
        "instance_type": "t3.micro",
        "resources": Resources(1, memory_mib),
        "image_id": "ami-1",
        "image_location": "fake",
        "architecture": "x86_64",
        "hostname": "ip-10-0-0-5",
        "mac_address": "02:00:00:00:00:05",
        "private_address": "10.0.0.5",
        "subnet_cidr": "10.0.0.0/20",
        "public_key": "",
        "key_name": "",
        "user_data": b"",
        "root_device_name": "/dev/sda1",
        "availability_zone": "local-1a",
        "launched_ms": 1,
    }
    return Guest(**(usual | changed))


def as_message(guest: Guest) -> bytes:
    names = [field.name for field in common_pb2.Guest.DESCRIPTOR.fields if field.message_type is None]
    plain = {name: getattr(guest, name) for name in names if hasattr(guest, name)}
    plain["tags"] = guest.tags
    size = common_pb2.Resources(vcpus=guest.resources.vcpus, memory_mib=guest.resources.memory_mib)
    message = common_pb2.Guest(resources=size, **plain)
    if guest.metadata != MetadataOptions():
        options = guest.metadata
        message.metadata.CopyFrom(
            common_pb2.MetadataOptions(
                disabled=not options.enabled,
                tokens_required=options.tokens_required,
                hop_limit=options.hop_limit,
                tags=options.tags is not None,
                user_tags=options.tags or {},
            )
        )
    return message.SerializeToString()


class DirectWire:
    """Into the destination's driver without a network; every page goes through bytes all the same."""

    def __init__(self, to: Driver, key: GuestKey) -> None:
        self.to = to
        self.key = key
        self.chunks = 0

    async def pages(self, round_number: int, numbers: bytes, contents: bytes) -> None:
        self.chunks += 1
        await self.to.receive(self.key, round_number, numbers, contents, b"")

    async def close(self, cpu_state: bytes) -> str:
        return await self.to.receive(self.key, 0, b"", b"", cpu_state)


async def copied(
    source: Driver,
    key: GuestKey,
    wire: DirectWire,
    limits: Limits,
    steer: Steering | None = None,
    landing: str = "",
) -> tuple[list[Round], str]:
    """All of stage 2: its rounds and its reason."""
    rounds: list[Round] = []
    async for word in source.pre_copy(key, "mig-1", wire, limits, steer or Steering(), landing):
        if isinstance(word, str):
            return rounds, word
        rounds.append(word)
    raise AssertionError("a pre-copy ended without a reason")


async def migrated(
    source: Driver, target: Driver, guest: Guest, limits: Limits | None = None
) -> tuple[list[Round], str, HandedOver]:
    """Stages 1 to 3 of generation 1 becoming generation 2."""
    key, arriving = GuestKey(guest.instance_id, 1), GuestKey(guest.instance_id, 2)
    landing = await target.prepare(arriving, guest, "mig-1")
    wire = DirectWire(target, arriving)
    rounds, reason = await copied(source, key, wire, limits or Limits(), landing=landing)
    return rounds, reason, await source.stop_and_copy(key, "mig-1")


async def driven(clock: ManualClock, work: Awaitable[Any], *, step: float = 0.25, most: float = 3600) -> Any:
    """The result of `work`, with time moved on as long as it waits for it."""
    task = asyncio.ensure_future(work)
    spent = 0.0
    await clock.settle()
    while not task.done():
        assert spent < most, "still waiting after all that time"
        await clock.advance(step)
        spent += step
    return await task


async def until(
    clock: ManualClock, what: Callable[[], bool], *, step: float = 0.05, most: float = 120
) -> None:
    """Move time until something is so."""
    spent = 0.0
    await clock.settle()
    while not what():
        assert spent < most, "it did not become so in all that time"
        await clock.advance(step)
        spent += step


async def phases(driver: Driver) -> dict[GuestKey, Phase]:
    return {found.key: found.phase for found in await driver.inventory()}
