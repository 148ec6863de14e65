"""A little of everything that the store does, step by step, and how to judge what a crash left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from mallee.walrus.db import contents
from mallee.walrus.errors import S3Error
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.reconcile.orphans import Orphans
from mallee.walrus.store import Claim, Files, NewObject, Store
from tests.unit.walrus.a_store import BUCKET, OWNER, bytes_of, etag_of, put

SMALL, OTHER = b"small " * 10, b"other " * 10
LARGE, LARGER = b"large " * 30_000, b"larger " * 40_000
PIECES = (b"first " * 1_000_000, b"last " * 10)


class Step(NamedTuple):
    """Something that changes `key`, and what is under it afterwards."""

    key: str
    run: Callable[[Store], Awaitable[object]]
    then: bytes | None


def _put(key: str, data: bytes) -> Step:
    return Step(key, lambda store: put(store, key, data), data)


def _delete(key: str) -> Step:
    return Step(key, lambda store: store.delete(BUCKET, key), None)


def _copy(source: str, key: str, data: bytes) -> Step:
    async def run(store: Store) -> None:
        await store.copy(await store.find(BUCKET, source), BUCKET, key, NewObject(OWNER))

    return Step(key, run, data)


def _upload(key: str) -> Step:
    async def run(store: Store) -> None:
        upload = await store.begin_upload(BUCKET, key, NewObject(OWNER), initiator=OWNER)
        for number, piece in enumerate(PIECES, 1):
            writing = await store.begin(len(piece))
            try:
                await writing.write(piece)
                await store.put_part(upload, number, writing, etag=etag_of(piece))
            finally:
                await writing.discard()
        claims = [Claim(number, etag_of(piece)) for number, piece in enumerate(PIECES, 1)]
        await store.complete_upload(BUCKET, key, upload.upload_id, claims)

    return Step(key, run, b"".join(PIECES))


STEPS: Sequence[Step] = (
    _put("small", SMALL),
    _put("large", LARGE),
    _put("small", OTHER),
    _put("large", LARGER),
    _copy("large", "copy", LARGER),
    _delete("large"),
    _upload("parts"),
    _put("parts", LARGE),
    _delete("copy"),
    _put("small", LARGE),
)


async def state_of(store: Store, key: str) -> bytes | None:
    """Raises whatever a reader would get but NoSuchKey."""
    try:
        version = await store.find(BUCKET, key)
    except S3Error as error:
        if error.code != "NoSuchKey":
            raise
        return None
    return await bytes_of(store, version, sendfile=False)


async def judge(store: Store, acknowledged: int, steps: Sequence[Step] = STEPS) -> None:
    """Every acknowledged step stands; of the next one all or nothing does; later ones never began."""
    for key in {step.key for step in steps}:
        done = [step.then for step in steps[:acknowledged] if step.key == key]
        allowed = [done[-1] if done else None]
        if acknowledged < len(steps) and steps[acknowledged].key == key:
            allowed.append(steps[acknowledged].then)
        found = await state_of(store, key)
        assert found in allowed, f"{key} after {acknowledged} steps: {found and found[:20]!r}"


async def sweep(store: Store) -> None:
    """As the reconcilers do in time; open uploads are ended as a lifecycle rule would."""
    for upload in (await store.list_uploads(BUCKET)).uploads:
        await store.abort_upload(BUCKET, upload.key, upload.upload_id)
    await Garbage(store.ground, grace=-1).one_pass()
    await Orphans(store.ground, grace=-1).one_pass()


async def left_over(store: Store) -> set[bytes]:
    """Blobs that no row names, and rows whose blobs are not there."""
    rows = await store.ground.db.read(lambda tx: contents.page(tx, b"", 1000))
    named = {row.id for row in rows if row.inline is None}
    assert isinstance(store.ground.blobs, Files)
    lying = {name async for names in store.ground.blobs.names() for name in names}
    incoming = store.ground.blobs.files.names(store.ground.blobs.incoming)
    return (named ^ lying) | {name.encode() for name in incoming}
