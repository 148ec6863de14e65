"""Finding the version that a request means, with the errors that its caller may hear."""

from __future__ import annotations

from mallee.aws.protocol.scalars import http_date
from mallee.walrus.access.authorise import absent
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call
from mallee.walrus.store import Bucket, Version

_MISSING = frozenset({"NoSuchKey", "NoSuchVersion"})


async def find(
    call: Call, version_id: str | None, *, key: str | None = None, home: Bucket | None = None
) -> Version:
    """The object, by default the request's own; never a delete marker.

    Args:
        call: whose bucket and key are meant unless others are named.
        version_id: None for the newest.
        key: of another object.
        home: its bucket.

    Raises:
        S3Error: NoSuchKey, NoSuchVersion, AccessDenied for whoever may not know that; MethodNotAllowed for a
            delete marker that is asked for by its id.
    """
    bucket, name = home or call.home, call.key if key is None else key
    try:
        found: Version = await call.store.find(bucket.name, name, version_id)
    except S3Error as error:
        if error.code not in _MISSING:
            raise
        raise await absent(call, error, bucket) from None
    if not found.is_delete_marker:
        return found
    headers = {"x-amz-delete-marker": "true", "x-amz-version-id": found.version_id}
    if version_id is None:
        raise await absent(call, S3Error("NoSuchKey", headers=headers, Key=name), bucket)
    headers["Last-Modified"] = http_date(found.modified)
    raise S3Error("MethodNotAllowed", headers=headers, Method=call.method, ResourceType="DeleteMarker")
