"""Whether an account may read an object, asked for it by a service of the cloud.

A service that reads whatever it is told to would lend its own rights to whoever tells it: a confused
deputy. So the account is judged here as if its root had sent the GetObject itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from mallee.aws.context import Principal
from mallee.walrus.access.authorise import absent, check
from mallee.walrus.errors import S3Error
from mallee.walrus.front.body import Body
from mallee.walrus.front.call import Call
from mallee.walrus.front.digests import Block
from mallee.walrus.store import Store, Version


class _NoBytes:
    """The body of a request that has none."""

    length = 0

    def at_once(self) -> bytes:
        return b""

    async def blocks(self) -> AsyncIterator[Block]:
        blocks: tuple[Block, ...] = ()
        for block in blocks:
            yield block


_NO_BODY: Final = Body(_NoBytes(), {})


async def find_for(
    store: Store, account: str, bucket: str, key: str, version_id: str | None, now: datetime
) -> Version:
    """The object, if the account's root may read it; a delete marker is none.

    Raises:
        S3Error: AccessDenied, also for what is not there and the account may not list; NoSuchBucket,
            NoSuchKey, NoSuchVersion.
    """
    root = Principal(account, f"arn:aws:iam::{account}:root", account, "", is_root=True)
    call = Call(
        request_id="",
        principal=root,
        operation="GetObject",
        bucket=bucket,
        key=key,
        body=_NO_BODY,
        now=now,
        method="GET",
        host="",
        source_ip="",
        secure=True,
        store=store,
        identity=None,
    )
    await check(call, {"VersionId": version_id} if version_id else {})
    try:
        version = await store.find(bucket, key, version_id)
    except S3Error as error:
        raise await absent(call, error) from error
    if version.is_delete_marker:
        raise await absent(call, S3Error("NoSuchKey", Key=key))
    return version
