"""Signature Version 2, for clients of the age of euca2ools; off unless the operator turns it on.

Source: "Signature Version 2 signing process" of the AWS General Reference. It has no scope, so the
service follows from the API version, and it is never good for a temporary key.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from mallee.aws.errors import IncompleteSignature, RequestExpired
from mallee.aws.protocol.form import Pairs, decode
from mallee.aws.protocol.scalars import read_time
from mallee.aws.sigv4 import SKEW, Arrived, KeyStore, Signed, refuse
from mallee.kernel.clock import Clock

PARAMETERS: Final = frozenset({
    "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp", "Expires",
})  # fmt: skip
_METHODS: Final = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}
SERVICES: Final = {"2010-05-08": "iam", "2011-06-15": "sts", "2011-01-01": "autoscaling"}
_NOBODY: Final = "a secret that no key has"


def looks_signed(request: Arrived) -> bool:
    """Whether the request carries the parameters of this version."""
    return b"AWSAccessKeyId=" in request.query or b"AWSAccessKeyId=" in request.body


class Verifier:
    """Checks signatures of version 2; the region of a result is the cloud's own."""

    def __init__(self, keys: KeyStore, clock: Clock, *, region: str) -> None:
        self._keys = keys
        self._clock = clock
        self._region = region

    async def verify(self, request: Arrived) -> Signed:
        """Who signed.

        Raises:
            IncompleteSignature: half a signature.
            RequestExpired: out of its time.
            AuthFailure, InvalidClientTokenId, SignatureDoesNotMatch: not a signature by any active key.
        """
        pairs = decode(request.query) + decode(request.body)
        sent = dict(pairs)
        if len(sent) != len(pairs):
            raise IncompleteSignature("A parameter was given more than once.")
        service = SERVICES.get(sent.get("Version", ""), "ec2")
        digest = _METHODS.get(sent.get("SignatureMethod", ""))
        if sent.get("SignatureVersion") != "2" or digest is None or "Signature" not in sent:
            raise IncompleteSignature(
                "SignatureVersion must be 2 and SignatureMethod HmacSHA256 or HmacSHA1."
            )
        self._check_time(sent)
        key = await self._keys.find(sent.get("AWSAccessKeyId", ""))
        secret = key.secret if key else _NOBODY
        wanted = b64encode(hmac.digest(secret.encode(), _to_sign(request, pairs), digest))
        good = hmac.compare_digest(wanted, sent["Signature"].encode())
        if not good or key is None or not key.active or key.session_token is not None:
            refuse(service, known=key is not None and key.active)
        return Signed(key.principal, self._region, service)

    def _check_time(self, sent: Mapping[str, str]) -> None:
        now = self._clock.now()
        if ("Timestamp" in sent) == ("Expires" in sent):
            raise IncompleteSignature("A request must have either a Timestamp or an Expires parameter.")
        if "Expires" in sent:
            if now > _moment(sent["Expires"]):
                raise RequestExpired
        elif abs(now - _moment(sent["Timestamp"])) > SKEW:
            raise RequestExpired


def _moment(text: str) -> datetime:
    try:
        return read_time(text).astimezone(UTC)
    except ValueError as error:
        raise IncompleteSignature("Timestamp and Expires must be in ISO 8601.") from error


def _to_sign(request: Arrived, pairs: Pairs) -> bytes:
    encoded = [
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in sorted(pairs)
        if name != "Signature"
    ]
    host = request.folded.get(b"host", b"").lower()
    query = "&".join([f"{name}={value}" for name, value in encoded])
    return b"\n".join((request.method.encode("latin-1"), host, request.path or b"/", query.encode()))
