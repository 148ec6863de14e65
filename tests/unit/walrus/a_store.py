"""A store for tests: a real one, in a folder of its own."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import close, pread
from pathlib import Path

from mallee.kernel.clock import Clock, ManualClock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy, SeededEntropy
from mallee.kernel.file_system import FileSystem
from mallee.kernel.secrets_box import SecretsBox
from mallee.walrus.db import METADATA
from mallee.walrus.front.call import FileRange
from mallee.walrus.store import (
    ALWAYS,
    Blobs,
    Conditions,
    Encryption,
    Files,
    Ground,
    NewObject,
    Store,
    Version,
)

OWNER = "111122223333"
BUCKET = "pictures"
MIB = 1 << 20


@asynccontextmanager
async def a_store(
    folder: Path,
    *,
    url: str = "",
    files: FileSystem | None = None,
    blobs: Blobs | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    durable: bool = False,
    inline: int = 16 * 1024,
) -> AsyncIterator[Store]:
    """The store in `folder`, with the bucket `pictures` when it is new."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    url = url or f"sqlite:///{folder}/state.db"
    entropy = entropy or SeededEntropy(7)
    place = blobs or await Files.start(folder / "objects", files)
    box = SecretsBox.open(folder / "keys", entropy)
    db = await Database.open(url, metadata=METADATA, migrations="mallee.walrus.db", durable=durable)
    ground = Ground(db, place, box, clock or ManualClock(), entropy, inline=inline)
    store = Store(ground)
    try:
        if not await store.list_buckets(OWNER):
            await store.create_bucket(BUCKET, OWNER, "eu-west-1")
        yield store
    finally:
        await store.rest()
        await db.close()
        if blobs is None:
            await place.close()


async def put(
    store: Store,
    key: str,
    data: bytes,
    *,
    bucket: str = BUCKET,
    conditions: Conditions = ALWAYS,
    encryption: Encryption | None = None,
    new: NewObject | None = None,
) -> Version:
    """Write an object as a handler does."""
    writing = await store.begin(len(data), encryption=encryption)
    try:
        for at in range(0, len(data), MIB):
            await writing.write(memoryview(data)[at : at + MIB])
        new = new or NewObject(owner=OWNER, etag=etag_of(data))
        return await store.commit(bucket, key, writing, new, conditions)
    finally:
        await writing.discard()


async def bytes_of(
    store: Store,
    version: Version,
    first: int = 0,
    last: int | None = None,
    *,
    customer_key: bytes | None = None,
    sendfile: bool = True,
) -> bytes:
    """What a reader gets."""
    reading = await store.read(version, first, last, customer_key=customer_key, sendfile=sendfile)
    found = bytearray()
    try:
        async for piece in reading:
            if isinstance(piece, FileRange):
                found += pread(piece.fd, piece.length, piece.offset)
                close(piece.fd)
            else:
                found += piece
    finally:
        await reading.aclose()
    assert len(found) == reading.length
    return bytes(found)


async def get(store: Store, key: str, version_id: str | None = None, *, bucket: str = BUCKET) -> bytes:
    return await bytes_of(store, await store.find(bucket, key, version_id))


def etag_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
