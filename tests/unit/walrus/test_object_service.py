"""Objects for the other services: streams, ranges, checksums, refusals, and who may ask what."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from awscrt.checksums import crc32c

from mallee.domain.disk_image import IMAGES_OF
from mallee.kernel.clock import SystemClock
from mallee.kernel.errors import Fault
from mallee.kernel.pki import Authority, IssuedKeys
from mallee.kernel.rpc import GrpcTransport, Identity
from mallee.rpc import objects_pb2 as pb
from mallee.rpc.objects_pb2_grpc import ObjectServiceStub, add_ObjectServiceServicer_to_server
from mallee.walrus.access.authorise import POLICY
from mallee.walrus.service import ACCESS, Objects
from mallee.walrus.store import Store
from mallee.walrus.store.checksums import of_bytes
from tests.unit.walrus.a_store import BUCKET, MIB, OWNER, a_store, etag_of, get, put

IMAGE = bytes(range(256)) * 4096 * 5 + b"the end"
Reach = Callable[[str], Any]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with a_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
async def reach(store: Store, tmp_path: Path) -> AsyncIterator[Reach]:
    """Stubs of services of any role."""
    clock = SystemClock()
    transport = GrpcTransport(IssuedKeys(Authority.open(tmp_path, "mallee", clock).issue, clock))
    register = partial(add_ObjectServiceServicer_to_server, Objects(store, clock))
    served = await transport.serve(
        Identity("mallee", "walrus", "walrus"), "127.0.0.1:0", register, access=ACCESS
    )
    channels = []

    def stub(role: str) -> Any:
        channels.append(
            transport.connect(Identity("mallee", role, f"{role}-1"), served.address, expect="walrus")
        )
        return ObjectServiceStub(channels[-1])

    yield stub
    for channel in channels:
        await channel.close()
    await served.close()


def put_requests(data: bytes, **first: Any) -> list[pb.PutRequest]:
    blocks = [data[at : at + MIB] for at in range(0, len(data), MIB)]
    return [
        pb.PutRequest(bucket=BUCKET, key="image", owner=OWNER, **first),
        *[pb.PutRequest(chunk=pb.Chunk(data=block, crc32c=crc32c(block))) for block in blocks],
    ]


async def got(call: Any) -> tuple[pb.Object, bytes]:
    answers = [answer async for answer in call]
    for answer in answers[1:]:
        assert crc32c(answer.chunk.data) == answer.chunk.crc32c
    return answers[0].object, b"".join(answer.chunk.data for answer in answers[1:])


async def test_an_image_goes_in_and_comes_out(reach: Reach, store: Store) -> None:
    whole = pb.PutRequest(crc64nvme=of_bytes("CRC64NVME", IMAGE))
    requests = [*put_requests(IMAGE, encrypt=True, size=len(IMAGE), headers={"x-amz-meta-a": "b"}), whole]
    put_object = (await reach("sc").Put(iter(requests))).object

    assert (put_object.size, put_object.etag) == (len(IMAGE), etag_of(IMAGE))
    told, data = await got(reach("nc").Get(pb.GetRequest(bucket=BUCKET, key="image")))
    assert data == IMAGE
    assert told.crc64nvme == whole.crc64nvme
    assert told.headers == {"x-amz-meta-a": "b"}
    ranged = pb.GetRequest(bucket=BUCKET, key="image", offset=MIB - 5, length=10)
    assert (await got(reach("nc").Get(ranged)))[1] == IMAGE[MIB - 5 : MIB + 5]
    assert (await store.find(BUCKET, "image")).encryption == "AES256"
    assert (await reach("clc").Stat(pb.StatRequest(bucket=BUCKET, key="image"))).object == told


async def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(reach: Reach, store: Store) -> None:
    wrong_chunk = put_requests(b"abc")
    wrong_chunk[1].chunk.crc32c += 1
    wrong_whole = [*put_requests(b"abc"), pb.PutRequest(crc64nvme="AAAAAAAAAAA=")]
    for requests in (wrong_chunk, wrong_whole):
        with pytest.raises(Fault) as caught:
            await reach("sc").Put(iter(requests))
        assert caught.value.code == "BadDigest"
    assert not (await store.list(BUCKET)).entries
    assert not store.ground.written


async def test_listing_usage_and_deleting(reach: Reach, store: Store) -> None:
    for key in ("a/1", "a/2", "b"):
        await put(store, key, b"xyz")
    clc = reach("clc")
    page = await clc.List(pb.ListRequest(bucket=BUCKET, delimiter="/", limit=1))
    assert (list(page.prefixes), page.next) == (["a/"], "a/")
    page = await clc.List(pb.ListRequest(bucket=BUCKET, delimiter="/", after=page.next))
    assert ([each.key for each in page.objects], page.next) == (["b"], "")
    (used,) = (await clc.Usage(pb.UsageRequest(owner=OWNER))).buckets
    assert (used.bucket, used.objects, used.bytes) == (BUCKET, 3, 9)
    await clc.Delete(pb.DeleteRequest(bucket=BUCKET, key="b"))
    with pytest.raises(Fault) as caught:
        await clc.Stat(pb.StatRequest(bucket=BUCKET, key="b"))
    assert caught.value.code == "NoSuchKey"


async def test_a_bucket_is_made_on_the_way_and_nothing_is_overwritten(reach: Reach, store: Store) -> None:
    first = put_requests(b"one", make_bucket_in="eu", if_absent=True)
    first[0].bucket = "images"
    await reach("clc").Put(iter(first))
    with pytest.raises(Fault) as caught:
        await reach("clc").Put(iter(first))
    assert caught.value.code == "PreconditionFailed"
    assert await get(store, "image", bucket="images") == b"one"


STRANGER = "444455556666"


async def test_an_object_is_read_on_behalf_of_those_who_may(reach: Reach, store: Store) -> None:
    await put(store, "image", b"private")
    clc = reach("clc")
    asked = {"bucket": BUCKET, "key": "image"}
    assert (await clc.Stat(pb.StatRequest(**asked, reader=OWNER))).object.size == 7
    assert (await got(clc.Get(pb.GetRequest(**asked, reader=OWNER, length=4))))[1] == b"priv"

    async def refused(**request: str) -> str:
        with pytest.raises(Fault) as caught:
            await clc.Stat(pb.StatRequest(**request))
        return caught.value.code

    assert await refused(**asked, reader=STRANGER) == "AccessDenied"
    with pytest.raises(Fault) as caught:
        await got(clc.Get(pb.GetRequest(**asked, reader=STRANGER)))
    assert caught.value.code == "AccessDenied"
    # Who may not list hears of nothing that is not there; who may, does.
    assert await refused(bucket=BUCKET, key="none", reader=STRANGER) == "AccessDenied"
    assert await refused(bucket=BUCKET, key="none", reader=OWNER) == "NoSuchKey"
    assert await refused(bucket="nowhere", key="none", reader=STRANGER) == "NoSuchBucket"

    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{STRANGER}:root"},
                "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3:::{BUCKET}/*",
            }
        ],
    }
    await store.set_config(BUCKET, POLICY, json.dumps(policy).encode())
    assert (await clc.Stat(pb.StatRequest(**asked, reader=STRANGER))).object.size == 7


async def test_a_delete_marker_is_nothing_to_read(reach: Reach, store: Store) -> None:
    await store.set_versioning(BUCKET, "Enabled")
    await put(store, "image", b"was here")
    await store.delete(BUCKET, "image")
    with pytest.raises(Fault) as caught:
        await reach("clc").Stat(pb.StatRequest(bucket=BUCKET, key="image", reader=OWNER))
    assert caught.value.code == "NoSuchKey"


async def test_a_copy_is_of_the_very_bytes_that_were_meant(reach: Reach, store: Store) -> None:
    made = await put(store, "image", IMAGE)
    clc = reach("clc")
    await clc.MakeBucket(pb.MakeBucketRequest(bucket="copies", owner=STRANGER, region="eu"))
    await clc.MakeBucket(pb.MakeBucketRequest(bucket="copies", owner=STRANGER, region="eu"))
    with pytest.raises(Fault) as caught:
        await clc.MakeBucket(pb.MakeBucketRequest(bucket="copies", owner=OWNER, region="eu"))
    assert caught.value.code == "BucketAlreadyExists"

    wanted = pb.CopyRequest(
        bucket=BUCKET,
        key="image",
        size=made.size,
        etag=made.etag,
        to_bucket="copies",
        to_key="i",
        owner=STRANGER,
    )
    copied = (await clc.Copy(wanted)).object
    assert (copied.size, copied.etag) == (made.size, made.etag)
    assert await get(store, "i", bucket="copies") == IMAGE
    wanted.etag = "0" * 32
    with pytest.raises(Fault) as caught:
        await clc.Copy(wanted)
    assert caught.value.code == "PreconditionFailed"


async def test_a_node_writes_only_where_the_cloud_made_room_for_it(reach: Reach, store: Store) -> None:
    nc, images = reach("nc"), f"{IMAGES_OF}{OWNER}"
    await reach("clc").MakeBucket(pb.MakeBucketRequest(bucket=images, owner=OWNER, region="eu"))
    first = put_requests(b"a disk")
    for bucket, owner, more, code in (
        (BUCKET, OWNER, {}, "AccessDenied"),
        (images, STRANGER, {}, "AccessDenied"),
        (f"{IMAGES_OF}{STRANGER}", STRANGER, {"make_bucket_in": "eu"}, "NoSuchBucket"),
    ):
        first[0] = pb.PutRequest(bucket=bucket, key="k", owner=owner, **more)
        with pytest.raises(Fault) as caught:
            await nc.Put(iter(first))
        assert caught.value.code == code
    first[0] = pb.PutRequest(bucket=images, key="k", owner=OWNER)
    await nc.Put(iter(first))
    assert await get(store, "k", bucket=images) == b"a disk"


@pytest.mark.parametrize(
    ("role", "method", "request_"),
    [
        ("nc", "MakeBucket", pb.MakeBucketRequest(bucket=BUCKET, owner=OWNER)),
        ("nc", "Copy", pb.CopyRequest(bucket=BUCKET, key="k")),
        ("nc", "Delete", pb.DeleteRequest(bucket=BUCKET, key="k")),
        ("nc", "List", pb.ListRequest(bucket=BUCKET)),
        ("sc", "Usage", pb.UsageRequest(owner=OWNER)),
        ("cc", "Stat", pb.StatRequest(bucket=BUCKET, key="k")),
    ],
)
async def test_a_role_may_only_what_it_needs(reach: Reach, role: str, method: str, request_: Any) -> None:
    with pytest.raises(Fault) as caught:
        await getattr(reach(role), method)(request_)
    assert caught.value.kind == "forbidden"
