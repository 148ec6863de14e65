"""Uploads in parts: what is refused, what the whole is said to be, and who gets which bytes."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mallee.kernel.entropy import SeededEntropy
from mallee.walrus.errors import S3Error
from mallee.walrus.reconcile.garbage import Garbage
from mallee.walrus.store import Claim, Conditions, Encryption, NewObject, Part, Store, Upload
from mallee.walrus.store import completing as completing_room
from mallee.walrus.store.checksums import of_bytes, of_parts
from tests.unit.walrus.a_store import BUCKET, OWNER, a_store, bytes_of, etag_of, get, put

PIECES = [b"a" * 11, b"b" * 12, b"c" * 3]
WHOLE = b"".join(PIECES)
KEY = bytes(range(32))


@pytest.fixture
async def store(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(completing_room, "SMALLEST", 10)
    async with a_store(tmp_path / "store", url=database_url) as store:
        yield store


async def begun(store: Store, **more: Any) -> Upload:
    return await store.begin_upload(BUCKET, "k", NewObject(OWNER), initiator="me", **more)


async def part(
    store: Store, upload: Upload, number: int, data: bytes, *, encryption: Encryption | None = None
) -> Part:
    writing = await store.begin(len(data), encryption=encryption)
    try:
        await writing.write(data)
        algorithm = upload.checksum_algorithm
        checksums = {algorithm: of_bytes(algorithm, data)} if algorithm else {}
        return await store.put_part(upload, number, writing, etag=etag_of(data), checksums=checksums)
    finally:
        await writing.discard()


async def with_parts(store: Store, **more: Any) -> tuple[Upload, list[Claim]]:
    upload = await begun(store, **more)
    parts = [await part(store, upload, number, data) for number, data in enumerate(PIECES, 1)]
    return upload, [Claim(each.number, each.etag, each.checksums) for each in parts]


async def complete(store: Store, upload: Upload, claims: list[Claim], **more: Any) -> Any:
    return await store.complete_upload(BUCKET, "k", upload.upload_id, claims, **more)


async def code_of(asked: Any) -> str:
    with pytest.raises(S3Error) as caught:
        await asked
    return caught.value.code


async def test_what_is_refused_changes_nothing(store: Store) -> None:
    upload, claims = await with_parts(store)
    small = [claims[2]._replace(number=3), Claim(4, (await part(store, upload, 4, b"d" * 20)).etag)]
    for asked, code in (
        ([], "MalformedXML"),
        (claims[::-1], "InvalidPartOrder"),
        ([claims[0], claims[0]], "InvalidPartOrder"),
        ([claims[0]._replace(etag=etag_of(b""))], "InvalidPart"),
        ([Claim(9, claims[0].etag)], "InvalidPart"),
        (small, "EntityTooSmall"),
    ):
        assert await code_of(complete(store, upload, asked)) == code
    assert await code_of(complete(store, upload, claims, size=5)) == "InvalidRequest"
    for number in (0, 10_001):
        assert await code_of(part(store, upload, number, b"x")) == "InvalidArgument"
    conditions = Conditions(if_none_match="*")
    await put(store, "k", b"there")
    assert await code_of(complete(store, upload, claims, conditions=conditions)) == "PreconditionFailed"
    assert await get(store, "k") == b"there"
    assert len((await store.list_parts(BUCKET, "k", upload.upload_id)).parts) == 4


async def test_forged_and_foreign_upload_ids(store: Store) -> None:
    upload, claims = await with_parts(store)
    await store.create_bucket("other", OWNER, "eu")
    for bucket, key, upload_id in (
        (BUCKET, "k", "forged"),
        (BUCKET, "k", ""),
        (BUCKET, "another", upload.upload_id),
        ("other", "k", upload.upload_id),
    ):
        for asked in (
            store.list_parts(bucket, key, upload_id),
            store.complete_upload(bucket, key, upload_id, claims),
            store.abort_upload(bucket, key, upload_id),
            store.find_upload(bucket, key, upload_id),
        ):
            assert await code_of(asked) == "NoSuchUpload"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        *[(name, "COMPOSITE") for name in ("CRC32", "CRC32C", "SHA1", "SHA256")],
        *[(name, "FULL_OBJECT") for name in ("CRC32", "CRC32C", "CRC64NVME")],
    ],
)
async def test_checksums_of_the_whole(store: Store, algorithm: str, kind: Any) -> None:
    upload, claims = await with_parts(store, checksum_algorithm=algorithm, checksum_type=kind)
    wrong = [claims[0]._replace(checksums={algorithm: "AAAA"}), *claims[1:]]
    assert await code_of(complete(store, upload, wrong)) == "InvalidPart"
    assert await code_of(complete(store, upload, claims, checksums={algorithm: "AAAA"})) == "BadDigest"
    version = await complete(store, upload, claims)
    if kind == "FULL_OBJECT":
        assert version.checksums == {algorithm: of_bytes(algorithm, WHOLE)}
    else:
        raw = b"".join(base64.b64decode(of_bytes(algorithm, piece)) for piece in PIECES)
        assert version.checksums == {algorithm: f"{of_bytes(algorithm, raw)}-3"}
    assert version.checksum_type == kind
    assert [each.checksums[algorithm] for each in await store.parts_of(version)] == [
        of_bytes(algorithm, piece) for piece in PIECES
    ]


def test_a_crc_is_the_one_that_everybody_computes() -> None:
    known = zlib.crc32(WHOLE).to_bytes(4)
    assert of_bytes("CRC32", WHOLE) == base64.b64encode(known).decode()
    parts = [(of_bytes("CRC32", piece), len(piece)) for piece in PIECES]
    assert of_parts("CRC32", "FULL_OBJECT", parts) == base64.b64encode(known).decode()
    assert of_bytes("CRC64NVME", b"123456789") == base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()
    assert of_bytes("CRC32C", b"123456789") == base64.b64encode(bytes.fromhex("e3069283")).decode()


async def test_parts_of_the_object(store: Store) -> None:
    upload, claims = await with_parts(store)
    version = await complete(store, upload, claims)
    assert version.parts == 3
    assert version.etag.endswith("-3")
    for number, (start, piece) in enumerate(zip((0, 11, 23), PIECES, strict=True), 1):
        offset, length, told = await store.part_range(version, number)
        assert (offset, length, told.etag) == (start, len(piece), etag_of(piece))
        assert await bytes_of(store, version, offset, offset + length - 1) == piece
    assert await code_of(store.part_range(version, 4)) == "InvalidPartNumber"
    assert [each.number for each in await store.parts_of(version, after=1, limit=1)] == [2]
    for first in range(len(WHOLE)):
        assert (
            await bytes_of(store, version, first, min(first + 12, len(WHOLE) - 1))
            == WHOLE[first : first + 13]
        )


async def test_a_copy_of_an_object_in_parts_outlives_it(store: Store) -> None:
    upload, claims = await with_parts(store)
    version = await complete(store, upload, claims)
    copied = await store.copy(version, BUCKET, "copy", NewObject(OWNER))
    assert copied.parts == 3
    await store.delete(BUCKET, "k")
    await Garbage(store.ground, grace=-1).one_pass()
    assert await get(store, "copy") == WHOLE


@pytest.mark.parametrize("encryption", [Encryption(), Encryption(KEY)], ids=["s3", "customer"])
async def test_parts_are_kept_as_the_upload_was_begun(store: Store, encryption: Encryption) -> None:
    upload = await begun(store, encryption=encryption)
    assert await code_of(part(store, upload, 1, b"plain" * 3)) == "InvalidRequest"
    if encryption.customer_key:
        assert (
            await code_of(part(store, upload, 1, b"x" * 9, encryption=Encryption(bytes(32))))
            == "AccessDenied"
        )
    parts = [await part(store, upload, n, data, encryption=encryption) for n, data in enumerate(PIECES, 1)]
    version = await complete(store, upload, [Claim(each.number, each.etag) for each in parts])
    assert version.encryption == upload.encryption
    assert await bytes_of(store, version, 5, 24, customer_key=encryption.customer_key) == WHOLE[5:25]
    if encryption.customer_key:
        assert await code_of(store.read(version)) == "InvalidRequest"


async def test_parts_from_other_objects(store: Store) -> None:
    source = await put(store, "source", b"0123456789" * 20_000)
    upload = await begun(store, checksum_algorithm="CRC64NVME", checksum_type="FULL_OBJECT")
    first = await store.copy_part(upload, 1, source, 5, 100_004)
    second = await store.copy_part(upload, 2, source)
    assert (first.size, first.etag) == (100_000, etag_of(b"5678901234" * 10_000))
    version = await complete(store, upload, [Claim(each.number, each.etag) for each in (first, second)])
    whole = b"5678901234" * 10_000 + b"0123456789" * 20_000
    assert version.checksums == {"CRC64NVME": of_bytes("CRC64NVME", whole)}
    assert await get(store, "k") == whole


async def test_asking_again_for_the_end_is_answered_the_same_for_a_while(store: Store) -> None:
    upload, claims = await with_parts(store)
    version = await complete(store, upload, claims)
    await put(store, "k", b"something newer")
    again = await complete(store, upload, claims)
    assert (again.etag, again.version_id, again.size) == (version.etag, version.version_id, version.size)
    assert await get(store, "k") == b"something newer"
    assert await code_of(complete(store, upload, claims[:2])) == "NoSuchUpload"
    await Garbage(store.ground, remembered=-1).one_pass()
    assert await code_of(complete(store, upload, claims)) == "NoSuchUpload"


async def test_completing_at_the_same_time_makes_one_object(store: Store) -> None:
    upload, claims = await with_parts(store)
    answers = await asyncio.gather(*[complete(store, upload, claims) for _ in range(8)])
    assert len({(each.version_id, each.etag, each.modified_ms) for each in answers}) == 1
    assert (await store.usage(BUCKET)).objects == 1


async def test_uploads_are_listed_by_key_and_then_by_time(store: Store) -> None:
    entropy = SeededEntropy(3)
    keys = [f"{'ab'[int(entropy.uniform(0, 2))]}/{int(entropy.uniform(0, 3))}" for _ in range(12)]
    made = []
    for key in keys:
        upload = await store.begin_upload(BUCKET, key, NewObject(OWNER), initiator="me")
        made.append((key, upload.upload_id))
    found: list[tuple[str, str]] = []
    after, after_upload = "", ""
    while True:
        page = await store.list_uploads(BUCKET, after=after, after_upload=after_upload, limit=5)
        found += [(each.key, each.upload_id) for each in page.uploads]
        if not page.truncated:
            break
        after, after_upload = page.next_key, page.next_upload
    assert found == sorted(made)
    assert (await store.list_uploads(BUCKET, delimiter="/")).prefixes == ["a/", "b/"]
    await store.delete_bucket(BUCKET)
    await Garbage(store.ground, grace=-1).one_pass()


@pytest.mark.slow
async def test_ten_thousand_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows only: the bytes of one part stand for all."""
    from mallee.walrus.db import contents, parts
    from mallee.walrus.db.contents import ContentRow
    from mallee.walrus.db.parts import PartRow

    upload = await begun(store)
    data = b"0123456789"
    crcs = b""

    def work(tx: Any) -> None:
        for number in range(1, 10_001):
            name = number.to_bytes(16)
            contents.add(tx, ContentRow(name, 1, len(data), len(data), crcs, b"", None, None))
            parts.put(tx, PartRow(upload.upload_id, number, name, len(data), etag_of(data), 0, b""))

    await store.ground.db.transact(work)
    claims = [Claim(number, etag_of(data)) for number in range(1, 10_001)]
    version = await complete(store, upload, claims)
    assert (version.size, version.parts) == (100_000, 10_000)
    assert (await store.part_range(version, 9_999))[0] == 99_980
    await store.delete(BUCKET, "k")
    await Garbage(store.ground, grace=-1).one_pass()
    assert await store.ground.db.read(lambda tx: contents.page(tx, b"", 10)) == []
