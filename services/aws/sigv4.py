"""Who signed a request: Signature Version 4, by header and by presigned query, for GET and POST.

One verifier for every way in; whoever signed is returned as a value, so no handler can run without.
Every refusal takes the same path and time whether the key exists or not. There is no replay cache:
SDKs repeat a request with the same signature after a lost answer, and client tokens make that safe.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final, NoReturn, Protocol

from mallee.aws import canonical
from mallee.aws.context import Principal
from mallee.aws.errors import (
    AuthFailure,
    AwsError,
    IncompleteSignature,
    InvalidClientTokenId,
    MissingAuthenticationToken,
    RequestExpired,
    SignatureDoesNotMatch,
)
from mallee.aws.protocol.form import decode
from mallee.kernel.clock import Clock

SKEW: Final = timedelta(minutes=5)
LONGEST_PRESIGNED: Final = 604_800
ALGORITHM: Final = "AWS4-HMAC-SHA256"
_NOBODY: Final = "a secret that no key has, so that an unknown key costs what a known one does"
_CACHED_KEYS: Final = 4096

_scope_of = re.compile(
    r"(?P<key>[\w.-]{1,128})/(?P<date>\d{8})/(?P<region>[\w.-]{1,64})/(?P<service>[\w.-]{1,64})/aws4_request",
    re.ASCII,
).fullmatch
_is_usual = re.compile(  # as SDKs write the header; anything else is read part by part
    ALGORITHM + r" Credential=([\w.-]{1,128})/(\d{8})/([\w.-]{1,64})/([\w.-]{1,64})/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;_.-]+), ?Signature=([0-9a-f]{64})",
    re.ASCII,
).fullmatch
_is_time = re.compile(rb"\d{8}T\d{6}Z").fullmatch
_is_duration = re.compile(r"[0-9]{1,6}").fullmatch
_is_signature = re.compile(r"[0-9a-f]{64}").fullmatch


@dataclass(frozen=True, slots=True)
class Key:
    """An access key as the verifier needs it.

    Attributes:
        version: raised when the secret changes, so that no derived key outlives its secret.
        session_token: what a temporary key must be accompanied by; None for a permanent one.
    """

    secret: str = field(repr=False)
    principal: Principal
    version: int = 1
    active: bool = True
    session_token: str | None = field(default=None, repr=False)


class KeyStore(Protocol):
    """Where access keys are looked up."""

    async def find(self, access_key_id: str) -> Key | None:
        """The key, or None if nobody has it."""


@dataclass(slots=True)
class Arrived:
    """A request as it came over HTTP; `path` and `query` are the bytes on the request line."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    _folded: dict[bytes, bytes] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def folded(self) -> dict[bytes, bytes]:
        """The headers by lower-case name, made once: nearly every stage looks at one."""
        if self._folded is None:
            self._folded = canonical.fold(self.headers)
        return self._folded


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature says."""

    principal: Principal
    region: str
    service: str


@dataclass  # not frozen: that makes it take four times as long, and every request has one
class Claim:
    """What a request says of its own signature, read but not yet believed."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: str
    signature: str = field(repr=False)
    time: bytes
    session_token: str | None = field(default=None, repr=False)
    expires: int | None = None  # seconds, of a presigned request only

    _moment: datetime | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def moment(self) -> datetime:
        """When it was signed.

        Raises:
            IncompleteSignature: not a time.
        """
        if self._moment is None:
            self._moment = _time_of(self.time)
        return self._moment

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@lru_cache(64)  # the requests of a second have the same
def _time_of(t: bytes) -> datetime:
    try:
        if _is_time(t):  # by hand: strptime takes longer than all the rest of a verification
            day = int(t[:4]), int(t[4:6]), int(t[6:8])
            return datetime(*day, int(t[9:11]), int(t[11:13]), int(t[13:15]), tzinfo=UTC)
        moment = parsedate_to_datetime(t.decode("latin-1")[:40])
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise IncompleteSignature("The date of the signature must be in ISO 8601 basic form.") from error


def claim(request: Arrived, folded: Mapping[bytes, bytes]) -> Claim:
    """Read what the request says of its signature, from its header or its query.

    Raises:
        MissingAuthenticationToken: it says nothing.
        IncompleteSignature: it lacks a part, or says it in both places.
    """
    by_header = folded.get(b"authorization", b"").decode("latin-1")
    by_query = b"X-Amz-Signature" in request.query or b"X-Amz-Credential" in request.query
    if by_header and by_query:
        raise IncompleteSignature("A request may be signed in its header or in its query, not in both.")
    if by_header:
        return _claim_of_header(by_header, folded)
    if by_query:
        return _claim_of_query(request.query)
    raise MissingAuthenticationToken


def _claim_of_header(header: str, folded: Mapping[bytes, bytes]) -> Claim:
    usual, dated = _is_usual(header), folded.get(b"x-amz-date")
    if usual is not None and dated:
        given = folded.get(b"x-amz-security-token")
        key, date, region, service, names, signature = usual.groups()
        token = None if given is None else given.decode("latin-1")
        return Claim(key, date, region, service, names, signature, dated, token)
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignature(f"The algorithm of the Authorization header must be {ALGORITHM}.")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        if name in parts:
            raise IncompleteSignature("Authorization header has a parameter twice, or there are two headers.")
        parts[name] = value
    time = folded.get(b"x-amz-date") or folded.get(b"date")
    if time is None:
        raise IncompleteSignature("A signed request must have an 'X-Amz-Date' or a 'Date' header.")
    given = folded.get(b"x-amz-security-token")
    return read_claim(parts, "", time, None if given is None else given.decode("latin-1"))


def _claim_of_query(query: bytes) -> Claim:
    parts: dict[str, str] = {}
    for name, value in decode(query):
        if name.startswith("X-Amz-") and parts.setdefault(name, value) is not value:
            raise IncompleteSignature(f"The parameter {name} was given more than once.")
    if parts.get("X-Amz-Algorithm") != ALGORITHM:
        raise IncompleteSignature(f"X-Amz-Algorithm must be {ALGORITHM}.")
    expires = parts.get("X-Amz-Expires", "")
    if not _is_duration(expires) or not 1 <= int(expires) <= LONGEST_PRESIGNED:
        raise IncompleteSignature(f"X-Amz-Expires must be between 1 and {LONGEST_PRESIGNED} seconds.")
    time = parts.get("X-Amz-Date", "").encode()
    return read_claim(parts, "X-Amz-", time, parts.get("X-Amz-Security-Token"), int(expires))


def read_claim(
    parts: Mapping[str, str], prefix: str, time: bytes, token: str | None, expires: int | None = None
) -> Claim:
    """The claim that is in named parts, each name with the prefix.

    Raises:
        IncompleteSignature: a part is missing or is not what it must be.
    """
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(prefix + name):
            raise IncompleteSignature(f"The signature requires the parameter '{prefix}{name}'.")
    scope = _scope_of(parts[prefix + "Credential"])
    if scope is None:
        raise IncompleteSignature(
            "Credential must have the form '<access key>/<date>/<region>/<service>/aws4_request'."
        )
    signature = parts[prefix + "Signature"]
    if not _is_signature(signature):
        raise IncompleteSignature("Signature must be 64 lower-case hexadecimal digits.")
    key, date, region, service = scope.groups()
    return Claim(key, date, region, service, parts[prefix + "SignedHeaders"], signature, time, token, expires)


class Verifier:
    """Checks signatures.

    Args:
        keys: where access keys are found.
        clock: for the window of five minutes around now.
        regions: the names that a credential scope may carry; None allows any.
    """

    def __init__(self, keys: KeyStore, clock: Clock, *, regions: Collection[str] | None = None) -> None:
        self._keys = keys
        self._clock = clock
        self._regions = regions
        self._derived: dict[tuple[str, int, str, str, str], bytes] = {}

    async def verify(self, request: Arrived) -> Signed:
        """Who signed.

        Raises:
            MissingAuthenticationToken, IncompleteSignature: no signature, or half of one.
            RequestExpired: signed too long ago or in the future.
            AuthFailure, InvalidClientTokenId, SignatureDoesNotMatch: not a signature by any active
                key, in the words of the service asked.
        """
        folded = request.folded
        said = claim(request, folded)
        self._check_time(said)
        names = _signed_names(said, folded)
        key = await self._keys.find(said.access_key_id)
        cached = self._derived.get(_cache_key(said, key))
        derived = cached or _derive(said, key)
        wanted = _signature(said, derived, _canonical_request(said, request, folded, names))
        if not hmac.compare_digest(wanted, said.signature) or key is None or not key.active:
            if cached:  # a refusal takes as long for a busy key as for one that nobody has
                _derive(said, None)
            refuse(said.service, known=key is not None and key.active)
        _check_token(key, said)
        self._remember(said, key, derived)
        if self._regions is not None and said.region not in self._regions:
            refuse(said.service, why=f"Credential should be scoped to a valid region, not '{said.region}'.")
        return Signed(key.principal, said.region, said.service)

    def _check_time(self, said: Claim) -> None:
        then = said.moment
        if f"{then.year:04}{then.month:02}{then.day:02}" != said.date:
            refuse(said.service, why="The date of the credential scope is not the date of the signature.")
        age = self._clock.now() - then
        if age > (SKEW if said.expires is None else timedelta(seconds=said.expires)) or age < -SKEW:
            raise RequestExpired

    def _remember(self, said: Claim, key: Key, derived: bytes) -> None:
        """Only what verified is kept, so that nobody can push out others' keys by guessing."""
        name = _cache_key(said, key)
        if name not in self._derived:
            if len(self._derived) >= _CACHED_KEYS:
                del self._derived[next(iter(self._derived))]
            self._derived[name] = derived


def _cache_key(said: Claim, key: Key | None) -> tuple[str, int, str, str, str]:
    return (said.access_key_id, key.version if key else 0, said.date, said.region, said.service)


def _canonical_request(
    said: Claim, request: Arrived, folded: Mapping[bytes, bytes], names: list[bytes]
) -> bytes:
    without = b"" if said.expires is None else b"X-Amz-Signature"
    parts = (
        request.method.encode("latin-1"),
        canonical.path(request.path),
        canonical.query(request.query, without=without),
        canonical.header_lines(folded, names),
        said.signed_headers.encode(),
        _payload_hash(said, request, folded),
    )
    return b"\n".join(parts)


def _signature(said: Claim, derived: bytes, canonical_request: bytes) -> str:
    when = said.time.decode() if _is_time(said.time) else said.moment.strftime("%Y%m%dT%H%M%SZ")
    text = f"{ALGORITHM}\n{when}\n{said.scope}\n{sha256(canonical_request).hexdigest()}"
    return hmac.digest(derived, text.encode(), "sha256").hex()


def _derive(said: Claim, key: Key | None) -> bytes:
    return signing_key(key.secret if key else _NOBODY, said.date, said.region, said.service)


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of one day, region and service, derived from a secret."""
    derived = b"AWS4" + secret.encode()
    for part in (date, region, service, "aws4_request"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return derived


def _signed_names(said: Claim, folded: Mapping[bytes, bytes]) -> list[bytes]:
    """The signed headers: sorted, sent, the host among them and all that begin with `x-amz-`."""
    names = said.signed_headers.encode().split(b";")
    missing = {b"host"} | {name for name in folded if name.startswith(b"x-amz-")}
    if said.expires is None and b"x-amz-date" not in folded:
        missing.add(b"date")
    missing.difference_update(names)
    if missing:
        listed = ", ".join(sorted(name.decode("latin-1") for name in missing))
        refuse(said.service, why=f"Headers must be signed and are not: {listed[:200]}.")
    if names != sorted(set(names)) or not folded.keys() >= set(names):
        refuse(said.service, why="SignedHeaders must be sorted, lower-case, and name headers that were sent.")
    return names


def _payload_hash(said: Claim, request: Arrived, folded: Mapping[bytes, bytes]) -> bytes:
    """The hash of the body that came; one that the client states must be this one."""
    real = sha256(request.body).hexdigest().encode()
    stated = folded.get(b"x-amz-content-sha256", real)
    if stated != real:
        refuse(said.service, why="X-Amz-Content-Sha256 is not the hash of the body.")
    return real


def _check_token(key: Key, said: Claim) -> None:
    """A temporary key comes with its session token, a permanent one with none."""
    given, wanted = said.session_token, key.session_token
    if given is None and wanted is None:
        return
    if given is None or wanted is None or not hmac.compare_digest(given.encode(), wanted.encode()):
        refuse(said.service, known=False)


def refuse(service: str, *, known: bool = True, why: str = "") -> NoReturn:
    """Refuse a signature in the words of the service: EC2 does not say what is wrong with it.

    Raises:
        AuthFailure: always, for EC2.
        InvalidClientTokenId, SignatureDoesNotMatch: for the others.
    """
    error: AwsError
    if service == "ec2":
        error = AuthFailure(why) if why else AuthFailure()
    elif known:
        error = SignatureDoesNotMatch(why) if why else SignatureDoesNotMatch()
    else:
        error = InvalidClientTokenId()
    raise error
