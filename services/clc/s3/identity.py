"""Whose an access key is, for the object store: derived keys go out, secrets stay.

There is no verb that checks a signature for somebody: such a verb is an oracle, and every request of
the object store would wait for it.
"""

# ruff: noqa: ARG002, N802 - the contract names these methods and their arguments

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from mallee.aws.sigv4 import signing_key
from mallee.clc.db import accounts, settings
from mallee.clc.db.accounts import Signer
from mallee.clc.keys import CHANGES, principal_of
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database, Tx
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable
from mallee.kernel.secrets_box import SecretsBox
from mallee.rpc import identity_pb2 as pb
from mallee.rpc.identity_pb2_grpc import IdentityServiceServicer

BEAT = 0.25  # seconds; a change is told within it
LONGEST = timedelta(days=8)  # a presigned request is good for seven days
_VERBS = ("GetSigningKey", "ListAccounts", "WatchKeys")
ACCESS = AccessTable({f"/mallee.identity.v1.IdentityService/{verb}": {"walrus"} for verb in _VERBS})


class IdentityEdge(IdentityServiceServicer):
    """Serves the contract. Every answer is read from the database: the object store does the caching."""

    def __init__(self, db: Database, box: SecretsBox, clock: Clock, door_token: str = "") -> None:
        self._door_token = door_token
        self._db = db
        self._box = box
        self._clock = clock

    async def GetSigningKey(self, request: pb.GetSigningKeyRequest, context: Any) -> pb.GetSigningKeyResponse:
        self._check_date(request.date)

        def work(tx: Tx) -> tuple[Signer | None, int]:
            return accounts.signer(tx, request.access_key_id), settings.count(tx, CHANGES)

        found, changes = await self._db.read(work)
        if found is None:
            raise Fault(Kind.NOT_FOUND, "Nobody has this access key.", code="unknown-key")
        secret = self._box.unseal(found.key.sealed)
        who = principal_of(found)
        return pb.GetSigningKeyResponse(
            signing_key=signing_key(secret, request.date, request.region, "s3"),
            principal=pb.Principal(
                account_id=who.account_id, arn=who.arn, user_id=who.user_id, root=who.is_root
            ),
            active=found.key.status == "Active",
            changes=changes,
        )

    async def ListAccounts(self, request: pb.ListAccountsRequest, context: Any) -> pb.ListAccountsResponse:
        def work(tx: Tx) -> pb.ListAccountsResponse:
            found = [pb.Account(id=one.id, name=one.name) for one in accounts.all_accounts(tx)]
            return pb.ListAccountsResponse(accounts=found, changes=settings.count(tx, CHANGES))

        return await self._db.read(work)

    async def WatchKeys(
        self, request: pb.WatchKeysRequest, context: Any
    ) -> AsyncIterator[pb.WatchKeysResponse]:
        while True:
            changes = await self._db.read(lambda tx: settings.count(tx, CHANGES))
            yield pb.WatchKeysResponse(changes=changes, door_token=self._door_token)
            await self._clock.sleep(BEAT)

    def _check_date(self, date: str) -> None:
        """A key of a far day is of no use but to a thief who has got hold of the object store."""
        try:
            day = datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC)
        except ValueError:
            raise Fault(Kind.INVALID, "The date of a signing key is YYYYMMDD.", code="bad-date") from None
        if abs(self._clock.now() - day) > LONGEST:
            raise Fault(Kind.INVALID, "Signing keys are made for days near this one.", code="bad-date")
