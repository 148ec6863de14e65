"""The transport of production: gRPC over mutual TLS, always."""

from __future__ import annotations

from typing import Any

import grpc
from grpc import aio

from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc.access import AccessTable
from mallee.kernel.rpc.client import GuardedChannel
from mallee.kernel.rpc.identity import Identity
from mallee.kernel.rpc.keys import Credentials, Keys, cloud_of
from mallee.kernel.rpc.seam import KEEPALIVE, KEEPALIVE_ANSWER, MESSAGE_LIMIT, Channel, Registration
from mallee.kernel.rpc.server import Guard

_COMMON = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.keepalive_time_ms", int(KEEPALIVE * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_ANSWER * 1000)),
    # The one that counts: without it an unanswered ping is waited for a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_ANSWER * 1000)),
    ("grpc.http2.max_pings_without_data", 0),
)
_SERVER = (
    *_COMMON,
    ("grpc.so_reuseport", 0),  # else a second server would share the port and half of the calls
    ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE * 500)),
    # A peer proves itself anew at least daily: a withdrawn certificate does not outlive its day.
    ("grpc.max_connection_age_ms", 24 * 3600 * 1000),
    ("grpc.max_connection_age_grace_ms", 60 * 1000),
)
_CLIENT = (
    *_COMMON,
    # A killed service is back within seconds; gRPC's own back-off would look away for two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name the time one attempt may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),  # what is repeated is decided where its meaning is known
)


class GrpcServed:
    """A running gRPC server."""

    def __init__(self, server: aio.Server, guard: Guard, address: str) -> None:
        self.address = address
        self._server = server
        self._guard = guard

    async def set_health(self, service: str, *, serving: bool) -> None:
        await self._guard.set_health(service, serving=serving)

    async def close(self, grace: float = 0.0) -> None:
        await self._server.stop(grace)


class GrpcTransport:
    """Mutual TLS with the keys of this process's services; see `Transport` for the contract."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    async def serve(
        self,
        me: Identity,
        address: str,
        *add: Registration,
        access: AccessTable,
        client_certificates: bool = True,
    ) -> GrpcServed:
        guard = Guard(me, access)
        guard.register(add)
        server = aio.server(options=_SERVER)
        for service, handlers in guard.services.items():
            server.add_registered_method_handlers(service, handlers)
        host, _, _ = address.rpartition(":")
        try:
            port = server.add_secure_port(
                address, self._server_side(me, client_certificates=client_certificates)
            )
        except RuntimeError as error:
            raise Fault(
                Kind.CONFLICT,
                f"{me} cannot listen at {address}.",
                why=str(error),
                fix="Stop what listens there, or choose another port (0 picks a free one).",
                code="address-in-use",
            ) from None
        await server.start()
        return GrpcServed(server, guard, f"{host}:{port}")

    def connect(
        self, me: Identity, address: str, *, expect: Identity | str, own_connection: bool = False
    ) -> Channel:
        expected = f"{expect}.{me.cloud}" if isinstance(expect, str) else expect.dns_names[1]
        line = _Line(self.keys, me, _target(address), _options(expected, own_connection=own_connection))
        return GuardedChannel(address, line.current, line.close)

    def connect_with_ca(self, ca_pem: bytes, address: str, *, expect: str) -> Channel:
        trust = grpc.ssl_channel_credentials(root_certificates=ca_pem)
        raw = aio.secure_channel(
            address, trust, options=_options(f"{expect}.{cloud_of(ca_pem)}", own_connection=True)
        )
        return GuardedChannel(address, lambda: raw, raw.close)

    def _server_side(self, me: Identity, *, client_certificates: bool) -> grpc.ServerCredentials:
        shown = self.keys.current(me)

        def renewed() -> Any:
            # gRPC asks before each handshake, so a renewed certificate serves without a restart.
            nonlocal shown
            latest = self.keys.current(me)
            if latest is shown:
                return None  # no change
            shown = latest
            return _certificates(latest)

        return grpc.dynamic_ssl_server_credentials(_certificates(shown), renewed, client_certificates)


def _certificates(of: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(of.key, of.certificate)], of.authority)


def _target(address: str) -> str:
    """What gRPC calls one address, or for several of which it takes the first that answers.

    Raises:
        Fault: INVALID, for a list of names: gRPC takes several addresses of one name, and several numbers.
    """
    if "," not in address:
        return address
    hosts = [each.rpartition(":")[0] for each in address.split(",")]
    if not all(host.replace(".", "").isdigit() for host in hosts):
        raise Fault(
            Kind.INVALID,
            f"{address} cannot be reached.",
            why="A list may hold numbers only, as 10.0.0.1:8775,10.0.0.2:8775.",
            fix="Give numbers, or one name that stands for all of them.",
            code="bad-address",
        )
    return f"ipv4:{address}"


def _options(expected: str, *, own_connection: bool) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [*_CLIENT, ("grpc.ssl_target_name_override", expected)]
    if own_connection:
        options.append(("grpc.use_local_subchannel_pool", 1))
    return options


class _Line:
    """The raw channels of one `connect`: a new one when the client's certificate is renewed.

    gRPC fixes a client's certificate when the channel is made. Streams under way keep the channel
    before; at the renewal after that its certificate has expired and they are cut off.
    """

    def __init__(self, keys: Keys, me: Identity, address: str, options: list[tuple[str, Any]]) -> None:
        self.keys = keys
        self._me = me
        self._address = address
        self._options = options
        self._shown: Credentials | None = None
        self._raw: list[aio.Channel] = []

    def current(self) -> aio.Channel:
        latest = self.keys.current(self._me)
        if latest is not self._shown:
            self._shown = latest
            proof = grpc.ssl_channel_credentials(latest.authority, latest.key, latest.certificate)
            self._raw = [*self._raw[-1:], aio.secure_channel(self._address, proof, options=self._options)]
        return self._raw[-1]

    async def close(self, grace: float | None) -> None:
        for raw in self._raw:
            await raw.close(grace)
