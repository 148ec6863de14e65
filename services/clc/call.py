"""One request inside the CLC: who asks, and everything a handler may reach.

`change` is the only way in which a handler writes. It keeps the caller's token in the same
transaction as the work: a repeated request finds the answer instead of doing the work again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from mallee.aws.context import Request
from mallee.aws.errors import IdempotentParameterMismatch
from mallee.clc.db import tokens
from mallee.clc.db.tokens import Answered, TokenKey
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from mallee.clc.cloud import Cloud

T = TypeVar("T")

# EC2 remembers a client token for 24 hours at least; an invocation id only covers an SDK's own retries.
TOKEN_LIFE_MS = 24 * 3600 * 1000
INVOCATION_LIFE_MS = 15 * 60 * 1000


@dataclass(slots=True)
class Call:
    """A request on its way through a handler."""

    request: Request
    cloud: Cloud
    secret_result: bool = False

    @property
    def account(self) -> str:
        """Twelve digits: whose resources this call may see."""
        return self.request.principal.account_id

    @property
    def is_cloud_admin(self) -> bool:
        """Whether the account is the one that the cloud was made with."""
        return self.account == self.cloud.admin_account

    @property
    def now_ms(self) -> int:
        """The calendar in milliseconds since 1970."""
        return int(self.cloud.clock.now().timestamp() * 1000)

    async def change(self, work: Callable[[Tx], T], result_type: type[T]) -> T:
        """Run `work` in a transaction, once per token.

        Args:
            work: plain function; what it returns must be JSON that msgspec can carry, since a
                repeated request gets it back. May be run again after a conflict.
            result_type: of that result.

        Raises:
            IdempotentParameterMismatch: the token was used for other parameters.
        """
        key, life = self._token()
        if key is None:
            return await self.cloud.db.transact(work)

        def once(tx: Tx) -> T:
            answered = tokens.find(tx, key)
            if answered is not None and self._is_repeat(answered):
                return msgspec.json.decode(self._open(answered.result), type=result_type)
            result = work(tx)
            if answered is None:
                kept = Answered(self.request.parameter_hash, self._seal(msgspec.json.encode(result)))
                tokens.remember(tx, key, kept, expires_ms=self.now_ms + life)
            return result

        return await self.cloud.db.transact(once)

    async def answered(self, result_type: type[T]) -> T | None:
        """What an earlier request with this token got, for handlers that must ask before they work."""
        key, _ = self._token()
        if key is None:
            return None
        seen = await self.cloud.db.read(lambda tx: tokens.find(tx, key))
        if seen is None or not self._is_repeat(seen):
            return None
        return msgspec.json.decode(self._open(seen.result), type=result_type)

    def _token(self) -> tuple[TokenKey | None, int]:
        if self.request.client_token:
            token, life = f"t:{self.request.client_token}", TOKEN_LIFE_MS
        elif self.request.invocation_id:
            # Not a signed header: it only counts within one access key.
            token = f"i:{self.request.principal.access_key_id}:{self.request.invocation_id}"[:96]
            life = INVOCATION_LIFE_MS
        else:
            return None, 0
        return TokenKey(self.account, self.request.operation, token), life

    def _is_repeat(self, answered: Answered) -> bool:
        if answered.parameter_hash == self.request.parameter_hash:
            return True
        if self.request.client_token:
            raise IdempotentParameterMismatch
        return False  # an invocation id that somebody reuses proves nothing

    def _seal(self, result: bytes) -> bytes:
        return self.cloud.box.seal(result.decode()).encode() if self.secret_result else result

    def _open(self, kept: bytes) -> bytes:
        return self.cloud.box.unseal(kept.decode()).reveal().encode() if self.secret_result else kept
