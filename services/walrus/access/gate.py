"""The gate of the front: may this be done, and may a page of another origin see the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mallee.walrus.access import cors
from mallee.walrus.access.authorise import check
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call


class Gate:
    """`front.call.Access`. It holds nothing: a call brings the store and the identities along."""

    async def authorise(self, call: Call, parameters: Mapping[str, Any]) -> None:
        """Return if the call may be made; its bucket is found then. Raises S3Error as `authorise.check`."""
        await check(call, parameters)

    async def preflight(self, call: Call, origin: str, method: str, headers: list[str]) -> Mapping[str, str]:
        """The headers that allow what a browser asks about. Raises S3Error AccessForbidden."""
        resource = "OBJECT" if call.key else "BUCKET"
        try:
            home = await call.store.head_bucket(call.bucket) if call.bucket else None
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            home = None
        allowed = cors.allowed(home, origin, method, headers) if home else {}
        if not allowed:
            raise cors.refused(resource)
        return allowed

    async def cross_origin(self, call: Call, origin: str) -> Mapping[str, str]:
        """The headers for the answer to a request of a page of another origin; none if no rule fits."""
        if not call.bucket:
            return {}
        try:
            home = await call.store.head_bucket(call.bucket)
        except S3Error:
            return {}
        return cors.allowed(home, origin, call.method)
