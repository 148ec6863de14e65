"""One node, put together: its hypervisor, its guests, its lease, its migrations."""

from __future__ import annotations

from dataclasses import dataclass

from mallee.nc.driver import Capabilities, Driver
from mallee.nc.guests import Guests
from mallee.nc.lease import Lease
from mallee.nc.migration import Migrations


@dataclass(frozen=True, slots=True)
class Node:
    """What the parts of a process need to know of one of its nodes."""

    name: str
    driver: Driver
    capabilities: Capabilities
    guests: Guests
    lease: Lease
    migrations: Migrations
