"""Where a guest is plugged in, and what it is plugged into."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from hashlib import sha256

from mallee.domain.guest import Guest, GuestKey
from mallee.kernel.errors import Fault, Kind

_is_mac = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII).fullmatch


def is_mac(text: str) -> bool:
    """Whether this is the address of a card, in the one spelling that is used."""
    return bool(_is_mac(text))


@dataclass(frozen=True, slots=True)
class Plug:
    """One guest's place on the bridge."""

    instance_id: str
    tap: str
    mac: str
    address: str
    subnet: ipaddress.IPv4Network
    port: int  # of its metadata, on the host


@dataclass(frozen=True, slots=True)
class Segment:
    """The bridge of a host, and its way to the others."""

    bridge: str
    tunnel: str
    mac: str  # of the bridge
    others: tuple[str, ...] = ()  # of the bridges of other hosts
    routed: str = ""  # the card's address of what the host sends on for somebody


def plug_of(key: GuestKey, guest: Guest, port: int) -> Plug:
    """The place of a guest whose metadata are at this port. Raises Fault INVALID `bad-guest`."""
    if not is_mac(guest.mac_address):
        raise Fault(Kind.INVALID, f"{guest.mac_address!r} is no address of a card.", code="bad-guest")
    try:
        address = ipaddress.IPv4Address(guest.private_address)
        subnet = ipaddress.IPv4Network(guest.subnet_cidr)
    except ValueError as error:
        raise Fault(Kind.INVALID, "The guest has no address.", why=str(error), code="bad-guest") from error
    return Plug(key.instance_id, tap_of(key), guest.mac_address, str(address), subnet, port)


def tap_of(key: GuestKey) -> str:
    """The host side of a guest's card: a name of at most 15 characters."""
    return "mt" + sha256(f"{key.instance_id}.{key.generation}".encode()).hexdigest()[:12]
