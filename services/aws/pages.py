"""Lists in pages: a token says behind which key the next page begins, and for whom it was made.

Pages are cut by key, not by offset, so a page costs the same wherever it is and nothing is shown
twice or left out when rows come and go. A token is good for the operation, the account and the
parameters of the request that got it; the client cannot read anything into it or make one up.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from mallee.aws.context import Request
from mallee.aws.errors import CodedError, InvalidNextToken, InvalidParameterValue

_VERSION: Final = b"\x01"
_SEAL: Final = 16  # bytes of HMAC-SHA256: nobody guesses 2**128
_LONGEST: Final = 2048


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for.

    Attributes:
        after: the key behind which it begins; empty at the beginning.
        limit: how many items at most.
    """

    after: str
    limit: int


class Pager:
    """Reads and makes page tokens.

    Args:
        key: a secret of the cloud, the same in each of its front processes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def page(
        self,
        request: Request,
        *,
        max_results: int | None,
        token: str | None,
        low: int = 5,
        high: int = 1000,
        default: int | None = None,
        error: type[CodedError] = InvalidNextToken,
    ) -> Page:
        """The page that a request asks for.

        Args:
            request: whose operation, account and parameters the token must be made for.
            max_results: what the caller asked for; `default` (or `high`) if nothing.
            token: the caller's page token.
            low: the least that the action's MaxResults may be.
            high: the most, by the action's documentation.
            default: the limit where the caller names none.
            error: what a bad token is called: InvalidNextToken, InvalidPaginationToken.

        Raises:
            InvalidParameterValue: MaxResults out of range, in EC2's words.
            InvalidNextToken (or `error`): not a token for this request.
        """
        limit = (default or high) if max_results is None else max_results
        if max_results is not None and not low <= max_results <= high:
            bound = f"greater than {low}" if max_results < low else f"smaller than {high}"
            raise InvalidParameterValue(
                f"Value ( {max_results} ) for parameter maxResults is invalid. Expecting a value {bound}."
            )
        return Page(self._read(request, token, error) if token is not None else "", limit)

    def next_token(self, request: Request, after: str) -> str:
        """A token for what comes behind the key `after` (at most 1,024 bytes)."""
        key = after.encode()
        return urlsafe_b64encode(_VERSION + self._seal(request, key) + key).decode().rstrip("=")

    def _read(self, request: Request, token: str, error: type[CodedError]) -> str:
        try:
            raw = urlsafe_b64decode(token[:_LONGEST].encode("ascii") + b"==")
            seal, key = raw[1 : 1 + _SEAL], raw[1 + _SEAL :]
            good = raw[:1] == _VERSION and hmac.compare_digest(seal, self._seal(request, key))
            if good and token == self.next_token(request, key.decode()):  # one spelling, nothing appended
                return key.decode()
        except (ValueError, UnicodeError):
            pass  # refused below, like every token that is not ours
        raise error("The token supplied is not valid for this request.")

    def _seal(self, request: Request, key: bytes) -> bytes:
        bound = (request.service, request.operation, request.principal.account_id, request.parameter_hash)
        text = "\n".join(bound).encode() + b"\n" + key
        return hmac.digest(self._key, text, "sha256")[:_SEAL]
