"""The seam between services and whatever carries their messages.

Generated stubs take any channel and generated `add_…_to_server` functions any server, so a service
is written once and runs over mutual TLS, and in one event loop under virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from grpc import aio

from mallee.kernel.rpc.access import AccessTable
from mallee.kernel.rpc.identity import Identity

MESSAGE_LIMIT = 16 * 1024 * 1024  # bytes of one message; longer things are streams
UNARY_DEADLINE = 5.0  # seconds, for a call that names none
KEEPALIVE = 10.0  # seconds of silence after which the peer is asked whether it lives
KEEPALIVE_ANSWER = 5.0  # seconds it has to answer, then its calls are UNAVAILABLE

Channel = aio.Channel
Registration = Callable[[aio.Server], None]  # e.g. `partial(add_NodeServiceServicer_to_server, node)`


class Served(Protocol):
    """A server that is answering."""

    @property
    def address(self) -> str:
        """Where it listens; port 0 has become the real one."""

    async def set_health(self, service: str, *, serving: bool) -> None:
        """What grpc.health.v1 answers for `service`; the empty name is the whole server."""

    async def close(self, grace: float = 0.0) -> None:
        """Take no more calls, give those under way `grace` seconds, then cut them off."""


class Transport(Protocol):
    """Serves and reaches services. Two implementations pass `tests/conformance/test_transport.py`."""

    async def serve(
        self,
        me: Identity,
        address: str,
        *add: Registration,
        access: AccessTable,
        client_certificates: bool = True,
    ) -> Served:
        """Answer at `address` (`host:port`, port 0 for any) as `me`, health and reflection included.

        Args:
            me: whose certificate the server shows.
            address: where to listen.
            add: registers one servicer each.
            access: who may call what; what is not listed is refused.
            client_certificates: False only for enrolment: callers are `NOBODY` then.

        Raises:
            Fault: CONFLICT `address-in-use`.
        """

    def connect(
        self, me: Identity, address: str, *, expect: Identity | str, own_connection: bool = False
    ) -> Channel:
        """A channel for generated stubs. Connects when first used and again whenever it must.

        Every failure of a call is a `Fault`. A unary call without a `timeout` has `UNARY_DEADLINE`;
        streams end by keepalive when the peer is gone.

        Args:
            me: whose certificate the client shows.
            address: where to; of several, with commas between, the first that answers.
            expect: who must answer there: one service, or any of a role.
            own_connection: do not share a TCP connection with other channels of this process.
        """

    def connect_with_ca(self, ca_pem: bytes, address: str, *, expect: str) -> Channel:
        """A channel without a certificate of ours, for enrolment; the server must have the role `expect`."""
