"""The object store's gRPC face: who it is, and objects for the other services of the cloud."""

# ruff: noqa: ARG002 - the contracts name these methods and their arguments

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from awscrt.checksums import crc32c

from mallee import __version__
from mallee.domain.disk_image import IMAGES_OF
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.rpc import AccessTable, Identity, peer
from mallee.rpc import objects_pb2
from mallee.rpc.common_pb2 import DescribeRequest, DescribeResponse
from mallee.rpc.common_pb2_grpc import IntrospectionServiceServicer
from mallee.rpc.objects_pb2_grpc import ObjectServiceServicer
from mallee.walrus.access.reader import find_for
from mallee.walrus.api.buckets import new_bucket_config
from mallee.walrus.errors import S3Error
from mallee.walrus.front.call import FileRange
from mallee.walrus.store import ALWAYS, Conditions, Encryption, NewObject, Store, Version, Writing
from mallee.walrus.store.checksums import Running, running

_OBJECTS = "/mallee.objects.v1.ObjectService"
ACCESS = AccessTable(
    {
        "/mallee.common.v1.IntrospectionService/Describe": {"*"},
        f"{_OBJECTS}/Put": {"clc", "nc", "sc"},
        f"{_OBJECTS}/Get": {"clc", "nc", "sc"},
        f"{_OBJECTS}/Stat": {"clc", "nc", "sc"},
        f"{_OBJECTS}/Copy": {"clc"},
        f"{_OBJECTS}/MakeBucket": {"clc"},
        f"{_OBJECTS}/Delete": {"clc", "sc"},
        f"{_OBJECTS}/List": {"clc", "sc"},
        f"{_OBJECTS}/Usage": {"clc"},
    }
)
_CRC = "CRC64NVME"
_Wanted = objects_pb2.GetRequest | objects_pb2.StatRequest | objects_pb2.CopyRequest
_KINDS = {404: Kind.NOT_FOUND, 409: Kind.CONFLICT, 412: Kind.CONFLICT, 403: Kind.FORBIDDEN}


class Introspection(IntrospectionServiceServicer):
    """Says who this is."""

    def __init__(self, me: Identity, clock: Clock) -> None:
        self._me = me
        self._clock = clock
        self._since = clock.boot()

    async def Describe(self, request: DescribeRequest, context: object) -> DescribeResponse:
        return DescribeResponse(
            role=self._me.role,
            name=self._me.name,
            cloud=self._me.cloud,
            version=__version__,
            uptime_seconds=self._clock.boot() - self._since,
        )


class Objects(ObjectServiceServicer):
    """Objects for services: the errors are S3's codes as faults."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def Put(
        self, request_iterator: AsyncIterator[objects_pb2.PutRequest], context: Any
    ) -> objects_pb2.PutResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            raise Fault(Kind.INVALID, "A writer said nothing.", code="no-object")
        with _as_fault():
            if peer(context).role == "nc":
                await self._check_node_writes(first)
            if first.make_bucket_in:
                await self._make_bucket(first)
            wanted = Conditions(if_none_match="*") if first.if_absent else ALWAYS
            writing = await self._store.begin(
                first.size or None,
                encryption=Encryption() if first.encrypt else None,
                checking=(first.bucket, first.key, wanted) if first.if_absent else None,
            )
            try:
                etag, crc = await _receive(requests, writing)
                new = NewObject(
                    owner=first.owner,
                    etag=etag,
                    headers=dict(first.headers),
                    checksums={_CRC: crc},
                    checksum_type="FULL_OBJECT",
                )
                version = await self._store.commit(first.bucket, first.key, writing, new, wanted)
            finally:
                await writing.discard()
        return objects_pb2.PutResponse(object=_object(version))

    async def Get(
        self, request: objects_pb2.GetRequest, context: Any
    ) -> AsyncIterator[objects_pb2.GetResponse]:
        with _as_fault():
            version = await self._version(request)
            last = request.offset + request.length - 1 if request.length else version.size - 1
            if last >= version.size or (request.offset and request.offset >= version.size):
                raise S3Error("InvalidRange")
            yield objects_pb2.GetResponse(object=_object(version))
            reading = await self._store.read(version, request.offset, last, sendfile=False)
            try:
                async for piece in reading:
                    assert not isinstance(piece, FileRange)
                    data = bytes(piece)
                    yield objects_pb2.GetResponse(chunk=objects_pb2.Chunk(data=data, crc32c=crc32c(data)))
            finally:
                await reading.aclose()

    async def Stat(self, request: objects_pb2.StatRequest, context: Any) -> objects_pb2.StatResponse:
        with _as_fault():
            version = await self._version(request)
        return objects_pb2.StatResponse(object=_object(version))

    async def Copy(self, request: objects_pb2.CopyRequest, context: Any) -> objects_pb2.CopyResponse:
        with _as_fault():
            source = await self._version(request)
            if (source.size, source.etag) != (request.size, request.etag):
                raise S3Error("PreconditionFailed", Condition="the size and ETag of the source")
            new = NewObject(
                owner=request.owner,
                etag=source.etag,
                headers=source.headers,
                checksums=source.checksums,
                checksum_type=source.checksum_type,
            )
            encryption = Encryption() if source.encryption == "AES256" else None
            version = await self._store.copy(
                source, request.to_bucket, request.to_key, new, encryption=encryption
            )
        return objects_pb2.CopyResponse(object=_object(version))

    async def MakeBucket(
        self, request: objects_pb2.MakeBucketRequest, context: Any
    ) -> objects_pb2.MakeBucketResponse:
        with _as_fault():
            try:
                await self._store.create_bucket(
                    request.bucket, request.owner, request.region, config=new_bucket_config()
                )
            except S3Error as error:
                if error.code != "BucketAlreadyOwnedByYou":
                    raise
        return objects_pb2.MakeBucketResponse()

    async def Delete(self, request: objects_pb2.DeleteRequest, context: Any) -> objects_pb2.DeleteResponse:
        with _as_fault():
            deleted = await self._store.delete(request.bucket, request.key, request.version_id or None)
        return objects_pb2.DeleteResponse(version_id=deleted.version_id, delete_marker=deleted.delete_marker)

    async def List(self, request: objects_pb2.ListRequest, context: Any) -> objects_pb2.ListResponse:
        with _as_fault():
            page = await self._store.list(
                request.bucket,
                prefix=request.prefix,
                delimiter=request.delimiter,
                after=request.after,
                limit=min(request.limit or 1000, 1000),
            )
        found = [
            objects_pb2.Object(
                bucket=request.bucket,
                key=entry.key,
                version_id=entry.version_id,
                size=entry.size,
                etag=entry.etag,
                modified_ms=entry.modified_ms,
            )
            for entry in page.entries
        ]
        return objects_pb2.ListResponse(
            objects=found, prefixes=page.prefixes, next=page.next_key if page.truncated else ""
        )

    async def Usage(self, request: objects_pb2.UsageRequest, context: Any) -> objects_pb2.UsageResponse:
        used = await self._store.usage_of_account(request.owner)
        return objects_pb2.UsageResponse(
            buckets=[
                objects_pb2.BucketUsage(
                    bucket=name, objects=each.objects, bytes=each.size, uploading_bytes=each.uploading
                )
                for name, each in used.items()
            ]
        )

    async def _make_bucket(self, request: objects_pb2.PutRequest) -> None:
        with suppress(S3Error):  # whose it is, the write itself will show
            await self._store.create_bucket(request.bucket, request.owner, request.make_bucket_in)

    async def _check_node_writes(self, first: objects_pb2.PutRequest) -> None:
        """A node writes captured disks, where the cloud has made room for them, and nothing else. Raises S3Error."""
        home = await self._store.head_bucket(first.bucket)
        if first.bucket != f"{IMAGES_OF}{first.owner}" or home.owner != first.owner or first.make_bucket_in:
            raise S3Error("AccessDenied")

    async def _version(self, wanted: _Wanted) -> Version:
        """One that has bytes and that the reader, where one is named, may read. Raises S3Error."""
        version_id, reader = wanted.version_id or None, getattr(wanted, "reader", "")
        if reader:
            now = self._clock.now()
            return await find_for(self._store, reader, wanted.bucket, wanted.key, version_id, now)
        version = await self._store.find(wanted.bucket, wanted.key, version_id)
        if version.is_delete_marker:
            raise S3Error("NoSuchKey", Key=wanted.key)
        return version


async def _receive(requests: AsyncIterator[objects_pb2.PutRequest], writing: Writing) -> tuple[str, str]:
    """Write what comes: its MD5 in hexadecimal, its CRC-64 in base64. Raises S3Error BadDigest."""
    loop = asyncio.get_running_loop()
    digest, crc = hashlib.md5(usedforsecurity=False), running(_CRC)
    stated = ""
    async for request in requests:
        data = request.chunk.data
        if crc32c(data) != request.chunk.crc32c:
            raise S3Error("BadDigest", "A chunk's CRC-32C is not that of its bytes.")
        # MD5 costs more than all the rest: it runs beside the writing.
        await asyncio.gather(loop.run_in_executor(None, _count_in, digest, crc, data), writing.write(data))
        stated = request.crc64nvme or stated
    if stated and stated != crc.text():
        raise S3Error("BadDigest", "The CRC-64 of the whole is not what the writer states.")
    return digest.hexdigest(), crc.text()


def _count_in(digest: Any, crc: Running, data: bytes) -> None:
    digest.update(data)
    crc.update(data)


def _object(version: Version) -> objects_pb2.Object:
    return objects_pb2.Object(
        bucket=version.bucket,
        key=version.key,
        version_id=version.version_id,
        size=version.size,
        etag=version.etag,
        modified_ms=version.modified_ms,
        headers=version.headers,
        crc64nvme=version.checksums.get(_CRC, "") if version.checksum_type == "FULL_OBJECT" else "",
    )


@contextmanager
def _as_fault() -> Iterator[None]:
    """S3's refusals as what crosses between services."""
    try:
        yield
    except S3Error as error:
        raise Fault(_KINDS.get(error.status, Kind.INVALID), error.message, code=error.code) from error
