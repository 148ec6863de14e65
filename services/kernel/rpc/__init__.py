"""Calls between services: who is calling, what is allowed, what failed, and when to give up.

The rest of the cloud sees `Transport`; `GrpcTransport` is production, `MemoryTransport` the
simulation. What both do alike stands once: `server` guards handlers, `client` guards calls.
"""

import os

# Its informational lines (each refused handshake, each goaway) go to standard error past our log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from mallee.kernel.rpc.access import AccessTable
from mallee.kernel.rpc.conversation import Conversation
from mallee.kernel.rpc.grpc_transport import GrpcTransport
from mallee.kernel.rpc.identity import ANYONE, NOBODY, Identity
from mallee.kernel.rpc.keys import Credentials, Keys
from mallee.kernel.rpc.memory import MemoryTransport
from mallee.kernel.rpc.memory_pipe import Fate, Faults, Message
from mallee.kernel.rpc.seam import Channel, Registration, Served, Transport
from mallee.kernel.rpc.server import peer
from mallee.kernel.rpc.streaming import keep_streaming

__all__ = [
    "ANYONE",
    "NOBODY",
    "AccessTable",
    "Channel",
    "Conversation",
    "Credentials",
    "Fate",
    "Faults",
    "GrpcTransport",
    "Identity",
    "Keys",
    "MemoryTransport",
    "Message",
    "Registration",
    "Served",
    "Transport",
    "keep_streaming",
    "peer",
]
