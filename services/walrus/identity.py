"""Whose access keys and accounts these are, as the cloud controller tells it and as it is remembered here.

What was told is believed while the controller's line is alive: it beats four times a second and says when
anything was revoked. When the line is silent, keys are asked for again. When nobody answers either, known
keys go on for a stated time, and then the answer is 503.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple, NoReturn

from mallee.aws.context import Principal
from mallee.kernel.clock import Clock
from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import Channel, keep_streaming
from mallee.rpc import identity_pb2 as pb
from mallee.rpc.identity_pb2_grpc import IdentityServiceStub

SILENCE: Final = 0.9  # seconds without a beat, after which nothing that is cached is believed unasked
OUTLIVE: Final = 10.0  # seconds that known keys go on when the cloud controller cannot be asked
PATIENCE: Final = 2.0  # seconds for one question
_KEPT: Final = 10_000  # keys of a day and a region
_PAUSE: Final = 0.5  # seconds after a question without an answer, before the next one about a known key
_ACCOUNTS_PAUSE: Final = 0.2  # seconds between two looks for accounts that were not there


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An access key as signatures of one day and region are checked with it.

    Attributes:
        key: derived for the date, the region and `s3`; 32 bytes.
        session_token_sha256: what the session token must hash to; empty for a permanent key, which
            must come without.
    """

    key: bytes = field(repr=False)
    principal: Principal
    active: bool = True
    session_token_sha256: bytes = b""


class Account(NamedTuple):
    """A tenant as S3 shows it; `canonical` is 64 hexadecimal digits."""

    id: str
    name: str
    canonical: str


class _Kept(NamedTuple):
    key: SigningKey
    asked: float


_Name = tuple[str, str, str]


@lru_cache(maxsize=4096)
def canonical_id(account_id: str) -> str:
    """The canonical user id of an account: the same for ever and in every process."""
    return hashlib.sha256(b"mallee canonical user " + account_id.encode()).hexdigest()


class Identities:
    """Keys and accounts of the cloud.

    Args:
        channel: to the cloud controller.
        region: how this cloud calls itself; new buckets are there.
        outlive: seconds that known keys go on without the cloud controller.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        clock: Clock,
        entropy: Entropy,
        region: str = "mallee-1",
        outlive: float = OUTLIVE,
    ) -> None:
        self.region = region
        self.door_token = ""  # of the cloud controller's door
        self._stub = IdentityServiceStub(channel)
        self._clock = clock
        self._entropy = entropy
        self._outlive = outlive
        self._changes = 0
        self._heard = -SILENCE * 2
        self._unanswered = -_PAUSE
        self._kept: dict[_Name, _Kept] = {}
        self._asking: dict[object, asyncio.Task[Any]] = {}
        self._accounts: dict[str, Account] = {}  # by id and by canonical id
        self._accounts_asked = -_ACCOUNTS_PAUSE

    async def run(self) -> NoReturn:
        """Hear of changes until cancelled."""
        await keep_streaming(
            "watch keys",
            self._open_watch,
            self._listen,
            clock=self._clock,
            entropy=self._entropy,
        )

    async def find(self, access_key_id: str, date: str, region: str) -> SigningKey | None:
        """The key, active or not; None if nobody has it.

        Args:
            access_key_id: as the credential scope names it.
            date: the scope's, `YYYYMMDD`.
            region: the scope's.

        Raises:
            Fault: UNAVAILABLE, when the cloud controller cannot be asked and what was known is too old.
        """
        name = (access_key_id, date, region)
        kept, now = self._kept.get(name), self._clock.boot()
        if kept is not None:
            if now - self._heard <= SILENCE:
                return kept.key
            goes_on = now - max(self._heard, kept.asked) <= self._outlive
            if goes_on and now - self._unanswered < _PAUSE:
                return kept.key
        try:
            found: SigningKey = await self._once(name, self._ask(name))
        except Fault as fault:
            if fault.kind is Kind.NOT_FOUND:
                self._kept.pop(name, None)
                return None
            if fault.kind is Kind.INVALID:  # a date that no signature may have any more
                return None
            if fault.kind is not Kind.UNAVAILABLE:
                raise
            self._unanswered = self._clock.boot()
            if kept is None or self._unanswered - max(self._heard, kept.asked) > self._outlive:
                raise
            return kept.key
        return found

    async def account(self, name: str) -> Account | None:
        """The account of an id or a canonical id; None if there is none.

        Raises:
            Fault: UNAVAILABLE, for one that is not known here while the cloud controller cannot be asked.
        """
        if name not in self._accounts and self._clock.boot() - self._accounts_asked >= _ACCOUNTS_PAUSE:
            await self._once("accounts", self._ask_accounts())
        return self._accounts.get(name)

    async def shown(self, account_id: str) -> Account:
        """The account with its name for display; without a name where it is gone or nobody can be asked."""
        nameless = Account(account_id, "", canonical_id(account_id))
        try:
            return await self.account(account_id) or nameless
        except Fault as fault:
            if fault.kind is not Kind.UNAVAILABLE:
                raise
            return nameless

    async def _once(self, about: object, question: Coroutine[Any, Any, Any]) -> Any:
        """The same question of many requests is asked once; who hangs up takes it from nobody else."""
        asking = self._asking.get(about)
        if asking is not None:
            question.close()
        else:
            asking = self._asking[about] = asyncio.create_task(question)
            asking.add_done_callback(lambda _: self._asking.pop(about))
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(asking)

    async def _ask(self, name: _Name) -> SigningKey:
        access_key_id, date, region = name
        asked = self._clock.boot()
        answer = await self._stub.GetSigningKey(
            pb.GetSigningKeyRequest(access_key_id=access_key_id, date=date, region=region), timeout=PATIENCE
        )
        who = answer.principal
        key = SigningKey(
            answer.signing_key,
            Principal(who.account_id, who.arn, who.user_id, access_key_id, is_root=who.root),
            answer.active,
            answer.session_token_sha256,
        )
        # One that was read before a change that has been heard of since is good for this request at most.
        if answer.changes >= self._changes:
            self._kept.pop(name, None)
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = _Kept(key, asked)
        return key

    async def _ask_accounts(self) -> None:
        self._accounts_asked = self._clock.boot()
        answer = await self._stub.ListAccounts(pb.ListAccountsRequest(), timeout=PATIENCE)
        found = [Account(one.id, one.name, canonical_id(one.id)) for one in answer.accounts]
        self._accounts = {one.id: one for one in found} | {one.canonical: one for one in found}

    def _open_watch(self) -> Any:
        return self._stub.WatchKeys(pb.WatchKeysRequest())

    async def _listen(self, stream: AsyncIterator[pb.WatchKeysResponse]) -> None:
        async for beat in stream:
            if beat.changes != self._changes:
                self._changes = beat.changes
                self._kept.clear()
                self._accounts.clear()
            self._heard = self._clock.boot()
            self.door_token = beat.door_token
