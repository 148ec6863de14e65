"""Which pages of other origins a browser may let at a bucket.

Source: "Using cross-origin resource sharing (CORS)": the first rule that fits origin, method and headers
decides; `*` stands for any run of characters, once in an origin or a header.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from mallee.walrus.access.patterns import matcher
from mallee.walrus.errors import S3Error
from mallee.walrus.store import Bucket

CORS: Final = "cors"


class Rule(msgspec.Struct, frozen=True):
    """One rule, by the names of the document."""

    AllowedMethods: tuple[str, ...] = ()
    AllowedOrigins: tuple[str, ...] = ()
    AllowedHeaders: tuple[str, ...] = ()
    ExposeHeaders: tuple[str, ...] = ()
    MaxAgeSeconds: int | None = None
    ID: str = ""

    def fits(self, origin: str, method: str, headers: Sequence[str]) -> bool:
        """Whether it allows a request; header names in small letters."""
        allowed = [name.lower() for name in self.AllowedHeaders]
        return (
            method in self.AllowedMethods
            and any(matcher(each)(origin) for each in self.AllowedOrigins)
            and all(any(matcher(each)(name) for each in allowed) for name in headers)
        )


@lru_cache(maxsize=256)
def _rules(document: bytes) -> tuple[Rule, ...]:
    return msgspec.json.decode(document, type=dict[str, tuple[Rule, ...]])["CORSRules"]


def allowed(
    home: Bucket, origin: str, method: str, headers: Sequence[str] | None = None
) -> Mapping[str, str]:
    """The headers that tell a browser so; none when no rule fits.

    Args:
        home: the bucket.
        origin: of the page.
        method: of the request that it makes or wants to make.
        headers: that it wants to send; None for a request that is made already.
    """
    document = home.config.get(CORS)
    rules = _rules(document) if document else ()
    rule = next((each for each in rules if each.fits(origin, method, headers or ())), None)
    if rule is None:
        return {}
    anybody = "*" in rule.AllowedOrigins
    found = {
        "Access-Control-Allow-Origin": "*" if anybody else origin,
        "Access-Control-Allow-Methods": ", ".join(rule.AllowedMethods),
        "Vary": "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    }
    if not anybody:
        found["Access-Control-Allow-Credentials"] = "true"
    if headers:
        found["Access-Control-Allow-Headers"] = ", ".join(headers)
    if rule.ExposeHeaders:
        found["Access-Control-Expose-Headers"] = ", ".join(rule.ExposeHeaders)
    if rule.MaxAgeSeconds is not None:
        found["Access-Control-Max-Age"] = str(rule.MaxAgeSeconds)
    return found


def refused(resource: str) -> S3Error:
    """What a browser hears that asked in vain."""
    return S3Error("AccessForbidden", Method="OPTIONS", ResourceType=resource)


def check(rules: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rules that could never work. Raises S3Error MalformedXML, InvalidRequest."""
    if not 1 <= len(rules) <= 100:
        raise S3Error("MalformedXML")
    for rule in rules:
        for method in rule.get("AllowedMethods") or ():
            if method not in {"GET", "PUT", "HEAD", "POST", "DELETE"}:
                raise S3Error(
                    "InvalidRequest",
                    f"Found unsupported HTTP method in CORS config. Unsupported method is {method[:32]}",
                )
        for name in ("AllowedOrigins", "AllowedHeaders"):
            for value in rule.get(name) or ():
                if value.count("*") > 1:
                    raise S3Error(
                        "InvalidRequest", f'{name[:-1]} "{value[:64]}" can not have more than one wildcard.'
                    )
        if any("*" in value for value in rule.get("ExposeHeaders") or ()):
            raise S3Error("InvalidRequest", "ExposeHeader cannot contain wildcards.")
        if not rule.get("AllowedMethods") or not rule.get("AllowedOrigins"):
            raise S3Error("MalformedXML")
