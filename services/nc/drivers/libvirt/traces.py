"""What a node leaves on its host besides its state: written down when it begins, taken away when it is purged.

Guests live on while no node controller runs, and so does the network that they are in: both are only
taken away by somebody who says so.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import libvirt
import msgspec

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import replace
from mallee.nc.drivers.libvirt.domain import NAMESPACE, identity_of
from mallee.nc.drivers.libvirt.network.links import sweep_away


class Traces(msgspec.Struct, frozen=True):
    """Where to look.

    Attributes:
        uri: of the libvirt daemon.
        cloud: whose guests are ours.
        guests: the folder in which each guest of this node has its own, by the name of its domain.
        images: the folder of ready images.
        bridge: of the flat network; '' where the host's network was not touched.
        network: the folder of that network's files.
    """

    uri: str
    cloud: str
    guests: str
    images: str
    bridge: str = ""
    network: str = ""

    def keep(self, path: Path) -> None:
        """Write it down, before anything is left anywhere."""
        replace(path, msgspec.json.encode(self))


async def purge(path: Path) -> list[str]:
    """Take everything away of which this file says where it is; what was there, in words.

    Raises:
        Fault: UNAVAILABLE when libvirt does not answer: nothing is forgotten then, and it can be said again.
    """
    traces = msgspec.json.decode(await asyncio.to_thread(path.read_bytes), type=Traces)
    ended = await asyncio.to_thread(_end_guests, traces)
    done = [f"guest {name}" for name in ended]
    if traces.bridge and await sweep_away(traces.bridge, Path(traces.network)):
        done.append(f"network {traces.bridge}")
    for folder in (Path(traces.guests), Path(traces.images)):
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return done


def _end_guests(traces: Traces) -> list[str]:
    try:
        connection = libvirt.open(traces.uri)
    except libvirt.libvirtError as error:
        raise Fault(
            Kind.UNAVAILABLE,
            "This host's guests could not be looked for.",
            why=f"{traces.uri}: {error}",
            fix="Start libvirt, and say it again: systemctl start libvirtd",
            code="no-libvirt",
        ) from error
    try:
        ours = [domain for domain in connection.listAllDomains() if _is_ours(domain, traces)]
        for domain in ours:
            if domain.isActive():
                domain.destroy()
            if domain.isPersistent():
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        return [domain.name() for domain in ours]
    finally:
        connection.close()


def _is_ours(domain: Any, traces: Traces) -> bool:
    """Of this cloud, and of this node: several may share a daemon."""
    try:
        me = identity_of(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
    except (libvirt.libvirtError, ValueError):
        return False
    return me.cloud == traces.cloud and (Path(traces.guests) / domain.name()).exists()
