"""Signature Version 4 as S3 wants it: the path is encoded once and never normalised, the payload is stated.

The same claim as for every service (`sigv4.claim`), another canonical form, S3's words for every
refusal. Keys come derived for a day and region: no secret is in this process. What a signature
says of the body - a hash, unsigned, chunks that are signed each - is returned with it, and whoever
reads the body must hold it to that. Sources: "Authenticating Requests (AWS Signature Version 4)"
and "Signature calculations: transferring payload in multiple chunks" of the S3 API reference.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final, NoReturn, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from mallee.aws import canonical
from mallee.aws.context import Principal
from mallee.aws.errors import IncompleteSignature, MissingAuthenticationToken
from mallee.aws.rest_xml.errors import RestError
from mallee.aws.sigv4 import ALGORITHM, Arrived, Claim, claim, read_claim
from mallee.kernel.clock import Clock

SKEW: Final = timedelta(minutes=15)
UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
STREAMING_SIGNED: Final = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER: Final = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER: Final = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_MODES: Final = {UNSIGNED, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER}
EMPTY: Final = sha256(b"").hexdigest()
_ALGORITHM: Final = ALGORITHM.encode()
_NOBODY: Final = b"a key that nobody has, of 32 bytes"

_is_hash = re.compile(rb"[0-9a-f]{64}").fullmatch
_is_canonical = re.compile(rb"[A-Za-z0-9/_.~-]*").fullmatch


class SigningKey(Protocol):
    """An access key, derived for one day and region and for `s3`."""

    @property
    def key(self) -> bytes: ...
    @property
    def principal(self) -> Principal: ...
    @property
    def active(self) -> bool: ...
    @property
    def session_token_sha256(self) -> bytes:
        """What the session token of a temporary key hashes to; empty for a permanent key."""


class SigningKeys(Protocol):
    """Where derived keys are found."""

    async def find(self, access_key_id: str, date: str, region: str) -> SigningKey | None:
        """The key for a day (`YYYYMMDD`) and region, active or not; None if nobody has it."""


@dataclass(slots=True)
class Chain:
    """The signatures of a body in signed chunks, each made with the one before."""

    key: bytes = field(repr=False)
    time: str
    scope: str
    last: str

    def chunk(self, data_hash: str) -> str:
        """The signature that the next chunk must have; data_hash is its SHA-256 in hexadecimal."""
        return self._next("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY}\n{data_hash}")

    def trailer(self, lines: bytes) -> str:
        """The signature of the trailing headers, each as `name:value` and a line feed."""
        return self._next("AWS4-HMAC-SHA256-TRAILER", sha256(lines).hexdigest())

    def _next(self, kind: str, what: str) -> str:
        text = f"{kind}\n{self.time}\n{self.scope}\n{self.last}\n{what}"
        self.last = hmac.digest(self.key, text.encode(), "sha256").hex()
        return self.last


@dataclass(slots=True)  # not frozen: that takes several times as long, and every request has one
class S3Signed:
    """What a good signature says.

    Attributes:
        how: `header`, `query` or `form`.
        payload: the hash of the body in hexadecimal, or one of the modes above.
        age: seconds since it was made.
        chain: of the chunks, in the modes that have them signed.
    """

    principal: Principal
    region: str
    how: str
    payload: bytes
    age: float
    chain: Chain | None = field(default=None, repr=False)


class S3Verifier:
    """Checks signatures of requests to S3.

    Args:
        keys: where derived keys are found.
        clock: for the window of fifteen minutes around now.
        regions: the names that a credential scope may carry; None allows any.
    """

    def __init__(self, keys: SigningKeys, clock: Clock, *, regions: Collection[str] | None = None) -> None:
        self._keys = keys
        self._clock = clock
        self._regions = regions

    async def verify(self, request: Arrived) -> S3Signed | None:
        """Who signed; None for a request that does not say anything of a signature.

        Raises:
            RestError: in S3's words, whatever is wrong with the signature.
        """
        folded = request.folded
        said = _claim(request, folded)
        if said is None:
            return None
        self._check_scope(said)
        age = self._check_time(said)
        payload = _payload(said, request, folded)
        names = _signed_names(said, folded)
        key = await self._keys.find(said.access_key_id, said.date, said.region)
        text = _string_to_sign(said, _canonical_request(said, request, folded, names, payload))
        _check(key, said, text)
        assert key is not None
        chain = None
        if payload in {STREAMING_SIGNED, STREAMING_SIGNED_TRAILER}:
            chain = Chain(key.key, _time(said), said.scope, said.signature)
        how = "header" if said.expires is None else "query"
        return S3Signed(key.principal, said.region, how, payload, age, chain)

    async def verify_policy(self, fields: Mapping[str, str], policy: str) -> S3Signed:
        """Who signed the policy of a form.

        Args:
            fields: of the form, by lower-case name.
            policy: the one of them, as it was sent, in base64.

        Raises:
            RestError: in S3's words.
        """
        said = _claim_of_form(fields)
        self._check_scope(said)
        then = _moment(said)
        if _day(then) != said.date:
            refuse("AccessDenied", "The date of the credential scope is not the date of the signature.")
        key = await self._keys.find(said.access_key_id, said.date, said.region)
        _check(key, said, policy.encode())
        assert key is not None
        age = (self._clock.now() - then).total_seconds()
        return S3Signed(key.principal, said.region, "form", UNSIGNED, age)

    def _check_scope(self, said: Claim) -> None:
        if said.service != "s3":
            _malformed(said, f'incorrect service "{said.service}". This endpoint belongs to "s3".')
        if self._regions is not None and said.region not in self._regions:
            wanted = next(iter(self._regions), "")
            _malformed(said, f"the region '{said.region}' is wrong; expecting '{wanted}'", Region=wanted)

    def _check_time(self, said: Claim) -> float:
        then, now = _moment(said), self._clock.now()
        if _day(then) != said.date:
            _malformed(said, "the date of the credential is not the date of the request")
        age = now - then
        if said.expires is None and abs(age) > SKEW:
            refuse(
                "RequestTimeTooSkewed",
                RequestTime=_time(said),
                ServerTime=f"{now:%Y-%m-%dT%H:%M:%SZ}",
                MaxAllowedSkewMilliseconds=str(int(SKEW.total_seconds() * 1000)),
            )
        if said.expires is not None:
            if age < -SKEW:
                refuse("AccessDenied", "Request is not valid yet")
            ends = then + timedelta(seconds=said.expires)
            if now > ends:
                refuse(
                    "AccessDenied",
                    "Request has expired",
                    **{"X-Amz-Expires": str(said.expires)},
                    Expires=f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                    ServerTime=f"{now:%Y-%m-%dT%H:%M:%SZ}",
                )
        return age.total_seconds()


def _claim(request: Arrived, folded: Mapping[bytes, bytes]) -> Claim | None:
    header, query = folded.get(b"authorization"), request.query
    presigned = old = False
    if query:
        presigned = b"X-Amz-Algorithm" in query or b"X-Amz-Credential" in query
        old = b"AWSAccessKeyId=" in query and b"Signature=" in query
    if header is None and not presigned and not old:
        return None
    if header is not None and (presigned or old):
        refuse(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
            "parameter or the Authorization header should be specified",
            ArgumentName="Authorization",
        )
    if old or (header is not None and not header.startswith(_ALGORITHM)):
        refuse(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    if header is not None and header.find(_ALGORITHM, 1) > 0:
        refuse(
            "AuthorizationHeaderMalformed", "The authorization header is malformed; there are two of them."
        )
    if header is not None and b"x-amz-date" not in folded and b"date" not in folded:
        refuse("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    try:
        said = claim(request, folded)
        said.moment  # noqa: B018 - read here, where its fault has the right name
    except (IncompleteSignature, MissingAuthenticationToken) as error:
        if header is not None:
            refuse("AuthorizationHeaderMalformed", f"The authorization header is malformed; {error.message}")
        refuse("AuthorizationQueryParametersError", error.message)
    return said


def _claim_of_form(fields: Mapping[str, str]) -> Claim:
    if "awsaccesskeyid" in fields or "signature" in fields:
        refuse(
            "InvalidRequest",
            "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
        )
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"):
        if not fields.get(name.lower()):
            refuse(
                "InvalidArgument",
                f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of "
                "the fields.",
                ArgumentName=name,
            )
    if fields["x-amz-algorithm"] != ALGORITHM:
        refuse(
            "InvalidArgument", f"X-Amz-Algorithm only supports {ALGORITHM}", ArgumentName="X-Amz-Algorithm"
        )
    parts = {name: fields[f"x-amz-{name.lower()}"] for name in ("Credential", "Signature")}
    time = fields["x-amz-date"].encode()
    try:
        return read_claim({**parts, "SignedHeaders": "policy"}, "", time, fields.get("x-amz-security-token"))
    except IncompleteSignature as error:
        raise RestError("InvalidArgument", error.message) from error


@lru_cache(64)  # the requests of a second have the same moment
def _day(moment: datetime) -> str:
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"


def _moment(said: Claim) -> datetime:
    try:
        return said.moment
    except IncompleteSignature as error:
        raise RestError("AccessDenied", error.message, 403) from error


def _time(said: Claim) -> str:
    given = said.time.decode("latin-1")
    return given if len(given) == 16 else said.moment.strftime("%Y%m%dT%H%M%SZ")


def _payload(said: Claim, request: Arrived, folded: Mapping[bytes, bytes]) -> bytes:
    """What the request says of its body. Not to be believed before the signature is verified."""
    stated = folded.get(b"x-amz-content-sha256")
    if stated is None and said.expires is not None:
        stated = _parameter(request.query, b"X-Amz-Content-Sha256") or UNSIGNED
    if stated is None:
        refuse("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if stated not in _MODES and not _is_hash(stated):
        refuse(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
            ArgumentName="x-amz-content-sha256",
            ArgumentValue=stated[:256].decode("latin-1"),
        )
    if said.expires is not None and stated in {STREAMING_SIGNED, STREAMING_SIGNED_TRAILER}:
        refuse("InvalidRequest", "A presigned request cannot have a body in signed chunks.")
    return stated


def _parameter(query: bytes, wanted: bytes) -> bytes | None:
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) == wanted:
            return unquote_to_bytes(value)
    return None


def _signed_names(said: Claim, folded: Mapping[bytes, bytes]) -> list[bytes]:
    """The signed headers: sorted, sent, the host among them and all that begin with `x-amz-`."""
    names, signed, in_order = _names_in(said.signed_headers)
    missing = [name for name in folded if name not in signed and name.startswith(b"x-amz-")]
    if b"host" not in signed:
        missing.append(b"host")
    if missing:
        listed = ", ".join(sorted(name.decode("latin-1") for name in missing))[:512]
        refuse(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=listed,
        )
    if not in_order or not folded.keys() >= signed:
        _malformed(said, "SignedHeaders must be sorted, lower-case, and name headers that were sent.")
    return names


@lru_cache(256)  # a client signs the same headers each time
def _names_in(signed_headers: str) -> tuple[list[bytes], frozenset[bytes], bool]:
    """The names, and whether they are as they must be: sorted, each once."""
    names = signed_headers.encode().split(b";")
    signed = frozenset(names)
    return names, signed, sorted(signed) == names


def path(raw: bytes) -> bytes:
    """The path percent-encoded once, with its dots and empty segments as they are."""
    if _is_canonical(raw):
        return raw
    return quote_from_bytes(unquote_to_bytes(raw), safe="/-_.~").encode()


def _canonical_request(
    said: Claim, request: Arrived, folded: Mapping[bytes, bytes], names: list[bytes], payload: bytes
) -> bytes:
    without = b"" if said.expires is None else b"X-Amz-Signature"
    parts = (
        request.method.encode("latin-1"),
        path(request.path),
        canonical.query(request.query, without=without),
        canonical.header_lines(folded, names),
        said.signed_headers.encode(),
        payload,
    )
    return b"\n".join(parts)


def _string_to_sign(said: Claim, canonical_request: bytes) -> bytes:
    return f"{ALGORITHM}\n{_time(said)}\n{said.scope}\n{sha256(canonical_request).hexdigest()}".encode()


def _check(key: SigningKey | None, said: Claim, text: bytes) -> None:
    """Whether the signature is the key's. A key that nobody has costs what a known one does."""
    wanted = hmac.digest(key.key if key else _NOBODY, text, "sha256").hex()
    good = hmac.compare_digest(wanted, said.signature)
    if key is None or not key.active:
        refuse("InvalidAccessKeyId", AWSAccessKeyId=said.access_key_id)
    if not good:
        refuse(
            "SignatureDoesNotMatch",
            AWSAccessKeyId=said.access_key_id,
            StringToSign=text.decode("latin-1"),
            SignatureProvided=said.signature,
        )
    given = b"" if said.session_token is None else sha256(said.session_token.encode()).digest()
    if not hmac.compare_digest(given, key.session_token_sha256):
        if not given:  # a temporary key alone is not a key
            refuse("InvalidAccessKeyId", AWSAccessKeyId=said.access_key_id)
        refuse("InvalidToken")


def _malformed(said: Claim, why: str, **details: str) -> NoReturn:
    if said.expires is None:
        refuse("AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}", **details)
    refuse(
        "AuthorizationQueryParametersError", f"Error parsing the X-Amz-Credential parameter; {why}", **details
    )


_REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationHeaderMalformed": (400, ""),
    "AuthorizationQueryParametersError": (400, ""),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidArgument": (400, ""),
    "InvalidRequest": (400, ""),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
    ),
    "SignatureDoesNotMatch": (
        403,
        (
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method."
        ),
    ),
}


def refuse(code: str, why: str = "", **details: str) -> NoReturn:
    """Refuse a signature.

    Raises:
        RestError: always.
    """
    status, words = _REFUSALS[code]
    raise RestError(code, why or words, status, details=details)
