"""Objects: written, found, read in ranges, replaced, deleted, copied; what is counted; what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mallee.walrus.errors import S3Error
from mallee.walrus.store import Conditions, Encryption, NewObject, Store, Usage
from tests.unit.walrus.a_store import BUCKET, MIB, OWNER, a_store, bytes_of, etag_of, get, put

SMALL = b"a small object"
LARGE = bytes(range(256)) * 4096 * 3 + b"and a bit"
KEY = bytes(range(32))


@pytest.fixture
async def store(tmp_path: Path, database_url: str) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store", url=database_url) as store:
        yield store


def refusal(caught: pytest.ExceptionInfo[S3Error]) -> str:
    return caught.value.code


@pytest.mark.parametrize("data", [b"", b"x", SMALL, LARGE, LARGE[:MIB], LARGE[: 2 * MIB]])
@pytest.mark.parametrize("encryption", [None, Encryption(), Encryption(KEY)], ids=["plain", "s3", "customer"])
async def test_what_was_put_is_got(store: Store, data: bytes, encryption: Encryption | None) -> None:
    key = encryption.customer_key if encryption else None
    await put(store, "a/b", data, encryption=encryption)

    found = await store.find(BUCKET, "a/b")
    assert (found.size, found.etag, found.version_id) == (len(data), etag_of(data), "null")
    for sendfile in (True, False):
        assert await bytes_of(store, found, customer_key=key, sendfile=sendfile) == data
    for first, last in ((0, 0), (1, 65520), (65519, 65520), (MIB - 1, MIB), (70000, 2 * MIB + 5)):
        if last < len(data):
            assert await bytes_of(store, found, first, last, customer_key=key) == data[first : last + 1]


async def test_replacing_and_deleting_leave_nothing(store: Store) -> None:
    await put(store, "k", LARGE)
    await put(store, "k", SMALL)
    assert await get(store, "k") == SMALL
    assert await store.usage(BUCKET) == Usage(1, len(SMALL))

    await store.delete(BUCKET, "k")

    with pytest.raises(S3Error) as caught:
        await store.find(BUCKET, "k")
    assert refusal(caught) == "NoSuchKey"
    assert await store.usage(BUCKET) == Usage()
    assert await store.usage_of_account(OWNER) == {BUCKET: Usage()}


async def test_a_copy_shares_its_bytes_and_outlives_its_source(store: Store) -> None:
    for name, data in (("small", SMALL), ("large", LARGE)):
        source = await put(store, name, data)
        copied = await store.copy(source, BUCKET, f"{name}-copy", NewObject(OWNER))
        assert copied.etag == source.etag
        assert copied.content == source.content
        await store.delete(BUCKET, name)
        assert await get(store, f"{name}-copy") == data


async def test_a_copy_finds_the_bytes_of_a_source_that_was_just_replaced(store: Store) -> None:
    for data in (SMALL, LARGE):
        source = await put(store, "k", data)
        await put(store, "k", b"other")
        await store.copy(source, BUCKET, "copy", NewObject(OWNER))
        assert await get(store, "copy") == data


async def test_a_copy_may_be_encrypted_otherwise(store: Store) -> None:
    source = await put(store, "k", LARGE, encryption=Encryption(KEY))
    copied = await store.copy(source, BUCKET, "c", NewObject(OWNER), encryption=Encryption(), source_key=KEY)
    assert copied.encryption == "AES256"
    assert await get(store, "c") == LARGE


async def test_a_clients_key_is_needed_and_must_be_the_right_one(store: Store) -> None:
    version = await put(store, "k", LARGE, encryption=Encryption(KEY))
    for key, code in ((None, "InvalidRequest"), (bytes(32), "AccessDenied")):
        with pytest.raises(S3Error) as caught:
            await store.read(version, customer_key=key)
        assert refusal(caught) == code
    plain = await put(store, "p", LARGE)
    with pytest.raises(S3Error) as caught:
        store.check_customer_key(plain, KEY)
    assert refusal(caught) == "InvalidRequest"


async def test_conditions_are_decided_when_the_change_is_made(store: Store) -> None:
    only_new, etag = Conditions(if_none_match="*"), Conditions(if_match=etag_of(SMALL))
    await put(store, "k", SMALL, conditions=only_new)

    for conditions, code in (
        (only_new, "PreconditionFailed"),
        (Conditions(if_match="other"), "PreconditionFailed"),
    ):
        with pytest.raises(S3Error) as caught:
            await put(store, "k", b"new", conditions=conditions)
        assert refusal(caught) == code
    with pytest.raises(S3Error) as caught:
        await put(store, "nothing", b"new", conditions=etag)
    assert refusal(caught) == "NoSuchKey"
    await put(store, "k", b"new", conditions=etag)
    assert await get(store, "k") == b"new"


async def test_a_concurrent_change_is_told_from_an_early_one(store: Store) -> None:
    only_new = Conditions(if_none_match="*")
    writing = await store.begin(3, checking=(BUCKET, "k", only_new))
    await writing.write(b"one")
    await put(store, "k", b"two")

    with pytest.raises(S3Error) as caught:
        await store.commit(BUCKET, "k", writing, NewObject(OWNER), only_new)
    assert refusal(caught) == "ConditionalRequestConflict"
    await writing.discard()
    with pytest.raises(S3Error) as caught:
        await store.begin(3, checking=(BUCKET, "k", only_new))
    assert refusal(caught) == "PreconditionFailed"


async def test_what_is_discarded_leaves_no_file(store: Store, tmp_path: Path) -> None:
    writing = await store.begin()
    await writing.write(LARGE)
    assert list((tmp_path / "store/objects/incoming").iterdir())
    await writing.discard()
    await writing.discard()
    assert not list((tmp_path / "store/objects/incoming").iterdir())


async def test_buckets(store: Store) -> None:
    for owner, code in ((OWNER, "BucketAlreadyOwnedByYou"), ("other", "BucketAlreadyExists")):
        with pytest.raises(S3Error) as caught:
            await store.create_bucket(BUCKET, owner, "r")
        assert refusal(caught) == code
    with pytest.raises(S3Error) as caught:
        await store.create_bucket("more", OWNER, "r", most=1)
    assert refusal(caught) == "TooManyBuckets"
    await store.create_bucket("prints", OWNER, "r")
    assert [bucket.name for bucket in await store.list_buckets(OWNER, prefix="p")] == [BUCKET, "prints"]
    assert [bucket.name for bucket in await store.list_buckets(OWNER, after=BUCKET)] == ["prints"]
    await store.set_config("prints", "policy", b"{}")
    assert (await store.head_bucket("prints")).config == {"policy": b"{}"}
    await store.set_config("prints", "policy", None)
    assert (await store.head_bucket("prints")).config == {}

    await put(store, "k", SMALL)
    with pytest.raises(S3Error) as caught:
        await store.delete_bucket(BUCKET)
    assert refusal(caught) == "BucketNotEmpty"
    await store.delete(BUCKET, "k")
    await store.delete_bucket(BUCKET)
    with pytest.raises(S3Error) as caught:
        await store.head_bucket(BUCKET)
    assert refusal(caught) == "NoSuchBucket"


async def test_keys_are_never_paths(store: Store, tmp_path: Path) -> None:
    keys = ["../../x", "/etc/passwd", "a\x00b", "%2e%2e/", "ü" * 512, "tail/", " "]
    for key in keys:
        await put(store, key, LARGE[: 40 * 1024])
    assert [entry.key for entry in (await store.list(BUCKET)).entries] == sorted(keys, key=str.encode)
    for path in (tmp_path / "store/objects/blobs").rglob("*"):
        assert set(path.name) <= set("0123456789abcdef")
    for key, code in (("ü" * 513, "KeyTooLongError"), ("\ud800", "InvalidURI")):
        with pytest.raises(S3Error) as caught:
            await put(store, key, b"")
        assert refusal(caught) == code
