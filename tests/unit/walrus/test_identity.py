"""Whose a key is: asked once, believed while the cloud controller's line lives, revoked at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mallee.aws.sigv4 import signing_key
from mallee.clc.db import accounts
from mallee.clc.db.accounts import AccessKey, Account
from mallee.clc.db.metadata import metadata
from mallee.clc.keys import Keys
from mallee.clc.s3 import identity as edge
from mallee.clc.s3.identity import IdentityEdge
from mallee.kernel.clock import ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Identity, MemoryTransport, Served
from mallee.kernel.secrets_box import SecretsBox
from mallee.rpc.identity_pb2 import GetSigningKeyRequest
from mallee.rpc.identity_pb2_grpc import IdentityServiceStub, add_IdentityServiceServicer_to_server
from mallee.walrus.identity import OUTLIVE, Identities, canonical_id

ME = Identity("mallee", "walrus", "walrus")
CLC = Identity("mallee", "clc", "clc")
ADDRESS = "clc:1"
KEY, DAY, REGION = "AKIATEST", "20260101", "mallee-1"


@dataclass
class Told:
    """A cloud controller with one account and one key, and the object store's side of it."""

    clock: ManualClock
    transport: MemoryTransport
    db: Database
    keys: Keys
    edge: IdentityEdge
    identities: Identities
    asked: list[str]
    served: Served | None = None

    async def up(self) -> None:
        add = partial(add_IdentityServiceServicer_to_server, self.edge)
        self.served = await self.transport.serve(CLC, ADDRESS, add, access=edge.ACCESS)
        await self.clock.advance(4)

    async def down(self) -> None:
        assert self.served
        await self.served.close()
        self.served = None
        await self.clock.settle()

    async def find(self, key: str = KEY, day: str = DAY) -> Any:
        """The answer, however long it takes."""
        asking = asyncio.create_task(self.identities.find(key, day, REGION))
        for _ in range(40):
            await self.clock.settle()
            if asking.done():
                break
            await self.clock.advance(0.1)
        return await asking

    async def revoke(self) -> None:
        def work(tx: Any) -> None:
            accounts.remove_key(tx, KEY)
            self.keys.changed(tx)

        await self.db.transact(work)


@pytest.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    clock, entropy = ManualClock(), SeededEntropy(1)
    transport = MemoryTransport(clock)
    box = SecretsBox.open(tmp_path / "secrets", entropy)
    async with await Database.open(f"sqlite:///{tmp_path}/clc.db", metadata=metadata, durable=False) as db:

        def begin(tx: Any) -> None:
            accounts.add_account(tx, Account("123456789012", "ada", False, 0))
            accounts.add_key(tx, AccessKey(KEY, "123456789012", "", box.seal("s3cret"), "Active", 0))

        await db.transact(begin)
        asked: list[str] = []

        class Counted(IdentityEdge):
            async def GetSigningKey(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract names it
                asked.append(request.access_key_id)
                return await super().GetSigningKey(request, context)

        channel = transport.connect(ME, ADDRESS, expect="clc")
        identities = Identities(channel, clock=clock, entropy=entropy)
        made = Told(clock, transport, db, Keys(db, box, clock), Counted(db, box, clock), identities, asked)
        watching = asyncio.create_task(identities.run())
        await made.up()
        yield made
        watching.cancel()
        await asyncio.wait((watching,))
        if made.served:
            await made.down()


async def test_the_derived_key_comes_and_never_the_secret(told: Told) -> None:
    found = await told.find()

    assert found.key == signing_key("s3cret", DAY, REGION, "s3")
    assert (found.principal.account_id, found.principal.is_root, found.active) == ("123456789012", True, True)
    assert found.principal.access_key_id == KEY
    assert "s3cret" not in repr(found)
    assert found.key.hex() not in repr(found)
    assert await told.find("AKIANOBODY") is None


async def test_a_key_is_asked_once_while_the_line_lives(told: Told) -> None:
    for _ in range(5):
        assert await told.find()
        await told.clock.advance(60)
    together = [asyncio.create_task(told.identities.find(KEY, "20260102", REGION)) for _ in range(50)]
    await told.clock.settle()
    assert all([await one for one in together])

    assert told.asked == [KEY, KEY]


async def test_a_revoked_key_is_gone_within_a_second(told: Told) -> None:
    assert await told.find()
    await told.revoke()
    await told.clock.advance(1)

    assert await told.find() is None


async def test_a_key_made_inactive_is_seen_so(told: Told) -> None:
    assert (await told.find()).active

    def work(tx: Any) -> None:
        accounts.set_status(tx, KEY, "Inactive")
        told.keys.changed(tx)

    await told.db.transact(work)
    await told.clock.advance(1)
    assert not (await told.find()).active


async def test_known_keys_outlive_the_controller_for_a_stated_time_and_no_longer(told: Told) -> None:
    assert await told.find()
    await told.down()
    await told.clock.advance(OUTLIVE / 2)
    assert await told.find(), "known, and nobody could have revoked it"
    with pytest.raises(Fault) as unknown:
        await told.find("AKIAOTHER")
    assert unknown.value.kind is Kind.UNAVAILABLE

    await told.clock.advance(OUTLIVE)
    with pytest.raises(Fault) as too_old:
        await told.find()
    assert too_old.value.kind is Kind.UNAVAILABLE

    await told.up()
    assert await told.find()


async def test_what_was_revoked_while_the_line_was_cut_is_not_believed_after_it(told: Told) -> None:
    assert await told.find()
    await told.down()
    await told.clock.advance(2)
    await told.revoke()
    await told.up()

    assert await told.find() is None


async def test_only_the_object_store_may_ask(told: Told) -> None:
    for role in ("nc", "cc", "sc", "clc"):
        channel = told.transport.connect(Identity("mallee", role, "x"), ADDRESS, expect="clc")
        question = IdentityServiceStub(channel).GetSigningKey(
            GetSigningKeyRequest(access_key_id=KEY, date=DAY, region=REGION)
        )
        with pytest.raises(Fault) as refused:
            await question
        assert refused.value.code == "role"
        await channel.close()


@pytest.mark.parametrize("day", ["20240101", "20300101", "2026-1-1", "", "99999999"])
async def test_no_key_is_derived_for_a_far_day(told: Told, day: str) -> None:
    assert await told.find(KEY, day) is None


async def test_accounts_by_either_id(told: Told) -> None:
    canonical = canonical_id("123456789012")
    assert len(canonical) == 64

    by_id = await told.identities.account("123456789012")
    assert by_id == await told.identities.account(canonical)
    assert by_id
    assert (by_id.name, by_id.canonical) == ("ada", canonical)
    await told.clock.advance(1)
    assert await told.identities.account("f" * 64) is None

    def work(tx: Any) -> None:
        accounts.add_account(tx, Account("999999999999", "bob", False, 0))

    await told.db.transact(work)
    await told.clock.advance(1)
    assert await told.identities.account(canonical_id("999999999999")), "a new account needs no telling"
    await told.down()
    nameless = await told.identities.shown("111111111111")
    assert (nameless.name, nameless.canonical) == ("", canonical_id("111111111111"))
