"""One hash for what a request asks: two requests with one client token must agree in it.

Source: "Ensuring idempotency in Amazon EC2 API requests": Region and Availability Zone may differ.
Page sizes and tokens are left out as well, so that a page token can be bound to the same hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

_BESIDE: Final = frozenset({
    "ClientToken", "DryRun", "Region", "NextToken", "MaxResults", "Marker", "MaxItems", "MaxRecords",
})  # fmt: skip
_ANYWHERE: Final = frozenset({"AvailabilityZone", "AvailabilityZoneId"})


def parameter_hash(parameters: Mapping[str, Any]) -> str:
    """SHA-256 of the parsed parameters in a canonical form, as 64 hexadecimal digits."""
    kept = {name: value for name, value in parameters.items() if name not in _BESIDE}
    text = msgspec.json.encode(kept, order="deterministic")
    if b'"AvailabilityZone' in text:  # few requests name one, and each request has a hash
        text = msgspec.json.encode(_without_zones(kept), order="deterministic")
    return sha256(text).hexdigest()


def _without_zones(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_zones(one) for name, one in value.items() if name not in _ANYWHERE}
    if isinstance(value, list):
        return [_without_zones(one) for one in value]
    return value
