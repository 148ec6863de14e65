"""Calls between services: who is calling, what is allowed, what failed, and when to give up.

The rest of the cloud sees `Transport`; `GrpcTransport` is production, `MemoryTransport` the
simulation. What both do alike stands once: `server` guards handlers, `client` guards calls.
"""

from mallee.kernel.rpc.access import AccessTable
from mallee.kernel.rpc.identity import ANYONE, NOBODY, Identity
from mallee.kernel.rpc.seam import Channel, Registration, Served, Transport

__all__ = [
    "ANYONE",
    "NOBODY",
    "AccessTable",
    "Channel",
    "Identity",
    "Registration",
    "Served",
    "Transport",
]
