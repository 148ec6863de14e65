"""Configuration documents of buckets, kept as JSON by the model's names."""

from __future__ import annotations

from typing import Any

import msgspec

from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import Call
from mallee.walrus.store import Bucket

MOST_BYTES = 64 * 1024


def read(home: Bucket, name: str) -> Any:
    """The document, None if the bucket has none."""
    kept = home.config.get(name)
    return msgspec.json.decode(kept) if kept else None


def required(home: Bucket, name: str, missing: str) -> Any:
    """The document. Raises S3Error `missing`, S3's word for a bucket that has none."""
    kept = home.config.get(name)
    if not kept:
        raise S3Error(missing, BucketName=home.name)
    return msgspec.json.decode(kept)


async def put(call: Call, name: str, document: Any) -> None:
    """Keep the document in place of the one before. Raises S3Error MaxMessageLengthExceeded."""
    kept = msgspec.json.encode(document)
    if len(kept) > MOST_BYTES:
        raise S3Error("MaxMessageLengthExceeded")
    await call.store.set_config(call.bucket, name, kept)


async def remove(call: Call, name: str) -> None:
    """Forget the document, if there is one."""
    if name in call.home.config:
        await call.store.set_config(call.bucket, name, None)
