"""A machine becomes a node: once with a token, then with the certificate that it renews by itself."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from mallee.cli.state import StateFolder
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault
from mallee.kernel.pki import JoinToken, StoredKeys, read_join_token
from mallee.kernel.rpc import Identity, Transport
from mallee.kernel.rpc.grpc_transport import GrpcTransport
from mallee.kernel.rpc.keys import Credentials, cloud_of
from mallee.kernel.state_folder import replace
from mallee.rpc.enrolment_pb2 import JoinRequest, RenewRequest
from mallee.rpc.enrolment_pb2_grpc import EnrolmentServiceStub

LOOK = 300.0  # seconds between looks at the certificate's age; it lives a day and is due after half of it

_log = structlog.get_logger()


class Joined(msgspec.Struct, frozen=True):
    """Where this machine belongs; `node.json` in its state folder."""

    cloud: str
    zone: str
    node: str
    cluster: str
    renewal: str
    objects: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(self.cloud, "nc", self.node)


def joined(folder: StateFolder) -> Joined | None:
    """Where this machine belongs, if it has joined."""
    path = folder.root / "node.json"
    return msgspec.json.decode(path.read_bytes(), type=Joined) if path.exists() else None


async def join(folder: StateFolder, text: str, clock: Clock) -> Joined:
    """Spend a token: ask for a certificate and keep it.

    Raises:
        Fault: INVALID for what is no token; FORBIDDEN for one that is refused; UNAVAILABLE.
    """
    token: JoinToken = read_join_token(text)
    me = Identity(cloud_of(token.authority), "nc", token.node_name)
    keys = StoredKeys(folder.keys, clock)
    key, request = StoredKeys.request(me)
    channel = GrpcTransport(keys).connect_with_ca(token.authority, token.address, expect="clc")
    try:
        stub: Any = EnrolmentServiceStub(channel)
        asked = JoinRequest(secret=token.secret.hex(), node=token.node_name, certificate_request=request)
        answer = await stub.Join(asked)
    finally:
        await channel.close()
    keys.install(me, Credentials(key, answer.certificate, token.authority))
    where = Joined(
        me.cloud,
        answer.zone,
        token.node_name,
        answer.cluster_address,
        answer.renewal_address,
        answer.objects_address,
    )
    replace(folder.root / "node.json", msgspec.json.encode(where))
    return where


async def renew_for_ever(where: Joined, keys: StoredKeys, transport: Transport, clock: Clock) -> None:
    """Keep the certificate young. A cloud that cannot be reached is asked again at the next look."""
    while True:
        if keys.due(where.identity):
            try:
                await _renew(where, keys, transport)
            except Fault as fault:
                _log.warning("the certificate could not be renewed", why=str(fault), code=fault.code)
        await clock.sleep(LOOK)


async def _renew(where: Joined, keys: StoredKeys, transport: Transport) -> None:
    me = where.identity
    key, request = StoredKeys.request(me)
    channel = transport.connect(me, where.renewal, expect="clc")
    try:
        stub: Any = EnrolmentServiceStub(channel)
        answer = await stub.Renew(RenewRequest(certificate_request=request))
    finally:
        await channel.close()
    keys.install(me, Credentials(key, answer.certificate, keys.current(me).authority))
