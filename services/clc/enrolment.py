"""How a machine becomes a node: with a token that is good once, for one name, for an hour.

The one server of the cloud that asks callers for no certificate, on a port of its own.
"""

from __future__ import annotations

from typing import Any

from mallee.clc.config import ClcConfig
from mallee.clc.db import node_tokens
from mallee.clc.db.node_tokens import NodeToken
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.pki import Authority, hash_secret, mint_join_token
from mallee.kernel.rpc import ANYONE, AccessTable, Identity
from mallee.kernel.rpc.server import peer
from mallee.rpc.enrolment_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from mallee.rpc.enrolment_pb2_grpc import EnrolmentServiceServicer

TOKEN_LIFE_MS = 3600 * 1000
ACCESS = AccessTable({"/mallee.enrolment.v1.EnrolmentService/Join": {ANYONE}})
RENEWAL_ACCESS = AccessTable({"/mallee.enrolment.v1.EnrolmentService/Renew": {"nc"}})


class Enrolment(EnrolmentServiceServicer):
    """Makes tokens and takes them back for certificates.

    Args:
        address: where nodes reach this server; known once it listens.
    """

    def __init__(
        self, config: ClcConfig, authority: Authority, db: Database, *, clock: Clock, entropy: Entropy
    ) -> None:
        self.address = config.enrolment_address
        self._renewal_address = config.address
        self._objects_address = config.objects
        self._clusters = {cluster.zone: cluster.address for cluster in config.clusters}
        self._authority = authority
        self._db = db
        self._clock = clock
        self._entropy = entropy

    async def token(self, zone: str, node_name: str) -> str:
        """A token for one node of a zone.

        Raises:
            Fault: INVALID, for a zone that is not there or a name that no certificate can carry.
        """
        if zone not in self._clusters:
            raise Fault(Kind.INVALID, f"There is no zone {zone}.", code="unknown-zone")
        Identity(self._authority.cloud, "nc", node_name)
        secret = self._entropy.token(32)
        kept = NodeToken(hash_secret(secret), zone, node_name, self._now_ms() + TOKEN_LIFE_MS)
        await self._db.transact(lambda tx: node_tokens.add(tx, kept))
        return mint_join_token(self._authority.pem, self.address, zone, node_name, secret)

    async def Join(self, request: JoinRequest, context: Any) -> JoinResponse:  # noqa: ARG002, N802 - the contract's shape
        """A certificate for the key of the request, in the name that the token was made for."""
        try:
            digest = hash_secret(bytes.fromhex(request.secret))
        except ValueError:
            raise _no_token() from None
        token = await self._db.read(lambda tx: node_tokens.find(tx, digest, self._now_ms()))
        if token is None or token.node_name != request.node:
            raise _no_token()
        # Signed before the token is spent: a bad request leaves it good for another try.
        who = Identity(self._authority.cloud, "nc", token.node_name)
        certificate = self._authority.sign_csr(request.certificate_request, who)

        def work(tx: Tx) -> NodeToken | None:
            there = node_tokens.find(tx, digest, self._now_ms())
            node_tokens.spend(tx, digest)
            return there

        if await self._db.transact(work) is None:  # somebody else was quicker with the same token
            raise _no_token()
        return JoinResponse(
            certificate=certificate,
            authority=self._authority.pem,
            cloud=self._authority.cloud,
            zone=token.zone,
            cluster_address=self._clusters[token.zone],
            renewal_address=self._renewal_address,
            objects_address=self._objects_address,
        )

    async def Renew(self, request: RenewRequest, context: Any) -> RenewResponse:  # noqa: ARG002, N802 - the contract's shape
        """Not here: a renewal proves itself with the old certificate, which this port does not ask for."""
        raise Fault(
            Kind.FORBIDDEN,
            "A certificate is not renewed at this port.",
            why="It asks callers for no certificate.",
            fix="Renew at the cloud controller's own port.",
            code="wrong-port",
        )

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


class Renewal(EnrolmentServiceServicer):
    """Renews nodes' certificates, at the port that proves who asks."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def Join(self, request: JoinRequest, context: Any) -> JoinResponse:  # noqa: ARG002, N802 - the contract's shape
        """Not here: the access table of this port lets nobody in."""
        raise _no_token()

    async def Renew(self, request: RenewRequest, context: Any) -> RenewResponse:  # noqa: N802 - the contract's name
        """A certificate for a fresh key, in the name that the old one proves."""
        return RenewResponse(certificate=self._authority.sign_csr(request.certificate_request, peer(context)))


def _no_token() -> Fault:
    return Fault(
        Kind.FORBIDDEN,
        "The machine was not taken in.",
        why="Its token was used before, is too old, or is for another name.",
        fix="Ask the cloud's administrator for a new one: mallee node token.",
        code="bad-token",
    )
